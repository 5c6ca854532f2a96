import test from 'ava';
import fc from 'fast-check';
import { FormatError, Git2dbError } from '../../src/xet/errors.ts';
import { blake3Keyed } from '../../src/xet/hash/blake3.ts';
import { DATA_KEY, hmac } from '../../src/xet/hash/keys.ts';
import { fileHash, merkleRoot } from '../../src/xet/hash/merkle.ts';
import { sha256ToShard } from '../../src/xet/hash/sha256.ts';
import { verificationHash } from '../../src/xet/hash/verification.ts';
import { compareHashes, formatHash, parseHash, ZERO_HASH } from '../../src/xet/hash/xet-hash.ts';
import { ShardBuilder, type ShardOptions } from '../../src/xet/shard/builder.ts';
import type { FileRecord, Term } from '../../src/xet/shard/file-info.ts';
import { FOOTER_SIZE, HEADER_SIZE, RECORD_SIZE } from '../../src/xet/shard/format.ts';
import { Shard, shardName } from '../../src/xet/shard/shard.ts';
import { type KnownXorb, validateShardForUpload } from '../../src/xet/shard/validate.ts';
import { FIRST_CHUNK_FLAG, type XorbRecord } from '../../src/xet/shard/xorb-info.ts';
import { XorbBuilder } from '../../src/xet/xorb/builder.ts';
import { decodeChunks } from '../../src/xet/xorb/chunk-range.ts';
import {
  type ParsedShard,
  type VectorExample,
  vectorExample,
  vectors,
} from '../helpers/serialized-vectors.ts';

/** A shard in the form in which the vectors state it. */
function describe(shard: Shard): ParsedShard {
  return {
    files: [...shard.files()].map((file) => ({
      hash: formatHash(file.fileHash),
      flags:
        (file.verification === undefined ? 0 : 0x80000000) + (file.sha256 === undefined ? 0 : 0x40000000),
      n: file.terms.length,
      terms: file.terms.map(({ xorbHash, flags = 0, rawBytes, start, end }) => ({
        xorb: formatHash(xorbHash),
        flags,
        len: rawBytes,
        start,
        end,
      })),
      ver: (file.verification ?? []).map((hash) => formatHash(hash)),
      sha256: file.sha256 ?? '',
    })),
    xorbs: [...shard.xorbs()].map(({ xorbHash, hashes, lengths, storedBytes, flags }) => ({
      hash: formatHash(xorbHash),
      flags: 0,
      n: lengths.length,
      bytes: lengths.reduce((sum, length) => sum + length, 0),
      disk: storedBytes,
      chunks: Array.from(lengths, (len, i) => ({
        hash: formatHash(hashes, 32 * i),
        start: lengths.subarray(0, i).reduce((sum, length) => sum + length, 0),
        len,
        flags: flags?.[i] ?? 0,
      })),
    })),
  };
}

function rebuild(shard: Shard, options: ShardOptions): Buffer {
  const builder = new ShardBuilder();
  for (const file of shard.files()) builder.addFile(file);
  for (const xorb of shard.xorbs()) builder.addXorb(xorb);
  return Buffer.from(builder.build(options));
}

function uploadOf(example: VectorExample): Buffer {
  return Buffer.from(example.shard_upload_base64, 'base64');
}

function jsClientOf(example: VectorExample): Buffer {
  return Buffer.from(example.shard_js_client_base64, 'base64');
}

const THREE_FILES = vectorExample('three-files');
const DEDUP = vectors.serialized.dedup_shard;
const DEDUP_BYTES = Buffer.from(DEDUP.base64, 'base64');
const DEDUP_KEY = Buffer.from(parseHash(DEDUP.key));

// Golden shards

