import { createHash } from 'node:crypto';
import { blake3 } from '@noble/hashes/blake3.js';
import test from 'ava';
import fc from 'fast-check';
import { blake3Keyed, useBlake3 } from '../../src/xet/hash/blake3.ts';
import { nativeBlake3 } from '../../src/xet/hash/blake3-native.ts';
import { DATA_KEY, hmac, NODE_KEY, VERIFY_KEY } from '../../src/xet/hash/keys.ts';
import { fileHash, merkleRoot } from '../../src/xet/hash/merkle.ts';
import { sha256FromShard, sha256ToShard } from '../../src/xet/hash/sha256.ts';
import { verificationHash } from '../../src/xet/hash/verification.ts';
import {
  compareHashes,
  formatHash,
  hashesEqual,
  isHashString,
  isZeroHash,
  parseHash,
  ZERO_HASH,
} from '../../src/xet/hash/xet-hash.ts';
import { generateNodes, readVectors, xorshift32 } from '../helpers/generators.ts';

const vectors = readVectors();
const implementations =
  nativeBlake3(ZERO_HASH) === undefined ? (['wasm', 'js'] as const) : (['native', 'wasm', 'js'] as const);

test('string forms are those of the vectors, both ways', (t) => {
  for (const { raw_bytes_hex, string_form } of vectors.hash_string) {
    const bytes = new Uint8Array(Buffer.from(raw_bytes_hex, 'hex'));
    t.is(formatHash(bytes), string_form);
    t.deepEqual(parseHash(string_form), bytes);
    t.deepEqual(parseHash(string_form.toUpperCase()), bytes);
    t.is(formatHash(new Uint8Array([9, ...bytes]), 1), string_form);
  }
});

test('what is not 64 hexadecimal digits is no hash', (t) => {
  const digits = 'a'.repeat(64);
  for (const text of [
    '',
    digits.slice(1),
    `${digits}a`,
    `${digits}\n`,
    `g${digits.slice(1)}`,
    ` ${digits.slice(1)}`,
  ]) {
    t.false(isHashString(text), JSON.stringify(text));
    t.throws(() => parseHash(text), { code: 'INVALID_HASH' });
  }
});

test('hashes compare as their string forms do', (t) => {
  const hash = fc.uint8Array({ minLength: 32, maxLength: 32 });
  // The second shares a prefix, so that every byte gets to decide.
  const pair = fc.tuple(hash, hash, fc.nat({ max: 32 })).map(([a, b, shared]) => {
    b.set(a.subarray(0, shared));
    return [a, b] as const;
  });
  fc.assert(
    fc.property(pair, ([a, b]) => {
      const [textA, textB] = [formatHash(a), formatHash(b)];
      t.is(Math.sign(compareHashes(a, 0, b, 0)), textA < textB ? -1 : textA > textB ? 1 : 0);
      t.is(hashesEqual(a, 0, b, 0), textA === textB);
    }),
  );
});

test('only 32 zero bytes are the zero hash', (t) => {
  const bytes = new Uint8Array(34);
  bytes[0] = 1;
  bytes[33] = 1;
  t.true(isZeroHash(bytes, 1));
  t.false(isZeroHash(bytes, 0));
  t.false(isZeroHash(bytes, 2));
});

// Around the sizes of a block, a leaf, four leaves, the 131072-byte piece of the kernels, and several pieces.
const LENGTHS = [
  0, 1, 3, 31, 63, 64, 65, 127, 128, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 3073, 4095, 4096, 4097, 5120,
  8191, 8192, 16_385, 65_536, 130_048, 131_071, 131_072, 131_073, 132_096, 262_143, 262_144, 262_145, 393_216,
  393_217, 524_287, 524_289,
];

const agreesWithNoble = test.macro({
  exec(t, implementation: (typeof implementations)[number]) {
    t.teardown(() => useBlake3(undefined));
    useBlake3(implementation);
    const bytes = xorshift32(99, 600_000);
    for (const length of LENGTHS) {
      // An odd offset: nothing may rely on alignment.
      const data = bytes.subarray(7, 7 + length);
      const found = Buffer.from(blake3Keyed(VERIFY_KEY, data)).toString('hex');
      t.is(found, Buffer.from(blake3(data, { key: VERIFY_KEY })).toString('hex'), `${length} bytes`);
    }
  },
  title: (_, implementation) => `${implementation} BLAKE3 agrees with another implementation at every size`,
});
for (const implementation of implementations) test(agreesWithNoble, implementation);

