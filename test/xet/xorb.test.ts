import test from 'ava';
import fc from 'fast-check';
import { GEAR_TABLE } from '../../src/xet/chunk/gear-table.ts';
import { type CompressionMode, SCHEME_NONE } from '../../src/xet/compress/scheme.ts';
import { FormatError, Git2dbError } from '../../src/xet/errors.ts';
import { blake3Keyed } from '../../src/xet/hash/blake3.ts';
import { DATA_KEY } from '../../src/xet/hash/keys.ts';
import { merkleRoot } from '../../src/xet/hash/merkle.ts';
import { verificationHash } from '../../src/xet/hash/verification.ts';
import { formatHash, parseHash } from '../../src/xet/hash/xet-hash.ts';
import { fitsInXorb, XorbBuilder } from '../../src/xet/xorb/builder.ts';
import { decodeChunks, validateXorb } from '../../src/xet/xorb/chunk-range.ts';
import {
  CHUNK_HEADER_SIZE,
  decodeChunkHeader,
  encodeChunkHeader,
  MAX_RAW_CHUNK,
  MAX_STORED_CHUNK,
} from '../../src/xet/xorb/chunk-record.ts';
import {
  decodeFooter,
  encodeFooter,
  footerLength,
  MAX_XORB_BYTES,
  MAX_XORB_CHUNKS,
  readFooterLength,
  readRawEnds,
  type XorbFooter,
} from '../../src/xet/xorb/format.ts';
import { generateInput, type VectorXorb, vectorExample, vectors } from '../helpers/serialized-vectors.ts';

const THREE_FILES = vectorExample('three-files');
const [THREE_FILES_XORB] = THREE_FILES.xorbs as [VectorXorb];
const THREE_FILES_RECORDS = Buffer.from(THREE_FILES_XORB.base64, 'base64');
const V1_FOOTER = Buffer.from(vectors.serialized.xorb_footers.v1_hex, 'hex');
const V0_FOOTER = Buffer.from(vectors.serialized.xorb_footers.v0_hex, 'hex');

function hashAt(hashes: Uint8Array, chunk: number): string {
  return formatHash(hashes, 32 * chunk);
}

function buildXorb(chunks: readonly Uint8Array[], footer: boolean, mode: CompressionMode = 'auto') {
  const builder = new XorbBuilder();
  for (const chunk of chunks) if (!builder.add(chunk, undefined, mode)) throw new Error('full');
  return builder.build({ footer });
}

const chunkList = fc.array(
  fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 400 }),
    fc.tuple(fc.nat(255), fc.integer({ min: 1, max: 3000 })).map(([byte, n]) => new Uint8Array(n).fill(byte)),
  ),
  { minLength: 1, maxLength: 12 },
);

// Golden xorbs

for (const example of vectors.serialized.examples) {
  test(`the xorbs of example ${example.name} decode to its files`, (t) => {
    for (const xorb of example.xorbs) {
      const bytes = Buffer.from(xorb.base64, 'base64');
      const chunks = [...decodeChunks(bytes, xorb.chunks.length)];
      t.deepEqual(
        chunks.map(({ raw, scheme, recordStart, recordEnd }) => ({
          hash: formatHash(blake3Keyed(DATA_KEY, raw)),
          length: raw.length,
          scheme: scheme as number,
          byte_start: recordStart,
          byte_end: recordEnd,
        })),
        [...xorb.chunks],
      );
      const valid = validateXorb(bytes, parseHash(xorb.hash));
      t.is(valid.storedBytes, xorb.size);
      t.is(valid.footerVersion, undefined);

      const [file] = example.shard_parsed.files;
      const terms = file?.terms ?? [];
      const content = terms.flatMap(({ start, end }) => chunks.slice(start, end).map(({ raw }) => raw));
      t.is(Buffer.compare(Buffer.concat(content), generateInput(example.files[0]!.input)), 0);
    }
  });

  test(`the chunks of example ${example.name} build a xorb of the same hash`, (t) => {
    for (const xorb of example.xorbs) {
      const chunks = [...decodeChunks(Buffer.from(xorb.base64, 'base64'))].map(({ raw }) => raw);
      t.is(formatHash(buildXorb(chunks, true).xorbHash), xorb.hash);
      if (xorb.chunks.every(({ scheme }) => scheme === SCHEME_NONE)) {
        t.deepEqual(Buffer.from(buildXorb(chunks, false, 'none').bytes), Buffer.from(xorb.base64, 'base64'));
      }
    }
  });
}