for (const example of vectors.serialized.examples) {
  test(`both shards of example ${example.name} parse to what the vectors say`, (t) => {
    t.deepEqual(describe(Shard.open(uploadOf(example))), example.shard_parsed);
    t.deepEqual(describe(Shard.open(jsClientOf(example))), example.shard_parsed);
    t.is(Shard.open(uploadOf(example)).footer, undefined);
    t.is(Shard.open(jsClientOf(example)).footer?.createdAt, 1700000000);
  });

  test(`the records of example ${example.name} are written as they were`, (t) => {
    const upload = uploadOf(example);
    const withFooter = jsClientOf(example);
    t.deepEqual(rebuild(Shard.open(withFooter), { footer: false }), upload);
    t.deepEqual(Buffer.from(Shard.open(withFooter).uploadForm()), upload);
    // The JS client fills the same footer, but for the places of tables it does not have, and the sums.
    const ours = rebuild(Shard.open(upload), { createdAt: 1700000000 });
    t.is(ours.length, withFooter.length);
    const footer = ours.length - FOOTER_SIZE;
    t.deepEqual(ours.subarray(0, footer + 24), withFooter.subarray(0, footer + 24));
    t.deepEqual(ours.subarray(footer + 72, footer + 112), withFooter.subarray(footer + 72, footer + 112));
    t.deepEqual(ours.subarray(footer + 192), withFooter.subarray(footer + 192));
  });

  test(`content of example ${example.name}, packed by us, gives the same shard`, (t) => {
    const builder = new ShardBuilder();
    const lists = new Map<string, KnownXorb>();
    for (const xorb of example.xorbs) {
      const packed = new XorbBuilder();
      for (const { raw } of decodeChunks(Buffer.from(xorb.base64, 'base64')))
        packed.add(raw, undefined, 'none');
      const { xorbHash, hashes, lengths } = packed.build({ footer: false });
      lists.set(formatHash(xorbHash), { hashes, lengths });
      builder.addXorb({ xorbHash, hashes, lengths, storedBytes: xorb.size });
    }
    for (const file of example.shard_parsed.files) {
      const terms: Term[] = [];
      const verification: Uint8Array[] = [];
      const fileHashes: Uint8Array[] = [];
      const fileLengths: number[] = [];
      for (const { xorb, start, end } of file.terms) {
        const { hashes, lengths } = lists.get(xorb) as KnownXorb;
        const slice = lengths.subarray(start, end);
        terms.push({ xorbHash: parseHash(xorb), start, end, rawBytes: slice.reduce((a, b) => a + b, 0) });
        verification.push(verificationHash(hashes, start, end));
        fileHashes.push(hashes.subarray(32 * start, 32 * end));
        fileLengths.push(...slice);
      }
      builder.addFile({
        fileHash: fileHash(Buffer.concat(fileHashes), fileLengths),
        terms,
        verification,
        sha256: file.sha256,
      });
    }
    t.deepEqual(Buffer.from(builder.build({ footer: false })), uploadOf(example));
    t.notThrows(() =>
      validateShardForUpload(Shard.openUpload(uploadOf(example)), (hash) => lists.get(formatHash(hash))),
    );
  });
}

test('a keyed dedup answer is read and written byte for byte', (t) => {
  const shard = Shard.open(DEDUP_BYTES);
  t.is(shard.fileCount, 0);
  t.is(shard.footer?.createdAt, DEDUP.creation_timestamp);
  t.is(shard.footer?.keyExpiry, DEDUP.key_expiry);
  t.deepEqual(Buffer.from(shard.key as Uint8Array), DEDUP_KEY);
  const [xorb] = [...shard.xorbs()];
  t.is(formatHash(xorb?.xorbHash as Uint8Array), DEDUP.xorb);
  t.deepEqual(
    [0, 1].map((i) => formatHash(xorb?.hashes as Uint8Array, 32 * i)),
    [...DEDUP.keyed_chunk_hashes],
  );
  for (const [i, chunk] of (THREE_FILES.xorbs[0]?.chunks ?? []).entries()) {
    t.deepEqual(shard.findChunk(parseHash(chunk.hash)), { recordIndex: 0, chunkNumber: i });
  }
  t.is(
    shard.findChunk(parseHash(DEDUP.keyed_chunk_hashes[0] as string)),
    undefined,
    'a keyed hash is not a chunk hash',
  );
  t.throws(() => shard.uploadForm(), { instanceOf: FormatError, message: /keyed/ });

  const plain = [...Shard.open(uploadOf(THREE_FILES)).xorbs()];
  const builder = new ShardBuilder();
  for (const record of plain) builder.addXorb(record);
  const options = { key: DEDUP_KEY, createdAt: DEDUP.creation_timestamp, keyExpiry: DEDUP.key_expiry };
  t.deepEqual(Buffer.from(builder.build(options)), DEDUP_BYTES);
  t.deepEqual(Buffer.from(builder.build({ ...options, keyExpiry: BigInt(DEDUP.key_expiry) })), DEDUP_BYTES);
});

