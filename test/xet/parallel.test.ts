import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { SCAN_AREA_SIZE, ScanArea } from '../../src/xet/chunk/scan-area.ts';
import { JobBoard, MAX_SLOTS } from '../../src/xet/parallel/job-board.ts';
import { ScanAhead, type ScannedChunks } from '../../src/xet/parallel/scan-ahead.ts';
import { ARENA_START, createArena } from '../../src/xet/wasm/kernels.ts';
import { answerOf, countingJob } from '../helpers/counting-job.ts';
import { chunkEnds, chunkHash, chunkRun, randomBytes } from '../helpers/store-sandbox.ts';

// Areas

test('chunk lengths of a scan area are counted from where the batch begins', (t) => {
  const arena = createArena(ARENA_START + SCAN_AREA_SIZE);
  const area = new ScanArea(arena, ARENA_START);
  for (const [i, end] of [1010, 1030, 1031].entries()) area.setEnd(i, end);
  t.deepEqual(
    [0, 1, 2].map((i) => area.length(1000, i)),
    [10, 20, 1],
  );
  t.is(area.end(2), 1031);
  t.true(area.hashes + 32 * 1024 <= ARENA_START + SCAN_AREA_SIZE);
});

// JobBoard

/** A board whose slots are used in turn, with `workers` threads on it. */
function startBoard(t: ExecutionContext, workers: number, jobs: number) {
  const board = new JobBoard();
  const counts = new SharedArrayBuffer(4 * jobs);
  const threads = Array.from(
    { length: workers },
    () =>
      new Worker(new URL('../helpers/board-worker.js', import.meta.url), {
        workerData: { board: board.buffer, counts },
      }),
  );
  t.teardown(() => Promise.all(threads.map((thread) => thread.terminate())));
  return { board, run: countingJob(counts), counts: new Int32Array(counts) };
}

test('wide parameters hold any safe offset', (t) => {
  const board = new JobBoard();
  fc.assert(
    fc.property(fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }), fc.nat({ max: 11 }), (value, i) => {
      board.setWide(3, i, value);
      t.is(board.getWide(3, i), value);
    }),
  );
});

test('parameters of one slot touch nothing of the next, nor the number of the job', (t) => {
  const board = new JobBoard();
  board.set(5, 0, 7);
  for (let i = 0; i <= 13; i++) board.set(4, i, -1);
  t.is(board.get(5, 0), 7);
  board.post(4);
  for (let i = 0; i <= 13; i++) t.is(board.get(4, i), -1);
  t.true(board.isBusy(4));
  t.false(board.isDone(4));
  t.false(board.isBusy(5));
});

