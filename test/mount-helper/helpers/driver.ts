/**
 * System calls for the tests, made by a small Python program (`driver.py`): it has those that Node lacks
 * and runs where the mount can be reached, as whom the test wants. Names and contents are JavaScript
 * strings of one character per byte (latin1), so that any bytes can be told.
 */
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

/** build/test/mount-helper/helpers/ -> the package. */
export const PACKAGE = fileURLToPath(new URL('../../../../', import.meta.url));

const PROGRAM = `${PACKAGE}test/mount-helper/helpers/driver.py`;

/** Bytes as the driver takes them. */
export function bytes(content: string | Uint8Array): string {
  return Buffer.from(content).toString('latin1');
}

/** As stat(2); what may pass 2^53 is a string, times are nanoseconds. */
export interface Stat {
  readonly dev: string;
  readonly ino: string;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly blocks: number;
  readonly rdev: number;
  readonly atime: string;
  readonly mtime: string;
  readonly ctime: string;
}

export type Kind = 'file' | 'directory' | 'symlink' | 'fifo' | 'char' | 'block' | 'socket';

/** One object of a whole tree. */
export interface TreeEntry extends Stat {
  readonly path: string;
  /** `unreachable`: a listed name that may not be looked at. */
  readonly type: Kind | 'unreachable';
  readonly target?: string;
  /** SHA-256, of files. */
  readonly content?: string;
  readonly xattrs: Readonly<Record<string, string>>;
}

export interface Dirent {
  readonly name: string;
  readonly ino: string;
  /** DT_*. */
  readonly type: number;
}

export interface Run {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

type Time = string | 'now' | 'omit';

/** Flags are names joined by `|`, without their prefix: `RDWR|CREAT|EXCL`. */
export interface SystemCalls {
  open(path: string, flags?: string, mode?: number): Promise<number>;
  close(fd: number): Promise<void>;
  read(fd: number, size: number): Promise<string>;
  pread(fd: number, size: number, offset: number): Promise<string>;
  write(fd: number, data: string): Promise<number>;
  pwrite(fd: number, data: string, offset: number): Promise<number>;
  fill(fd: number, byte: string, size: number, offset: number): Promise<number>;
  lseek(fd: number, offset: number, whence?: 'SET' | 'CUR' | 'END' | 'DATA' | 'HOLE'): Promise<number>;
  fsync(fd: number): Promise<void>;
  fdatasync(fd: number): Promise<void>;
  ftruncate(fd: number, size: number): Promise<void>;
  truncate(path: string, size: number): Promise<void>;
  fallocate(fd: number, mode: number, offset: number, length: number): Promise<void>;
  copyFileRange(
    source: number,
    sourceOffset: number,
    target: number,
    targetOffset: number,
    count: number,
  ): Promise<number>;
  readFile(path: string): Promise<string>;
  writeFile(path: string, data: string, flags?: string, mode?: number): Promise<void>;
  /** SHA-256; `leaveTimes`: with O_NOATIME. */
  digest(path: string, leaveTimes?: boolean): Promise<string>;
  mkdir(path: string, mode?: number): Promise<void>;
  rmdir(path: string): Promise<void>;
  unlink(path: string): Promise<void>;
  rename(source: string, target: string): Promise<void>;
  /** 1 NOREPLACE, 2 EXCHANGE, 4 WHITEOUT. */
  renameat2(source: string, target: string, flags: number): Promise<void>;
  link(source: string, target: string): Promise<void>;
  linkOpen(fd: number, target: string): Promise<void>;
  symlink(target: string, path: string): Promise<void>;
  readlink(path: string): Promise<string>;
  mknod(path: string, mode: number, major?: number, minor?: number): Promise<void>;
  stat(path: string): Promise<Stat>;
  lstat(path: string): Promise<Stat>;
  fstat(fd: number): Promise<Stat>;
  exists(path: string): Promise<boolean>;
  chmod(path: string, mode: number): Promise<void>;
  fchmod(fd: number, mode: number): Promise<void>;
  lchown(path: string, uid: number, gid: number): Promise<void>;
  fchown(fd: number, uid: number, gid: number): Promise<void>;
  utimens(path: string, atime: Time, mtime: Time): Promise<void>;
  futimens(fd: number, atime: Time, mtime: Time): Promise<void>;
  access(path: string, mode: number): Promise<boolean>;
  setxattr(path: string, name: string, value: string, flags?: number): Promise<void>;
  getxattr(path: string, name: string): Promise<string>;
  listxattr(path: string): Promise<string[]>;
  removexattr(path: string, name: string): Promise<void>;
  fsetxattr(fd: number, name: string, value: string): Promise<void>;
  fgetxattr(fd: number, name: string): Promise<string>;
  statvfs(
    path: string,
  ): Promise<{ namemax: number; bsize: number; blocks: number; bavail: number; files: number }>;
  list(path: string): Promise<string[]>;
  getdents(path: string, bufferSize?: number): Promise<Dirent[]>;
  opendir(path: string): Promise<number>;
  readdir(stream: number): Promise<string | null>;
  telldir(stream: number): Promise<string>;
  seekdir(stream: number, place: string): Promise<void>;
  rewinddir(stream: number): Promise<void>;
  closedir(stream: number): Promise<void>;
  mmap(fd: number, length: number, sharing?: 'SHARED' | 'PRIVATE', writable?: boolean): Promise<number>;
  mapRead(map: number, start: number, end: number): Promise<string>;
  mapWrite(map: number, start: number, data: string): Promise<void>;
  mapSync(map: number): Promise<void>;
  munmap(map: number): Promise<void>;
  flock(fd: number, how: 'SH' | 'EX' | 'UN'): Promise<void>;
  lock(
    fd: number,
    kind: 'POSIX' | 'OFD',
    how: 'RDLCK' | 'WRLCK' | 'UNLCK',
    start?: number,
    length?: number,
  ): Promise<void>;
  pid(): Promise<number>;
  run(
    argv: readonly string[],
    cwd?: string | null,
    env?: Readonly<Record<string, string>> | null,
    stdin?: string,
  ): Promise<Run>;
  mount(source: string, target: string, kind: string, options: string): Promise<void>;
  umount(target: string): Promise<void>;
  build(root: string, entries: readonly object[], owner: readonly [number, number] | null): Promise<void>;
  age(
    root: string,
    atime: string,
    mtime: string,
    times: Readonly<Record<string, readonly [string, string]>>,
  ): Promise<void>;
  tree(root: string, contents?: boolean): Promise<TreeEntry[]>;
}

/** Who makes a call: the effective ids, supplementary groups none unless given, umask 022 unless given. */
export interface Identity {
  readonly uid?: number;
  readonly gid?: number;
  readonly groups?: readonly number[];
  readonly umask?: number;
}

/** A system call that failed; `code` is the name of its errno. */
export class SystemCallError extends Error {
  readonly code: string;