test('a footer of version 1 is written and read as in the vectors', (t) => {
  const { bytes, storedBytes } = buildXorb(
    [...decodeChunks(THREE_FILES_RECORDS)].map(({ raw }) => raw),
    true,
    'none',
  );
  t.deepEqual(Buffer.from(bytes), Buffer.concat([THREE_FILES_RECORDS, V1_FOOTER]));
  const footer = decodeFooter(V1_FOOTER, bytes.length);
  t.is(footer.version, 1);
  t.is(formatHash(footer.xorbHash), THREE_FILES_XORB.hash);
  t.deepEqual(
    [hashAt(footer.hashes, 0), hashAt(footer.hashes, 1)],
    THREE_FILES_XORB.chunks.map(({ hash }) => hash),
  );
  t.deepEqual(footer.recordEnds, Uint32Array.of(18, 326));
  t.deepEqual(footer.rawEnds, Uint32Array.of(10, 310));
  t.is(readFooterLength(bytes.subarray(-4)), bytes.length - storedBytes);
  t.is(footerLength(2), V1_FOOTER.length);
  t.is(validateXorb(bytes).footerVersion, 1);
});

test('a footer of version 0 is read, and its raw ends come from the records', (t) => {
  const xorb = Buffer.concat([THREE_FILES_RECORDS, V0_FOOTER]);
  const footer = decodeFooter(xorb.subarray(-readFooterLength(xorb)), xorb.length);
  t.is(footer.version, 0);
  t.is(footer.rawEnds, undefined);
  t.is(hashAt(footer.hashes, 1), THREE_FILES_XORB.chunks[1]?.hash as string);
  t.deepEqual(footer.recordEnds, Uint32Array.of(18, 326));
  t.deepEqual(
    readRawEnds(footer.recordEnds, (offset) => xorb.subarray(offset, offset + 8)),
    Uint32Array.of(10, 310),
  );
  t.is(validateXorb(xorb).footerVersion, 0);
  t.throws(() => readRawEnds(Uint32Array.of(19, 326), (offset) => xorb.subarray(offset, offset + 8)), {
    instanceOf: FormatError,
    message: /ends at 18 by its header, at 19/,
  });
});

test('the footer does not refer to the bytes it was read from', (t) => {
  const tail = Buffer.from(V1_FOOTER);
  const footer = decodeFooter(tail, 326 + tail.length);
  tail.fill(0);
  t.is(formatHash(footer.xorbHash), THREE_FILES_XORB.hash);
  t.is(hashAt(footer.hashes, 0), THREE_FILES_XORB.chunks[0]?.hash as string);
});

test('a nonce in the footer is 4 bytes that readers ignore', (t) => {
  const footer = decodeFooter(V1_FOOTER, 326 + V1_FOOTER.length) as XorbFooter;
  const bytes = Buffer.from(encodeFooter(footer, Uint8Array.of(1, 2, 3, 4, 5)));
  t.is(bytes.subarray(-20, -4).toString('hex'), `01020304${'00'.repeat(12)}`);
  t.deepEqual(decodeFooter(bytes, 326 + bytes.length) as XorbFooter, footer);
});

// Round trips

test('what the builder writes decodes to what was added, with and without footer', (t) => {
  fc.assert(
    fc.property(
      chunkList,
      fc.boolean(),
      fc.constantFrom<CompressionMode>('auto', 'none', 'lz4', 'bg4-lz4'),
      (list, withFooter, mode) => {
        const { bytes, count, hashes, lengths, recordEnds, rawEnds, xorbHash } = buildXorb(
          list,
          withFooter,
          mode,
        );
        const chunks = [...decodeChunks(bytes, list.length)];
        const valid = validateXorb(bytes, xorbHash);
        return (
          chunks.every(({ raw }, i) => Buffer.compare(raw, list[i] as Uint8Array) === 0) &&
          chunks.every(({ recordEnd }, i) => recordEnd === recordEnds[i]) &&
          count === list.length &&
          formatHash(xorbHash) === formatHash(merkleRoot(hashes, lengths, count)) &&
          valid.footerVersion === (withFooter ? 1 : undefined) &&
          valid.rawEnds.every((end, i) => end === rawEnds[i])
        );
      },
    ),
    { numRuns: 100 },
  );
  t.pass();
});

