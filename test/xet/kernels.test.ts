import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { blake3 } from '@noble/hashes/blake3.js';
import test from 'ava';
import fc from 'fast-check';
import { nativeBlake3 } from '../../src/xet/hash/blake3-native.ts';
import { DATA_KEY, hmac } from '../../src/xet/hash/keys.ts';
import { fileHash, merkleRoot } from '../../src/xet/hash/merkle.ts';
import { verificationHash } from '../../src/xet/hash/verification.ts';
import { formatHash, parseHash } from '../../src/xet/hash/xet-hash.ts';
import {
  ARENA_START,
  createArena,
  type KernelChoice,
  type Kernels,
  loadKernels,
  openArena,
  SCRATCH_SIZE,
} from '../../src/xet/wasm/kernels.ts';
import { generateInput, generateTriggerInput, readVectors, xorshift32 } from '../helpers/generators.ts';

type Scan = Kernels['scan'];
type Blake3 = Kernels['blake3'];

const vectors = readVectors();
const inputs = vectors.inputs.map((vector) => ({ vector, bytes: generateInput(vector.input) }));

const scans: readonly Scan[] = ['wasm', 'js'];
const blake3s: readonly Blake3[] =
  nativeBlake3(DATA_KEY) === undefined ? ['wasm', 'js'] : ['native', 'wasm', 'js'];

// One arena for all tests: three scratch areas, room for chunk ends and hashes, data.
const MAX_ENDS = 16_384;
const [SCRATCH_A, SCRATCH_B] = [ARENA_START, ARENA_START + SCRATCH_SIZE];
const ENDS = ARENA_START + 2 * SCRATCH_SIZE;
const HASHES = ENDS + 4 * MAX_ENDS;
const DATA = HASHES + 32 * MAX_ENDS;
const arena = createArena(DATA + 72_000_000);
const words = new Uint32Array(arena.bytes.buffer);

function load(choice: KernelChoice = {}, scratch = SCRATCH_A): Kernels {
  return loadKernels(arena, scratch, choice);
}

function readEnds(at: number, count: number): number[] {
  return Array.from(words.subarray(at / 4, at / 4 + count));
}

/** Puts `bytes` at `at`; the ends of its chunks relative to there, the last one included. */
function endsOf(kernels: Kernels, bytes: Uint8Array, at = DATA): number[] {
  arena.bytes.set(bytes, at);
  const end = at + bytes.length;
  let count = kernels.findBoundaries(at, at, end, ENDS, MAX_ENDS);
  const last = count === 0 ? at : (words[ENDS / 4 + count - 1] as number);
  if (last < end) words[ENDS / 4 + count++] = end;
  return readEnds(ENDS, count).map((address) => address - at);
}

function hexDigest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

const inputVectors = test.macro({
  exec(t, choice: { scan: Scan; blake3: Blake3 }) {
    const kernels = load(choice);
    t.like(kernels, choice);
    for (const { vector, bytes } of inputs) {
      if (bytes.length > largestInput(choice)) continue;
      const { name } = vector;
      const ends = endsOf(kernels, bytes);
      const count = ends.length;
      t.is(count, vector.chunk_count, name);
      kernels.hashChunks(DATA, ENDS, count, HASHES);
      const hashes = arena.bytes.slice(HASHES, HASHES + 32 * count);
      const lengths = ends.map((end, i) => end - (ends[i - 1] ?? 0));
      const strings = lengths.map((_, i) => formatHash(hashes, 32 * i));
      const chunks = lengths.map((length, i) => [strings[i], length]);

      t.is(
        hexDigest(chunks.map(([hash, length]) => `${hash} ${length}\n`).join('')),
        vector.chunk_list_sha256,
        name,
      );
      if (vector.chunks !== undefined) t.deepEqual(chunks, vector.chunks, name);
      if (vector.lengths_sha256 !== undefined)
        t.is(hexDigest(lengths.join(',')), vector.lengths_sha256, name);
      const first = vector.first_chunks ?? [];
      const last = vector.last_chunks ?? [];
      t.deepEqual(chunks.slice(0, first.length), first, name);
      t.deepEqual(chunks.slice(count - last.length), last, name);

      t.is(formatHash(merkleRoot(hashes, lengths)), vector.merkle_root, name);
      t.is(formatHash(fileHash(hashes, lengths)), vector.file_hash, name);
      if (vector.range_hash_all !== null)
        t.is(formatHash(verificationHash(hashes, 0, count)), vector.range_hash_all, name);
      if (vector.range_hash_1_to_3 !== undefined) {
        t.is(formatHash(verificationHash(hashes, 1, 3)), vector.range_hash_1_to_3, name);
      }
      if (vector.merkle_root_first_half !== undefined) {
        t.is(
          formatHash(merkleRoot(hashes, lengths, Math.floor(count / 2))),
          vector.merkle_root_first_half,
          name,
        );
      }
      if (vector.hmac !== undefined) {
        t.is(
          formatHash(hmac(hashes.subarray(0, 32), parseHash(vector.hmac.key))),
          vector.hmac.first_chunk,
          name,
        );
      }
      const eligible = strings.flatMap((hash, i) =>
        BigInt(`0x${hash.slice(48)}`) % 1024n === 0n ? [i] : [],
      );
      t.deepEqual(eligible, vector.hash_eligible_chunk_indices, name);
    }
  },
  title: (_, choice: { scan: Scan; blake3: Blake3 }) => {
    const which = largestInput(choice) === Infinity ? 'all inputs of the vectors' : 'inputs of up to 4 MiB';
    return `${which} have the known chunks and hashes: ${choice.scan} scan, ${choice.blake3} BLAKE3`;
  },
});