test('a SHA-256 is stored in the order of a hash string', (t) => {
  t.is(
    Buffer.from(sha256ToShard(vectors.sha256_in_shard.sha256)).toString('hex'),
    vectors.sha256_in_shard.stored_hex,
  );
  const builder = new ShardBuilder();
  builder.addFile({ fileHash: ZERO_HASH, terms: [], sha256: vectors.sha256_in_shard.sha256 });
  t.true(Buffer.from(builder.build()).includes(Buffer.from(vectors.sha256_in_shard.stored_hex, 'hex')));
});

test('a shard is named by the keyed hash of its bytes', (t) => {
  t.is(shardName(DEDUP_BYTES), formatHash(blake3Keyed(DATA_KEY, DEDUP_BYTES)));
});

// Round trips

const hash = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .filter((bytes) => bytes.some((byte) => byte !== 0xff));
/** Few different hashes and keys, so that lookups meet equal ones. */
const clashingHash = fc
  .tuple(fc.nat(3), fc.nat(3))
  .map(([key, rest]) => new Uint8Array(32).fill(key, 0, 8).fill(rest, 8, 32));
const anyHash = fc.oneof(hash, clashingHash);
const u32 = fc.nat(0xffffffff);

const term: fc.Arbitrary<Term> = fc
  .record({
    xorbHash: anyHash,
    start: fc.nat(8000),
    count: fc.integer({ min: 1, max: 192 }),
    rawBytes: u32,
    flags: fc.constantFrom(0, 0, 5),
  })
  .map(({ xorbHash, start, count, rawBytes, flags }) => ({
    xorbHash,
    start,
    end: start + count,
    rawBytes,
    ...(flags === 0 ? {} : { flags }),
  }));

const xorbRecord: fc.Arbitrary<XorbRecord> = fc
  .record({
    xorbHash: anyHash,
    chunks: fc.array(
      fc.record({
        hash: anyHash,
        length: fc.integer({ min: 1, max: 131072 }),
        flags: fc.constantFrom(0, 0, FIRST_CHUNK_FLAG),
      }),
      { minLength: 1, maxLength: 6 },
    ),
    storedBytes: u32,
  })
  .map(({ xorbHash, chunks, storedBytes }) => ({
    xorbHash,
    hashes: Uint8Array.from(chunks.flatMap((chunk) => [...chunk.hash])),
    lengths: Uint32Array.from(chunks, ({ length }) => length),
    storedBytes,
    ...(chunks.some(({ flags }) => flags !== 0)
      ? { flags: Uint32Array.from(chunks, ({ flags }) => flags) }
      : {}),
  }));

const content = fc
  .record({
    files: fc.array(
      fc.record({ fileHash: anyHash, terms: fc.array(term, { maxLength: 4 }), sha256: fc.option(hash) }),
      { maxLength: 6 },
    ),
    withVerification: fc.boolean(),
    xorbs: fc.array(xorbRecord, { maxLength: 5 }),
  })
  .map(({ files, withVerification, xorbs }) => ({
    files: files.map(
      ({ fileHash, terms, sha256 }): FileRecord => ({
        fileHash,
        terms,
        ...(withVerification ? { verification: terms.map(({ xorbHash }) => xorbHash) } : {}),
        ...(sha256 === null ? {} : { sha256: Buffer.from(sha256).toString('hex') }),
      }),
    ),
    xorbs,
  }));

function builderOf({
  files,
  xorbs,
}: {
  files: readonly FileRecord[];
  xorbs: readonly XorbRecord[];
}): ShardBuilder {
  const builder = new ShardBuilder();
  for (const file of files) builder.addFile(file);
  for (const xorb of xorbs) builder.addXorb(xorb);
  return builder;
}

function withoutIndex<T extends { recordIndex: number }>({
  recordIndex,
  ...rest
}: T): Omit<T, 'recordIndex'> {
  return rest;
}

test('a shard holds what was added, in every form, and has the size foretold', (t) => {
  fc.assert(
    fc.property(content, fc.boolean(), fc.boolean(), (records, footer, tables) => {
      const builder = builderOf(records);
      const options = { footer, tables: footer && tables };
      const bytes = builder.build(options);
      const shard = Shard.open(bytes);
      t.is(builder.size(options), bytes.length);
      t.is(shard.fileCount, records.files.length);
      t.is(shard.xorbCount, records.xorbs.length);
      t.deepEqual(
        [...shard.files()].map(withoutIndex),
        records.files.map((file) => ({ ...file })),
      );
      t.deepEqual(
        [...shard.xorbs()].map(withoutIndex),
        records.xorbs.map((xorb) => ({ ...xorb })),
      );
      for (const header of shard.fileHeaders())
        t.is(shard.fileAt(header.recordIndex).terms.length, header.termCount);
      for (const header of shard.xorbHeaders())
        t.is(shard.xorbAt(header.recordIndex).lengths.length, header.chunkCount);
    }),
    { numRuns: 60 },
  );
});

