/**
 * Packets from git. Text lists are read through a small private buffer; file content goes straight
 * into the memory of its consumer, so that payloads lie one behind the other without being copied.
 *
 * Git fills packets to 65516 bytes, and a packet fills the pipe, so one read call usually returns one
 * whole packet. The question is only where its four header bytes go. They may land on the last four
 * bytes of the previous payload, which are saved before and restored after ("overlay"); or, where
 * another thread may be looking at those, in a buffer of their own (readv). Both cost one call a packet.
 *
 * Nothing is assumed about how the stream is sliced: a read may return half a header, or many short
 * packets and the start of another. What was read beyond the packet asked for is moved to the buffer.
 */

import * as fs from 'node:fs';
import { errnoOf, FormatError } from '../xet/errors.ts';
import { blocking } from './blocking.ts';
import { HEADER_SIZE, isEnd, MAX_PACKET, MAX_PAYLOAD, NEWLINE, parseLength } from './pkt-line.ts';

/** A list is a handful of short lines; the longest line that git sends is a path of 64 KiB. */
const MAX_LIST = 1 << 20;

/** Where content bytes go. */
export interface Room {
  readonly bytes: Uint8Array;
  /** From here on at least MAX_PACKET bytes may be written, whatever is left of them after the payload. */
  readonly offset: number;
  /** The reader may use the 4 bytes before `offset` while it reads a packet; it restores them. */
  readonly overlay: boolean;
}

/** Takes the content of one request. What it throws leaves the stream between two packets. */
export interface ContentSink {
  /** Asked before each packet, once more before the end is seen. */
  room(): Room;
  /** `count` bytes of content, at least 1, have been put at the start of the last room. */
  advance(count: number): void;
}

/** The system calls used, `node:fs` but for tests. */
export interface ReadCalls {
  readSync(fd: number, bytes: Uint8Array, offset: number, length: number, position: null): number;
  readvSync(fd: number, views: readonly Uint8Array[]): number;
}

/** The stream ended where something had to follow: git is gone in the middle of a request. */
export class EndOfInput extends FormatError {
  constructor(inside: string, offset: number) {
    super('PROTOCOL', `the input ended at byte ${offset}, inside ${inside}: git has gone away`, offset);
    this.name = 'EndOfInput';
  }
}

export class PktInput {
  readonly #fd: number;
  readonly #calls: ReadCalls;
  /** Bytes read but not used yet are `[#start, #end)`. */
  readonly #buffer = Buffer.allocUnsafeSlow(MAX_PACKET);
  #start = 0;
  #end = 0;
  readonly #header = new Uint8Array(HEADER_SIZE);
  readonly #saved = new Uint8Array(HEADER_SIZE);
  #position = 0;
  #failure: { readonly error: unknown } | undefined;

  constructor(fd: number, calls: ReadCalls = fs) {
    this.#fd = fd;
    this.#calls = calls;
  }

  /** Where the next packet starts: bytes since the stream began. */
  get position(): number {
    return this.#position;
  }

  /** What the stream itself has failed by (cut, malformed, unreadable), if it has: nothing can follow. */
  get failure(): { readonly error: unknown } | undefined {
    return this.#failure;
  }

