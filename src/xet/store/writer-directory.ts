/**
 * The directory of a writer, `incoming/<writer>/`: the mark that says it is alive, its journal, and the file whose
 * blocks the shard will take.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { JOURNAL } from './incoming.ts';
import type { StoreLayout } from './layout.ts';
import { LivenessMark } from './liveness.ts';
import { IRREGULAR_MARK, SHARD_RESERVE } from './seal.ts';
import { writeAll, writeZeros } from './write-all.ts';

/** Reserved for the shard beyond what is needed now. */
const SHARD_HEADROOM = 1 << 15;

export class WriterDirectory {
  readonly path: string;
  readonly #mark: LivenessMark;
  #journal: number | undefined;
  #journalEnd = 0;
  #shardReserved = 0;

  private constructor(path: string, mark: LivenessMark) {
    this.path = path;
    this.#mark = mark;
  }

  /** Registers this process with the store, which is made if needed. */
  static register(layout: StoreLayout, isIrregular: boolean): WriterDirectory {
    layout.create();
    const name = `${Date.now().toString(36)}-${process.pid}-${randomBytes(4).toString('hex')}`;
    // Invisible until the mark is in place: a directory without one looks abandoned.
    const hidden = join(layout.incoming, `.${name}`);
    mkdirSync(hidden);
    if (isIrregular) writeFileSync(join(hidden, IRREGULAR_MARK), '');
    const mark = new LivenessMark(hidden);
    const path = join(layout.incoming, name);
    renameSync(hidden, path);
    return new WriterDirectory(path, mark);
  }

  /** Path of local xorb `number`. */
  xorb(number: number): string {
    return join(this.path, `${number}.xorb`);
  }

  /** Appends a frame to the journal. */
  append(frame: Buffer): void {
    this.#journal ??= openSync(join(this.path, JOURNAL), 'w', 0o666);
    // Positional, so that a frame cut short by a full disk is overwritten by the next.
    writeAll(this.#journal, [frame], this.#journalEnd);
    this.#journalEnd += frame.length;
  }

  /** Makes sure of disk space for a shard of so many bytes. */
  reserveShard(size: number): void {
    if (size <= this.#shardReserved) return;
    // Ahead of the need, so that not every small file costs a write.
    const ahead = size + SHARD_HEADROOM;
    const fd = openSync(join(this.path, SHARD_RESERVE), this.#shardReserved === 0 ? 'w' : 'r+');
    try {
      writeZeros(fd, this.#shardReserved, ahead);
    } finally {
      closeSync(fd);
    }
    this.#shardReserved = ahead;
  }

  closeJournal(): void {
    if (this.#journal !== undefined) closeSync(this.#journal);
    this.#journal = undefined;
  }

  /** The writer counts as dead from now on. */
  leave(): void {
    this.#mark.close();
  }
}