const manyKeys = test.macro({
  exec(t, implementation: (typeof implementations)[number]) {
    t.teardown(() => useBlake3(undefined));
    useBlake3(implementation);
    const data = xorshift32(3, 100);
    for (let i = 0; i < 40; i++) {
      const key = xorshift32((i % 20) + 1, 32);
      t.deepEqual(blake3Keyed(key, data), blake3(data, { key }));
    }
  },
  title: (_, implementation) => `${implementation} BLAKE3 keeps many keys apart`,
});
for (const implementation of implementations) test(manyKeys, implementation);

const sharedMemory = test.macro({
  exec(t, implementation: (typeof implementations)[number]) {
    t.teardown(() => useBlake3(undefined));
    useBlake3(implementation);
    const shared = new Uint8Array(new SharedArrayBuffer(5000));
    shared.set(xorshift32(4, 5000));
    t.deepEqual(blake3Keyed(DATA_KEY, shared), blake3(xorshift32(4, 5000), { key: DATA_KEY }));
  },
  title: (_, implementation) => `${implementation} BLAKE3 hashes data in shared memory`,
});
for (const implementation of implementations) test(sharedMemory, implementation);

test('a hash, once given, does not change with the next one', (t) => {
  for (const implementation of implementations) {
    useBlake3(implementation);
    const first = blake3Keyed(DATA_KEY, xorshift32(1, 10));
    const copy = first.slice();
    blake3Keyed(DATA_KEY, xorshift32(2, 3000));
    t.deepEqual(first, copy);
  }
  useBlake3(undefined);
});

test('memory does not grow with the number of hashes, however long the event loop does not turn', (t) => {
  const data = new Uint8Array(4096);
  blake3Keyed(DATA_KEY, data);
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 200_000; i++) blake3Keyed(DATA_KEY, data);
  t.true(process.memoryUsage().rss - before < 30 << 20);
});

test('a key of another length is refused before any implementation sees it', (t) => {
  for (const implementation of implementations) {
    useBlake3(implementation);
    t.throws(() => blake3Keyed(new Uint8Array(31), ZERO_HASH), {
      instanceOf: RangeError,
      message: /32 bytes, not 31/,
    });
  }
  useBlake3(undefined);
});

/** The node text and the grouping rule as the specification words them, with strings. */
function plainMerkleRoot(nodes: readonly (readonly [string, number])[]): string {
  if (nodes.length === 0) return '0'.repeat(64);
  let list = nodes;
  while (list.length > 1) {
    const next: [string, number][] = [];
    for (let rest = list; rest.length > 0; ) {
      let size = Math.min(9, rest.length);
      for (let i = 2; i < size; i++) {
        if (BigInt(`0x${rest[i]![0].slice(48)}`) % 4n === 0n) size = i + 1;
      }
      const group = rest.slice(0, size);
      const text = group.map(([hash, length]) => `${hash} : ${length}\n`).join('');
      const hash = blake3(Buffer.from(text, 'latin1'), { key: NODE_KEY });
      next.push([formatHash(hash), group.reduce((sum, [, length]) => sum + length, 0)]);
      rest = rest.slice(size);
    }
    list = next;
  }
  return list[0]![0];
}

function joinHashes(nodes: readonly (readonly [string, number])[]): {
  hashes: Uint8Array;
  lengths: number[];
} {
  const hashes = new Uint8Array(Buffer.concat(nodes.map(([hash]) => parseHash(hash))));
  return { hashes, lengths: nodes.map(([, length]) => length) };
}

test("xorb and file hashes are those of the reference client's tests", (t) => {
  t.is(vectors.reference_merkle.cases.length, 18);
  for (const [nodes, xorbHash, salted] of vectors.reference_merkle.cases) {
    const { hashes, lengths } = joinHashes(nodes);
    t.is(formatHash(merkleRoot(hashes, lengths)), xorbHash);
    for (const [salt, expected] of salted) {
      t.is(formatHash(fileHash(hashes, lengths, lengths.length, parseHash(salt))), expected);
    }
    t.is(formatHash(fileHash(hashes, lengths)), salted[0]![1]);
  }
});