/** Plain JavaScript is spared the larger ones, to save time. */
function largestInput(choice: { scan: Scan; blake3: Blake3 }): number {
  return choice.scan === 'js' || choice.blake3 === 'js' ? 4 << 20 : Infinity;
}

for (const scan of scans) for (const name of blake3s) test(inputVectors, { scan, blake3: name });

test('the generated inputs are those that the vectors were made from', (t) => {
  t.is(inputs.length, 27);
  for (const { vector, bytes } of inputs) {
    t.is(bytes.length, vector.size, vector.name);
    t.is(createHash('sha256').update(bytes).digest('hex'), vector.sha256, vector.name);
  }
});

const triggerInputs = test.macro({
  exec(t, scan: Scan) {
    const kernels = load({ scan });
    const { pattern, check, boundaries } = vectors.reference_trigger_inputs;
    t.is(boundaries.length, 128);
    for (const [i, expected] of boundaries.entries()) {
      const input = generateTriggerInput(pattern, i);
      t.is(input[11111], check[i], `input ${i}`);
      t.deepEqual(endsOf(kernels, input, DATA + i), expected, `input ${i}`);
    }
  },
  title: (_, scan) =>
    `a match before the minimum size is no boundary and does not reset the hash: ${scan} scan`,
});
for (const scan of scans) test(triggerInputs, scan);

const resumed = test.macro({
  exec(t, scan: Scan) {
    const kernels = load({ scan });
    const bytes = generateInput({
      kind: 'concat',
      parts: [
        { kind: 'xorshift32', seed: 41, size: 600_000 },
        { kind: 'constant', value: 7, size: 300_000 },
        { kind: 'xorshift32', seed: 42, size: 300_001 },
      ],
    });
    const expected = endsOf(kernels, bytes);
    t.true(expected.length > 10);
    const step = fc.record({
      // Mostly small against a chunk, so that a chunk is resumed often and near its edges.
      size: fc.oneof(fc.nat({ max: 100 }), fc.nat({ max: 9000 }), fc.nat({ max: 200_000 })),
      maxCount: fc.integer({ min: 1, max: 3 }),
      address: fc.nat({ max: 2_000_000 }),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), (steps) => {
        const found: number[] = [];
        /** Offsets in `bytes`, and the arena address of offset 0, as the caller of a ring would keep them. */
        let [start, from, end] = [0, 0, 0];
        for (let i = 0; end < bytes.length; i++) {
          const { size, maxCount, address } = steps[i % steps.length]!;
          end = Math.min(bytes.length, end + size + (i < steps.length ? 0 : 50_000));
          for (;;) {
            // Only the bytes that may be read are there, and at another address each time.
            const base = DATA + address - start;
            arena.bytes.set(bytes.subarray(start, end), base + start);
            arena.bytes.fill(0xaa, base + end, base + end + 100);
            const count = kernels.findBoundaries(base + start, base + from, base + end, ENDS, maxCount);
            const ends = readEnds(ENDS, count).map((at) => at - base);
            found.push(...ends);
            start = ends.at(-1) ?? start;
            from = count === maxCount ? start : end;
            if (count < maxCount) break;
          }
        }
        if (start < end) found.push(end);
        t.deepEqual(found, expected);
      }),
      { numRuns: 60 },
    );
  },
  title: (_, scan) =>
    `boundaries do not depend on where a scan is resumed and where the chunk then lies: ${scan} scan`,
});
for (const scan of scans) test(resumed, scan);

