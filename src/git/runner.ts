/**
 * The one typed door to the `git` program.
 *
 * Arguments are arrays, never a shell line. Every run gets a fixed locale, no terminal prompts, and
 * an environment without the variables that would point git at another repository than `cwd` (git
 * sets them for hooks and filters). Output is bytes, because paths are bytes.
 */

import { type ChildProcess, type StdioOptions, spawn, spawnSync } from 'node:child_process';
import { Readable, type Writable } from 'node:stream';
import { errnoOf, Git2dbError } from '../xet/errors.ts';
import { type GitArg, textWords } from './byte-words.ts';
import { abortError, failureOf, notStarted, tooMuchOutput } from './failure.ts';
import { splitZ } from './records.ts';

export { type GitArg, splitZ };

export interface GitRun {
  /** Where git runs; the current directory of this process unless given. */
  readonly cwd?: string | undefined;
  /** What git reads on stdin; nothing unless given. */
  readonly input?: Uint8Array | string | undefined;
  /** Laid over the inherited environment, and never scrubbed; `undefined` removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Exit statuses that are an answer and no failure; `[0]` unless given. */
  readonly okStatus?: readonly number[] | undefined;
  /** Most bytes of stdout kept, 1 GiB unless given; more is LIMIT_EXCEEDED. Streams have no limit. */
  readonly maxOutput?: number | undefined;
  /** Keep inherited variables such as GIT_DIR: the run is about the repository the caller was started for. */
  readonly keepGitEnv?: boolean | undefined;
  /** The user's own terminal: git may ask, stderr (and stdin, without `input`) is inherited, the locale stays. */
  readonly interactive?: boolean | undefined;
  /** Makes the words of the command that runs `argv` where git must run: in another mount namespace. */
  readonly enter?: ((argv: readonly string[]) => readonly string[]) | undefined;
  /** Sees stderr as it comes, for progress. Not called when `interactive`. */
  readonly onStderr?: ((piece: Buffer) => void) | undefined;
}

export interface GitResult {
  readonly stdout: Buffer;
  /** The last 64 KiB of stderr; empty when `interactive`. */
  readonly stderr: string;
  readonly status: number;
}

export interface GitStreamRun extends Omit<GitRun, 'input' | 'maxOutput'> {
  readonly input?: Uint8Array | string | AsyncIterable<Uint8Array> | undefined;
}

export interface GitStream {
  /** stdout, once. Throws what `done` rejects with; leaving the loop early stops git and is no failure. */
  readonly stdout: AsyncIterable<Buffer>;
  /** Settles when git has ended and stdout was read to its end or left. Never an unhandled rejection. */
  readonly done: Promise<void>;
}

/**
 * What `git rev-parse --local-env-vars` lists, without GIT_CONFIG_PARAMETERS and GIT_CONFIG_COUNT:
 * those hold settings the user gave (`git -c`, a CI's safe.directory) and name no repository. Git
 * makes the same exception when it enters a submodule.
 */
const REPOSITORY_VARIABLES = [
  'GIT_ALTERNATE_OBJECT_DIRECTORIES',
  'GIT_CONFIG',
  'GIT_OBJECT_DIRECTORY',
  'GIT_DIR',
  'GIT_WORK_TREE',
  'GIT_IMPLICIT_WORK_TREE',
  'GIT_GRAFT_FILE',
  'GIT_INDEX_FILE',
  'GIT_NO_REPLACE_OBJECTS',
  'GIT_REPLACE_REF_BASE',
  'GIT_PREFIX',
  'GIT_INTERNAL_SUPER_PREFIX',
  'GIT_SHALLOW_FILE',
  'GIT_COMMON_DIR',
] as const;

/** `git --literal-pathspecs` and its like, inherited, would change what our own arguments mean. */
const PATHSPEC_VARIABLES = [
  'GIT_LITERAL_PATHSPECS',
  'GIT_GLOB_PATHSPECS',
  'GIT_NOGLOB_PATHSPECS',
  'GIT_ICASE_PATHSPECS',
] as const;

