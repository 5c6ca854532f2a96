/**
 * A git process: how it is started, kept, and stopped. What it is asked, and what is made of its output, is
 * whoever starts it to say.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { Readable, type Writable } from 'node:stream';
import { type GitArg, textWords } from './byte-words.ts';
import { gitEnvironment } from './environment.ts';
import { abortError, failureOf, notStarted } from './failure.ts';
import type { GitRun } from './runner.ts';

const STDERR_KEPT = 64 * 1024;
/** A git that ignores SIGTERM this long (it cleans up its lock files on it) is killed. */
const KILL_AFTER_MS = 5000;

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
export function commandWords(
  args: readonly GitArg[],
  { enter }: Pick<GitRun, 'enter'>,
): [string, ...string[]] {
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

/** Without input git reads nothing; only where it may ask, the terminal is its own. */
export function stdioFor(options: Pick<GitRun, 'interactive'>, wantsInput: boolean): StdioOptions {
  const terminal = options.interactive === true;
  return [wantsInput ? 'pipe' : terminal ? 'inherit' : 'ignore', 'pipe', terminal ? 'inherit' : 'pipe'];
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

/** The last 64 KiB, as text. */
export function tailText(stderr: Buffer): string {
  return stderr.subarray(Math.max(0, stderr.length - STDERR_KEPT)).toString('utf8');
}
