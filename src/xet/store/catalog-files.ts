/** Changing what is in `catalog/`: files that appear as a whole, one publisher at a time, and what is left behind. */
import { readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../errors.ts';
import { isHashString } from '../hash/xet-hash.ts';
import { HEAD } from './catalog-head.ts';
import type { StoreLayout } from './layout.ts';
import { writeWhole } from './write-all.ts';

const LOCK = 'HEAD.lock';
/** Tables and HEADs on their way to their name. */
const TEMPORARY = 'new-';
/** A lock this old belongs to a dead process: it is held for a merge, which takes far less. */
const STALE_LOCK_MS = 30_000;
/** How long a publisher waits for another one; after that the other, or the next writer, does the work. */
const LOCK_WAIT_MS = 500;

/** Gives the file `name` of the catalog these bytes, in one step for its readers. */
export function replaceDurably(layout: StoreLayout, name: string, bytes: Uint8Array): void {
  const temporary = join(layout.catalog, `${TEMPORARY}${process.pid}-${Date.now()}`);
  try {
    writeWhole(temporary, [bytes]);
    renameSync(temporary, join(layout.catalog, name));
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/**
 * Removes tables that nobody names: left by a publisher that died. A reader with an old HEAD reads HEAD again.
 * Only with the lock.
 */
export function sweepCatalog(layout: StoreLayout, live: ReadonlySet<string>): void {
  for (const name of readdirSync(layout.catalog)) {
    if (name === HEAD || name === LOCK || live.has(name)) continue;
    const path = join(layout.catalog, name);
    if (!isHashString(name) && !isStale(path)) continue;
    rmSync(path, { force: true });
  }
}

/**
 * A lock that only saves work: two publishers at once would both be right, one's table being
 * found again by the next. So it may be broken by age, and a busy lock means "somebody else does it".
 */
export function lockCatalog(layout: StoreLayout): (() => void) | undefined {
  const path = join(layout.catalog, LOCK);
  for (const deadline = Date.now() + LOCK_WAIT_MS; ; ) {
    try {
      writeFileSync(path, `${process.pid}\n`, { flag: 'wx' });
      return () => rmSync(path, { force: true });
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
      if (isStale(path)) rmSync(path, { force: true });
      else if (Date.now() < deadline) sleep(5);
      else return undefined;
    }
  }
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function isStale(path: string): boolean {
  try {
    return Date.now() - statSync(path).mtimeMs > STALE_LOCK_MS;
  } catch {
    return true;
  }
}