const DEFAULT_MAX_OUTPUT = 2 ** 30;
const STDERR_KEPT = 64 * 1024;
/** A git that ignores SIGTERM this long (it cleans up its lock files on it) is killed. */
const KILL_AFTER_MS = 5000;

/**
 * Runs git to its end. Rejects with GIT_FAILED (status not in `okStatus`), GIT_MISSING, LIMIT_EXCEEDED,
 * or an error named AbortError when `signal` fires or git is told to stop by a signal.
 */
export async function git(args: readonly GitArg[], options: GitRun = {}): Promise<GitResult> {
  const { input, maxOutput = DEFAULT_MAX_OUTPUT, ...rest } = options;
  const running = startGit(args, rest, input !== undefined);
  if (input !== undefined) running.stdin?.end(input);
  const pieces: Buffer[] = [];
  let length = 0;
  running.stdout.on('data', (piece: Buffer) => {
    length += piece.length;
    if (length > maxOutput) running.stop(tooMuchOutput(args, maxOutput));
    else pieces.push(piece);
  });
  const status = await running.ended;
  return { stdout: Buffer.concat(pieces, length), stderr: running.stderr(), status };
}

/** As `git`, synchronously. `signal` is only looked at before the start. */
export function gitSync(args: readonly GitArg[], options: GitRun = {}): GitResult {
  if (options.signal?.aborted) throw abortError(args, options.signal.reason);
  const { maxOutput = DEFAULT_MAX_OUTPUT } = options;
  const [file, ...words] = commandWords(args, options);
  const result = spawnSync(file, words, {
    cwd: options.cwd,
    env: gitEnvironment(options),
    stdio: stdioFor(options, options.input !== undefined),
    input: options.input,
    maxBuffer: maxOutput,
    windowsHide: true,
  });
  const stderr = tailText(result.stderr ?? Buffer.alloc(0));
  if (result.error !== undefined) {
    const errno = errnoOf(result.error);
    if (errno === 'ENOBUFS') throw tooMuchOutput(args, maxOutput);
    // EPIPE: git ended without reading all of its input, which its status explains.
    if (errno !== 'EPIPE') throw notStarted(args, options, result.error);
  }
  const failed = failureOf(args, options, result.status, result.signal, stderr);
  if (failed !== undefined) throw failed;
  return { stdout: result.stdout ?? Buffer.alloc(0), stderr, status: result.status ?? 0 };
}

/** stdout as text, without one trailing newline. Not for paths without `-z`: git quotes those. */
export async function gitText(args: readonly GitArg[], options: GitRun = {}): Promise<string> {
  const text = (await git(args, options)).stdout.toString('utf8');
  return text.endsWith('\n') ? text.slice(0, -1) : text;
}

/** stdout of a command with `-z`: the bytes between NULs, without the empty piece after the last one. */
export async function gitLinesZ(args: readonly GitArg[], options: GitRun = {}): Promise<Buffer[]> {
  return [...splitZ((await git(args, options)).stdout)];
}

/** Runs git with stdout (and stdin) as streams; memory stays at pipe size. */
export function gitStream(args: readonly GitArg[], options: GitStreamRun = {}): GitStream {
  const { input, ...rest } = options;
  const running = startGit(args, rest, input !== undefined);
  if (input !== undefined) void feed(running, input);
  const done = running.ended.then(() => undefined);
  done.catch(() => {});
  function checkAborted(): void {
    if (rest.signal?.aborted) throw abortError(args, rest.signal.reason);
  }
  return { stdout: readToEnd(running, checkAborted), done };
}

