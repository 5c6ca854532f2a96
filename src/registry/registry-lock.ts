/**
 * One writer at a time on a registry, across processes, PID namespaces and containers.
 *
 *     lock/<n>/           claim number n: alive (a socket), writer.json (who), released (once it is)
 *
 * A claim is made hidden and complete, and published by rename, which fails when the number is in use (a
 * directory that is not empty). Who has published n, and finds no higher number then, holds the lock; n+1
 * may be claimed once n is released or its process is gone, which its socket tells (xet/store/liveness.ts).
 * The highest claim is never deleted, so numbers only grow: a claimant that slept through other people's
 * turns finds a higher number than its own, and steps back. No file is ever broken open, so there is no
 * moment at which two can have done so.
 */

import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeDirectories } from '../make-directories.ts';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { LivenessMark, probeLiveness } from '../xet/store/liveness.ts';
import { abortedError, LockTimeoutError } from './errors.ts';

export interface LockOptions {
  /** How long to wait; 0: not at all. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

const RELEASED = 'released';
const FIRST_WAIT_MS = 2;
const LONGEST_WAIT_MS = 50;
/** A claim that is still hidden after this long was left by a process that died while making it. */
const HIDDEN_MS = 60_000;

export class RegistryLock {
  readonly #directory: string;
  readonly #mark: LivenessMark;
  #isReleased = false;

  private constructor(directory: string, mark: LivenessMark) {
    this.#directory = directory;
    this.#mark = mark;
  }

  /**
   * Takes the lock in `directory`, which is made if it is missing. Throws LOCK_TIMEOUT naming the holder,
   * an AbortError, DISK_FULL or STORE_UNWRITABLE.
   */
  static async acquire(directory: string, { timeoutMs, signal }: LockOptions): Promise<RegistryLock> {
    const patience = new Patience(timeoutMs);
    let wait = FIRST_WAIT_MS;
    for (;;) {
      if (signal?.aborted) throw abortedError(`waiting for ${directory}`, signal.reason);
      const lock = await RegistryLock.#try(directory);
      if (lock !== undefined) return lock;
      if (patience.leftMs <= 0) throw lockTimeout(directory, timeoutMs);
      try {
        await patience.sleep(wait * (0.5 + Math.random()), signal);
      } catch (error) {
        throw abortedError(`waiting for ${directory}`, signal?.reason ?? error);
      }
      wait = Math.min(wait * 1.5, LONGEST_WAIT_MS);
    }
  }

  static async #try(directory: string): Promise<RegistryLock | undefined> {
    const highest = highestClaim(directory);
    if (highest !== undefined && !(await isFree(join(directory, String(highest))))) return undefined;
    const number = (highest ?? 0) + 1;
    const place = join(directory, String(number));
    const hidden = join(directory, `.${process.pid}-${randomBytes(6).toString('hex')}`);
    let mark: LivenessMark | undefined;
    try {
      makeDirectories(hidden, 0o700);
      mark = new LivenessMark(hidden);
      renameSync(hidden, place);
    } catch (error) {
      mark?.close();
      rmSync(hidden, { recursive: true, force: true });
      const errno = errnoOf(error);
      if (errno === 'ENOTEMPTY' || errno === 'EEXIST') return undefined;
      const full = errno === 'ENOSPC' || errno === 'EDQUOT';
      throw new Git2dbError(
        full ? 'DISK_FULL' : 'STORE_UNWRITABLE',
        `cannot lock ${directory}: ${messageOf(error)}${full ? '; make space there and try again' : ''}`,
        { cause: error, data: { directory } },
      );
    }
    const lock = new RegistryLock(place, mark);
    if (highestClaim(directory) !== number) {
      mark.close();
      rmSync(place, { recursive: true, force: true });
      return undefined;
    }
    sweep(directory, number);
    return lock;
  }

  /** Harmless when called again. */
  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    try {
      // Where there are no sockets, nothing else would say so while this process lives.
      writeFileSync(join(this.#directory, RELEASED), '', { mode: 0o600 });
    } catch {
      // The registry may have been deleted, or the disk be full: the closed socket says it.
    }
    this.#mark.close();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/**
 * Time to wait, of which only that counts in which this process ran: after the machine, or the process,
 * was suspended, the holder of the lock has not had that time either.
 */
export class Patience {
  leftMs: number;

  constructor(totalMs: number) {
    this.leftMs = totalMs;
  }

  /** Waits for `ms`, or what is left. */
  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const wanted = Math.min(ms, this.leftMs);
    const start = performance.now();
    try {
      await sleep(wanted, undefined, { signal });
    } finally {
      this.leftMs -= Math.min(performance.now() - start, wanted + LONGEST_DELAY_MS);
    }
  }
}

/** More than this a busy machine does not delay a timer. */
const LONGEST_DELAY_MS = 1000;

function claims(directory: string): number[] {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
  return names.filter((name) => /^\d{1,15}$/.test(name)).map(Number);
}

function highestClaim(directory: string): number | undefined {
  const numbers = claims(directory);
  return numbers.length === 0 ? undefined : numbers.reduce((a, b) => Math.max(a, b));
}

async function isFree(claim: string): Promise<boolean> {
  if (statSync(join(claim, RELEASED), { throwIfNoEntry: false }) !== undefined) return true;
  return (await probeLiveness(claim)) === 'dead';
}

/** Removes the claims before `own`, which all have ended, and what died in hiding. */
function sweep(directory: string, own: number): void {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (/^\d{1,15}$/.test(name) ? Number(name) >= own : !isOldHidden(name, path)) continue;
    try {
      rmSync(path, { recursive: true, force: true });
    } catch {
      // A claimant that slept has just published there; it steps back and removes its claim itself.
    }
  }
}

function isOldHidden(name: string, path: string): boolean {
  if (!name.startsWith('.')) return false;
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat !== undefined && Date.now() - stat.mtimeMs > HIDDEN_MS;
}

/** Who holds the lock in `directory`, for a person; undefined: nobody does. */
export async function lockHolder(directory: string): Promise<string | undefined> {
  const highest = highestClaim(directory);
  if (highest === undefined) return undefined;
  const claim = join(directory, String(highest));
  return (await isFree(claim)) ? undefined : describeHolder(claim);
}

function describeHolder(claim: string): string {
  try {
    const { pid } = JSON.parse(readFileSync(join(claim, 'writer.json'), 'utf8')) as { pid?: unknown };
    if (typeof pid !== 'number') return 'an unknown process';
    const since = statSync(claim).mtime.toISOString();
    return `process ${pid}${programName(pid)}, since ${since}`;
  } catch {
    return 'an unknown process';
  }
}

function programName(pid: number): string {
  try {
    return ` (${readFileSync(`/proc/${pid}/comm`, 'utf8').trim()})`;
  } catch {
    return ' (of another PID namespace or machine)';
  }
}

function lockTimeout(directory: string, timeoutMs: number): LockTimeoutError {
  const highest = highestClaim(directory);
  const claim = join(directory, String(highest ?? 0));
  const holder = describeHolder(claim);
  const isOurs = holder.startsWith(`process ${process.pid} `);
  const remedy = isOurs
    ? 'that is this process: in a transaction, use its own methods'
    : 'try again when that has ended';
  return new LockTimeoutError(
    `the registry's lock was not free within ${Math.ceil(timeoutMs)} ms: it is held by ${holder}; ${remedy} ` +
      `(if you are sure that it has, remove ${claim})`,
    holder,
    { data: { directory, claim, timeoutMs } },
  );
}
