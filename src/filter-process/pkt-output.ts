/**
 * Packets to git. Everything is queued as slices of the caller's memory with packet headers between
 * them, and written with writev, at least 1 MiB at a time where there is that much: payloads are never
 * copied, slices of any size are packed into full packets, and a short answer is one system call.
 */

import * as fs from 'node:fs';
import { errnoOf, Git2dbError } from '../xet/errors.ts';
import { blocking } from './blocking.ts';
import { encodeHeader, encodeText, FLUSH, MAX_PAYLOAD } from './pkt-line.ts';

/** Queued content is written when it reaches this many bytes. */
const BATCH = 1 << 20;
/** Or this many slices; one writev takes no more (IOV_MAX). */
const MAX_SLICES = 1024;

const FULL_HEADER = encodeHeader(MAX_PAYLOAD);

/** The system call used, `node:fs` but for tests. */
export interface WriteCalls {
  writevSync(fd: number, views: readonly Uint8Array[]): number;
}

/** Nobody reads our answers any more: git has gone away. The end of the process, and no cause for alarm. */
export class OutputClosed extends Git2dbError {
  constructor(cause: unknown) {
    super('PROTOCOL', 'the output is closed: git has gone away', { cause });
    this.name = 'OutputClosed';
  }
}

export class PktOutput {
  readonly #fd: number;
  readonly #calls: WriteCalls;
  #queue: Uint8Array[] = [];
  #queued = 0;
  /** Payload bytes of the content packet being filled, 0 if none is; its header is at #openHeader. */
  #openLength = 0;
  #openHeader = 0;
  #written = 0;
  #failure: { readonly error: unknown } | undefined;

  constructor(fd: number, calls: WriteCalls = fs) {
    this.#fd = fd;
    this.#calls = calls;
  }

  /** Bytes handed to the operating system so far. */
  get written(): number {
    return this.#written;
  }

  /** What a write has failed by, if one has: nothing can be sent any more. */
  get failure(): { readonly error: unknown } | undefined {
    return this.#failure;
  }

  /** Queues text lines, each with a newline added, and the flush that ends the list. */
  list(lines: readonly (string | Uint8Array)[]): void {
    for (const line of lines) this.#push(encodeText(line));
    this.flush();
  }

  /** Queues a flush packet: an empty list, or the end of a list. */
  flush(): void {
    this.#push(FLUSH);
  }

  /**
   * Queues content. Keeps references: `bytes` must not change until sync() returns (or discard()).
   * Writes by itself when there is enough for a batch. Throws OutputClosed.
   */
  content(bytes: Uint8Array): void {
    for (let offset = 0; offset < bytes.length; ) {
      if (this.#openLength === 0) {
        this.#openHeader = this.#queue.length;
        this.#push(FULL_HEADER);
      }
      const count = Math.min(bytes.length - offset, MAX_PAYLOAD - this.#openLength);
      this.#push(count === bytes.length ? bytes : bytes.subarray(offset, offset + count));
      this.#openLength += count;
      offset += count;
      if (this.#openLength === MAX_PAYLOAD) this.#openLength = 0;
      const enough = this.#queued >= BATCH && this.#openLength === 0;
      if (enough || this.#queue.length >= MAX_SLICES - 1) this.sync();
    }
  }

  /** Queues what ends the content: the last packet, if one is being filled, and a flush. */
  end(): void {
    this.#closePacket();
    this.flush();
  }

  /** Writes all that is queued. No memory given before is referenced afterwards. Throws OutputClosed. */
  sync(): void {
    this.#closePacket();
    const views = this.#queue;
    this.#queue = [];
    this.#queued = 0;
    for (let next = 0; next < views.length; ) {
      const count = this.#write(views.slice(next, next + MAX_SLICES));
      this.#written += count;
      next = skipWritten(views, next, count);
    }
  }

  /** Forgets what is queued and not written. */
  discard(): void {
    this.#queue = [];
    this.#queued = 0;
    this.#openLength = 0;
  }

  #push(slice: Uint8Array): void {
    this.#queue.push(slice);
    this.#queued += slice.length;
  }

  #closePacket(): void {
    if (this.#openLength > 0) this.#queue[this.#openHeader] = encodeHeader(this.#openLength);
    this.#openLength = 0;
  }

  #write(views: readonly Uint8Array[]): number {
    if (this.#failure) throw this.#failure.error;
    try {
      return blocking(() => this.#calls.writevSync(this.#fd, views));
    } catch (cause) {
      const errno = errnoOf(cause);
      const error = errno === 'EPIPE' || errno === 'ECONNRESET' ? new OutputClosed(cause) : cause;
      this.#failure = { error };
      throw error;
    }
  }
}

/** The index of the first view, from `next` on, of which something is left after `count` bytes; it is cut. */
function skipWritten(views: Uint8Array[], next: number, count: number): number {
  let index = next;
  let rest = count;
  while (index < views.length && rest >= views[index]!.length) rest -= views[index++]!.length;
  if (rest > 0) views[index] = views[index]!.subarray(rest);
  return index;
}