/** A git process whose streams the caller drives. Its `ended` never causes an unhandled rejection. */
export interface RunningGit {
  /** Null when no input was wanted. Writing to a git that went away is no error here: its status tells. */
  readonly stdin: Writable | null;
  readonly stdout: Readable;
  /** The last 64 KiB of stderr so far. */
  stderr(): string;
  /** The exit status, once git ended and stdout was read or destroyed. Rejects as `git` does. */
  readonly ended: Promise<number>;
  /** Sends SIGTERM; `ended` rejects with `reason`, or resolves with 0 when there is none. */
  stop(reason?: Error): void;
  /** Whether git, and what it has to say, keeps this process alive; true from the start. */
  keepAlive(alive: boolean): void;
}

/** Starts git with a pipe on stdout, and one on stdin if `wantsInput`. For long-lived processes. */
export function startGit(
  args: readonly GitArg[],
  options: Omit<GitRun, 'input' | 'maxOutput'>,
  wantsInput: boolean,
): RunningGit {
  const { signal } = options;
  if (signal?.aborted) return neverStarted(abortError(args, signal.reason));
  let child: ChildProcess;
  try {
    const [file, ...words] = commandWords(args, options);
    child = spawn(file, words, {
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      env: gitEnvironment(options),
      stdio: stdioFor(options, wantsInput),
      windowsHide: true,
    });
  } catch (cause) {
    return neverStarted(notStarted(args, options, cause));
  }

  let stderr: Buffer = Buffer.alloc(0);
  child.stderr?.on('data', (piece: Buffer) => {
    stderr = Buffer.concat([stderr, piece]);
    if (stderr.length > STDERR_KEPT) stderr = stderr.subarray(stderr.length - STDERR_KEPT);
    options.onStderr?.(piece);
  });
  child.stdin?.on('error', () => {});

  let stopped: { readonly reason: Error | undefined } | undefined;
  let killTimer: NodeJS.Timeout | undefined;
  function stop(reason?: Error): void {
    if (stopped !== undefined || child.exitCode !== null || child.signalCode !== null) return;
    stopped = { reason };
    child.kill('SIGTERM');
    killTimer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
    child.stdin?.destroy();
    child.stdout?.destroy();
  }
  const onAbort = () => stop(abortError(args, signal?.reason));
  signal?.addEventListener('abort', onAbort, { once: true });

  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', (cause) => reject(notStarted(args, options, cause)));
    child.once('exit', () => {
      clearTimeout(killTimer);
      // A hook's background process may hold the pipe for ever; a stopped run does not wait for it.
      if (stopped !== undefined) child.stderr?.destroy();
    });
    child.once('close', (status, signalName) => {
      const failed =
        stopped === undefined
          ? failureOf(args, options, status, signalName, tailText(stderr))
          : stopped.reason;
      if (failed !== undefined) reject(failed);
      else resolve(status ?? 0);
    });
  });
  const cleanup = () => signal?.removeEventListener('abort', onAbort);
  ended.then(cleanup, cleanup);
  function keepAlive(alive: boolean): void {
    const word = alive ? 'ref' : 'unref';
    for (const part of [child, child.stdin, child.stdout, child.stderr])
      (part as Partial<Referenced>)?.[word]?.();
  }
  return {
    stdin: child.stdin,
    stdout: child.stdout!,
    stderr: () => tailText(stderr),
    ended,
    stop,
    keepAlive,
  };
}

/** Child processes and pipes have these. */
interface Referenced {
  ref(): void;
  unref(): void;
}

/** The program and its words: git itself, or what leads into the place where it must run. */
function commandWords(args: readonly GitArg[], { enter }: Pick<GitRun, 'enter'>): [string, ...string[]] {
  const words = textWords(['git', ...args]);
  return (enter === undefined ? words : [...enter(words)]) as [string, ...string[]];
}

function neverStarted(reason: Error): RunningGit {
  const ended = Promise.reject<number>(reason);
  ended.catch(() => {});
  return {
    stdin: null,
    stdout: Readable.from([]),
    stderr: () => '',
    ended,
    stop: () => {},
    keepAlive: () => {},
  };
}