test('any run of whole records decodes on its own', (t) => {
  const list = Array.from({ length: 6 }, (_, i) => new Uint8Array(50 + 300 * i).fill(i));
  const { bytes, recordEnds } = buildXorb(list, true);
  for (let start = 0; start < 6; start++) {
    for (let end = start + 1; end <= 6; end++) {
      const range = bytes.subarray(recordEnds[start - 1] ?? 0, recordEnds[end - 1]);
      t.deepEqual(
        [...decodeChunks(range, end - start)].map(({ raw }) => raw[0]),
        list.slice(start, end).map((raw) => raw[0]),
      );
    }
  }
  t.deepEqual([...decodeChunks(new Uint8Array(0), 0)], []);
});

test('footers of any size decode to what was encoded', (t) => {
  const footers = fc.array(
    fc.tuple(fc.integer({ min: 1, max: MAX_STORED_CHUNK }), fc.integer({ min: 1, max: MAX_RAW_CHUNK })),
    {
      minLength: 1,
      maxLength: 40,
    },
  );
  fc.assert(
    fc.property(
      footers,
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.nat(100),
      (sizes, xorbHash, before) => {
        let record = 0;
        let raw = 0;
        const recordEnds = Uint32Array.from(sizes, ([stored]) => (record += CHUNK_HEADER_SIZE + stored));
        const rawEnds = Uint32Array.from(sizes, ([, length]) => (raw += length));
        const hashes = Uint8Array.from({ length: 32 * sizes.length }, (_, i) => i * 7);
        const bytes = encodeFooter({ xorbHash, count: sizes.length, hashes, recordEnds, rawEnds });
        const tail = Buffer.concat([Buffer.alloc(Math.min(before, record)), bytes]);
        const footer = decodeFooter(tail, record + bytes.length);
        return Buffer.compare(encodeFooter(footer as XorbFooter), bytes) === 0;
      },
    ),
  );
  t.pass();
});

test('the largest footer is written and read', (t) => {
  const count = MAX_XORB_CHUNKS;
  const recordEnds = Uint32Array.from({ length: count }, (_, i) => 9 * (i + 1));
  const rawEnds = Uint32Array.from({ length: count }, (_, i) => i + 1);
  const footer = {
    xorbHash: new Uint8Array(32),
    count,
    hashes: new Uint8Array(32 * count),
    recordEnds,
    rawEnds,
  };
  const bytes = encodeFooter(footer);
  t.deepEqual(decodeFooter(bytes, 9 * count + bytes.length).recordEnds, recordEnds);
  t.throws(() => encodeFooter({ ...footer, count: count + 1 }), { code: 'LIMIT_EXCEEDED' });
  t.throws(() => encodeFooter({ ...footer, count: 0 }), { code: 'LIMIT_EXCEEDED' });
});

// Limits

/** Lengths of the chunks of `bytes`: an independent, plain chunker. */
function chunkLengths(bytes: Uint8Array): number[] {
  const tableHigh = Uint32Array.from(GEAR_TABLE, (word) => Number(word >> 32n));
  const tableLow = Uint32Array.from(GEAR_TABLE, (word) => Number(word & 0xffffffffn));
  const lengths: number[] = [];
  let start = 0;
  let high = 0;
  let low = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] as number;
    const sum = ((low << 1) >>> 0) + (tableLow[byte] as number);
    high = ((high << 1) + (low >>> 31) + (tableHigh[byte] as number) + (sum > 0xffffffff ? 1 : 0)) | 0;
    low = sum | 0;
    const length = i + 1 - start;
    if ((length >= 8192 && high >>> 16 === 0) || length === MAX_RAW_CHUNK || i + 1 === bytes.length) {
      lengths.push(length);
      start = i + 1;
      high = 0;
      low = 0;
    }
  }
  return lengths;
}

