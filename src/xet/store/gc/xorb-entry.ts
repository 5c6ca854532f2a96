/** A xorb as gc sees it: how old it is, who needs it, and which of its chunks live. */
import { parseHash } from '../../hash/xet-hash.ts';
import { rawBytesBetween } from '../../xorb/ends.ts';
import { footerLength, MAX_XORB_BYTES, MAX_XORB_CHUNKS } from '../../xorb/format.ts';
import { closeSource, openXorbFile, recordStart } from '../xorb-source.ts';
import type { StoredObject } from './objects.ts';

/** What some chunks take. */
export interface Extent {
  readonly count: number;
  readonly rawBytes: number;
  /** Records with their headers. */
  readonly storedBytes: number;
}

/** How full a xorb of these chunks is: 1 where one of the format's limits is reached. */
export function fullness({ count, rawBytes, storedBytes }: Extent): number {
  return Math.max(count / MAX_XORB_CHUNKS, rawBytes / MAX_XORB_BYTES, storedBytes / MAX_XORB_BYTES);
}

export class XorbEntry {
  readonly object: StoredObject;
  /** Younger than the grace period: all its chunks live. */
  readonly isYoung: boolean;
  /** True if its chunk boundaries were not checked here; see `irregular/` in layout.ts. */
  readonly isIrregular: boolean;
  /** Somebody needs it under this very name: all its chunks live, and it stays. */
  isPinned = false;
  /** Its youth does not count: a young file that was in it is to go. */
  isReleased = false;
  /** Chunks and raw bytes as a shard tells them; 0 while none does. */
  count = 0;
  rawBytes = 0;
  /** Flags of its chunks, if any is set. */
  flags: Uint32Array | undefined;
  /** Position, from 1, in the order in which shards, oldest first, name them. */
  rank = 0;
  #live: Uint8Array | undefined;

  constructor(object: StoredObject, isYoung: boolean, isIrregular: boolean) {
    this.object = object;
    this.isYoung = isYoung;
    this.isIrregular = isIrregular;
  }

  get name(): string {
    return this.object.name;
  }

  get isDescribed(): boolean {
    return this.count > 0;
  }

  get isWhole(): boolean {
    return (this.isYoung && !this.isReleased) || this.isPinned;
  }

  /** Chunks [start, end) live. Only after `count` was told. */
  mark(start: number, end: number): void {
    if (this.isWhole) return;
    this.#live ??= new Uint8Array(this.count || MAX_XORB_CHUNKS);
    this.#live.fill(1, start, end);
  }

  isLive(chunk: number): boolean {
    return this.isWhole || this.#live?.[chunk] === 1;
  }

  get isDead(): boolean {
    return !this.isWhole && this.#live === undefined;
  }

  /** Live chunks among the first `count`. */
  liveCount(count = this.count): number {
    if (this.isWhole) return count;
    let live = 0;
    for (let i = 0; i < count; i++) live += this.#live?.[i] ?? 0;
    return live;
  }

  /** What all its chunks take, as far as shard and file size tell. */
  get extent(): Extent {
    const storedBytes = Math.max(0, this.object.size - footerLength(this.count));
    return { count: this.count, rawBytes: this.rawBytes, storedBytes };
  }

  /** What its live chunks take. Reads the footer where only some live; throws what opening throws. */
  measure(): Extent {
    const live = this.liveCount();
    if (live === this.count) return this.extent;
    if (live === 0) return { count: 0, rawBytes: 0, storedBytes: 0 };
    const source = openXorbFile(this.object.path, parseHash(this.name));
    let rawBytes = 0;
    let storedBytes = 0;
    try {
      for (let i = 0; i < source.count; i++) {
        if (!this.isLive(i)) continue;
        storedBytes += (source.recordEnds[i] as number) - recordStart(source, i);
        rawBytes += rawBytesBetween(source, i, i + 1);
      }
    } finally {
      closeSource(source);
    }
    return { count: live, rawBytes, storedBytes };
  }
}
