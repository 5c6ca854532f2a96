import test from 'ava';
import fc from 'fast-check';
import { type Chunk, chunkStream } from '../../src/xet/chunk/chunk-stream.ts';
import { Chunker, MAX_CHUNK, MIN_CHUNK, stableBoundary } from '../../src/xet/chunk/chunker.ts';
import { GEAR_TABLE } from '../../src/xet/chunk/gear-table.ts';
import { blake3Keyed } from '../../src/xet/hash/blake3.ts';
import { DATA_KEY } from '../../src/xet/hash/keys.ts';
import { generateInput, generateTriggerInput, readVectors, xorshift32 } from '../helpers/generators.ts';

const vectors = readVectors();
const sample = generateInput({
  kind: 'concat',
  parts: [
    { kind: 'xorshift32', seed: 5, size: 700_000 },
    { kind: 'constant', value: 0, size: 300_000 },
    { kind: 'xorshift32', seed: 6, size: 100_001 },
  ],
});

function chunkLengths(pieces: Iterable<Uint8Array>): number[] {
  const chunker = new Chunker();
  const lengths: number[] = [];
  for (const piece of pieces) lengths.push(...chunker.push(piece));
  const last = chunker.finish();
  return last === undefined ? lengths : [...lengths, last];
}

function chunkEnds(bytes: Uint8Array): number[] {
  let end = 0;
  return chunkLengths([bytes]).map((length) => {
    end += length;
    return end;
  });
}

/** Cuts at the given positions, modulo the length; equal ones make empty pieces. */
function slice(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const edges = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return edges.slice(1).map((edge, i) => bytes.subarray(edges[i], edge));
}

async function* streamOf(pieces: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* pieces;
}

async function collect(chunks: AsyncIterable<Chunk>): Promise<Chunk[]> {
  const list: Chunk[] = [];
  for await (const chunk of chunks) list.push(chunk);
  return list;
}

test('the gear table is the one of the specification', (t) => {
  t.is(GEAR_TABLE.length, 256);
  t.is(new Set(GEAR_TABLE).size, 256);
  t.is(GEAR_TABLE[0], 0xb088d3a9e840f559n);
  t.is(GEAR_TABLE[17], 0x00005082119ea468n);
  t.is(GEAR_TABLE.filter((constant) => constant >> 48n === 0n).length, 20);
});

test('a chunker gives the chunk lengths of the vectors', (t) => {
  for (const vector of vectors.inputs) {
    if (vector.chunks === undefined) continue;
    const lengths = chunkLengths([generateInput(vector.input)]);
    t.deepEqual(
      lengths,
      vector.chunks.map(([, length]) => length),
      vector.name,
    );
  }
});

test('a match before the minimum size is no boundary and does not reset the hash', (t) => {
  const { pattern, check, boundaries } = vectors.reference_trigger_inputs;
  t.is(boundaries.length, 128);
  for (const [i, expected] of boundaries.entries()) {
    const input = generateTriggerInput(pattern, i);
    t.is(input[11111], check[i], `input ${i}`);
    t.deepEqual(chunkEnds(input), expected, `input ${i}`);
  }
});

test('a boundary does not move when the input is split in one-byte slices', (t) => {
  const bytes = sample.subarray(0, 400_000);
  const oneByOne = Array.from(bytes, (_, i) => bytes.subarray(i, i + 1));
  t.deepEqual(chunkLengths(oneByOne), chunkLengths([bytes]));
});

test('a boundary does not move however the input is sliced', (t) => {
  const whole = chunkLengths([sample]);
  t.true(whole.length > 10);
  t.true(whole.includes(MAX_CHUNK));
  fc.assert(
    fc.property(fc.array(fc.nat({ max: sample.length }), { maxLength: 40 }), (cuts) => {
      t.deepEqual(chunkLengths(slice(sample, cuts)), whole);
    }),
    { numRuns: 30 },
  );
});