test('a chunk list is cut into xorbs where the reference client cuts it', (t) => {
  for (const { input, xorbs_without_dedup: expected } of vectors.inputs) {
    if (expected === undefined) continue;
    const bytes = generateInput(input);
    const lengths = chunkLengths(bytes);
    const hashes = new Uint8Array(32 * lengths.length);
    let offset = 0;
    const found: { start: number; end: number; raw: number; stored: number }[] = [];
    for (const [i, length] of lengths.entries()) {
      hashes.set(blake3Keyed(DATA_KEY, bytes.subarray(offset, offset + length)), 32 * i);
      offset += length;
      const open = found.at(-1);
      const record = CHUNK_HEADER_SIZE + length;
      if (open === undefined || !fitsInXorb(open.raw, open.stored, open.end - open.start, length, record)) {
        found.push({ start: i, end: i + 1, raw: length, stored: record });
      } else {
        open.end++;
        open.raw += length;
        open.stored += record;
      }
    }
    t.deepEqual(
      found.map(({ start, end, raw }) => ({
        chunk_start: start,
        chunk_end: end,
        bytes: raw,
        xorb_hash: formatHash(
          merkleRoot(hashes.subarray(32 * start), lengths.slice(start, end), end - start),
        ),
        range_hash: formatHash(verificationHash(hashes, start, end)),
      })),
      [...expected],
    );
  }
});

test('a xorb is full at 64 MiB raw, 64 MiB stored, or 8192 chunks, whichever comes first', (t) => {
  t.true(fitsInXorb(0, 0, 0, MAX_RAW_CHUNK, MAX_STORED_CHUNK));
  t.true(fitsInXorb(MAX_XORB_BYTES - 10, 0, 5, 10, 18));
  t.false(fitsInXorb(MAX_XORB_BYTES - 9, 0, 5, 10, 18));
  t.true(fitsInXorb(0, MAX_XORB_BYTES - 18, 5, 10, 18));
  t.false(fitsInXorb(0, MAX_XORB_BYTES - 17, 5, 10, 18));
  t.true(fitsInXorb(0, 0, MAX_XORB_CHUNKS - 1, 10, 18));
  t.false(fitsInXorb(0, 0, MAX_XORB_CHUNKS, 10, 18));
});

test('the builder refuses the chunk that does not fit and keeps what it has', (t) => {
  const builder = new XorbBuilder();
  const hash = new Uint8Array(32).fill(1);
  const chunk = Uint8Array.of(7);
  for (let i = 0; i < MAX_XORB_CHUNKS; i++) t.true(builder.add(chunk, hash, 'none'));
  t.false(builder.add(chunk, hash, 'none'));
  t.is(builder.count, MAX_XORB_CHUNKS);
  t.is(builder.build({ footer: true }).bytes.length, 9 * MAX_XORB_CHUNKS + footerLength(MAX_XORB_CHUNKS));

  const full = new XorbBuilder();
  const large = new Uint8Array(MAX_RAW_CHUNK);
  let added = 0;
  while (full.add(large, hash, 'none')) added++;
  t.is(added, 511, '512 of them are 64 MiB of payload, and headers besides');
  t.is(full.storedBytes, 511 * (MAX_RAW_CHUNK + 8));
  t.true(full.add(large, hash, 'lz4'), 'compressed it fits: 64 MiB raw exactly');
  t.is(full.rawBytes, MAX_XORB_BYTES);
  t.false(full.add(chunk, hash, 'none'));
});

test('the builder takes chunks of 1 to 131072 bytes and is never empty', (t) => {
  const builder = new XorbBuilder();
  t.throws(() => builder.build({ footer: false }), { code: 'LIMIT_EXCEEDED' });
  t.throws(() => builder.add(new Uint8Array(0)), { code: 'LIMIT_EXCEEDED' });
  t.throws(() => builder.add(new Uint8Array(MAX_RAW_CHUNK + 1)), { code: 'LIMIT_EXCEEDED' });
  t.true(builder.add(new Uint8Array(MAX_RAW_CHUNK)));
});

// Chunk headers

