/** Goes through the records that another store sends, chunk by chunk. What they say is checked, nothing is believed. */
import { FormatError, Git2dbError } from '../errors.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import type { RecordRun } from '../store/store.ts';
import { CHUNK_HEADER_SIZE, type ChunkHeader, decodeChunkHeader } from '../xorb/chunk-record.ts';
import { MAX_XORB_CHUNKS } from '../xorb/format.ts';

/** One chunk record: a header and `storedLength` bytes, which stay as they are as long as they are held. */
export interface ChunkRecord extends ChunkHeader {
  readonly payload: Uint8Array;
}

export class RecordCursor {
  readonly #records: AsyncIterator<RecordRun>;
  readonly #place: string;
  readonly #onRun: (run: RecordRun) => void;
  #run: RecordRun | undefined;
  /** Number of the record that begins at offset `#at` of the run. */
  #chunk = 0;
  #at = 0;

  /** `place` is for messages; `onRun` is told of each run that comes. */
  constructor(records: AsyncIterable<RecordRun>, place: string, onRun: (run: RecordRun) => void) {
    this.#records = records[Symbol.asyncIterator]();
    this.#place = place;
    this.#onRun = onRun;
  }

  /** True if chunk `chunk` of the xorb can be taken without waiting. */
  holds(xorbHash: Uint8Array, chunk: number): boolean {
    const run = this.#run;
    return (
      run !== undefined &&
      chunk >= this.#chunk &&
      chunk < run.end &&
      hashesEqual(run.xorbHash, 0, xorbHash, 0)
    );
  }

  /** Waits for the run with chunk `chunk` of the xorb. Throws what the store throws, and REMOTE_INVALID for another run. */
  async await(xorbHash: Uint8Array, chunk: number): Promise<void> {
    while (!this.holds(xorbHash, chunk)) {
      const before = this.#run;
      const next = await this.#records.next();
      if (next.done === true) {
        this.#run = undefined;
        throw this.#invalid(`it ended before chunk ${chunk} of xorb ${formatHash(xorbHash)}`);
      }
      const run = next.value;
      this.#onRun(run);
      this.#run = run;
      this.#chunk = run.start;
      this.#at = 0;
      if (!(run.start < run.end && run.end <= MAX_XORB_CHUNKS)) {
        throw this.#invalid(`it holds chunks [${run.start}, ${run.end})`);
      }
      if (this.holds(xorbHash, chunk)) return;
      // What was given before, for a range that lies in a larger one.
      const isOld =
        before !== undefined && hashesEqual(before.xorbHash, 0, run.xorbHash, 0) && run.end <= before.end;
      if (isOld) {
        this.#run = before;
        this.#chunk = before.end;
      } else
        throw this.#invalid(`expected chunk ${chunk} of xorb ${formatHash(xorbHash)}, found ${nameOf(run)}`);
    }
  }

  /** The record of a chunk that the cursor holds. Throws REMOTE_INVALID. */
  take(chunk: number): ChunkRecord {
    const run = this.#run as RecordRun;
    for (;;) {
      let header: ChunkHeader;
      try {
        header = decodeChunkHeader(run.bytes, this.#at);
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
        throw this.#invalid(
          `chunk ${this.#chunk} of xorb ${formatHash(run.xorbHash)}: ${error.message}`,
          error,
        );
      }
      const payloadStart = this.#at + CHUNK_HEADER_SIZE;
      const end = payloadStart + header.storedLength;
      if (end > run.bytes.length) {
        throw this.#invalid(`chunk ${this.#chunk} of xorb ${formatHash(run.xorbHash)} is cut off`);
      }
      this.#at = end;
      if (this.#chunk++ === chunk) return { ...header, payload: run.bytes.subarray(payloadStart, end) };
    }
  }

  /** Tells the store that nothing more is wanted. */
  async close(): Promise<void> {
    await this.#records.return?.();
  }

  #invalid(what: string, cause?: unknown): Git2dbError {
    return new Git2dbError('REMOTE_INVALID', `${this.#place} sent wrong data: ${what}`, { cause });
  }
}

function nameOf(run: RecordRun): string {
  return `chunks [${run.start}, ${run.end}) of xorb ${formatHash(run.xorbHash)}`;
}