  constructor(call: string, code: string) {
    super(`${call}: ${code}`);
    this.name = 'SystemCallError';
    this.code = code;
  }
}

interface Waiter {
  readonly call: string;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** A process that makes system calls, one after the other. */
export class Driver {
  /** Calls by the process's own user. */
  readonly calls: SystemCalls;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #waiters: Waiter[] = [];
  readonly #closed: Promise<void>;
  #pending = '';
  #stderr = '';
  #isClosed = false;

  /** `prefix`: a command that runs the one that follows it. */
  constructor(prefix: readonly string[], env: NodeJS.ProcessEnv) {
    const [program, ...args] = [...prefix, pythonProgram(), '-u', PROGRAM];
    this.#child = spawn(program!, args, { env, stdio: 'pipe', cwd: '/' });
    this.#child.stdout.setEncoding('utf8').on('data', (piece: string) => this.#take(piece));
    this.#child.stderr.on('data', (piece: Buffer) => {
      this.#stderr = (this.#stderr + piece).slice(-4000);
    });
    this.#child.stdin.on('error', () => {});
    this.#closed = new Promise((resolve) => {
      const finish = (why: string) => {
        this.#isClosed = true;
        for (const waiter of this.#waiters.splice(0)) waiter.reject(new Error(`${waiter.call}: ${why}`));
        resolve();
      };
      this.#child.once('error', (error) => finish(error.message));
      this.#child.once('close', (code, signal) =>
        finish(`the driver ended with ${signal ?? code}: ${this.#stderr}`),
      );
    });
    this.calls = this.as(undefined);
    this.#keepAlive(false);
  }

  /** Calls by somebody else; only a driver of root can. */
  as(identity: Identity | undefined): SystemCalls {
    const call =
      (op: string) =>
      (...args: readonly unknown[]) =>
        this.#call(op, args, identity);
    return new Proxy({} as SystemCalls, {
      get: (_, op) => (typeof op === 'string' && op !== 'then' ? call(op) : undefined),
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Ends the process; what it holds open is closed. */
  async end(): Promise<void> {
    this.#keepAlive(true);
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
    await this.#closed;
    clearTimeout(timer);
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  #call(op: string, args: readonly unknown[], identity: Identity | undefined): Promise<unknown> {
    const call = `${op}(${args.map(shown).join(', ')})`;
    if (this.#isClosed) return Promise.reject(new Error(`${call}: the driver has ended: ${this.#stderr}`));
    return new Promise((resolve, reject) => {
      if (this.#waiters.push({ call, resolve, reject }) === 1) this.#keepAlive(true);
      this.#child.stdin.write(`${JSON.stringify({ op, args, as: identity ?? null })}\n`);
    });
  }

  #take(piece: string): void {
    const lines = (this.#pending + piece).split('\n');
    this.#pending = lines.pop()!;
    for (const line of lines) {
      const waiter = this.#waiters.shift()!;
      const { value, errno, bug } = JSON.parse(line) as { value?: unknown; errno?: string; bug?: string };
      if (errno !== undefined) waiter.reject(new SystemCallError(waiter.call, errno));
      else if (bug !== undefined) waiter.reject(new Error(`${waiter.call}: ${bug}`));
      else waiter.resolve(value);
    }
    if (this.#waiters.length === 0) this.#keepAlive(false);
  }

  /** A test file may end while drivers wait for requests, and not while they work. */
  #keepAlive(isWorking: boolean): void {
    const handles = [this.#child, this.#child.stdin, this.#child.stdout, this.#child.stderr];
    for (const handle of handles as unknown as { ref(): void; unref(): void }[]) {
      if (isWorking) handle.ref();
      else handle.unref();
    }
  }
}

function shown(argument: unknown): string {
  const text = JSON.stringify(argument) ?? '';
  return text.length > 80 ? `${text.slice(0, 60)}...` : text;
}

/** The name of the errno that a call fails with, or undefined when it does not. */
export async function errnoOf(call: Promise<unknown>): Promise<string | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    if (error instanceof SystemCallError) return error.code;
    throw error;
  }
}

let python: string | undefined;

/** A Python that every user may run: version managers keep theirs in somebody's home. */
export function pythonProgram(): string {
  python ??= ['/usr/bin/python3', 'python3'].find(
    (program) => spawnSync(program, ['-c', 'import sqlite3'], { stdio: 'ignore' }).status === 0,
  );
  return python ?? 'python3';
}

/** Why the driver cannot run here, or undefined. */
export function driverMissing(): string | undefined {
  pythonProgram();
  return python === undefined ? 'python3 is not installed' : undefined;
}