test('all scans agree on bytes of every kind', (t) => {
  const [wasm, js] = scans.map((scan) => load({ scan })) as [Kernels, Kernels];
  // Few distinct byte values make long runs without a match, and matches that repeat.
  const bytes = fc
    .tuple(
      fc.integer({ min: 1 }),
      fc.integer({ min: 1, max: 256 }),
      fc.nat({ max: 400_000 }),
      fc.nat({ max: 20 }),
    )
    .map(([seed, values, size, offset]) => ({
      bytes: xorshift32(seed, size).map((b) => b % values),
      offset,
    }));
  fc.assert(
    fc.property(bytes, ({ bytes, offset }) => {
      t.deepEqual(endsOf(wasm, bytes, DATA + offset), endsOf(js, bytes, DATA + offset));
    }),
    { numRuns: 60 },
  );
});

const hashLengths = test.macro({
  exec(t, name: Blake3) {
    const kernels = load({ blake3: name });
    const source = xorshift32(17, 300_000);
    const lengths = [
      0, 1, 2, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 2047, 2048, 2049, 3071, 3073, 4095, 4096, 4097,
      5121, 7169, 8191, 8192, 16_385, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 262_144, 270_001,
    ];
    for (const [i, length] of lengths.entries()) {
      const start = DATA + i;
      arena.bytes.fill(0x55, start - 64, start + length + 64);
      arena.bytes.set(source.subarray(0, length), start);
      const out = HASHES + (i % 16);
      kernels.hashChunk(start, start + length, out);
      const expected = blake3(source.subarray(0, length), { key: DATA_KEY });
      t.deepEqual(arena.bytes.slice(out, out + 32), expected, `${length} bytes`);
    }
  },
  title: (_, name) =>
    `hashes of every length and alignment agree with another implementation: ${name} BLAKE3`,
});
for (const name of blake3s) test(hashLengths, name);

const hashList = test.macro({
  exec(t, name: Blake3) {
    const kernels = load({ blake3: name });
    const source = xorshift32(18, 400_000);
    arena.bytes.set(source, DATA + 3);
    // Lengths that no scan gives, but a reader may meet.
    const ends = [1, 1, 65, 9000, 140_072, 290_000];
    words.set(
      ends.map((end) => DATA + 3 + end),
      ENDS / 4,
    );
    kernels.hashChunks(DATA + 3, ENDS, ends.length, HASHES);
    for (const [i, end] of ends.entries()) {
      const expected = blake3(source.subarray(ends[i - 1] ?? 0, end), { key: DATA_KEY });
      t.deepEqual(arena.bytes.slice(HASHES + 32 * i, HASHES + 32 * i + 32), expected, `chunk ${i}`);
    }
  },
  title: (_, name) => `a list of chunks is hashed one after another: ${name} BLAKE3`,
});
for (const name of blake3s) test(hashList, name);

const byteGrouping = test.macro({
  exec(t, scan: Scan) {
    const kernels = load({ scan });
    const size = fc.oneof(fc.nat({ max: 300 }), fc.integer({ min: 131_000, max: 131_072 }));
    fc.assert(
      fc.property(
        fc.integer({ min: 1 }),
        size,
        fc.nat({ max: 17 }),
        fc.nat({ max: 17 }),
        (seed, length, a, b) => {
          const data = xorshift32(seed, length);
          const [from, to, back] = [DATA + a, DATA + 200_000 + b, DATA + 400_000 + a + b];
          arena.bytes.set(data, from);
          for (const at of [to, back]) arena.bytes.fill(0x11, at - 32, at + length + 32);
          kernels.groupBytes(from, length, to);
          kernels.ungroupBytes(to, length, back);
          const grouped = [0, 1, 2, 3].flatMap((turn) => Array.from(data).filter((_, i) => i % 4 === turn));
          t.true(
            Buffer.from(grouped).equals(arena.bytes.subarray(to, to + length)),
            `${length} bytes grouped`,
          );
          t.true(Buffer.from(data).equals(arena.bytes.subarray(back, back + length)), `${length} bytes back`);
          for (const at of [to, back]) {
            t.true(arena.bytes.subarray(at - 32, at).every((byte) => byte === 0x11));
            t.true(arena.bytes.subarray(at + length, at + length + 32).every((byte) => byte === 0x11));
          }
        },
      ),
      { numRuns: 60 },
    );
  },
  title: (_, scan) => `byte grouping collects every fourth byte, and undoes it: ${scan} kernels`,
});
for (const scan of scans) test(byteGrouping, scan);