for (const workers of [0, 1, 3]) {
  test(`with ${workers} workers every job runs once and gives its answer, in hundreds of rounds`, async (t) => {
    const slots = 10;
    const jobs = 6000;
    const { board, run, counts } = startBoard(t, workers, jobs);
    let seed = 1 + workers;
    const random = (limit: number) => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return (seed >>> 8) % limit;
    };
    const nap = new Int32Array(new SharedArrayBuffer(4));
    const running: { slot: number; number: number }[] = [];
    const free = Array.from({ length: slots }, (_, i) => i);
    let next = 0;
    // The threads are starting meanwhile: the first jobs are done without them.
    for (; next < jobs || running.length > 0; ) {
      if (next < jobs && free.length > 0 && random(3) > 0) {
        const slot = free.splice(random(free.length), 1)[0] as number;
        board.set(slot, 0, 1);
        board.set(slot, 1, next);
        board.set(slot, 2, random(8) === 0 ? random(300) : 0);
        board.set(slot, 3, 0);
        board.post(slot);
        running.push({ slot, number: next++ });
      } else if (running.length > 0) {
        if (random(20) === 0) Atomics.wait(nap, 0, 0, random(10) / 10);
        const { slot, number } = running.shift() as { slot: number; number: number };
        if (random(2) === 0) board.isDone(slot);
        board.finish(slot, run);
        if (board.get(slot, 3) !== answerOf(number)) t.fail(`job ${number}`);
        if (counts[number] !== 1) t.fail(`job ${number} ran ${counts[number]} times`);
        if (board.isBusy(slot)) t.fail(`slot ${slot} is still busy`);
        free.push(slot);
      }
      // Lets the threads' start go on.
      if (next % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    t.deepEqual([...counts], new Array(jobs).fill(1));
  });
}

test('a job that is posted while the workers sleep wakes one, every time', async (t) => {
  const rounds = 400;
  const { board, run, counts } = startBoard(t, 2, 3 * rounds);
  const nap = new Int32Array(new SharedArrayBuffer(4));
  let number = 0;
  for (let round = 0; round < rounds; round++) {
    const slots = [0, 1, 2].slice(0, 1 + (round % 3));
    for (const slot of slots) {
      board.set(slot, 1, number++);
      board.set(slot, 2, 0);
      board.post(slot);
    }
    // Nobody helps: only a worker that woke up can do it.
    for (const slot of slots) {
      for (let waited = 0; !board.isDone(slot); waited++) {
        if (waited === 30_000) return t.fail(`round ${round}: nobody took the job`);
        if (waited % 50 === 49) await new Promise((resolve) => setImmediate(resolve));
        else Atomics.wait(nap, 0, 0, waited < 10 ? 0.02 : 1);
      }
      board.finish(slot, run);
    }
    if (round % 5 === 0) Atomics.wait(nap, 0, 0, 0.3);
  }
  t.is(
    counts.reduce((sum, n) => sum + n, 0),
    number,
  );
});

test('all slots can be posted at once', (t) => {
  const board = new JobBoard();
  const counts = new SharedArrayBuffer(4 * MAX_SLOTS * 5);
  const run = countingJob(counts);
  for (let round = 0; round < 5; round++) {
    for (let slot = 0; slot < MAX_SLOTS; slot++) {
      board.set(slot, 1, round * MAX_SLOTS + slot);
      board.set(slot, 2, 0);
      board.post(slot);
    }
    for (let slot = 0; slot < MAX_SLOTS; slot++) board.finish(slot, run);
  }
  t.true(new Int32Array(counts).every((count) => count === 1));
});

// ScanAhead

interface Found {
  readonly ends: number[];
  readonly hashes: Buffer[];
  /** Chunks whose bytes were not those of the content when they were reported. */
  readonly wrong: number[];
}

/** Collects what is reported, and compares the bytes while they are lent. */
function collector(content: Buffer): { found: Found; onChunks: (chunks: ScannedChunks) => void } {
  const found: Found = { ends: [], hashes: [], wrong: [] };
  let at = 0;
  return {
    found,
    onChunks({ bytes, area, start, count }) {
      for (let i = 0; i < count; i++) {
        const length = area.length(start, i);
        const end = area.end(i);
        const lent = Buffer.from(bytes.subarray(end - length, end));
        if (!lent.equals(content.subarray(at, at + length))) found.wrong.push(found.ends.length);
        at += length;
        found.ends.push(at);
        found.hashes.push(Buffer.from(bytes.subarray(area.hashes + 32 * i, area.hashes + 32 * i + 32)));
      }
    },
  };
}

function feed(ahead: ScanAhead, bytes: Buffer, sizes: readonly number[], pause?: () => void): void {
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const part = bytes.subarray(at, at + Math.min(sizes[i % sizes.length] as number, 65520));
    const room = ahead.room();
    if (room.overlay) {
      const before = room.bytes.slice(room.offset - 4, room.offset);
      room.bytes.fill(0xa5, room.offset - 4, room.offset);
      room.bytes.set(part, room.offset);
      pause?.();
      room.bytes.set(before, room.offset - 4);
    } else {
      room.bytes.set(part, room.offset);
    }
    ahead.advance(part.length);
    at += part.length;
  }
}

function check(t: ExecutionContext, found: Found, bytes: Buffer): void {
  t.deepEqual(found.ends, chunkEnds(bytes));
  t.deepEqual(found.wrong, []);
  let start = 0;
  for (const [i, end] of found.ends.entries()) {
    if (!chunkHash(bytes.subarray(start, end)).every((byte, k) => byte === found.hashes[i]?.[k])) {
      t.fail(`hash of chunk ${i}`);
      return;
    }
    start = end;
  }
}

type WorkerClass = typeof Worker;

class NoWorker {
  constructor() {
    throw new Error('no threads here');
  }
}

