/**
 * Looks up single paths in a git index without making objects of its entries, of which there may be
 * millions. Entries of versions 2 and 3 hold their path in full and are sorted by it; those of version 4,
 * and of a split or sparse index, are for git.
 *
 *     entry:  40 bytes of stat data, the mode among them at 24; oid (20 or 32); flags, u16: stage in
 *             bits 12..13, extended in bit 14, length of the path (at most 0xfff) in the rest;
 *             [2 bytes if extended]; path; 1..8 zero bytes, up to a multiple of 8
 *
 * (gitformat-index(5))
 */
const STAT_SIZE = 40;
const MODE_AT = 24;
const HEADER_SIZE = 12;
const LONG_PATH = 0xfff;
const EXTENDED = 0x4000;
/** The smallest entry, whatever its oid: no count may ask for more memory than its entries could fill. */
const MIN_ENTRY = 64;

export type ObjectFormat = 'sha1' | 'sha256';

export class StagedOids {
  readonly #index: Buffer;
  readonly #oidSize: number;
  /** Where each entry starts; undefined where only git can tell. Made when it is needed. */
  #starts: Uint32Array | undefined;
  #isRead = false;

  constructor(index: Buffer, format: ObjectFormat) {
    this.#index = index;
    this.#oidSize = format === 'sha1' ? 20 : 32;
  }

  /** Object id of the stage 0 regular file at `path`; undefined if there is none; 'ask' where only git can tell. */
  find(path: Buffer): string | 'ask' | undefined {
    const starts = this.#entries();
    if (starts === undefined) return 'ask';
    const at = starts[this.#lowerBound(starts, path)];
    if (at === undefined || this.#compare(at, path) !== 0 || this.#stage(at) !== 0) return undefined;
    const mode = this.#index.readUInt32BE(at + MODE_AT);
    if (mode !== 0o100644 && mode !== 0o100755) return undefined;
    return this.#index.toString('hex', at + STAT_SIZE, at + STAT_SIZE + this.#oidSize);
  }

  /** Whether a merge has left `path` in conflict; 'ask' as above. */
  isUnmerged(path: Buffer): boolean | 'ask' {
    const starts = this.#entries();
    if (starts === undefined) return 'ask';
    const at = starts[this.#lowerBound(starts, path)];
    return at !== undefined && this.#compare(at, path) === 0 && this.#stage(at) !== 0;
  }

  #entries(): Uint32Array | undefined {
    if (!this.#isRead) this.#starts = readStarts(this.#index, this.#oidSize);
    this.#isRead = true;
    return this.#starts;
  }

  #stage(at: number): number {
    return (this.#index.readUInt16BE(at + STAT_SIZE + this.#oidSize) >> 12) & 3;
  }

  /** The first entry, of any stage, whose path is not below `path`. */
  #lowerBound(starts: Uint32Array, path: Buffer): number {
    let low = 0;
    let high = starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#compare(starts[middle] as number, path) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #compare(at: number, path: Buffer): number {
    const [from, to] = pathOf(this.#index, at, this.#oidSize);
    return this.#index.compare(path, 0, path.length, from, to);
  }
}

/** Where the path of the entry at `at` begins and ends; `end` is the index's length where it has no end. */
function pathOf(index: Buffer, at: number, oidSize: number): [start: number, end: number] {
  const flagsAt = at + STAT_SIZE + oidSize;
  const flags = index.readUInt16BE(flagsAt);
  const start = flagsAt + ((flags & EXTENDED) === 0 ? 2 : 4);
  const length = flags & LONG_PATH;
  if (length < LONG_PATH) return [start, start + length];
  const end = index.indexOf(0, start + length);
  return [start, end < 0 ? index.length : end];
}

function readStarts(index: Buffer, oidSize: number): Uint32Array | undefined {
  if (index.length < HEADER_SIZE + oidSize || index.toString('latin1', 0, 4) !== 'DIRC') return undefined;
  const version = index.readUInt32BE(4);
  const count = index.readUInt32BE(8);
  const limit = index.length - oidSize;
  if ((version !== 2 && version !== 3) || count > limit / MIN_ENTRY) return undefined;
  const starts = new Uint32Array(count);
  let at = HEADER_SIZE;
  for (let i = 0; i < count; i++) {
    if (at + STAT_SIZE + oidSize + 4 > limit) return undefined;
    starts[i] = at;
    const [, end] = pathOf(index, at, oidSize);
    // One to eight zero bytes, the path's own NUL among them.
    at += (end - at + 8) & ~7;
    if (at > limit) return undefined;
  }
  return isPartial(index, at, limit) ? undefined : starts;
}

/** A split index holds the rest elsewhere ("link"); a sparse one has directories ("sdir"). Cannot be read: partial. */
function isPartial(index: Buffer, start: number, limit: number): boolean {
  for (let at = start; at < limit; ) {
    if (at + 8 > limit) return true;
    const signature = index.toString('latin1', at, at + 4);
    if (signature === 'link' || signature === 'sdir') return true;
    at += 8 + index.readUInt32BE(at + 4);
  }
  return false;
}