test('chunk headers keep 24-bit lengths', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: MAX_STORED_CHUNK }),
      fc.integer({ min: 1, max: MAX_RAW_CHUNK }),
      fc.constantFrom(1 as const, 2 as const),
      fc.nat(20),
      (storedLength, rawLength, scheme, offset) => {
        const bytes = new Uint8Array(offset + 8);
        encodeChunkHeader(bytes, offset, { storedLength, scheme, rawLength });
        const header = decodeChunkHeader(bytes, offset);
        return (
          header.storedLength === storedLength && header.rawLength === rawLength && header.scheme === scheme
        );
      },
    ),
  );
  t.throws(
    () =>
      encodeChunkHeader(new Uint8Array(8), 0, { storedLength: 1, scheme: 1, rawLength: MAX_RAW_CHUNK + 1 }),
    { code: 'LIMIT_EXCEEDED' },
  );
  t.throws(() => encodeChunkHeader(new Uint8Array(8), 0, { storedLength: 0, scheme: 1, rawLength: 1 }), {
    code: 'LIMIT_EXCEEDED',
  });
});

const refusesHeader = test.macro({
  exec(t, hex: string, message: RegExp, offset: number) {
    const error = t.throws(() => decodeChunkHeader(Buffer.from(`0000${hex}`, 'hex'), 2, 1000), {
      instanceOf: FormatError,
      code: 'INVALID_XORB',
      message,
    });
    t.is(error.offset, 1002 + offset);
  },
  title: (what = '') => `a chunk header is refused for ${what}`,
});

test('another version', refusesHeader, '0104000001040000', /version 1/, 0);
test('an unknown scheme', refusesHeader, '0004000003040000', /scheme 3/, 4);
test('the scheme that only exists in memory', refusesHeader, '0004000063040000', /scheme 99/, 4);
test('a raw length above 128 KiB', refusesHeader, '0004000001010002', /131073/, 5);
test('a raw length of zero', refusesHeader, '0004000001000000', /raw length 0/, 5);
test('a stored length above 256 KiB', refusesHeader, '0001000401040000', /262145/, 1);
test('a stored length of zero', refusesHeader, '0000000001040000', /stored length 0/, 1);
test('raw data of another length', refusesHeader, '0005000000040000', /stored length 5 and raw length 4/, 1);
test('its own truncation', refusesHeader, '00040000000400', /7 are left/, 0);

// Damage

test('errors name the chunk and its offset', (t) => {
  const { bytes, recordEnds } = buildXorb(
    [new Uint8Array(500), new Uint8Array(600), new Uint8Array(700)],
    false,
    'lz4',
  );
  const damaged = Uint8Array.from(bytes);
  damaged[(recordEnds[1] as number) + CHUNK_HEADER_SIZE] = 0;
  const decoded: number[] = [];
  const error = t.throws(
    () => {
      for (const { raw } of decodeChunks(damaged)) decoded.push(raw.length);
    },
    {
      instanceOf: FormatError,
      code: 'INVALID_XORB',
      message: new RegExp(`^chunk 2 at offset ${recordEnds[1]}: LZ4 frame: `),
    },
  );
  t.deepEqual(decoded, [500, 600]);
  t.is(error.data.chunk, 2);
  t.is(error.offset, (recordEnds[1] as number) + CHUNK_HEADER_SIZE);
  t.is((error.cause as FormatError).code, 'INVALID_LZ4');
});

test('the number of chunks must be the expected one', (t) => {
  const { bytes } = buildXorb([Uint8Array.of(1), Uint8Array.of(2)], true);
  t.throws(() => [...decodeChunks(bytes, 1)], {
    instanceOf: FormatError,
    message: /expected 1 chunks, but more/,
  });
  t.throws(() => [...decodeChunks(bytes, 3)], {
    instanceOf: FormatError,
    message: /expected 3 chunks, the data ends after 2/,
  });
});

test('a xorb cut anywhere but between records is a typed error', (t) => {
  const { bytes, recordEnds, xorbHash } = buildXorb(
    [new Uint8Array(300), Uint8Array.of(1, 2, 3), new Uint8Array(90).fill(4)],
    true,
    'lz4',
  );
  for (let length = 0; length < bytes.length; length++) {
    const cut = bytes.subarray(0, length);
    const clean = length === 0 || recordEnds.includes(length);
    if (clean) t.is([...decodeChunks(cut)].length, length === 0 ? 0 : recordEnds.indexOf(length) + 1);
    else if (length < (recordEnds[2] as number))
      t.throws(() => [...decodeChunks(cut)], { instanceOf: FormatError });
    const whole = length === recordEnds[2];
    if (!whole) t.throws(() => validateXorb(cut, xorbHash), { instanceOf: FormatError }, `${length}`);
  }
});