test('lookups give the first record of a hash, with tables as without', (t) => {
  fc.assert(
    fc.property(content, fc.option(hash), (records, key) => {
      const builder = builderOf(records);
      const keyed = key === null ? {} : { key };
      const plain = Shard.open(builder.build({ ...keyed, createdAt: 1 }));
      const indexed = Shard.open(builder.build({ ...keyed, createdAt: 1, tables: true }));
      const hashes = [
        ZERO_HASH,
        ...records.files.map((file) => file.fileHash),
        ...records.xorbs.flatMap((xorb) => [
          xorb.xorbHash,
          xorb.hashes.subarray(0, 32),
          xorb.hashes.subarray(-32),
        ]),
      ];
      for (const wanted of hashes) {
        t.deepEqual(indexed.findFile(wanted), plain.findFile(wanted));
        t.deepEqual(indexed.findXorb(wanted), plain.findXorb(wanted));
        t.is(
          plain.findFile(wanted) !== undefined,
          records.files.some((file) => compareHashes(file.fileHash, 0, wanted, 0) === 0),
        );
        const place = plain.findChunk(wanted);
        t.deepEqual(indexed.findChunk(wanted), place);
        if (place !== undefined) {
          const stored = key === null ? wanted : hmac(wanted, key);
          t.is(compareHashes(plain.xorbAt(place.recordIndex).hashes, 32 * place.chunkNumber, stored, 0), 0);
        }
      }
    }),
    { numRuns: 80 },
  );
});

test('a file recorded twice is found as its first record', (t) => {
  const fileHash = new Uint8Array(32).fill(5);
  const first: FileRecord = { fileHash, terms: [{ xorbHash: fileHash, start: 0, end: 1, rawBytes: 10 }] };
  const second: FileRecord = { fileHash, terms: [{ xorbHash: fileHash, start: 1, end: 2, rawBytes: 20 }] };
  for (const tables of [false, true]) {
    const shard = Shard.open(builderOf({ files: [first, second], xorbs: [] }).build({ tables }));
    t.is(shard.findFile(fileHash)?.terms[0]?.rawBytes, 10);
    t.is(shard.findFile(fileHash)?.recordIndex, 0);
  }
});

test('sorted shards have files and xorbs in the order of their hash strings', (t) => {
  fc.assert(
    fc.property(content, fc.boolean(), (records, tables) => {
      const shard = Shard.open(builderOf(records).build({ sorted: true, tables }));
      const files = [...shard.files()].map(({ fileHash }) => formatHash(fileHash));
      const xorbs = [...shard.xorbs()].map(({ xorbHash }) => formatHash(xorbHash));
      t.deepEqual(files, files.toSorted());
      t.deepEqual(xorbs, xorbs.toSorted());
      for (const file of records.files) t.truthy(shard.findFile(file.fileHash));
    }),
    { numRuns: 40 },
  );
});

test('the footer holds key, times and sums', (t) => {
  const files: FileRecord[] = [
    {
      fileHash: new Uint8Array(32).fill(1),
      terms: [{ xorbHash: ZERO_HASH, start: 0, end: 2, rawBytes: 30 }],
    },
  ];
  const xorbs = [
    {
      xorbHash: new Uint8Array(32).fill(2),
      hashes: new Uint8Array(64),
      lengths: Uint32Array.of(10, 20),
      storedBytes: 46,
    },
  ];
  const builder = builderOf({ files, xorbs });
  const { footer } = Shard.open(builder.build({ tables: true, createdAt: 1234 }));
  const xorbSection = HEADER_SIZE + 3 * RECORD_SIZE;
  const tables = xorbSection + 4 * RECORD_SIZE;
  t.deepEqual(footer, {
    xorbSection,
    fileTable: { offset: tables, count: 1 },
    xorbTable: { offset: tables + 12, count: 1 },
    chunkTable: { offset: tables + 24, count: 2 },
    key: undefined,
    createdAt: 1234,
    keyExpiry: Number.POSITIVE_INFINITY,
    storedBytes: 46,
    fileBytes: 30,
    xorbBytes: 30,
    footerOffset: tables + 56,
  });
  const plain = Buffer.from(builder.build({ createdAt: 1234 }));
  for (const at of [24, 40, 56, 192])
    t.is(Number(plain.readBigUInt64LE(plain.length - 200 + at)), plain.length - 200);
  t.is(plain.readBigUInt64LE(plain.length - 200 + 112), 2n ** 64n - 1n);
  const never = Buffer.from(builder.build({ createdAt: 1234, keyExpiry: 2n ** 64n - 1n }));
  t.deepEqual(never, plain);
  const before = Math.floor(Date.now() / 1000);
  t.true((Shard.open(builder.build()).footer?.createdAt as number) >= before);
});

