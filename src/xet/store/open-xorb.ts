/**
 * The local xorb that a writer fills: `incoming/<writer>/<n>.xorb`. Records wait for the next writev, which may go
 * on in the thread pool while the caller does; nothing may close or truncate the file meanwhile.
 */
import { closeSync, openSync } from 'node:fs';
import type { Scheme } from '../compress/scheme.ts';
import { fitsInXorb } from '../xorb/builder.ts';
import { CHUNK_HEADER_SIZE, encodeChunkHeader } from '../xorb/chunk-record.ts';
import { footerLength } from '../xorb/format.ts';
import { appendChunk, dataEnd, type LocalXorb, newLocalXorb, rawBytesOf } from './journal.ts';
import { writeAll, writeAllAhead, writeZeros } from './write-all.ts';

/** Reserved behind the records beyond what the footer needs now. */
const FOOTER_HEADROOM = 1 << 13;

export class OpenXorb {
  readonly xorb: LocalXorb;
  readonly fd: number;
  /** Bytes of the file that have blocks: the records and what is reserved behind them. */
  #reserved: number;
  // Records that wait, and where they go.
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  /** A write that the thread pool is at. */
  #ahead: Promise<void> | undefined;

  private constructor(fd: number, xorb: LocalXorb) {
    this.fd = fd;
    this.xorb = xorb;
    this.#reserved = dataEnd(xorb);
  }

  static create(path: string, number: number): OpenXorb {
    return new OpenXorb(openSync(path, 'w+', 0o666), newLocalXorb(number));
  }

  /** One that was complete. */
  static reopen(path: string, xorb: LocalXorb): OpenXorb {
    return new OpenXorb(openSync(path, 'r+'), xorb);
  }

  /** Whether a chunk still fits into it. */
  fits(rawLength: number, payloadLength: number): boolean {
    const { xorb } = this;
    const stored = CHUNK_HEADER_SIZE + payloadLength;
    return fitsInXorb(rawBytesOf(xorb), dataEnd(xorb), xorb.count, rawLength, stored);
  }

  /** Appends a chunk; `payload` must stay unchanged until it is written. Returns the chunk's number. */
  put(hashes: Uint8Array, offset: number, payload: Uint8Array, scheme: Scheme, rawLength: number): number {
    const header = Buffer.allocUnsafe(CHUNK_HEADER_SIZE);
    encodeChunkHeader(header, 0, { storedLength: payload.length, scheme, rawLength });
    const stored = CHUNK_HEADER_SIZE + payload.length;
    this.#pending.push(header, payload);
    this.#pendingBytes += stored;
    const index = this.xorb.count;
    appendChunk(this.xorb, hashes, offset, stored, rawLength);
    return index;
  }

  /** Hands what waits to the operating system. */
  flush(): void {
    if (this.#pendingBytes === 0) return;
    const end = dataEnd(this.xorb);
    writeAll(this.fd, this.#pending, end - this.#pendingBytes);
    this.dropPending();
    if (end > this.#reserved) this.#reserved = end;
  }

  /** As `flush`, by the thread pool; waits for the one before. The payloads must stay as they are until `settle`. */
  async flushAhead(): Promise<void> {
    if (this.#pendingBytes === 0) return;
    const end = dataEnd(this.xorb);
    const position = end - this.#pendingBytes;
    const buffers = this.#pending;
    this.dropPending();
    if (end > this.#reserved) this.#reserved = end;
    const before = this.#ahead;
    const writing = (async () => {
      await before;
      await writeAllAhead(this.fd, buffers, position);
    })();
    // Whoever settles hears of it.
    writing.catch(() => {});
    this.#ahead = writing;
    await before;
  }

  /** Waits for what `flushAhead` has begun. */
  async settle(): Promise<void> {
    const ahead = this.#ahead;
    try {
      await ahead;
    } finally {
      if (this.#ahead === ahead) this.#ahead = undefined;
    }
  }

  expectSettled(): void {
    if (this.#ahead !== undefined) throw new Error('the writer is still writing: settle comes first');
  }

  /** Forgets what waits to be written. */
  dropPending(): void {
    this.#pending = [];
    this.#pendingBytes = 0;
  }

  /** Makes sure of disk space for its footer. */
  reserveFooter(): void {
    const needed = dataEnd(this.xorb) + footerLength(this.xorb.count);
    if (needed <= this.#reserved) return;
    writeZeros(this.fd, this.#reserved, needed + FOOTER_HEADROOM);
    this.#reserved = needed + FOOTER_HEADROOM;
  }

  close(): void {
    closeSync(this.fd);
  }
}
