/**
 * Checks a xorb while it comes: every record is decoded and hashed, and the xorb's name is the root over all of
 * them. Of a xorb that is not what it says nothing is ever stored.
 *
 * Records are taken in three buffers by turns: what is in one goes to `sink` and is hashed, beside this thread if there
 * is much of it, while the others are filled. Memory is these and the lists. A footer is compared with what was
 * computed, and left out.
 */
import { FormatError, Git2dbError } from '../errors.ts';
import { merkleRoot } from '../hash/merkle.ts';
import { formatHash, HASH_SIZE, hashesEqual } from '../hash/xet-hash.ts';
import { canHashBeside, hashBeside } from '../parallel/record-thread.ts';
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
import { hashRecords, PLACE_WORDS } from './record-hashes.ts';
import { dropShortLived } from './short-lived.ts';

const BUFFER_SIZE = 1 << 20;
const BUFFERS = 3;

/** A full xorb of incompressible chunks exceeds the limit by the record headers. */
const MAX_RECORD_BYTES = MAX_XORB_BYTES + CHUNK_HEADER_SIZE * MAX_XORB_CHUNKS;

/** Largest upload of a xorb that can be valid. */
export const MAX_XORB_UPLOAD: number = MAX_RECORD_BYTES + MAX_FOOTER_LENGTH;

/** Records one after the other, and the beginning of the next. */
interface Batch {
  /** All of an ArrayBuffer: the thread that hashes takes it, and gives it back. */
  buffer: Buffer;
  filled: number;
  /** Bytes of whole records. */
  whole: number;
  /** Of the whole records, as `hashRecords` takes them. */
  places: number[];
  /** Settles when the buffer may be filled again. */
  done: Promise<void>;
}

export class XorbCheck {
  readonly #sink: (records: Uint8Array) => Promise<void>;
  #batch: Batch = newBatch();
  /** The one that comes next is the first. */
  readonly #others: Batch[] = [];
  /** Where the batch begins among the records of the xorb. */
  #start = 0;
  #sunk: Promise<void> = Promise.resolve();
  #isOver = false;
  readonly #hashes: Uint8Array[] = [];
  readonly #recordEnds: number[] = [];
  readonly #rawEnds: number[] = [];
  #footer: Buffer[] | undefined;
  #footerBytes = 0;

  /**
   * `sink` may keep what it gets only until its promise settles; it is called for one batch after the other, until
   * `settle`.
   */
  constructor(sink: (records: Uint8Array) => Promise<void>) {
    this.#sink = sink;
  }

  /**
   * Takes the next bytes; a promise where others have to be done with first, which then takes them all. Throws, or
   * rejects with, INVALID_XORB or LIMIT_EXCEEDED soon after that is certain.
   */
  push(piece: Uint8Array): Promise<void> | undefined {
    const rest = this.#fill(piece);
    return rest && this.#pushRest(rest);
  }

