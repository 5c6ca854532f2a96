/**
 * One file as it comes together: its chunk list, and where in this store each chunk is. Every 64 MiB what has
 * come is committed as a file of its own, a *segment*, so that a fetch that is killed finds it again: the next
 * one looks for chunks, not for files. Whoever waits for the file can read segments, and what published xorbs have of it.
 */
import { Git2dbError } from '../errors.ts';
import { fileHash } from '../hash/merkle.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import { ByteList } from '../store/byte-list.ts';
import { extendTerms, type LocalTerm } from '../store/journal.ts';
import type { StoreWriter } from '../store/writer.ts';
import type { FilePart } from './file-part.ts';

/** New bytes after which a segment is committed. */
const SEGMENT_BYTES = 64 << 20;
/** Bytes of published xorbs after which they are told of as parts. */
const PART_BYTES = 8 << 20;

/** Where a chunk is: in a published xorb, or in local xorb `local` of the writer. */
export interface ChunkAt {
  readonly xorbHash: Uint8Array | undefined;
  readonly local: number;
  readonly index: number;
}

export class FetchedFile {
  readonly #writer: StoreWriter;
  readonly #onPart: (part: FilePart) => void;
  readonly #hashes: ByteList;
  readonly #lengths: number[] = [];
  readonly #terms: LocalTerm[] = [];
  /** Terms of the chunks since the last segment, the first of which is chunk `#segmentStart`. */
  #segment: LocalTerm[] = [];
  #segmentStart = 0;
  /** Where that is in the file, in bytes. */
  #segmentOffset = 0;
  #newBytes = 0;
  #xorbHash: Uint8Array | undefined;
  /** Bytes so far. */
  size = 0;

  /** `size`: bytes that it is said to have. `onPart` is told of what can be read of it, in order. */
  constructor(writer: StoreWriter, size: number, onPart: (part: FilePart) => void) {
    this.#writer = writer;
    this.#onPart = onPart;
    this.#hashes = new ByteList(32 * Math.min(1024, 1 + Math.ceil(size / 65536)));
    writer.begin();
  }

  /** The next chunk is known to the store, or was just put into the writer. */
  add(hashes: Uint8Array, offset: number, rawLength: number, at: ChunkAt): void {
    this.#hashes.append(hashes, offset, 32);
    this.#lengths.push(rawLength);
    this.size += rawLength;
    // One object for one xorb: terms are compared by identity.
    const { xorbHash } = at;
    if (
      xorbHash !== undefined &&
      (this.#xorbHash === undefined || !hashesEqual(this.#xorbHash, 0, xorbHash, 0))
    )
      this.#xorbHash = xorbHash;
    const hash = xorbHash === undefined ? undefined : this.#xorbHash;
    extendTerms(this.#terms, hash, at.local, at.index, rawLength);
    extendTerms(this.#segment, hash, at.local, at.index, rawLength);
  }

  /** The last chunk was put into the writer, in a record of so many bytes. True when it is time for a segment. */
  wrote(storedBytes: number): boolean {
    this.#newBytes += storedBytes;
    return this.#newBytes >= SEGMENT_BYTES;
  }

  /** Tells of what has come since the last part, if that is much, and all of it in published xorbs. */
  tellPublished(): void {
    if (this.size - this.#segmentOffset < PART_BYTES) return;
    if (this.#segment.some(({ xorbHash }) => xorbHash === undefined)) return;
    let offset = this.#segmentOffset;
    for (const { xorbHash, start, end, rawBytes: size } of this.#segment) {
      this.#onPart({ kind: 'xorb', hash: xorbHash as Uint8Array, start, end, offset, size });
      offset += size;
    }
    this.#endSegment();
  }

  /** Commits what has come since the last segment. */
  commitSegment(): void {
    const count = this.#lengths.length - this.#segmentStart;
    const lengths = this.#lengths.slice(this.#segmentStart);
    const hash = fileHash(this.#hashes.slice(32 * this.#segmentStart), lengths, count);
    const [offset, size] = [this.#segmentOffset, this.size - this.#segmentOffset];
    this.#writer.commit({ fileHash: hash, size, terms: this.#segment, sha256: undefined });
    this.#endSegment();
    this.#onPart({ kind: 'file', hash, offset, size });
  }

  #endSegment(): void {
    this.#segment = [];
    this.#segmentStart = this.#lengths.length;
    this.#segmentOffset = this.size;
    this.#newBytes = 0;
  }

  /** All chunks have come: proves that they are the file, and makes it one of this store. Throws CONTENT_DAMAGED. */
  commit(hash: Uint8Array, sha256: string | undefined, place: string): void {
    const found = fileHash(this.#hashes.slice(), this.#lengths, this.#lengths.length);
    if (!hashesEqual(found, 0, hash, 0)) {
      throw new Git2dbError(
        'CONTENT_DAMAGED',
        `what ${place} gives for file ${formatHash(hash)} is file ${formatHash(found)}: its records there are damaged; ` +
          'run `git2db xet fsck` where that store is, or push the file once more',
        { data: { file: formatHash(hash) } },
      );
    }
    this.#writer.commit({ fileHash: hash, size: this.size, terms: this.#terms, sha256 });
  }
}
