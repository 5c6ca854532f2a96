/**
 * Local xorbs whose files are complete, and their way to the disk: the thread pool has them written while
 * the next one is filled. What was finished here needs neither hashing nor syncing when it is published.
 */
import { closeSync, fdatasync, fdatasyncSync, ftruncateSync } from 'node:fs';
import { merkleRoot } from '../hash/merkle.ts';
import { encodeFooter } from '../xorb/format.ts';
import { dataEnd, type LocalXorb, rawLengths } from './journal.ts';
import type { Fsync } from './publish.ts';
import { writeAll } from './write-all.ts';

/** Background syncs that may be outstanding before this thread syncs by itself. */
const MAX_SYNCS = 64;

export class FinishedXorbs {
  readonly #fsync: Fsync;
  readonly #hashes = new Map<number, Uint8Array>();
  /** They may fail, and the system tells of a failure only once. */
  readonly #syncs: Promise<void>[] = [];
  #underWay = 0;

  constructor(fsync: Fsync) {
    this.#fsync = fsync;
  }

  /** Completes the file of a xorb and starts writing it back to the disk; closes `fd` unless it throws. */
  add(fd: number, xorb: LocalXorb): void {
    const hash = finishXorb(fd, xorb);
    if (this.#fsync === 'none') {
      closeSync(fd);
    } else if (this.#underWay >= MAX_SYNCS) {
      fdatasyncSync(fd);
      closeSync(fd);
    } else {
      const sync = this.#sync(fd);
      sync.catch(() => {});
      this.#syncs.push(sync);
    }
    this.#hashes.set(xorb.number, hash);
  }

  #sync(fd: number): Promise<void> {
    this.#underWay++;
    return new Promise<void>((resolve, reject) => {
      fdatasync(fd, (error) => {
        this.#underWay--;
        closeSync(fd);
        if (error === null) resolve();
        else reject(error);
      });
    });
  }

  /** The xorb is taken up again. */
  forget(number: number): void {
    this.#hashes.delete(number);
  }

  /** Hash of a xorb whose file is complete and, once `settle` has resolved, on stable storage. */
  find(number: number): Uint8Array | undefined {
    return this.#hashes.get(number);
  }

  /** Rejects if the disk did not take one of them. */
  async settle(): Promise<void> {
    await settleAll(this.#syncs);
  }
}

/** The hash of a local xorb as it stands; zero for one without chunks. */
export function localXorbHash(xorb: LocalXorb): Uint8Array {
  return merkleRoot(xorb.hashes.slice(), rawLengths(xorb), xorb.count);
}

/** Completes a local xorb's file: footer right after the records, nothing behind it. Returns its hash. */
export function finishXorb(fd: number, xorb: LocalXorb): Uint8Array {
  const xorbHash = localXorbHash(xorb);
  const footer = encodeFooter({
    xorbHash,
    count: xorb.count,
    hashes: xorb.hashes.slice(),
    recordEnds: Uint32Array.from(xorb.recordEnds),
    rawEnds: Uint32Array.from(xorb.rawEnds),
  });
  const end = dataEnd(xorb);
  writeAll(fd, [footer], end);
  ftruncateSync(fd, end + footer.length);
  return xorbHash;
}

/** All of them, also when one fails: no descriptor may be in use when the caller goes on. */
export async function settleAll(promises: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) {
    if (result.status === 'rejected') throw result.reason;
  }
}