class SlowWorker extends Worker {
  constructor(_url: string | URL, options: ConstructorParameters<WorkerClass>[1]) {
    super(new URL('../helpers/slow-kernel-worker.js', import.meta.url), options);
  }
}

const threads = createRequire(import.meta.url)('node:worker_threads') as { Worker: WorkerClass };

/** A ScanAhead whose thread is as said. Only for serial tests. */
function openAhead(t: ExecutionContext, kind: 'real' | 'slow' | 'absent'): ScanAhead {
  const replacement = { real: Worker, slow: SlowWorker, absent: NoWorker as unknown as WorkerClass }[kind];
  const started: Worker[] = [];
  threads.Worker = new Proxy(replacement, {
    construct(target, args: ConstructorParameters<WorkerClass>) {
      const worker = new target(...args);
      started.push(worker);
      return worker;
    },
  });
  const ahead = new ScanAhead(undefined);
  threads.Worker = Worker;
  t.teardown(() => Promise.all(started.map((worker) => worker.terminate())));
  return ahead;
}

/** Time for threads to start: they need this one's event loop. */
function breathe(ms = 60): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const MIB = 1 << 20;
const content = fc.array(
  fc.record({
    kind: fc.constantFrom('random', 'zeros', 'tiny'),
    seed: fc.nat({ max: 20 }),
    size: fc.nat({ max: 5 * MIB }),
  }),
  { minLength: 1, maxLength: 4 },
);
const sliceSizes = fc.array(fc.oneof(fc.integer({ min: 500, max: 65520 }), fc.constantFrom(65516, 65520)), {
  minLength: 1,
  maxLength: 4,
});

function assemble(parts: readonly { kind: string; seed: number; size: number }[]): Buffer {
  return Buffer.concat(
    parts.map(({ kind, seed, size }) => {
      if (kind === 'zeros') return Buffer.alloc(size);
      return kind === 'random' ? randomBytes(seed, size) : chunkRun('t', seed, seed + (size >> 15));
    }),
  );
}

for (const kind of ['real', 'slow', 'absent'] as const) {
  test.serial(
    `scanning ahead finds the chunks of any content in any slices, with a thread that is ${kind}`,
    async (t) => {
      const ahead = openAhead(t, kind);
      let runs = 0;
      await fc.assert(
        fc.asyncProperty(content, sliceSizes, fc.nat({ max: 131071 }), async (parts, sizes, carried) => {
          if (runs++ === 1) await breathe();
          const bytes = assemble(parts);
          // A chunk begun elsewhere: with no boundary in it.
          const first = chunkEnds(bytes)[0] ?? 0;
          const carry = bytes.subarray(0, Math.min(carried, Math.max(0, first - 1)));
          const { found, onChunks } = collector(bytes);
          ahead.begin(carry, onChunks);
          feed(ahead, bytes.subarray(carry.length), sizes);
          ahead.finish();
          check(t, found, bytes);
        }),
        { numRuns: kind === 'real' ? 15 : 8 },
      );
    },
  );

  test.serial(`stopped and begun again, or aborted, anywhere, with a thread that is ${kind}`, async (t) => {
    const ahead = openAhead(t, kind);
    await breathe();
    fc.assert(
      fc.property(
        content,
        sliceSizes,
        fc.array(fc.record({ at: fc.nat({ max: 12 * MIB }), abort: fc.boolean() }), { maxLength: 4 }),
        (parts, sizes, events) => {
          const bytes = assemble(parts);
          const { found, onChunks } = collector(bytes);
          let carry: Buffer = Buffer.alloc(0);
          let at = 0;
          for (const event of [...events].sort((a, b) => a.at - b.at)) {
            if (event.at < at || event.at > bytes.length) continue;
            if (event.abort) {
              // Another content that comes to nothing, in between.
              const other = randomBytes(event.at, 5 * MIB);
              ahead.begin(Buffer.alloc(0), () => t.true(event.at >= 0));
              feed(ahead, other.subarray(0, event.at % other.length), sizes);
              ahead.abort();
            }
            ahead.begin(carry, onChunks);
            feed(ahead, bytes.subarray(at, event.at), sizes);
            at = event.at;
            carry = Buffer.from(ahead.stop());
            t.true(carry.equals(bytes.subarray(found.ends.at(-1) ?? 0, at)));
          }
          ahead.begin(carry, onChunks);
          feed(ahead, bytes.subarray(at), sizes);
          ahead.finish();
          check(t, found, bytes);
        },
      ),
      { numRuns: kind === 'real' ? 12 : 6 },
    );
  });
}