/** An environment as it is without what would lead git to another repository than `cwd` or GIT_DIR does. */
export function withoutRepository(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = { ...env };
  for (const name of [...REPOSITORY_VARIABLES, ...PATHSPEC_VARIABLES]) delete kept[name];
  return kept;
}

/** The environment every git run gets. */
export function gitEnvironment(
  options: Pick<GitRun, 'env' | 'keepGitEnv' | 'interactive'>,
): NodeJS.ProcessEnv {
  const env = options.keepGitEnv === true ? { ...process.env } : withoutRepository(process.env);
  if (options.interactive !== true) {
    env.LC_ALL = 'C';
    env.GIT_TERMINAL_PROMPT = '0';
    // A question such as `status` must not rewrite the index behind a user's running command.
    env.GIT_OPTIONAL_LOCKS = '0';
  }
  for (const [name, value] of Object.entries(options.env ?? {})) {
    if (value === undefined) delete env[name];
    else env[name] = value;
  }
  return env;
}

function stdioFor(options: Pick<GitRun, 'interactive'>, wantsInput: boolean): StdioOptions {
  const terminal = options.interactive === true;
  return [wantsInput ? 'pipe' : terminal ? 'inherit' : 'ignore', 'pipe', terminal ? 'inherit' : 'pipe'];
}

async function feed(running: RunningGit, input: NonNullable<GitStreamRun['input']>): Promise<void> {
  const { stdin } = running;
  if (stdin === null) return;
  if (typeof input === 'string' || input instanceof Uint8Array) {
    stdin.end(input);
    return;
  }
  try {
    for await (const piece of input) {
      if (stdin.destroyed) return;
      if (!stdin.write(piece)) await drained(stdin);
    }
    stdin.end();
  } catch (error) {
    running.stop(error instanceof Error ? error : new Error(String(error)));
  }
}

/** Resolves when `stream` takes more bytes, or is gone and never will. */
export function drained(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed) return resolve();
    const done = () => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.once('drain', done);
    stream.once('close', done);
  });
}

async function* readToEnd(running: RunningGit, checkAborted: () => void): AsyncIterable<Buffer> {
  let left = true;
  try {
    for await (const piece of running.stdout) {
      checkAborted();
      yield piece as Buffer;
      // Git may have ended by itself, with all it wrote waiting here, before the signal fired.
      checkAborted();
    }
    left = false;
  } catch (streamError) {
    left = false;
    running.stop();
    // The stream broke because git was stopped or never started: that reason is the better one.
    await running.ended;
    throw streamError;
  } finally {
    if (left) {
      running.stop();
      await running.ended.catch(() => {});
    }
  }
  await running.ended;
}

let version: Promise<string> | undefined;

/** The version of the git on PATH, such as `2.39.5`. Asked once in a process. */
export function gitVersion(): Promise<string> {
  version ??= gitText(['--version']).then((text) => /(\d+(?:\.\d+)+)/.exec(text)?.[1] ?? text);
  version.catch(() => {
    version = undefined;
  });
  return version;
}

/** Whether git is at least `minimum` (`2.36`). */
export async function gitAtLeast(minimum: string): Promise<boolean> {
  return compareVersions(await gitVersion(), minimum) >= 0;
}

/** Throws GIT_MISSING unless git is at least `minimum`, naming the `feature` that needs it. */
export async function requireGit(minimum: string, feature: string): Promise<void> {
  if (await gitAtLeast(minimum)) return;
  const found = await gitVersion();
  throw new Git2dbError(
    'GIT_MISSING',
    `${feature} needs git ${minimum} or newer, found ${found}: install a newer git`,
    { data: { minimum, found, feature } },
  );
}

/** Negative, zero or positive as dotted version `a` is older than, equal to or newer than `b`. */
export function compareVersions(a: string, b: string): number {
  const left = a.split('.').map(Number);
  const right = b.split('.').map(Number);
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function tailText(stderr: Buffer): string {
  return stderr.subarray(Math.max(0, stderr.length - STDERR_KEPT)).toString('utf8');
}
