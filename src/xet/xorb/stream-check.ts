/**
 * Checks a xorb while it comes: every record is decoded and hashed as soon as it is whole, and the
 * xorb's name is the root over all of them. Of a xorb that is not what it says nothing is ever stored.
 *
 * Memory is one buffer of BUFFER_SIZE and the lists; records that were checked go to `sink`. A footer is compared with what was computed, and left out.
 */
import { decompressChunk } from '../compress/scheme.ts';
import { FormatError, Git2dbError } from '../errors.ts';
import { blake3Keyed } from '../hash/blake3.ts';
import { DATA_KEY } from '../hash/keys.ts';
import { merkleRoot } from '../hash/merkle.ts';
import { formatHash, HASH_SIZE, hashesEqual } from '../hash/xet-hash.ts';
import { CHUNK_HEADER_SIZE, decodeChunkHeader } from './chunk-record.ts';
import {
  decodeFooter,
  FOOTER_MAGIC,
  MAX_FOOTER_LENGTH,
  MAX_XORB_BYTES,
  MAX_XORB_CHUNKS,
  startsFooter,
  type XorbFooter,
} from './format.ts';

const BUFFER_SIZE = 1 << 20;

/** A full xorb of incompressible chunks exceeds the limit by the record headers. */
const MAX_RECORD_BYTES = MAX_XORB_BYTES + CHUNK_HEADER_SIZE * MAX_XORB_CHUNKS;

/** Largest upload of a xorb that can be valid. */
export const MAX_XORB_UPLOAD: number = MAX_RECORD_BYTES + MAX_FOOTER_LENGTH;

export class XorbCheck {
  readonly #sink: (records: Uint8Array) => Promise<void>;
  readonly #buffer: Buffer = Buffer.allocUnsafeSlow(BUFFER_SIZE);
  /** Bytes in the buffer; the first `#checked` of them are records that were checked. */
  #filled = 0;
  #checked = 0;
  /** Bytes that have gone to the sink. */
  #sunk = 0;
  readonly #hashes: Uint8Array[] = [];
  readonly #recordEnds: number[] = [];
  readonly #rawEnds: number[] = [];
  #footer: Buffer[] | undefined;
  #footerBytes = 0;

  /** `sink` may keep what it gets only until its promise settles. */
  constructor(sink: (records: Uint8Array) => Promise<void>) {
    this.#sink = sink;
  }

  /**
   * Takes the next bytes; a promise where the sink has to be waited for, which then takes them all. Throws, or
   * rejects with, INVALID_XORB or LIMIT_EXCEEDED as soon as that is certain.
   */
  push(piece: Uint8Array): Promise<void> | undefined {
    const rest = this.#fill(piece);
    return rest && this.#pushRest(rest);
  }

