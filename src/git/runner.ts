/**
 * The one typed door to the `git` program.
 *
 * Arguments are arrays, never a shell line. Every run gets a fixed locale, no terminal prompts, and
 * an environment without the variables that would point git at another repository than `cwd` (git
 * sets them for hooks and filters). Output is bytes, because paths are bytes.
 */

import { spawnSync } from 'node:child_process';
import { errnoOf } from '../xet/errors.ts';
import type { GitArg } from './byte-words.ts';
import { gitEnvironment } from './environment.ts';
import { abortError, failureOf, notStarted, tooMuchOutput } from './failure.ts';
import { commandWords, drained, type RunningGit, startGit, stdioFor, tailText } from './process.ts';
import { splitZ } from './records.ts';

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

const DEFAULT_MAX_OUTPUT = 2 ** 30;

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