const interleaved = test.macro({
  exec(t, choice: { scan: Scan; blake3: Blake3 }) {
    const streams = [51, 52].map((seed, i) => {
      const bytes = xorshift32(seed, 900_000 + i);
      return { bytes, expected: endsOf(load(choice), bytes), found: [] as number[] };
    });
    const instances = [load(choice, SCRATCH_A), load(choice, SCRATCH_B)];
    const bases = [DATA, DATA + 2_000_000];
    const open = [0, 0];
    for (let at = 0; at < 900_000; at += 5_000) {
      for (const [i, kernels] of instances.entries()) {
        const { bytes, found } = streams[i]!;
        const base = bases[i]!;
        const end = Math.min(at + 5_000, bytes.length);
        arena.bytes.set(bytes.subarray(at, end), base + at);
        const count = kernels.findBoundaries(base + open[i]!, base + at, base + end, ENDS + 400 * i, 100);
        const ends = readEnds(ENDS + 400 * i, count).map((address) => address - base);
        kernels.hashChunks(base + open[i]!, ENDS + 400 * i, count, HASHES + 3200 * i);
        for (const [n, chunkEnd] of ends.entries()) {
          const chunk = bytes.subarray(ends[n - 1] ?? open[i]!, chunkEnd);
          const out = HASHES + 3200 * i + 32 * n;
          t.is(
            formatHash(arena.bytes, out),
            formatHash((nativeBlake3(DATA_KEY) ?? ((data) => blake3(data, { key: DATA_KEY })))(chunk)),
          );
        }
        found.push(...ends);
        open[i] = ends.at(-1) ?? open[i]!;
      }
    }
    for (const { found, expected } of streams) t.deepEqual(found, expected.slice(0, found.length));
    t.true(streams.every(({ found, expected }) => found.length >= expected.length - 2));
  },
  title: (_, { scan, blake3 }) =>
    `two instances in one arena do not disturb each other: ${scan} scan, ${blake3} BLAKE3`,
});
test(interleaved, { scan: 'wasm', blake3: 'wasm' });
test(interleaved, { scan: 'js', blake3: 'js' });