const syntheticNodes = test.macro({
  exec(t, implementation: (typeof implementations)[number]) {
    t.teardown(() => useBlake3(undefined));
    useBlake3(implementation);
    for (const vector of vectors.synthetic_nodes.cases) {
      const { hashes, lengths } = generateNodes(vector.n, vector.seed);
      t.deepEqual([formatHash(hashes), lengths[0]], [...vector.first]);
      const before = createHash('sha256').update(hashes).update(lengths.join()).digest('hex');
      t.is(formatHash(merkleRoot(hashes, lengths)), vector.merkle_root, `${vector.n} nodes`);
      t.is(formatHash(fileHash(hashes, lengths)), vector.file_hash, `${vector.n} nodes`);
      t.is(formatHash(verificationHash(hashes, 0, vector.n)), vector.range_hash, `${vector.n} nodes`);
      t.is(createHash('sha256').update(hashes).update(lengths.join()).digest('hex'), before);
    }
  },
  title: (_, implementation) =>
    `hashes of generated node lists are those of the vectors, with ${implementation} BLAKE3`,
});
for (const implementation of implementations) test(syntheticNodes, implementation);

test('a Merkle root is what the rule says, for any hashes and lengths', (t) => {
  const node = fc.tuple(
    fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => formatHash(bytes)),
    fc.oneof(
      fc.nat({ max: 131_072 }),
      fc.constantFrom(0, 9, 10, 99, 100, 2 ** 32 - 1, 2 ** 32, 2 ** 46, 10 ** 13),
    ),
  );
  fc.assert(
    fc.property(fc.array(node, { maxLength: 8 }), fc.array(node, { maxLength: 60 }), (few, many) => {
      for (const nodes of [few, many]) {
        // Sums beyond 2^53 are no safe integers; no file is that long.
        if (nodes.reduce((sum, [, length]) => sum + length, 0) > Number.MAX_SAFE_INTEGER) continue;
        const { hashes, lengths } = joinHashes(nodes);
        t.is(formatHash(merkleRoot(hashes, lengths)), plainMerkleRoot(nodes));
      }
    }),
    { numRuns: 60 },
  );
});

test('a Merkle root over the first entries leaves the others out', (t) => {
  const { hashes, lengths } = generateNodes(100, 5);
  for (const count of [0, 1, 2, 37, 99]) {
    const first = merkleRoot(hashes.slice(0, 32 * count), lengths.slice(0, count));
    t.deepEqual(merkleRoot(hashes, lengths, count), first);
    t.deepEqual(merkleRoot(hashes, Float64Array.from(lengths), count), first);
    t.deepEqual(
      fileHash(hashes, lengths, count),
      fileHash(hashes.slice(0, 32 * count), lengths.slice(0, count)),
    );
  }
  t.throws(() => merkleRoot(hashes, lengths, 101), { instanceOf: RangeError });
  t.throws(() => merkleRoot(hashes.subarray(1), lengths), { instanceOf: RangeError });
});

test('a Merkle root writes to neither list, be it a Buffer or not', (t) => {
  const hashes = Buffer.alloc(32 * 40, 7);
  for (let i = 0; i < 40; i++) hashes[32 * i + 24] = i;
  const before = Buffer.from(hashes);
  const lengths = Array.from({ length: 40 }, (_, i) => i + 1);
  const root = merkleRoot(hashes, lengths);
  t.deepEqual(hashes, before);
  t.deepEqual(root, merkleRoot(new Uint8Array(before), lengths));
});

test('the hash of nothing is a fresh array of zeros', (t) => {
  for (const hash of [merkleRoot(new Uint8Array(0), []), fileHash(new Uint8Array(0), [])]) {
    t.deepEqual(hash, new Uint8Array(32));
    t.not(hash, ZERO_HASH);
  }
});

test('a verification hash covers just the chunks named', (t) => {
  const { hashes } = generateNodes(20, 6);
  t.deepEqual(verificationHash(hashes, 3, 9), blake3(hashes.slice(3 * 32, 9 * 32), { key: VERIFY_KEY }));
});

test('an HMAC is the keyed BLAKE3 of the 32 bytes', (t) => {
  const key = xorshift32(12, 32);
  const hash = xorshift32(13, 32);
  t.deepEqual(hmac(hash, key), blake3(hash, { key }));
});

test('a SHA-256 is stored in a shard with each group of 8 bytes reversed', (t) => {
  const { sha256, stored_hex } = vectors.sha256_in_shard;
  const stored = Buffer.from(stored_hex, 'hex');
  t.deepEqual(sha256ToShard(sha256), new Uint8Array(stored));
  t.is(sha256FromShard(stored), sha256);
  t.is(sha256FromShard(Buffer.concat([Buffer.alloc(5), stored]), 5), sha256);
  t.throws(() => sha256ToShard(sha256.slice(2)), { code: 'INVALID_HASH' });
});