test('the builder refuses what no reader could use', (t) => {
  const builder = new ShardBuilder();
  const terms = [{ xorbHash: ZERO_HASH, start: 0, end: 1, rawBytes: 1 }];
  t.throws(() => builder.addFile({ fileHash: ZERO_HASH, terms, verification: [] }), {
    instanceOf: Git2dbError,
    code: 'INVALID_SHARD',
  });
  builder.addFile({ fileHash: ZERO_HASH, terms });
  t.throws(() => builder.addFile({ fileHash: ZERO_HASH, terms, verification: [ZERO_HASH] }), {
    message: /either all files/,
  });
  t.throws(
    () =>
      builder.addXorb({
        xorbHash: ZERO_HASH,
        hashes: new Uint8Array(32),
        lengths: Uint32Array.of(1, 2),
        storedBytes: 0,
      }),
    { code: 'INVALID_SHARD' },
  );
  t.throws(
    () =>
      builder.addXorb({
        xorbHash: ZERO_HASH,
        hashes: new Uint8Array(0),
        lengths: new Uint32Array(0),
        storedBytes: 0,
      }),
    { code: 'INVALID_SHARD' },
  );
  t.throws(() => builder.build({ footer: false, tables: true }), { code: 'INVALID_SHARD' });
  t.throws(() => builder.build({ footer: false, key: new Uint8Array(32).fill(1) }), {
    code: 'INVALID_SHARD',
  });
  t.is(Shard.open(builder.build()).fileCount, 1, 'nothing of the refused was kept');
});

test('records are read by index, and only at headers', (t) => {
  const shard = Shard.open(jsClientOf(THREE_FILES));
  t.deepEqual(
    [...shard.fileHeaders()].map(({ recordIndex }) => recordIndex),
    [0, 4, 8],
  );
  t.is(formatHash(shard.fileAt(4).fileHash), THREE_FILES.shard_parsed.files[1]?.hash as string);
  for (const index of [1, 3, 9, 10, -1, 1.5, 1e9]) {
    t.throws(() => shard.fileAt(index), { instanceOf: FormatError, message: /not a file header/ });
    t.throws(() => shard.xorbAt(index), { instanceOf: FormatError, message: /not a xorb header/ });
  }
});

// Damage

/** Reads everything there is to read. */
function readAll(bytes: Uint8Array): void {
  const shard = Shard.open(bytes);
  for (const file of shard.files()) shard.findFile(file.fileHash);
  for (const xorb of shard.xorbs()) {
    shard.findXorb(xorb.xorbHash);
    for (let i = 0; i < xorb.lengths.length; i++) shard.findChunk(xorb.hashes.subarray(32 * i, 32 * i + 32));
  }
}

const SMALL = builderOf({
  files: [
    {
      fileHash: new Uint8Array(32).fill(3),
      terms: [{ xorbHash: new Uint8Array(32).fill(4), start: 0, end: 2, rawBytes: 30 }],
      verification: [ZERO_HASH],
      sha256: '12'.repeat(32),
    },
  ],
  xorbs: [
    {
      xorbHash: new Uint8Array(32).fill(4),
      hashes: new Uint8Array(64).fill(9),
      lengths: Uint32Array.of(10, 20),
      storedBytes: 46,
    },
  ],
});

test('a shard cut anywhere is a typed error', (t) => {
  for (const options of [{ footer: false }, { footer: true }, { tables: true }]) {
    const bytes = SMALL.build({ ...options, createdAt: 1 });
    t.notThrows(() => readAll(bytes));
    for (let length = 0; length < bytes.length; length++) {
      t.throws(() => readAll(bytes.subarray(0, length)), { instanceOf: FormatError, code: 'INVALID_SHARD' });
    }
  }
});

