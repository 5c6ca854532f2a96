/** Packet streams over memory, with system calls that return too little, or fail, when they are told to. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { PktInput } from '../../src/filter-process/pkt-input.ts';
import { PktOutput } from '../../src/filter-process/pkt-output.ts';

/** How many bytes a call handles at most, or the errno it fails with. */
export type Step = number | string;

export function errno(code: string): Error {
  return Object.assign(new Error(code), { code });
}

/** A PktInput over `stream`. The reads take their steps in turn, and begin again after the last. */
export function fakeInput(
  stream: Buffer,
  steps: readonly Step[] = [Number.POSITIVE_INFINITY],
  onRead: (views: readonly Uint8Array[]) => void = () => {},
): PktInput {
  let calls = 0;
  let position = 0;
  function readvSync(_fd: number, views: readonly Uint8Array[]): number {
    const step = steps[calls++ % steps.length]!;
    if (typeof step === 'string') throw errno(step);
    onRead(views);
    const first = position;
    for (const view of views) {
      const count = Math.min(view.length, step - (position - first), stream.length - position);
      view.set(stream.subarray(position, position + count));
      position += count;
    }
    return position - first;
  }
  return new PktInput(0, {
    readvSync,
    readSync: (fd, bytes, offset, length) => readvSync(fd, [bytes.subarray(offset, offset + length)]),
  });
}

export interface WriteCall {
  /** Bytes offered. */
  readonly size: number;
  readonly views: number;
  /** How many of the bytes offered are not in `memory`. */
  foreign(memory: ArrayBufferLike): number;
}

/** A PktOutput into memory. The writes take their steps in turn; the last is repeated. */
export function fakeOutput(steps: readonly Step[] = [Number.POSITIVE_INFINITY]) {
  const calls: WriteCall[] = [];
  const written: Buffer[] = [];
  let attempts = 0;
  const output = new PktOutput(1, {
    writevSync(_fd, views) {
      const step = steps[Math.min(attempts++, steps.length - 1)]!;
      if (typeof step === 'string') throw errno(step);
      const offered = Buffer.concat(views);
      const foreign = (memory: ArrayBufferLike) =>
        views.filter((view) => view.buffer !== memory).reduce((sum, view) => sum + view.length, 0);
      calls.push({ size: offered.length, views: views.length, foreign });
      written.push(offered.subarray(0, step));
      return Math.min(step, offered.length);
    },
  });
  return { output, calls, bytes: () => Buffer.concat(written) };
}

export function temporaryDirectory(t: ExecutionContext<unknown>): string {
  const directory = mkdtempSync(join(tmpdir(), 'git2db-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