  async #pushRest(piece: Uint8Array): Promise<void> {
    for (let rest: Uint8Array | undefined = piece; rest !== undefined; ) {
      await this.#turnOver();
      rest = this.#fill(rest);
    }
  }

  /** What of `piece` is left when the buffer is full; undefined when it is not. */
  #fill(piece: Uint8Array): Uint8Array | undefined {
    if (this.#footer !== undefined) {
      this.#addFooter(piece);
      return undefined;
    }
    const batch = this.#batch;
    const taken = Math.min(piece.length, BUFFER_SIZE - batch.filled);
    batch.buffer.set(taken === piece.length ? piece : piece.subarray(0, taken), batch.filled);
    batch.filled += taken;
    this.#findRecords(batch);
    if (this.#footer !== undefined) {
      this.#addFooter(piece.subarray(taken));
      return undefined;
    }
    return batch.filled === BUFFER_SIZE ? piece.subarray(taken) : undefined;
  }

  /** The footer of the xorb, which is `expected`. Its last records have gone to the sink, too, when this resolves. */
  async finish(expected: Uint8Array): Promise<XorbFooter> {
    const count = this.#recordEnds.length;
    if (this.#footer === undefined && this.#batch.filled > this.#batch.whole) {
      throw new FormatError(
        'INVALID_XORB',
        `the xorb ends inside chunk record ${count}`,
        this.#start + this.#batch.whole,
      );
    }
    if (count === 0)
      throw new FormatError('INVALID_XORB', 'a xorb has at least one chunk, this one has none', 0);
    if (this.#batch.whole > 0) await this.#turnOver();
    for (const { done } of this.#others) await done;
    const hashes = new Uint8Array(count * HASH_SIZE);
    Buffer.concat(this.#hashes).copy(hashes);
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
    return footer;
  }

  /** For whoever gives up, or has finished: resolves when the sink is not called any more. */
  async settle(): Promise<void> {
    this.#isOver = true;
    await Promise.allSettled([...this.#others.map(({ done }) => done), this.#sunk]);
  }

  #findRecords(batch: Batch): void {
    const held = batch.buffer.subarray(0, batch.filled);
    for (;;) {
      const at = batch.whole;
      const available = batch.filled - at;
      if (available < CHUNK_HEADER_SIZE) return;
      if (startsFooter(held, at)) {
        this.#footer = [];
        this.#addFooter(held.subarray(at));
        batch.filled = at;
        return;
      }
      // As a version it would be unknown: the first letter of a footer that is not all there yet.
      if (held[at] === FOOTER_MAGIC[0] && available < FOOTER_MAGIC.length) return;
      const { storedLength, scheme, rawLength } = decodeChunkHeader(held, at, this.#start);
      const end = at + CHUNK_HEADER_SIZE + storedLength;
      if (end > batch.filled) return;
      batch.places.push(at + CHUNK_HEADER_SIZE, end, scheme, rawLength);
      batch.whole = end;
      this.#recordEnds.push(this.#start + end);
      this.#rawEnds.push((this.#rawEnds.at(-1) ?? 0) + rawLength);
      this.#checkLimits();
    }
  }

  /** Has the batch done with, and begins the next with what follows its records. */
  async #turnOver(): Promise<void> {
    const batch = this.#batch;
    dropShortLived(batch.filled);
    const next = this.#others.length < BUFFERS - 1 ? newBatch() : (this.#others[0] as Batch);
    await next.done;
    next.filled = batch.buffer.copy(next.buffer, 0, batch.whole, batch.filled);
    next.whole = 0;
    next.places = [];
    batch.done = this.#process(batch);
    // Whoever waits for it is told.
    batch.done.catch(() => {});
    this.#start += batch.whole;
    if (next === this.#others[0]) this.#others.shift();
    this.#others.push(batch);
    this.#batch = next;
  }

  async #process(batch: Batch): Promise<void> {
    const { buffer, whole, places } = batch;
    const records = buffer.subarray(0, whole);
    const [start, number] = [this.#start, this.#hashes.push(new Uint8Array(0)) - 1];
    const first = this.#recordEnds.length - places.length / PLACE_WORDS;
    this.#sunk = this.#sunk.then(() => (this.#isOver ? undefined : this.#sink(records)));
    this.#sunk.catch(() => {});
    const words = Uint32Array.from(places);
    const refuse = (i: number, error: unknown) =>
      error instanceof Git2dbError
        ? new FormatError(
            'INVALID_XORB',
            `chunk ${first + i}: ${error.message}`,
            start + (words[i * PLACE_WORDS] as number) - CHUNK_HEADER_SIZE,
            { cause: error },
          )
        : error;
    let hashes = canHashBeside(whole) ? undefined : hashRecords(records, words, refuse);
    await this.#sunk;
    // From here on nobody else needs the buffer.
    const beside = hashes === undefined ? hashBeside(buffer.buffer as ArrayBuffer, words) : undefined;
    if (beside !== undefined) {
      const answer = await beside;
      batch.buffer = Buffer.from(answer.buffer);
      hashes = answer.hashes;
    }
    this.#hashes[number] = hashes ?? hashRecords(batch.buffer.subarray(0, whole), words, refuse);
  }

  #checkLimits(): void {
    const raw = this.#rawEnds.at(-1) as number;
    const stored = this.#recordEnds.at(-1) as number;
    if (this.#recordEnds.length <= MAX_XORB_CHUNKS && raw <= MAX_XORB_BYTES && stored <= MAX_RECORD_BYTES)
      return;
    throw new Git2dbError(
      'LIMIT_EXCEEDED',
      `a xorb has at most ${MAX_XORB_CHUNKS} chunks, ${MAX_XORB_BYTES} raw and ${MAX_RECORD_BYTES} stored bytes; chunk ${this.#recordEnds.length - 1} exceeds that`,
    );
  }

  #addFooter(bytes: Uint8Array): void {
    this.#footerBytes += bytes.length;
    if (this.#footerBytes > MAX_FOOTER_LENGTH) {
      throw new FormatError('INVALID_XORB', 'more follows the records than a footer can be', this.#start);
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

function newBatch(): Batch {
  const buffer = Buffer.from(new ArrayBuffer(BUFFER_SIZE));
  return { buffer, filled: 0, whole: 0, places: [], done: Promise.resolve() };
}

function endsEqual(a: Uint32Array, b: Uint32Array): boolean {
  return a.length === b.length && a.every((end, i) => end === b[i]);
}