  async #pushRest(piece: Uint8Array): Promise<void> {
    for (let rest: Uint8Array | undefined = piece; rest !== undefined; ) {
      await this.#flush();
      rest = this.#fill(rest);
    }
  }

  /** What of `piece` is left when the buffer is full; undefined when it is not. */
  #fill(piece: Uint8Array): Uint8Array | undefined {
    if (this.#footer !== undefined) {
      this.#addFooter(piece);
      return undefined;
    }
    const taken = Math.min(piece.length, BUFFER_SIZE - this.#filled);
    this.#buffer.set(taken === piece.length ? piece : piece.subarray(0, taken), this.#filled);
    this.#filled += taken;
    this.#checkRecords();
    if (this.#footer !== undefined) {
      this.#addFooter(piece.subarray(taken));
      return undefined;
    }
    return this.#filled === BUFFER_SIZE ? piece.subarray(taken) : undefined;
  }

  /** The footer of the xorb, which is `expected`. Its last records have gone to the sink, too, when this resolves. */
  async finish(expected: Uint8Array): Promise<XorbFooter> {
    if (this.#footer === undefined && this.#filled > this.#checked) {
      throw new FormatError(
        'INVALID_XORB',
        `the xorb ends inside chunk record ${this.#hashes.length}`,
        this.#sunk + this.#checked,
      );
    }
    const count = this.#hashes.length;
    if (count === 0)
      throw new FormatError('INVALID_XORB', 'a xorb has at least one chunk, this one has none', 0);
    const hashes = new Uint8Array(count * HASH_SIZE);
    for (const [i, hash] of this.#hashes.entries()) hashes.set(hash, i * HASH_SIZE);
    const rawEnds = Uint32Array.from(this.#rawEnds);
    const lengths = rawEnds.map((end, i) => end - (rawEnds[i - 1] ?? 0));
    const xorbHash = merkleRoot(hashes, lengths, count);
    if (!hashesEqual(xorbHash, 0, expected, 0)) {
      throw new FormatError(
        'INVALID_XORB',
        `expected xorb ${formatHash(expected)}, the chunks give ${formatHash(xorbHash)}`,
        0,
      );
    }
    const footer = { xorbHash, count, hashes, recordEnds: Uint32Array.from(this.#recordEnds), rawEnds };
    if (this.#footer !== undefined) this.#compare(footer);
    await this.#flush();
    return footer;
  }

  #checkRecords(): void {
    const held = this.#buffer.subarray(0, this.#filled);
    for (;;) {
      const at = this.#checked;
      const available = this.#filled - at;
      if (available < CHUNK_HEADER_SIZE) return;
      if (startsFooter(held, at)) {
        this.#footer = [];
        this.#addFooter(held.subarray(at));
        this.#filled = at;
        return;
      }
      // As a version it would be unknown: the first letter of a footer that is not all there yet.
      if (held[at] === FOOTER_MAGIC[0] && available < FOOTER_MAGIC.length) return;
      const header = decodeChunkHeader(held, at, this.#sunk);
      const end = at + CHUNK_HEADER_SIZE + header.storedLength;
      if (end > this.#filled) return;
      const raw = this.#decode(held.subarray(at + CHUNK_HEADER_SIZE, end), header.scheme, header.rawLength);
      this.#hashes.push(blake3Keyed(DATA_KEY, raw));
      this.#checked = end;
      this.#recordEnds.push(this.#sunk + end);
      this.#rawEnds.push((this.#rawEnds.at(-1) ?? 0) + raw.length);
      this.#checkLimits();
    }
  }

  #decode(payload: Uint8Array, scheme: number, rawLength: number): Uint8Array {
    try {
      return decompressChunk(scheme, payload, rawLength);
    } catch (error) {
      if (!(error instanceof Git2dbError)) throw error;
      const message = `chunk ${this.#hashes.length}: ${error.message}`;
      throw new FormatError('INVALID_XORB', message, this.#sunk + this.#checked, { cause: error });
    }
  }

  #checkLimits(): void {
    const raw = this.#rawEnds.at(-1) as number;
    const stored = this.#recordEnds.at(-1) as number;
    if (this.#hashes.length <= MAX_XORB_CHUNKS && raw <= MAX_XORB_BYTES && stored <= MAX_RECORD_BYTES) return;
    throw new Git2dbError(
      'LIMIT_EXCEEDED',
      `a xorb has at most ${MAX_XORB_CHUNKS} chunks, ${MAX_XORB_BYTES} raw and ${MAX_RECORD_BYTES} stored bytes; chunk ${this.#hashes.length - 1} exceeds that`,
    );
  }

  async #flush(): Promise<void> {
    if (this.#checked > 0) await this.#sink(this.#buffer.subarray(0, this.#checked));
    this.#buffer.copyWithin(0, this.#checked, this.#filled);
    this.#sunk += this.#checked;
    this.#filled -= this.#checked;
    this.#checked = 0;
  }

  #addFooter(bytes: Uint8Array): void {
    this.#footerBytes += bytes.length;
    if (this.#footerBytes > MAX_FOOTER_LENGTH) {
      throw new FormatError('INVALID_XORB', 'more follows the records than a footer can be', this.#sunk);
    }
    this.#footer?.push(Buffer.from(bytes));
  }

  #compare(computed: XorbFooter): void {
    const tail = Buffer.concat(this.#footer ?? []);
    const recordBytes = computed.recordEnds.at(-1) as number;
    const told = decodeFooter(tail, recordBytes + tail.length);
    const same =
      Buffer.compare(told.xorbHash, computed.xorbHash) === 0 &&
      Buffer.compare(told.hashes, computed.hashes) === 0 &&
      endsEqual(told.recordEnds, computed.recordEnds) &&
      (told.rawEnds === undefined || endsEqual(told.rawEnds, computed.rawEnds));
    if (!same) {
      const message = 'the footer does not agree with the chunks before it';
      throw new FormatError('INVALID_XORB', message, recordBytes);
    }
  }
}

function endsEqual(a: Uint32Array, b: Uint32Array): boolean {
  return a.length === b.length && a.every((end, i) => end === b[i]);
}
