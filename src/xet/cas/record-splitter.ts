/**
 * Cuts a stream of bytes of a xorb into runs of whole chunk records, by the lengths in their headers. Nothing is
 * decoded; but a header that cannot be is an error at once, so that no length out of it is believed.
 */
import { FormatError, Git2dbError } from '../errors.ts';
import { CHUNK_HEADER_SIZE, decodeChunkHeader, MAX_STORED_CHUNK } from '../xorb/chunk-record.ts';

/** Memory of a splitter, and of a run, at most: several of the longest records. */
export const MAX_SPLITTER_BYTES: number = 2 * (CHUNK_HEADER_SIZE + MAX_STORED_CHUNK);

/** Records of chunks [start, end). */
export interface SplitRun {
  readonly start: number;
  readonly end: number;
  readonly bytes: Uint8Array;
}

export interface SplitOptions {
  /** The bytes are the records of chunks [from, to), `size` bytes of them. */
  readonly from: number;
  readonly to: number;
  readonly size: number;
  /** Chunks outside of [start, end) are left out. */
  readonly start: number;
  readonly end: number;
  /** For messages. */
  readonly name: string;
}

export class RecordSplitter {
  readonly #options: SplitOptions;
  #received = 0;
  #buffer: Uint8Array;
  /** Bytes in the buffer; whole records in it end at `#whole`, where chunk `#chunk` begins. */
  #filled = 0;
  #whole = 0;
  #chunk: number;
  #first: number;

  constructor(options: SplitOptions) {
    this.#options = options;
    this.#chunk = options.from;
    this.#first = options.from;
    this.#buffer = new Uint8Array(0);
  }

  /** Bytes that came so far. */
  get received(): number {
    return this.#received;
  }

  get isComplete(): boolean {
    return this.#received === this.#options.size;
  }

  /** Memory that it holds. */
  get held(): number {
    return this.#buffer.length;
  }

  /** Takes the next bytes, not more than are left. Runs are given out as they are complete, and are nobody else's. */
  *push(piece: Uint8Array): Generator<SplitRun, void, undefined> {
    for (let at = 0; at < piece.length; ) {
      if (this.#filled === this.#buffer.length) yield* this.#cut();
      const part = piece.subarray(at, at + this.#buffer.length - this.#filled);
      this.#buffer.set(part, this.#filled);
      this.#filled += part.length;
      this.#received += part.length;
      at += part.length;
      this.#parse();
      if (this.isComplete) yield* this.#cut();
    }
  }

  /** Finds the records that are whole now. */
  #parse(): void {
    const { to, name, size } = this.#options;
    while (this.#filled - this.#whole >= CHUNK_HEADER_SIZE) {
      if (this.#chunk === to) throw this.#damaged(`more than chunks [${this.#options.from}, ${to})`);
      let length: number;
      try {
        length = CHUNK_HEADER_SIZE + decodeChunkHeader(this.#buffer, this.#whole).storedLength;
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
        throw new Git2dbError('CONTENT_DAMAGED', `${name}: chunk ${this.#chunk}: ${error.message}`, {
          cause: error,
        });
      }
      if (this.#whole + length > this.#filled) break;
      this.#whole += length;
      this.#chunk++;
    }
    const isEnd = this.#received === size;
    if (isEnd && (this.#whole !== this.#filled || this.#chunk !== to)) {
      throw this.#damaged(
        `${this.#chunk - this.#options.from} whole records, where ${to - this.#options.from} should be`,
      );
    }
  }

  /** Gives out what is whole, and goes on in a new buffer with what is not. */
  *#cut(): Generator<SplitRun, void, undefined> {
    const rest = this.#buffer.subarray(this.#whole, this.#filled);
    const run = this.#run();
    const left = this.#options.size - this.#received + rest.length;
    // All of it is written before any of it is given out. Not from a pool: it is given away.
    const next = Buffer.allocUnsafeSlow(Math.min(left, MAX_SPLITTER_BYTES));
    next.set(rest);
    this.#buffer = next;
    this.#filled = rest.length;
    this.#whole = 0;
    this.#first = this.#chunk;
    if (run !== undefined) yield run;
  }

  /** The whole records that somebody wants. */
  #run(): SplitRun | undefined {
    const start = Math.max(this.#first, this.#options.start);
    const end = Math.min(this.#chunk, this.#options.end);
    if (start >= end) return undefined;
    const from = this.#offsetOf(start);
    const to = end === this.#chunk ? this.#whole : this.#offsetOf(end);
    return { start, end, bytes: this.#buffer.subarray(from, to) };
  }

  /** Where the record of a chunk of this buffer begins. */
  #offsetOf(chunk: number): number {
    let offset = 0;
    for (let at = this.#first; at < chunk; at++) {
      offset += CHUNK_HEADER_SIZE + decodeChunkHeader(this.#buffer, offset).storedLength;
    }
    return offset;
  }

  #damaged(found: string): Git2dbError {
    return new Git2dbError('CONTENT_DAMAGED', `${this.#options.name}: the bytes that came hold ${found}`);
  }
}