test.serial('the ring goes round many times', async (t) => {
  for (const kind of ['real', 'absent'] as const) {
    const ahead = openAhead(t, kind);
    await breathe();
    const bytes = Buffer.concat([
      randomBytes('ring', 50 * MIB),
      Buffer.alloc(9 * MIB),
      randomBytes('end', 13 * MIB),
    ]);
    const { found, onChunks } = collector(bytes);
    ahead.begin(Buffer.alloc(0), onChunks);
    // Sizes that shift against the slices of the ring, so that ends and boundaries meet everywhere.
    feed(ahead, bytes, [65520, 65519, 40_000]);
    ahead.finish();
    check(t, found, bytes);
  }
});

test.serial('the bytes before the room are offered only while no thread may be reading them', async (t) => {
  const ahead = openAhead(t, 'absent');
  for (const size of [65520, 65516, 2 * MIB - 20 * 65520, 1]) {
    ahead.begin(Buffer.alloc(0), () => {});
    t.false(ahead.room().overlay);
    let sinceStart = 0;
    let handed = 0;
    for (let i = 0; i < 400 && sinceStart < 20 * MIB; i++) {
      const { bytes, offset, overlay } = ahead.room();
      // A slice is handed over as soon as it has 2 MiB, counted from the ring's start.
      t.is(overlay, sinceStart - handed >= 4, `after ${sinceStart}`);
      t.true(offset + 65520 <= bytes.length);
      ahead.advance(Math.min(size, 65520));
      sinceStart += Math.min(size, 65520);
      if (Math.floor(sinceStart / (2 * MIB)) > Math.floor(handed / (2 * MIB))) handed = sinceStart;
      if (sinceStart >= 16 * MIB) break;
    }
    ahead.abort();
  }
});

test.serial(
  'what is read over the end of the ring, and the longest chunk before it, are not lost',
  async (t) => {
    const ahead = openAhead(t, 'slow');
    await breathe();
    // Longest chunks everywhere: the open one always reaches back as far as it can.
    for (const offset of [0, 1, 8191, 65519, 65520, 131071]) {
      const bytes = Buffer.concat([randomBytes(offset, offset), Buffer.alloc(35 * MIB + offset)]);
      const { found, onChunks } = collector(bytes);
      ahead.begin(Buffer.alloc(0), onChunks);
      feed(ahead, bytes, [65520]);
      ahead.finish();
      check(t, found, bytes);
    }
  },
);

test.serial('an error in the callback leaves the scanner fit for the next content', async (t) => {
  const ahead = openAhead(t, 'real');
  await breathe();
  const bytes = randomBytes('error', 9 * MIB);
  let calls = 0;
  ahead.begin(Buffer.alloc(0), () => {
    if (++calls === 2) throw new Error('disk full');
  });
  t.throws(
    () => {
      feed(ahead, bytes, [65520]);
      ahead.finish();
    },
    { message: 'disk full' },
  );
  ahead.abort();
  for (const begin of [() => {}, () => ahead.abort()]) {
    begin();
    const { found, onChunks } = collector(bytes);
    ahead.begin(Buffer.alloc(0), onChunks);
    feed(ahead, bytes, [65520]);
    ahead.finish();
    check(t, found, bytes);
  }
});

test.serial('content that was given up without a word does not show up in the next', async (t) => {
  const ahead = openAhead(t, 'slow');
  await breathe();
  let late = 0;
  ahead.begin(Buffer.alloc(0), () => late++);
  feed(ahead, randomBytes('given up', 9 * MIB), [65520]);
  const before = late;
  const bytes = randomBytes('next', 5 * MIB);
  const { found, onChunks } = collector(bytes);
  ahead.begin(Buffer.alloc(0), onChunks);
  feed(ahead, bytes, [65520]);
  ahead.finish();
  check(t, found, bytes);
  t.is(late, before);
});
