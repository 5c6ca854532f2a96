/** Content of any size kept for a moment: in memory while it is small, then in a file without a name. */
import { closeSync, mkdtempSync, openSync, readSync, rmdirSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ContentOutput } from './answer.ts';
import type { ContentSink, Room } from './pkt-input.ts';

const MEMORY_MAX = 1 << 20;
const MIN_ROOM = 65520;
/** A packet's header may be laid over the bytes before its payload. */
const MARGIN = 4;

/** Memory that one spool at a time may begin with. */
export function createSpoolMemory(): Buffer {
  return Buffer.allocUnsafeSlow(MARGIN + 2 * MIN_ROOM);
}

export class Spool implements ContentSink {
  readonly #directories: readonly string[];
  #buffer: Buffer;
  #length = 0;
  #fd: number | undefined;
  #spooled = 0;

  /** `directories`: where a file may be made, in order of preference. `memory` is the spool's until `dispose`. */
  constructor(directories: readonly string[], memory: Buffer) {
    this.#directories = directories;
    this.#buffer = memory;
  }

  get size(): number {
    return this.#spooled + this.#length;
  }

  room(): Room {
    const end = MARGIN + this.#length;
    if (end + MIN_ROOM > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(2 * this.#buffer.length);
      this.#buffer.copy(larger, 0, 0, end);
      this.#buffer = larger;
    }
    return { bytes: this.#buffer, offset: end, overlay: true };
  }

  advance(count: number): void {
    this.#length += count;
    if (this.#length >= MEMORY_MAX) this.#spill();
  }

  /** All content, if none of it has left memory. */
  bytes(): Buffer | undefined {
    return this.#fd === undefined ? this.#buffer.subarray(MARGIN, MARGIN + this.#length) : undefined;
  }

  write(output: ContentOutput): void {
    if (this.#fd !== undefined) {
      const block = Buffer.allocUnsafe(MEMORY_MAX);
      for (let at = 0; at < this.#spooled; ) {
        const n = readSync(this.#fd, block, 0, block.length, at);
        if (n === 0) throw new Error(`the spool file ends at ${at} of ${this.#spooled} bytes`);
        output.content(block.subarray(0, n));
        output.sync();
        at += n;
      }
    }
    output.content(this.#buffer.subarray(MARGIN, MARGIN + this.#length));
  }

  dispose(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#spooled = 0;
    this.#length = 0;
  }

  #spill(): void {
    this.#fd ??= this.#openFile();
    for (let done = 0; done < this.#length; ) {
      done += writeSync(this.#fd, this.#buffer, MARGIN + done, this.#length - done, this.#spooled + done);
    }
    this.#spooled += this.#length;
    this.#length = 0;
  }

  #openFile(): number {
    let failure: unknown;
    for (const base of [...this.#directories, tmpdir()]) {
      try {
        const directory = mkdtempSync(join(base, '.git2db-spool-'));
        const path = join(directory, 'content');
        try {
          const fd = openSync(path, 'wx+', 0o600);
          // It lives as long as the descriptor, also when the process is killed.
          unlinkSync(path);
          return fd;
        } finally {
          rmdirSync(directory);
        }
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }
}
