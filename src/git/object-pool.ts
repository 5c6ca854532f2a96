/**
 * Objects of one repository through a few long-lived `git cat-file` processes, each answering many
 * questions. With git 2.36 and newer one process tells what an object is and hands out contents
 * (`--batch-command`); an older one needs two (`--batch-check`, `--batch`).
 *
 * Names are resolved by git at the time of the question, so what a ref leads to is never stale. What
 * such a process does remember (the index, alternates, grafts, replacements) is watched: when one of these files has
 * changed, the next question goes to a new process. Idle processes end by themselves and never keep
 * this one alive.
 */
import { availableParallelism } from 'node:os';
import { guardMethods } from '../arguments.ts';
import { BatchEnded, type BatchMode, BatchProcess } from './batch-process.ts';
import type { GitArg } from './byte-words.ts';
import type { GitObject, ObjectHeader } from './cat-file.ts';
import { classified } from './classify.ts';
import type { ObjectStream } from './object-flow.ts';
import type { RunningGit } from './process.ts';
import { RememberedFiles } from './remembered-files.ts';
import type { RepositoryPaths } from './repository.ts';
import { gitAtLeast } from './version.ts';

export type { GitObject, ObjectHeader, ObjectType } from './cat-file.ts';
export type { ObjectStream } from './object-flow.ts';

export interface ObjectPoolOptions {
  readonly paths: RepositoryPaths;
  /** Starts `git <args>` in the repository, with a pipe for its input. */
  readonly start: (args: readonly GitArg[]) => Promise<RunningGit>;
  /** Most processes at once; 2 to 4 unless given. One of them is never taken by `open`. */
  readonly limit?: number | undefined;
  /** A process without questions for this time is ended; 30 seconds unless given. */
  readonly idleMs?: number | undefined;
}

export interface ReadOptions {
  /** Most bytes of content; 64 MiB unless given. A larger object is LIMIT_EXCEEDED and is not loaded. */
  readonly maxSize?: number | undefined;
}

export interface PoolStats {
  readonly processes: number;
  /** Processes started since the pool was made. */
  readonly started: number;
  readonly waiting: number;
}

const DEFAULT_MAX_SIZE = 64 * 2 ** 20;
const DEFAULT_IDLE_MS = 30_000;
/** As many questions waiting at one process make another worth its start. */
const WINDOW = 512;
/** Questions that `readMany` asks at once: so many, or what makes about this many bytes of answers. */
const SMALLEST_BATCH = 64;
const LARGEST_BATCH = 512;
const BATCH_BYTES = 8 * 2 ** 20;

/** A process, or one that is being started. */
class Member {
  readonly mode: BatchMode;
  readonly process: Promise<BatchProcess>;
  /** Questions asked and not answered, also those asked before the process was there. */
  pending = 0;
  /** Taken by a stream. */
  taken = false;
  /** A file that it remembers has changed: it ends when it has answered what it was asked. */
  stale = false;

  constructor(mode: BatchMode, process: Promise<BatchProcess>) {
    this.mode = mode;
    this.process = process;
  }
}

const OBJECT_ID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

type Need = 'info' | 'contents';

interface Asked<Name> {
  readonly name: Name;
  readonly object: Promise<GitObject | undefined>;
}

export class ObjectPool {
  readonly #options: ObjectPoolOptions;
  readonly #limit: number;
  readonly #idleMs: number;
  readonly #files: RememberedFiles;
  readonly #members = new Set<Member>();
  readonly #streamQueue: (() => void)[] = [];
  #streams = 0;
  #started = 0;
  #pending = 0;
  #idleTimer: NodeJS.Timeout | undefined;

  constructor(options: ObjectPoolOptions) {
    this.#options = options;
    this.#files = new RememberedFiles(options.paths);
    this.#limit = Math.max(2, options.limit ?? Math.min(4, availableParallelism()));
    this.#idleMs = options.idleMs ?? DEFAULT_IDLE_MS;
  }

  /**
   * What `name` (anything git resolves: an object id, `main~3^{tree}`, `HEAD:path`; bytes where a path is
   * no UTF-8) is; undefined when there is no such object. REF_INVALID when it could be several.
   */
  info(name: string | Uint8Array): Promise<ObjectHeader | undefined> {
    return this.#ask(name, 'info', (process) => process.info(name));
  }

