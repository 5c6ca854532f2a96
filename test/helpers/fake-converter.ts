/**
 * A converter without a store, for testing the protocol. What it does with a file is told by words in the
 * path:
 *
 *     digest               answer the content's size and SHA-256 instead of the content
 *     fail-begin, fail-room, fail-advance, fail-finish
 *     fail-early           throw from write() before any content, even if some was queued
 *     fail-late            throw from write() after 3 MiB of content
 *     async                answer through promises that take a turn of the event loop
 *     generate=N           answer N bytes (a pattern), in pieces of one buffer that is used again
 *
 * Every smudge that can be delayed is, and is available when asked for, two at a time.
 */

import { createHash, type Hash } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { DelayQueue } from '../../src/filter-process/delay-queue.ts';
import type { Room } from '../../src/filter-process/pkt-input.ts';
import { MAX_PACKET } from '../../src/filter-process/pkt-line.ts';
import type {
  CleanJob,
  ContentOutput,
  Converter,
  OutputJob,
  SmudgeAnswer,
  SmudgeJob,
  SmudgeKeys,
} from '../../src/filter-process/session.ts';

/** Collects content in memory, in a shared window like the real ones; `overlay` as the test wants it. */
export class Collector {
  readonly #window: Uint8Array;
  readonly #overlay: boolean;
  readonly #sink: Hash | Buffer[];
  #used = 0;
  size = 0;

  constructor(overlay: boolean, sink: Hash | Buffer[], windowSize = 3 * MAX_PACKET) {
    this.#overlay = overlay;
    this.#sink = sink;
    this.#window = new Uint8Array(new SharedArrayBuffer(windowSize));
  }

  room(): Room {
    if (this.#window.length - this.#used < MAX_PACKET) this.flush();
    return { bytes: this.#window, offset: this.#used, overlay: this.#overlay };
  }

  advance(count: number): void {
    this.#used += count;
    this.size += count;
  }

  flush(): void {
    const bytes = Buffer.from(this.#window.subarray(0, this.#used));
    if (Array.isArray(this.#sink)) this.#sink.push(bytes);
    else this.#sink.update(bytes);
    this.#used = 0;
  }
}

/** `size` bytes that repeat after 64 KiB. */
export function pattern(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let i = 0; i < size; i++) bytes[i] = (i * 7 + (i >> 8)) & 0xff;
  return bytes;
}

export class FakeConverter implements Converter {
  readonly #overlay: boolean;
  readonly delayed = new DelayQueue<Buffer>();
  /** What happened, in order: `clean a`, `smudge b`, `abort a`, `dispose b`. */
  readonly events: string[] = [];
  readonly reports: string[] = [];
  readonly smudged: SmudgeKeys[] = [];

  constructor(overlay = true) {
    this.#overlay = overlay;
  }

  beginClean(path: Buffer): CleanJob {
    const job = this.#begin('clean', path);
    return {
      ...job,
      finish: () => {
        const bytes = job.content();
        return has(path, 'async') ? turn(bytes) : bytes;
      },
    };
  }

  beginSmudge(keys: SmudgeKeys): SmudgeJob {
    const { path } = keys;
    this.smudged.push(keys);
    const job = this.#begin('smudge', path);
    return {
      ...job,
      finish: () => {
        const content = job.content();
        let answer: SmudgeAnswer = { kind: 'delayed' };
        if (keys.canDelay || has(path, 'wrongly-delayed')) this.delayed.add(path, content);
        else answer = this.#output(path, content);
        return has(path, 'async') ? turn(answer) : answer;
      },
    };
  }

  isDelayed(path: Buffer): boolean {
    return this.delayed.has(path);
  }

  available(): Buffer[] | Promise<Buffer[]> {
    const [first] = this.delayed.values();
    if (first?.includes('fail-available')) throw new Error('the network is gone');
    return turn(this.delayed.list(undefined, 2));
  }

  deliver(path: Buffer): OutputJob | Promise<OutputJob> {
    const content = this.delayed.deliver(path);
    if (content === undefined || has(path, 'fail-deliver')) throw new Error('cannot deliver');
    const job = this.#output(path, content);
    return has(path, 'async') ? turn(job) : job;
  }

  report(path: Buffer | undefined, error: unknown): void {
    this.reports.push(`${path?.toString('latin1') ?? '-'}: ${(error as Error).message}`);
  }

  #begin(name: string, path: Buffer) {
    this.events.push(`${name} ${path.toString('latin1')}`);
    if (has(path, 'fail-begin')) throw new Error('cannot begin');
    const pieces: Buffer[] = [];
    const hash = has(path, 'digest') ? createHash('sha256') : undefined;
    const collector = new Collector(this.#overlay, hash ?? pieces);
    return {
      room: () => {
        if (has(path, 'fail-room') && collector.size > 0) throw new Error('no room');
        return collector.room();
      },
      advance: (count: number) => {
        if (has(path, 'fail-advance')) throw new Error('cannot advance');
        collector.advance(count);
      },
      abort: () => {
        this.events.push(`abort ${path.toString('latin1')}`);
      },
      content: (): Buffer => {
        if (has(path, 'fail-finish')) throw new Error('cannot finish');
        collector.flush();
        return hash ? Buffer.from(`${collector.size} ${hash.digest('hex')}`) : Buffer.concat(pieces);
      },
    };
  }

  #output(path: Buffer, content: Buffer): OutputJob {
    const generate = /generate=(\d+)/.exec(path.toString('latin1'));
    return {
      kind: 'content',
      write: (output) => {
        if (has(path, 'fail-early')) {
          output.content(content);
          throw new Error('failed early');
        }
        if (has(path, 'fail-late')) {
          output.content(Buffer.alloc(3 << 20));
          throw new Error('failed late');
        }
        if (generate) return this.#generate(Number(generate[1]), output);
        output.content(content);
        return has(path, 'async') ? turn() : undefined;
      },
      dispose: () => {
        this.events.push(`dispose ${path.toString('latin1')}`);
        content.fill(0xff);
      },
    };
  }

  async #generate(size: number, output: ContentOutput): Promise<void> {
    const whole = pattern(2 << 16);
    const buffer = Buffer.alloc(whole.length);
    for (let at = 0; at < size; at += buffer.length) {
      whole.copy(buffer);
      output.content(buffer.subarray(0, size - at));
      output.sync();
      buffer.fill(0);
      await turn();
    }
  }
}

function has(path: Buffer, word: string): boolean {
  return path.includes(word);
}