test('a flipped byte anywhere in a xorb is found by validation, except in the unused bytes of the footer', (t) => {
  const chunks = [
    new Uint8Array(300),
    Uint8Array.from({ length: 60 }, (_, i) => i * i),
    new Uint8Array(90).fill(4),
  ];
  const { bytes, xorbHash } = buildXorb(chunks, true, 'lz4');
  for (let at = 0; at < bytes.length; at++) {
    const damaged = Uint8Array.from(bytes);
    damaged[at] = (damaged[at] as number) ^ 0x11;
    const unused = at >= bytes.length - 20 && at < bytes.length - 4;
    if (unused) t.notThrows(() => validateXorb(damaged, xorbHash));
    else {
      try {
        const { hashes } = validateXorb(damaged, xorbHash);
        // The one harmless flip is in the unused half of the last token of an LZ4 block.
        t.deepEqual(hashes, validateXorb(bytes).hashes, `byte ${at}`);
        t.true(at < 100);
      } catch (error) {
        t.true(error instanceof FormatError, `byte ${at}: ${error}`);
      }
    }
  }
});

test('random bytes are a typed error to every reader of xorbs', (t) => {
  const attempt = (read: () => unknown): boolean => {
    try {
      read();
      return true;
    } catch (error) {
      return error instanceof Git2dbError;
    }
  };
  const bytesOf = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc
      .tuple(fc.nat(325), fc.nat(255))
      .map(([at, byte]) => Buffer.from(THREE_FILES_RECORDS).fill(byte, at, at + 1)),
    fc
      .tuple(fc.nat(V1_FOOTER.length - 1), fc.nat(255))
      .map(([at, byte]) =>
        Buffer.concat([THREE_FILES_RECORDS, Buffer.from(V1_FOOTER).fill(byte, at, at + 1)]),
      ),
    fc
      .tuple(fc.nat(V0_FOOTER.length - 1), fc.nat(255))
      .map(([at, byte]) =>
        Buffer.concat([THREE_FILES_RECORDS, Buffer.from(V0_FOOTER).fill(byte, at, at + 1)]),
      ),
  );
  fc.assert(
    fc.property(
      bytesOf,
      fc.nat(5000),
      (bytes, size) =>
        attempt(() => [...decodeChunks(bytes)]) &&
        attempt(() => validateXorb(bytes)) &&
        attempt(() => decodeFooter(bytes, size)) &&
        attempt(() => decodeFooter(bytes, bytes.length)),
    ),
    { numRuns: 2000 },
  );
  t.pass();
});

const refusesFooter = test.macro({
  exec(t, change: (footer: Buffer) => Buffer, message: RegExp, version: 0 | 1 = 1) {
    const footer = change(Buffer.from(version === 1 ? V1_FOOTER : V0_FOOTER));
    t.throws(() => decodeFooter(footer, 326 + footer.length), {
      instanceOf: FormatError,
      code: 'INVALID_XORB',
      message,
    });
    t.throws(() => validateXorb(Buffer.concat([THREE_FILES_RECORDS, footer])), { instanceOf: FormatError });
  },
  title: (what = '') => `a footer is refused for ${what}`,
});

function put(offset: number, value: number): (footer: Buffer) => Buffer {
  return (footer) => {
    footer.writeUInt32LE(value, offset);
    return footer;
  };
}