  /** The object `name` with its content. */
  read(name: string | Uint8Array, options: ReadOptions = {}): Promise<GitObject | undefined> {
    const maxSize = options.maxSize ?? DEFAULT_MAX_SIZE;
    return this.#ask(name, 'contents', (process) => process.read(name, maxSize));
  }

  /** `read` for many names, answered in their order, with a bounded number of questions under way. */
  async *readMany<Name extends string | Uint8Array>(
    names: AsyncIterable<Name> | Iterable<Name>,
    options: ReadOptions = {},
  ): AsyncIterable<{ readonly name: Name; readonly object: GitObject | undefined }> {
    let size = SMALLEST_BATCH;
    const batch: Name[] = [];
    let underWay: Asked<Name>[] = [];
    const askAll = (): Asked<Name>[] =>
      batch.splice(0).map((name) => {
        const object = this.read(name, options);
        object.catch(() => {}); // Reported when its turn comes.
        return { name, object };
      });
    // Two batches are under way: while one is handed out, git answers the other.
    for await (const name of names) {
      batch.push(name);
      if (batch.length < size) continue;
      const next = askAll();
      let bytes = 0;
      for (const asked of underWay) {
        const object = await asked.object;
        bytes += object?.size ?? 0;
        yield { name: asked.name, object };
      }
      if (underWay.length > 0) size = batchSize(bytes / underWay.length);
      else size = 2 * SMALLEST_BATCH;
      underWay = next;
    }
    for (const asked of [...underWay, ...askAll()]) yield { name: asked.name, object: await asked.object };
  }