test('a chunker starts afresh after finish', (t) => {
  const chunker = new Chunker();
  t.is(chunker.finish(), undefined);
  t.deepEqual(chunker.push(sample.subarray(0, 8200)), []);
  t.is(chunker.finish(), 8200);
  t.is(chunker.finish(), undefined);
  const lengths = chunker.push(sample);
  t.deepEqual([...lengths, chunker.finish()], chunkLengths([sample]));
});

test('a stable boundary follows two consecutive chunks of ordinary length', (t) => {
  const ends = [100_000, 120_000, 140_000, 150_000, 280_000, 300_000, 320_000, 330_000];
  t.is(stableBoundary(ends, 0), 140_000);
  t.is(stableBoundary(ends, 100_000), 140_000);
  t.is(stableBoundary(ends, 100_001), 320_000);
  t.is(stableBoundary(ends, 280_001), undefined);
  t.is(stableBoundary(ends, 330_001), undefined);
  t.is(stableBoundary([], 0), undefined);
});

test('ordinary lengths are from twice the minimum to below the maximum less the minimum', (t) => {
  const shortest = 2 * MIN_CHUNK;
  const longest = MAX_CHUNK - MIN_CHUNK - 1;
  t.is(stableBoundary([0, shortest, shortest + longest], 0), shortest + longest);
  t.is(stableBoundary([0, shortest - 1, shortest + longest], 0), undefined);
  t.is(stableBoundary([0, shortest, shortest + longest + 1], 0), undefined);
});

test('from a stable boundary on, chunks are the same whatever changes before', (t) => {
  const tail = xorshift32(77, 1_500_000);
  const boundary = fc
    .record({
      // Lengths that move the phase of the chunks, and contents that force cuts at the maximum.
      head: fc.oneof(
        fc.nat({ max: 300_000 }).map((size) => xorshift32(size + 1, size)),
        fc.nat({ max: 300_000 }).map((size) => new Uint8Array(size)),
      ),
      replaced: fc.nat({ max: 600_000 }),
    })
    .map(({ head, replaced }) => ({ head, rest: tail.subarray(replaced), replaced }));
  const oldEnds = chunkEnds(tail);
  fc.assert(
    fc.property(boundary, ({ head, rest, replaced }) => {
      const stable = stableBoundary(oldEnds, replaced);
      if (stable === undefined) return false;
      const shift = head.length - replaced;
      const newEnds = chunkEnds(new Uint8Array(Buffer.concat([head, rest])));
      const kept = newEnds.filter((end) => end >= stable + shift);
      t.deepEqual(
        kept.map((end) => end - shift),
        oldEnds.filter((end) => end >= stable),
      );
      return true;
    }),
    { numRuns: 40 },
  );
});

test('a chunk stream gives the chunks and their hashes, whatever the sizes of the pieces', async (t) => {
  const bytes = generateInput({
    kind: 'concat',
    parts: [
      { kind: 'xorshift32', seed: 8, size: 3_000_000 },
      { kind: 'constant', value: 1, size: 400_000 },
    ],
  });
  const lengths = chunkLengths([bytes]);
  const pieces = fc.array(fc.nat({ max: bytes.length }), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(pieces, async (cuts) => {
      const chunks = await collect(chunkStream(streamOf(slice(bytes, cuts))));
      t.deepEqual(
        chunks.map((chunk) => chunk.bytes.length),
        lengths,
      );
      t.true(Buffer.concat(chunks.map((chunk) => chunk.bytes)).equals(bytes));
      for (const chunk of chunks) t.deepEqual(chunk.hash, blake3Keyed(DATA_KEY, chunk.bytes));
    }),
    { numRuns: 8 },
  );
});

test('a chunk stream of nothing has no chunks', async (t) => {
  for (const pieces of [[], [new Uint8Array(0)]])
    t.deepEqual(await collect(chunkStream(streamOf(pieces))), []);
});

test('a chunk stream whose consumer stops ends its source', async (t) => {
  let ended = false;
  async function* source(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield sample;
    } finally {
      ended = true;
    }
  }
  for await (const chunk of chunkStream(source())) {
    t.true(chunk.bytes.length <= MAX_CHUNK);
    break;
  }
  t.true(ended);
});
