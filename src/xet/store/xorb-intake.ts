/** A xorb on its way into a store: what is checked without looking into its chunks. */
import { FormatError, Git2dbError } from '../errors.ts';
import { merkleRoot } from '../hash/merkle.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import { CHUNK_HEADER_SIZE, decodeChunkHeader } from '../xorb/chunk-record.ts';
import { lengthsOf } from '../xorb/ends.ts';
import {
  decodeFooter,
  encodeFooter,
  MAX_XORB_BYTES,
  MAX_XORB_CHUNKS,
  type XorbFooter,
} from '../xorb/format.ts';
import type { XorbUpload } from './store.ts';

/** Some writers fill a xorb with so many raw bytes, and the headers of the records come on top. */
export const MAX_RECORD_BYTES: number = MAX_XORB_BYTES + CHUNK_HEADER_SIZE * MAX_XORB_CHUNKS;

/** True if the chunk list of a footer has its xorb hash for Merkle root. */
export function provesItself({ xorbHash, hashes, rawEnds, count }: XorbFooter): boolean {
  const lengths = lengthsOf(rawEnds);
  return hashesEqual(merkleRoot(hashes, lengths, count), 0, xorbHash, 0);
}

/** The footer of a xorb that is sent, in the form in which it is kept. Throws INVALID_XORB or LIMIT_EXCEEDED. */
export function checkedFooter(footer: XorbFooter): Uint8Array {
  const bytes = encodeFooter(footer);
  const size = footer.recordEnds[footer.count - 1] ?? 0;
  // Decoding checks the order of the ends.
  decodeFooter(bytes, size + bytes.length);
  if (size > MAX_RECORD_BYTES) {
    throw new Git2dbError(
      'LIMIT_EXCEEDED',
      `a xorb of ${size} bytes; at most ${MAX_RECORD_BYTES} are accepted`,
    );
  }
  if (!provesItself(footer)) {
    throw new FormatError(
      'INVALID_XORB',
      `the chunk list sent for xorb ${formatHash(footer.xorbHash)} has another Merkle root`,
      size,
    );
  }
  return bytes;
}

/**
 * The records of an upload as they come, followed by `tail`. Ends with INVALID_XORB where a record is not what
 * the footer says, or their number is another: nothing that was written so far may be kept then.
 */
export async function* checkedRecords(
  { footer, records }: XorbUpload,
  tail: Uint8Array,
): AsyncGenerator<Uint8Array> {
  const checker = new RecordChecker(footer);
  for await (const piece of records()) {
    checker.push(piece);
    yield piece;
  }
  checker.finish();
  yield tail;
}

/** Compares record headers, wherever pieces are cut, with a footer. */
class RecordChecker {
  readonly #footer: XorbFooter;
  readonly #header = new Uint8Array(CHUNK_HEADER_SIZE);
  #headerBytes = 0;
  #chunk = 0;
  #at = 0;

  constructor(footer: XorbFooter) {
    this.#footer = footer;
  }

  push(piece: Uint8Array): void {
    const { recordEnds, count } = this.#footer;
    for (let i = 0; i < piece.length; ) {
      if (this.#chunk === count) throw this.#invalid('more bytes follow the last record');
      if (this.#headerBytes < CHUNK_HEADER_SIZE) {
        const part = piece.subarray(i, i + CHUNK_HEADER_SIZE - this.#headerBytes);
        this.#header.set(part, this.#headerBytes);
        this.#headerBytes += part.length;
        this.#at += part.length;
        i += part.length;
        if (this.#headerBytes === CHUNK_HEADER_SIZE) this.#check();
        continue;
      }
      const end = recordEnds[this.#chunk] as number;
      const length = Math.min(end - this.#at, piece.length - i);
      this.#at += length;
      i += length;
      if (this.#at === end) {
        this.#chunk++;
        this.#headerBytes = 0;
      }
    }
  }

  finish(): void {
    if (this.#chunk !== this.#footer.count) throw this.#invalid(`the records end at ${this.#at}`);
  }

  #check(): void {
    const { recordEnds, rawEnds } = this.#footer;
    const start = this.#at - CHUNK_HEADER_SIZE;
    const { storedLength, rawLength } = decodeChunkHeader(this.#header, 0, start);
    const expectedRaw = (rawEnds[this.#chunk] as number) - (rawEnds[this.#chunk - 1] ?? 0);
    if (this.#at + storedLength !== recordEnds[this.#chunk] || rawLength !== expectedRaw) {
      throw this.#invalid(`the record of chunk ${this.#chunk} is not what the chunk list says`);
    }
  }

  #invalid(found: string): FormatError {
    return new FormatError(
      'INVALID_XORB',
      `xorb ${formatHash(this.#footer.xorbHash)} was not sent as announced: ${found}`,
      this.#at,
    );
  }
}
