/**
 * One gc at a time on a store. A gc makes a directory of its own in `gc/`, marked like a writer's
 * (liveness.ts), and only then looks for others: of two that begin at once at least one sees the other
 * and steps back. Names are never used twice, so what a dead gc has left can be removed by anybody who
 * holds the lock.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Git2dbError } from '../../errors.ts';
import type { StoreLayout } from '../layout.ts';
import { LivenessMark, probeLiveness } from '../liveness.ts';

const ATTEMPTS = 5;
const STEP_BACK_MS = 100;
/** A directory that is still hidden after this long was left by a process that died while making it. */
const HIDDEN_MS = 24 * 3600 * 1000;

export class GcLock {
  /** A place for temporary files, removed with the lock. */
  readonly directory: string;
  readonly #mark: LivenessMark;

  private constructor(directory: string, mark: LivenessMark) {
    this.directory = directory;
    this.#mark = mark;
  }

  /** Throws REFUSED while another gc is, or may be, at work. */
  static async acquire(layout: StoreLayout): Promise<GcLock> {
    mkdirSync(layout.gc, { recursive: true });
    for (let attempt = 1; ; attempt++) {
      const lock = GcLock.#enter(layout.gc);
      let rival: string | undefined;
      try {
        rival = await findRival(layout.gc, lock.directory);
        if (rival === undefined) {
          sweep(layout.gc, lock.directory);
          return lock;
        }
      } catch (error) {
        lock.release();
        throw error;
      }
      lock.release();
      if (attempt === ATTEMPTS) {
        throw new Git2dbError(
          'REFUSED',
          `another gc is at work on ${layout.root}: wait for it to end (if you are sure that none is, remove ${rival})`,
          { data: { directory: rival } },
        );
      }
      await sleep(STEP_BACK_MS * (0.5 + Math.random()));
    }
  }

  static #enter(root: string): GcLock {
    const name = `${Date.now().toString(36)}-${process.pid}-${randomBytes(4).toString('hex')}`;
    const hidden = join(root, `.${name}`);
    mkdirSync(hidden);
    const mark = new LivenessMark(hidden);
    const directory = join(root, name);
    renameSync(hidden, directory);
    return new GcLock(directory, mark);
  }

  release(): void {
    this.#mark.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

async function findRival(root: string, own: string): Promise<string | undefined> {
  for (const name of readdirSync(root)) {
    const directory = join(root, name);
    if (name.startsWith('.') || directory === own) continue;
    if ((await probeLiveness(directory)) !== 'dead') return directory;
  }
  return undefined;
}

/** Removes what dead ones left; every other directory that can be seen is one. */
function sweep(root: string, own: string): void {
  for (const name of readdirSync(root)) {
    const directory = join(root, name);
    if (directory === own) continue;
    if (name.startsWith('.')) {
      const stat = statSync(directory, { throwIfNoEntry: false });
      if (stat === undefined || Date.now() - stat.mtimeMs < HIDDEN_MS) continue;
    }
    rmSync(directory, { recursive: true, force: true });
  }
}