test('a worker thread hashes in an arena while this one does', async (t) => {
  const { bytes, vector } = inputs.find(({ vector }) => vector.name === 'xorshift-10MiB')!;
  const ends = endsOf(load(), bytes);
  const count = ends.length;
  const lengths = ends.map((end, i) => end - (ends[i - 1] ?? 0));

  const shared = createArena(DATA + bytes.length);
  shared.bytes.set(bytes, DATA);
  new Uint32Array(shared.bytes.buffer, ENDS, count).set(ends.map((end) => DATA + end));
  const mine = loadKernels(shared, SCRATCH_A, { blake3: 'wasm' });
  const [out, workerOut] = [HASHES, HASHES + 32 * count];
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     import(workerData.moduleUrl).then(({ loadKernels, openArena }) => {
       const { memory, scratch, start, ends, count, out } = workerData;
       const kernels = loadKernels(openArena(memory), scratch, { blake3: 'wasm' });
       parentPort.once('message', () => {
         for (let round = 0; round < 3; round++) kernels.hashChunks(start, ends, count, out);
         parentPort.postMessage('done');
       });
       parentPort.postMessage('ready');
     });`,
    {
      eval: true,
      workerData: {
        moduleUrl: new URL('../../src/xet/wasm/kernels.js', import.meta.url).href,
        memory: shared.memory,
        scratch: SCRATCH_B,
        start: DATA,
        ends: ENDS,
        count,
        out: workerOut,
      },
    },
  );
  t.teardown(() => worker.terminate());
  await once(worker, 'message');
  const done = once(worker, 'message');
  worker.postMessage('go');
  for (let round = 0; round < 3; round++) mine.hashChunks(DATA, ENDS, count, out);
  await done;
  for (const at of [out, workerOut]) {
    const hashes = shared.bytes.slice(at, at + 32 * count);
    t.is(formatHash(merkleRoot(hashes, lengths)), vector.merkle_root);
  }
});

function vectorOf(name: string): (typeof vectors.inputs)[number] {
  return vectors.inputs.find((vector) => vector.name === name)!;
}

test('the native module takes over where it loads, and not before it pays', (t) => {
  const program = `
    import { ARENA_START, createArena, loadKernels, SCRATCH_SIZE } from ${urlOf('../../src/xet/wasm/kernels.js')};
    import { blake3Keyed } from ${urlOf('../../src/xet/hash/blake3.js')};
    import { DATA_KEY } from ${urlOf('../../src/xet/hash/keys.js')};
    const arena = createArena(ARENA_START + SCRATCH_SIZE + (1 << 20));
    const kernels = loadKernels(arena, ARENA_START);
    const [data, out] = [ARENA_START + SCRATCH_SIZE, ARENA_START + SCRATCH_SIZE + 131072];
    const seen = new Set(), hashes = new Set();
    for (let i = 0; i < 100; i++) {
      kernels.hashChunk(data, data + 131072, out);
      seen.add(kernels.blake3);
      hashes.add(Buffer.from(arena.bytes.slice(out, out + 32)).toString('hex'));
      hashes.add(Buffer.from(blake3Keyed(DATA_KEY, new Uint8Array(131072))).toString('hex'));
    }
    console.log([...seen].join(), hashes.size, [...hashes][0]);`;
  const expected = Buffer.from(blake3(new Uint8Array(131_072), { key: DATA_KEY })).toString('hex');
  t.is(runModule(program), `${blake3s.includes('native') ? 'wasm,native' : 'wasm'} 1 ${expected}\n`);
});

test('an arena over a SharedArrayBuffer makes do with what needs no WebAssembly', (t) => {
  const plain = openArena(new SharedArrayBuffer(1 << 20));
  const kernels = loadKernels(plain, ARENA_START);
  t.is(kernels.scan, 'js');
  t.is(kernels.blake3, 'js');
  const data = ARENA_START + SCRATCH_SIZE;
  plain.bytes.set(xorshift32(61, 1000), data);
  kernels.hashChunk(data, data + 1000, data + 2000);
  t.deepEqual(plain.bytes.slice(data + 2000, data + 2032), blake3(xorshift32(61, 1000), { key: DATA_KEY }));
  for (const choice of [{ scan: 'wasm' }, { blake3: 'wasm' }] as const) {
    t.throws(() => loadKernels(plain, ARENA_START, choice), { code: 'INVALID_CONFIG', message: /wasm/ });
  }
});

test('an engine without WebAssembly gives the same chunks and hashes', (t) => {
  const vector = vectorOf('splitmix1-256000');
  const program = `
    import { generateInput, readVectors } from ${urlOf('../helpers/generators.js')};
    import { chunkStream } from ${urlOf('../../src/xet/chunk/chunk-stream.js')};
    import { useBlake3 } from ${urlOf('../../src/xet/hash/blake3.js')};
    import { fileHash } from ${urlOf('../../src/xet/hash/merkle.js')};
    import { formatHash } from ${urlOf('../../src/xet/hash/xet-hash.js')};
    const { input } = readVectors().inputs.find(({ name }) => name === ${JSON.stringify(vector.name)});
    const hashes = [], lengths = [];
    for await (const chunk of chunkStream([generateInput(input)])) {
      hashes.push(chunk.hash);
      lengths.push(chunk.bytes.length);
    }
    let refused = false;
    try { useBlake3('wasm'); } catch (error) { refused = error.code === 'INVALID_CONFIG'; }
    useBlake3(undefined);
    console.log(typeof WebAssembly, refused, formatHash(fileHash(Buffer.concat(hashes), lengths)));`;
  t.is(runModule(program, '--jitless'), `undefined true ${vector.file_hash}\n`);
});

/** The standard output of a module run in a process of its own. */
function runModule(source: string, ...options: string[]): string {
  return execFileSync(process.execPath, [...options, '--input-type=module', '-e', source], {
    encoding: 'utf8',
    stdio: 'pipe',
    env: { ...process.env, NODE_OPTIONS: '' },
  });
}

/** A string literal with the URL of a module of the build. */
function urlOf(path: string): string {
  return JSON.stringify(new URL(path, import.meta.url).href);
}

test('an arena has at least the size asked for and at most 1 GiB', (t) => {
  t.true(createArena(0).bytes.length > ARENA_START);
  t.is(createArena(200_000).bytes.length, 4 * 65_536);
  t.true(createArena(200_000).bytes.buffer instanceof SharedArrayBuffer);
  t.throws(() => createArena(2 ** 30 + 1), { instanceOf: RangeError });
  t.throws(() => createArena(Number.NaN), { instanceOf: RangeError });
  t.throws(() => openArena(new SharedArrayBuffer(100)), { instanceOf: RangeError });
});