  /**
   * The object `name` with its content as a stream, of any size; at most about 1 MiB of it is in memory.
   * The stream has a process of its own until it is read to its end, left or closed. With as many open as
   * the pool has processes but one, the next `open` waits.
   */
  async open(
    name: string | Uint8Array,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<ObjectStream | undefined> {
    await this.#streamSlot(options.signal);
    for (let attempt = 0; ; attempt++) {
      const member = this.#freeMember();
      member.taken = true;
      member.pending++;
      this.#pending++;
      let released = false;
      const release = (freesSlot: boolean, ended: boolean) => {
        if (released) return;
        released = true;
        if (ended) this.#members.delete(member);
        member.taken = false;
        this.#answered(member);
        if (freesSlot) this.#freeStreamSlot();
      };
      try {
        const process = await member.process;
        const stream = await process.open(name, options.signal, (ended) => release(true, ended));
        if (stream === undefined) release(true, false);
        return stream;
      } catch (error) {
        const again = error instanceof BatchEnded && attempt < (error.first ? 1 : 5);
        release(!again, error instanceof BatchEnded);
        if (!again) throw plain(error);
      }
    }
  }

  stats(): PoolStats {
    return { processes: this.#members.size, started: this.#started, waiting: this.#pending };
  }

  /** Ends all processes, after the questions already asked. A later question starts a new one. */
  async close(): Promise<void> {
    clearTimeout(this.#idleTimer);
    this.#idleTimer = undefined;
    await Promise.all([...this.#members].map((member) => this.#end(member)));
  }

  async #ask<T>(
    name: string | Uint8Array,
    need: Need,
    question: (process: BatchProcess) => Promise<T>,
  ): Promise<T> {
    const isOid = typeof name === 'string' && OBJECT_ID.test(name);
    this.#retireStale(isOid);
    for (let attempt = 0; ; attempt++) {
      const member = this.#member(need);
      member.pending++;
      this.#pending++;
      try {
        const answer = await question(await member.process);
        // An object that is missing may have come with an alternate that the process does not know.
        if (answer !== undefined || !isOid || attempt > 0 || !this.#retireStale(false)) return answer;
      } catch (error) {
        // A process that died at another question, or was told to go, says nothing about this one.
        const again = error instanceof BatchEnded && attempt < (error.first ? 1 : 5);
        if (!again) throw plain(error);
        this.#members.delete(member);
      } finally {
        this.#answered(member);
      }
    }
  }

  /** The process for the next question: an idle one, a new one where that pays, else the least busy. */
  #member(need: Need): Member {
    let best: Member | undefined;
    let suitable = 0;
    for (const member of this.#members) {
      if (member.taken || member.stale || !suits(member.mode, need)) continue;
      suitable++;
      if (best === undefined || member.pending < best.pending) best = member;
    }
    if (best !== undefined && (best.pending < WINDOW || suitable >= this.#limit)) return best;
    return this.#start(need);
  }

  /** One that nobody else uses, for a stream. */
  #freeMember(): Member {
    this.#retireStale(false);
    for (const member of this.#members) {
      if (!member.taken && !member.stale && member.pending === 0 && suits(member.mode, 'contents'))
        return member;
    }
    return this.#start('contents');
  }

  #start(need: Need): Member {
    this.#started++;
    this.#files.note();
    // Which mode there is depends on git's version: until that is known, the member serves what it was started for.
    const starting = this.#startProcess(need);
    const member = new Member(knownMode ?? (need === 'info' ? 'check' : 'contents'), starting);
    this.#members.add(member);
    starting.catch(() => this.#members.delete(member));
    return member;
  }

  async #startProcess(need: Need): Promise<BatchProcess> {
    const commands = await gitAtLeast('2.36');
    const nulTerminated = await gitAtLeast('2.38');
    if (commands) knownMode = 'command';
    const mode: BatchMode = commands ? 'command' : need === 'info' ? 'check' : 'contents';
    const flags = {
      command: ['--batch-command', '--buffer'],
      check: ['--batch-check'],
      contents: ['--batch'],
    }[mode];
    const running = await this.#options.start(['cat-file', ...flags, ...(nulTerminated ? ['-z'] : [])]);
    return new BatchProcess(running, mode, nulTerminated);
  }

  #answered(member: Member): void {
    member.pending--;
    this.#pending--;
    if (member.pending > 0) return;
    if (member.stale || !this.#members.has(member)) void this.#end(member);
    if (this.#pending === 0) this.#startIdleTimer();
  }

  async #end(member: Member): Promise<void> {
    this.#members.delete(member);
    const process = await member.process.catch(() => undefined);
    await process?.close();
  }

  #startIdleTimer(): void {
    // One timer that looks whether it is still right costs less than a new one after each answer.
    if (this.#idleTimer !== undefined) {
      this.#idleTimer.refresh();
      return;
    }
    this.#idleTimer = setTimeout(() => {
      this.#idleTimer = undefined;
      for (const member of this.#members) if (member.pending === 0) void this.#end(member);
    }, this.#idleMs);
    this.#idleTimer.unref();
  }

  /** Whether a file that processes remember has changed; those that are running get no more questions then. */
  #retireStale(isOid: boolean): boolean {
    if (!this.#files.haveChanged(isOid)) return false;
    for (const member of [...this.#members]) {
      member.stale = true;
      if (member.pending === 0) void this.#end(member);
    }
    return true;
  }

  async #streamSlot(signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) throw signalError(signal);
    if (this.#streams < this.#limit - 1) {
      this.#streams++;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const turn = () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = () => {
        this.#streamQueue.splice(this.#streamQueue.indexOf(turn), 1);
        reject(signalError(signal!));
      };
      this.#streamQueue.push(turn);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** The slot goes to the first that waits, if any. */
  #freeStreamSlot(): void {
    const next = this.#streamQueue.shift();
    if (next === undefined) this.#streams--;
    else next();
  }
}

/** Known once the first process was started. */
let knownMode: 'command' | undefined;

function suits(mode: BatchMode, need: Need): boolean {
  return mode === 'command' || (mode === 'check') === (need === 'info');
}

/** The error of git behind the one that only says that the process is gone. */
function plain(error: unknown): unknown {
  return error instanceof BatchEnded ? classified(error.cause) : error;
}

function signalError(signal: AbortSignal): Error {
  const error = new Error('waiting for a git object was stopped before it ended', { cause: signal.reason });
  error.name = 'AbortError';
  return error;
}

function batchSize(bytesEach: number): number {
  return Math.max(
    SMALLEST_BATCH / 16,
    Math.min(LARGEST_BATCH, Math.floor(BATCH_BYTES / Math.max(1, bytesEach))),
  );
}

guardMethods(
  ObjectPool,
  { info: ['name:text|bytes'], read: ['name:text|bytes', 'options?'], open: ['name:text|bytes', 'options?'] },
  { readMany: ['names:iterable', 'options?'] },
);