test('damaged shards and random bytes give typed errors or other records, nothing else', (t) => {
  const intact = Buffer.from(SMALL.build({ tables: true, createdAt: 1 }));
  const bytesOf = fc.oneof(
    fc.uint8Array({ maxLength: 500 }),
    fc.uint8Array({ maxLength: 500 }).map((rest) => Buffer.concat([intact.subarray(0, HEADER_SIZE), rest])),
    fc
      .array(fc.tuple(fc.nat(intact.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 })
      .map((changes) => {
        const bytes = Buffer.from(intact);
        for (const [at, byte] of changes) bytes[at] = byte;
        return bytes;
      }),
  );
  fc.assert(
    fc.property(bytesOf, (bytes) => {
      try {
        readAll(bytes);
        return true;
      } catch (error) {
        return error instanceof FormatError;
      }
    }),
    { numRuns: 3000 },
  );
  t.pass();
});

test('what follows the second bookend of an upload is ignored', (t) => {
  const upload = uploadOf(THREE_FILES);
  const expected = describe(Shard.open(upload));
  t.deepEqual(describe(Shard.open(Buffer.concat([upload, Buffer.alloc(77, 1)]))), expected);
  const announced = Buffer.from(jsClientOf(THREE_FILES));
  for (const bytes of [
    announced,
    announced.subarray(0, -1),
    Buffer.concat([announced, Buffer.alloc(9)]),
    announced.fill(7, upload.length),
  ]) {
    t.deepEqual(describe(Shard.openUpload(bytes)), expected);
  }
  t.throws(() => Shard.open(announced), { instanceOf: FormatError });
});

test('the upload form does not change the shard it comes from', (t) => {
  const bytes = jsClientOf(THREE_FILES);
  const copy = Buffer.from(bytes);
  Shard.open(bytes).uploadForm();
  t.deepEqual(bytes, copy);
});

const refuses = test.macro({
  exec(t, change: (bytes: Buffer) => void, message: RegExp) {
    const bytes = Buffer.from(SMALL.build({ tables: true, createdAt: 1 }));
    change(bytes);
    t.throws(() => readAll(bytes), { instanceOf: FormatError, code: 'INVALID_SHARD', message });
  },
  title: (what = '') => `a shard is refused for ${what}`,
});

const FILES_END = HEADER_SIZE + 4 * RECORD_SIZE;
const XORBS = FILES_END + RECORD_SIZE;
const XORBS_END = XORBS + 3 * RECORD_SIZE;
const TABLES = XORBS_END + RECORD_SIZE;
const FOOTER = TABLES + 12 + 12 + 32;
test('its tag', refuses, (bytes) => bytes.fill(0, 20, 21), /tag/);
test('its version', refuses, (bytes) => bytes.writeUInt32LE(3, 32), /version 3/);
test(
  'a footer size of neither 0 nor 200',
  refuses,
  (bytes) => bytes.writeUInt32LE(199, 40),
  /footer size 199/,
);
test(
  'more terms than it has records',
  refuses,
  (bytes) => bytes.writeUInt32LE(0xffffffff, HEADER_SIZE + 36),
  /announces 8589934592 records/,
);
test(
  'a term without chunks',
  refuses,
  (bytes) => bytes.writeUInt32LE(2, HEADER_SIZE + RECORD_SIZE + 40),
  /chunks \[2, 2\)/,
);
test(
  'a term that goes back',
  refuses,
  (bytes) => bytes.writeUInt32LE(9, HEADER_SIZE + RECORD_SIZE + 40),
  /chunks \[9, 2\)/,
);
test(
  'a file in the place of the bookend',
  refuses,
  (bytes) => bytes.fill(1, FILES_END, FILES_END + 1).writeUInt32LE(1000, FILES_END + 36),
  /file record 4 announces 1001 records/,
);
test(
  'more chunks than it has records',
  refuses,
  (bytes) => bytes.writeUInt32LE(5000, XORBS + 36),
  /xorb record 0 announces 5001 records with itself, 9 are there/,
);
test(
  'raw offsets that do not add up',
  refuses,
  (bytes) => bytes.writeUInt32LE(11, XORBS + 2 * RECORD_SIZE + 32),
  /chunk 1 starts at 11, expected 10/,
);
test(
  'a chunk of no bytes',
  refuses,
  (bytes) => bytes.writeUInt32LE(0, XORBS + RECORD_SIZE + 36),
  /chunk 0 has 0 bytes/,
);
test(
  'a chunk above 128 KiB',
  refuses,
  (bytes) => bytes.writeUInt32LE(131073, XORBS + RECORD_SIZE + 36),
  /131073 bytes/,
);
test(
  'raw bytes that do not add up',
  refuses,
  (bytes) => bytes.writeUInt32LE(31, XORBS + 40),
  /30 raw bytes, its header says 31/,
);
test('the version of its footer', refuses, (bytes) => bytes.writeUInt32LE(2, FOOTER), /version is 2/);
test(
  'another place of the file section',
  refuses,
  (bytes) => bytes.writeUInt32LE(96, FOOTER + 8),
  /file section offset is 96/,
);
test(
  'another place of the xorb section',
  refuses,
  (bytes) => bytes.writeUInt32LE(96, FOOTER + 16),
  /xorb section offset is 96/,
);
test(
  'a table inside the sections',
  refuses,
  (bytes) => bytes.writeUInt32LE(TABLES - 1, FOOTER + 24),
  /file table of 1 entries/,
);
test(
  'a table over the footer',
  refuses,
  (bytes) => bytes.writeUInt32LE(3, FOOTER + 64),
  /chunk table of 3 entries/,
);
test(
  'a table of a giant count',
  refuses,
  (bytes) => bytes.writeBigUInt64LE(2n ** 64n - 1n, FOOTER + 48),
  /xorb table count 18446744073709551615 is too large/,
);
test(
  'another place of the footer',
  refuses,
  (bytes) => bytes.writeUInt32LE(FOOTER - 1, FOOTER + 192),
  /footer offset is/,
);
test(
  'a file table that points beside a header',
  refuses,
  (bytes) => bytes.writeUInt32LE(1, TABLES + 8),
  /record 1 of the file section is not a file header/,
);
test(
  'a xorb table that points beside a header',
  refuses,
  (bytes) => bytes.writeUInt32LE(7, TABLES + 12 + 8),
  /record 7 of the xorb section/,
);
test(
  'a chunk table that points beside a header',
  refuses,
  (bytes) => bytes.writeUInt32LE(2, TABLES + 24 + 8),
  /record 2 of the xorb section/,
);
test(
  'a chunk table that points beyond the chunks',
  refuses,
  (bytes) => bytes.writeUInt32LE(2, TABLES + 24 + 12),
  /chunk 2 of a xorb of 2 chunks/,
);

test('a xorb without chunks is refused', (t) => {
  const bytes = Buffer.from(SMALL.build({ footer: false }));
  const header = bytes.subarray(XORBS, XORBS + RECORD_SIZE);
  header.writeUInt32LE(0, 36);
  const shard = Shard.open(Buffer.concat([bytes.subarray(0, XORBS), header, bytes.subarray(XORBS_END)]));
  t.throws(() => [...shard.xorbs()], { instanceOf: FormatError, message: /0 chunks announced/ });
});

test('reserved footer bytes of writers without tables may be zero', (t) => {
  const bytes = Buffer.from(SMALL.build({ createdAt: 1 }));
  bytes.fill(0, bytes.length - 200 + 24, bytes.length - 200 + 72);
  t.notThrows(() => readAll(bytes));
});

// Upload checks

function knownXorb(lengths: readonly number[], seed: number): { record: XorbRecord; known: KnownXorb } {
  const hashes = Uint8Array.from({ length: 32 * lengths.length }, (_, i) => (i * 31 + seed * 77) % 251);
  const known = { hashes, lengths: Uint32Array.from(lengths) };
  return { known, record: { ...known, xorbHash: merkleRoot(hashes, lengths), storedBytes: 0 } };
}

const A = knownXorb([10, 20, 30], 1);
const B = knownXorb([40, 50], 2);
const UPLOADED = new Map([A, B].map(({ record, known }) => [formatHash(record.xorbHash), known]));

function fileOf(parts: readonly (readonly [typeof A, number, number])[]): FileRecord {
  const hashes = Buffer.concat(
    parts.map(([{ known }, start, end]) => known.hashes.subarray(32 * start, 32 * end)),
  );
  const lengths = parts.flatMap(([{ known }, start, end]) => [...known.lengths.subarray(start, end)]);
  return {
    fileHash: fileHash(hashes, lengths),
    terms: parts.map(([{ record, known }, start, end]) => ({
      xorbHash: record.xorbHash,
      start,
      end,
      rawBytes: known.lengths.subarray(start, end).reduce((sum, length) => sum + length, 0),
    })),
    verification: parts.map(([{ known }, start, end]) => verificationHash(known.hashes, start, end)),
  };
}

const FILE = fileOf([
  [A, 0, 3],
  [B, 1, 2],
  [A, 1, 2],
]);

function validate(
  files: readonly FileRecord[],
  xorbs: readonly XorbRecord[] = [A.record, B.record],
  maxChunks?: number,
): void {
  const shard = Shard.openUpload(builderOf({ files, xorbs }).build({ footer: false }));
  validateShardForUpload(shard, (xorbHash) => UPLOADED.get(formatHash(xorbHash)), maxChunks);
}

function changedTerm(change: Partial<Term>): FileRecord {
  return {
    ...FILE,
    terms: FILE.terms.map((original, i) => (i === 1 ? { ...original, ...change } : original)),
  };
}

test('a shard that tells the truth passes', (t) => {
  t.notThrows(() => validate([FILE, fileOf([[B, 0, 1]])]));
  t.notThrows(() => validate([FILE], []), 'known xorbs need no record');
  t.notThrows(() => validate([{ fileHash: ZERO_HASH, terms: [], verification: [] }], []), 'the empty file');
  t.notThrows(() => validate([]));
  t.notThrows(() => validate([FILE], [], 5));
});

const rejects = test.macro({
  exec(t, attempt: () => void, message: RegExp, code: 'INVALID_SHARD' | 'LIMIT_EXCEEDED' = 'INVALID_SHARD') {
    t.throws(attempt, { instanceOf: Git2dbError, code, message });
  },
  title: (what = '') => `an upload is refused for ${what}`,
});

const FILE_NAME = `^file ${formatHash(FILE.fileHash)}`;
const UNKNOWN = knownXorb([1], 3);
test(
  'a term of an unknown xorb',
  rejects,
  () =>
    validate([
      fileOf([
        [A, 0, 1],
        [UNKNOWN, 0, 1],
      ]),
    ]),
  /^file .*, term 1: xorb .* was not uploaded/,
);
test(
  'a record of an unknown xorb',
  rejects,
  () => validate([], [UNKNOWN.record]),
  /^xorb .* was not uploaded/,
);
test(
  'a xorb record with other lengths',
  rejects,
  () => validate([], [{ ...A.record, lengths: Uint32Array.of(10, 21, 29) }]),
  /chunk list is not that/,
);
test(
  'a xorb record with other hashes',
  rejects,
  () => validate([], [{ ...A.record, hashes: new Uint8Array(96) }]),
  /chunk list is not that/,
);
test(
  'a term beyond its xorb',
  rejects,
  () => validate([changedTerm({ end: 3 })]),
  new RegExp(`${FILE_NAME}, term 1: chunks \\[1, 3\\) .* has 2`),
);
test(
  'a term of another raw length',
  rejects,
  () => validate([changedTerm({ rawBytes: 51 })]),
  new RegExp(`${FILE_NAME}, term 1: says 51 raw bytes, its chunks have 50`),
);
test(
  'a wrong verification hash',
  rejects,
  () => validate([{ ...FILE, verification: [ZERO_HASH, ZERO_HASH, ZERO_HASH] }]),
  new RegExp(`${FILE_NAME}, term 0: the verification hash`),
);
test(
  'missing verification hashes',
  rejects,
  () => validate([{ fileHash: FILE.fileHash, terms: FILE.terms }]),
  new RegExp(`${FILE_NAME} has no verification`),
);
test(
  'a file hash that is not that of its chunks',
  rejects,
  () => validate([{ ...fileOf([[A, 0, 1]]), fileHash: FILE.fileHash }]),
  new RegExp(`${FILE_NAME}: its chunks give`),
);
test(
  'an empty file under another hash',
  rejects,
  () => validate([{ fileHash: FILE.fileHash, terms: [], verification: [] }]),
  /its chunks give 0000/,
);
test(
  'terms that name too many chunks',
  rejects,
  () => validate([FILE], [], 4),
  /more than 4 chunks/,
  'LIMIT_EXCEEDED',
);
test(
  'a term of four billion chunks, without allocating for them',
  rejects,
  () => validate([changedTerm({ start: 0, end: 0xffffffff })]),
  /more than 33554432 chunks/,
  'LIMIT_EXCEEDED',
);