const HASHES = 40;
const BOUNDARIES = 40 + 12 + 64;
const RECORD_ENDS = BOUNDARIES + 12;
const RAW_ENDS = RECORD_ENDS + 8;
test('its magic', refusesFooter, put(0, 0), /begin with XETBLOB/);
test('its version', refusesFooter, (footer) => footer.fill(2, 7, 8), /footer version 2/);
test('the magic of its hashes', refusesFooter, put(HASHES, 0), /begin with XBLBHSH/);
test(
  'the version of its hashes',
  refusesFooter,
  (footer) => footer.fill(1, HASHES + 7, HASHES + 8),
  /hashes section version 1/,
);
test('the count of its hashes', refusesFooter, put(HASHES + 8, 3), /says 3 chunks/);
test('the magic of its boundaries', refusesFooter, put(BOUNDARIES, 0), /begin with XBLBBND/);
test(
  'the version of its boundaries',
  refusesFooter,
  (footer) => footer.fill(0, BOUNDARIES + 7, BOUNDARIES + 8),
  /boundaries section version 0/,
);
test('the count of its boundaries', refusesFooter, put(BOUNDARIES + 8, 1), /says 1 chunks/);
test('its last count', refusesFooter, put(RAW_ENDS + 8, 0xffffffff), /says 4294967295 chunks/);
test('the distance to its hashes', refusesFooter, put(RAW_ENDS + 12, 131), /hashes section starts 132/);
test('the distance to its boundaries', refusesFooter, put(RAW_ENDS + 16, 55), /boundaries section starts 56/);
test('record ends that go back', refusesFooter, put(RECORD_ENDS, 327), /would be -1 bytes/);
test('a record without payload', refusesFooter, put(RECORD_ENDS, 8), /chunk 0 would be 8 bytes/);
test(
  'records that end elsewhere',
  refusesFooter,
  put(RECORD_ENDS + 4, 325),
  /end at 325, but the footer starts at 326/,
);
test('raw ends that do not go on', refusesFooter, put(RAW_ENDS + 4, 10), /chunk 1 would have 0 raw bytes/);
test('a raw chunk above 128 KiB', refusesFooter, put(RAW_ENDS + 4, 11 + MAX_RAW_CHUNK), /131073 raw bytes/);
test('an impossible length', refusesFooter, put(V1_FOOTER.length - 4, 173), /impossible/);
test('the length of a giant', refusesFooter, put(V1_FOOTER.length - 4, 92 + 40 * 8193), /impossible/);
test('a length beyond the xorb', refusesFooter, put(V1_FOOTER.length - 4, 92 + 40 * 8192), /are there/);
test('the length of the other version', refusesFooter, put(V1_FOOTER.length - 4, 132), /begin with XETBLOB/);
test('a byte after it', refusesFooter, (footer) => Buffer.concat([footer, Buffer.alloc(1)]), /impossible/);
test('the count of version 0', refusesFooter, put(40, 1), /says 1 chunks/, 0);
test('the record ends of version 0', refusesFooter, put(44, 2), /chunk 0 would be 2 bytes/, 0);

test('a footer that lies about the chunks before it is refused', (t) => {
  const changes: readonly [string, (footer: Buffer) => Buffer][] = [
    ['xorb hash', put(8, 1)],
    ['chunk hash', put(HASHES + 12, 1)],
    ['raw ends', put(RAW_ENDS, 11)],
    ['record ends', put(RECORD_ENDS, 19)],
  ];
  for (const [what, change] of changes) {
    const xorb = Buffer.concat([THREE_FILES_RECORDS, change(Buffer.from(V1_FOOTER))]);
    t.throws(() => validateXorb(xorb), { instanceOf: FormatError, message: /does not agree/ }, what);
  }
});

test('validation refuses another hash, an empty xorb, and a xorb over the limits', (t) => {
  const expected = parseHash('ab'.repeat(32));
  t.throws(() => validateXorb(THREE_FILES_RECORDS, expected), {
    instanceOf: FormatError,
    message: /expected xorb abab.*give 9e8d/,
  });
  t.throws(() => validateXorb(new Uint8Array(0)), { instanceOf: FormatError, message: /at least one chunk/ });
  const record = Buffer.from('000100000001000009', 'hex');
  const many = Buffer.concat(Array.from({ length: MAX_XORB_CHUNKS + 1 }, () => record));
  t.is(validateXorb(many.subarray(9)).count, MAX_XORB_CHUNKS);
  t.throws(() => validateXorb(many), { code: 'LIMIT_EXCEEDED' });
  const zeros = buildXorb([new Uint8Array(MAX_RAW_CHUNK)], false).bytes;
  const bomb = Buffer.concat(Array.from({ length: 513 }, () => zeros));
  t.is(validateXorb(bomb.subarray(zeros.length)).rawBytes, MAX_XORB_BYTES);
  t.throws(() => validateXorb(bomb), { code: 'LIMIT_EXCEEDED' });
});