  /**
   * The lines up to the next end packet, each without its newline, one character a byte (latin1); or
   * undefined if the stream ends before the first byte of the list.
   * Throws EndOfInput, and FormatError PROTOCOL for malformed packets or a list above 1 MiB.
   */
  readList(): string[] | undefined {
    try {
      return this.#readLines();
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }

  #readLines(): string[] | undefined {
    const first = this.#position;
    if (!this.#fill(HEADER_SIZE, 'a list')) return undefined;
    const lines: string[] = [];
    for (;;) {
      if (this.#start === this.#end) waitForMore();
      const length = this.#peekLength('a list');
      if (isEnd(length)) {
        this.#consume(HEADER_SIZE);
        return lines;
      }
      if (this.#position + length - first > MAX_LIST) {
        throw new FormatError(
          'PROTOCOL',
          `the list at byte ${first} of the input is longer than ${MAX_LIST} bytes`,
          first,
        );
      }
      this.#fill(length, 'a line');
      const end = this.#start + length;
      const hasNewline = length > HEADER_SIZE && this.#buffer[end - 1] === NEWLINE;
      lines.push(this.#buffer.toString('latin1', this.#start + HEADER_SIZE, hasNewline ? end - 1 : end));
      this.#consume(length);
    }
  }

  /**
   * Puts the content up to the next end packet into `sink`, in order. Throws EndOfInput, FormatError
   * PROTOCOL, or what the sink throws; after the last, drainContent() or another readContent() goes on.
   */
  readContent(sink: ContentSink): void {
    while (!this.#takeEnd()) {
      // Its errors are not the stream's.
      const room = sink.room();
      const count = this.#nextPacket(room);
      if (count < 0) return;
      if (count > 0) sink.advance(count);
    }
  }

  /** Consumes the end packet if it is the next in the buffer. */
  #takeEnd(): boolean {
    try {
      if (this.#start === this.#end || !isEnd(this.#peekLength('content'))) return false;
      this.#consume(HEADER_SIZE);
      return true;
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }

  /** Puts the payload of the next packet into `room`; returns its length, -1 for an end. */
  #nextPacket(room: Room): number {
    try {
      return this.#start < this.#end ? this.#takePacket(room) : this.#readPacket(room);
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }

  /** Reads and forgets content up to the next end packet. Returns how many bytes that was. */
  drainContent(): number {
    const room = { bytes: new Uint8Array(MAX_PACKET), offset: 0, overlay: false };
    let total = 0;
    this.readContent({
      room: () => room,
      advance: (count) => {
        total += count;
      },
    });
    return total;
  }

  /** If the content that comes next is empty, consumes it and returns true; else leaves it as it is. */
  takeEmptyContent(): boolean {
    try {
      for (;;) {
        const length = this.#peekLength('content');
        if (length > HEADER_SIZE) return false;
        this.#consume(HEADER_SIZE);
        if (isEnd(length)) return true;
      }
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }

  /** The packet whose header is in the buffer goes to `room`. Returns its payload's length. */
  #takePacket(room: Room): number {
    const length = this.#peekLength('content');
    const payload = length - HEADER_SIZE;
    const from = this.#start + HEADER_SIZE;
    const buffered = Math.min(payload, this.#end - from);
    room.bytes.set(this.#buffer.subarray(from, from + buffered), room.offset);
    this.#consume(HEADER_SIZE + buffered);
    this.#readExactly(room.bytes, room.offset + buffered, payload - buffered);
    return payload;
  }

  /** With an empty buffer: reads the next packet into `room`. Returns its payload's length, -1 for an end. */
  #readPacket(room: Room): number {
    const { bytes, offset } = room;
    const received = room.overlay && offset >= HEADER_SIZE ? this.#receiveOver(room) : this.#receive(room);
    const length = parseLength(this.#header, 0, this.#position);
    this.#position += HEADER_SIZE;
    const payload = isEnd(length) ? 0 : length - HEADER_SIZE;
    if (received > payload) {
      this.#buffer.set(bytes.subarray(offset + payload, offset + received));
      this.#start = 0;
      this.#end = received - payload;
      this.#position += payload;
    } else {
      this.#position += received;
      this.#readExactly(bytes, offset + received, payload - received);
    }
    return isEnd(length) ? -1 : payload;
  }

  /** Fills #header, and the room with whatever came along. Returns how many bytes the room got. */
  #receive({ bytes, offset }: Room): number {
    const body = bytes.subarray(offset, offset + MAX_PAYLOAD);
    let got = 0;
    while (got < HEADER_SIZE) {
      const views = [this.#header.subarray(got), body];
      const count = this.#read(() => this.#calls.readvSync(this.#fd, views));
      if (count === 0) throw new EndOfInput('content', this.#position + got);
      got += count;
    }
    return got - HEADER_SIZE;
  }

  /** The same with the header on top of the four bytes before the room, which are put back. */
  #receiveOver({ bytes, offset }: Room): number {
    const base = offset - HEADER_SIZE;
    copyHeader(bytes, base, this.#saved, 0);
    try {
      let got = 0;
      while (got < HEADER_SIZE) {
        const at = base + got;
        const limit = MAX_PACKET - got;
        const count = this.#read(() => this.#calls.readSync(this.#fd, bytes, at, limit, null));
        if (count === 0) throw new EndOfInput('content', this.#position + got);
        got += count;
      }
      copyHeader(bytes, base, this.#header, 0);
      return got - HEADER_SIZE;
    } finally {
      copyHeader(this.#saved, 0, bytes, base);
    }
  }

  #readExactly(bytes: Uint8Array, offset: number, length: number): void {
    for (let got = 0; got < length; ) {
      const at = offset + got;
      const limit = length - got;
      const count = this.#read(() => this.#calls.readSync(this.#fd, bytes, at, limit, null));
      if (count === 0) throw new EndOfInput('a content packet', this.#position);
      got += count;
      this.#position += count;
    }
  }

  #peekLength(inside: string): number {
    if (!this.#fill(HEADER_SIZE, inside)) throw new EndOfInput(inside, this.#position);
    return parseLength(this.#buffer, this.#start, this.#position);
  }

  /**
   * Makes at least `count` bytes, at most MAX_PACKET, stand in the buffer. Returns false if the stream
   * ends and the buffer is empty; throws EndOfInput if it ends with too few bytes.
   */
  #fill(count: number, inside: string): boolean {
    if (this.#end - this.#start >= count) return true;
    this.#buffer.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    while (this.#end < count) {
      const at = this.#end;
      const got = this.#read(() => this.#calls.readSync(this.#fd, this.#buffer, at, MAX_PACKET - at, null));
      if (got === 0) {
        if (at === 0) return false;
        throw new EndOfInput(inside, this.#position + at);
      }
      this.#end += got;
    }
    return true;
  }

  #consume(count: number): void {
    this.#start += count;
    this.#position += count;
  }

  /** One read call; 0 at the end of the stream. */
  #read(call: () => number): number {
    try {
      return blocking(call);
    } catch (error) {
      const errno = errnoOf(error);
      // EOF: how a closed pipe reads on Windows. ECONNRESET: a socket in the place of the pipe, peer gone.
      if (errno === 'EOF' || errno === 'ECONNRESET') return 0;
      throw error;
    }
  }
}

function copyHeader(from: Uint8Array, fromOffset: number, to: Uint8Array, toOffset: number): void {
  for (let i = 0; i < HEADER_SIZE; i++) to[toOffset + i] = from[fromOffset + i]!;
}

/** Longer than git takes for the rest of a request. */
const REST_MS = 0.02;

/**
 * Git writes a list packet by packet. Whoever sleeps in a read is woken by each of them, which costs both sides more
 * than the packets do; so the processor is kept for the few microseconds until the rest is there.
 */
function waitForMore(): void {
  for (const end = performance.now() + REST_MS; performance.now() < end; );
}
