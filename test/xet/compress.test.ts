import { spawnSync } from 'node:child_process';
import test from 'ava';
import fc from 'fast-check';
import { groupBytes, ungroupBytes } from '../../src/xet/compress/bg4.ts';
import { compressLz4, decompressLz4, lz4Engine } from '../../src/xet/compress/lz4.ts';
import { decodeBlock, encodeBlock } from '../../src/xet/compress/lz4-block.ts';
import { decodeFrame, encodeFrame } from '../../src/xet/compress/lz4-frame.ts';
import {
  type CompressionMode,
  chooseSchemeByKl,
  compressChunk,
  decompressChunk,
  lz4Pays,
  SCHEME_BG4_LZ4,
  SCHEME_LZ4,
  SCHEME_NONE,
  schemeName,
} from '../../src/xet/compress/scheme.ts';
import { xxhash32 } from '../../src/xet/compress/xxhash32.ts';
import { FormatError } from '../../src/xet/errors.ts';

const MAX_CHUNK = 131072;

/** Repeatable random numbers in [0, 1). */
function randomSource(seed: number): () => number {
  let x = seed;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) / 2 ** 32;
  };
}

function randomBytes(size: number, seed = 1): Uint8Array {
  const random = randomSource(seed);
  return Uint8Array.from({ length: size }, () => random() * 256);
}

function gaussians(count: number, seed = 2): Float32Array {
  const random = randomSource(seed);
  return Float32Array.from(
    { length: count },
    () => 0.02 * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()),
  );
}

function float32Bytes(size: number): Uint8Array {
  return new Uint8Array(gaussians(size / 4).buffer);
}

/** bfloat16 is the upper half of a float32. */
function bfloat16Bytes(size: number): Uint8Array {
  const words = new Uint32Array(gaussians(size / 2).buffer);
  return new Uint8Array(Uint16Array.from(words, (word) => word >>> 16).buffer);
}

function textBytes(size: number, seed = 3): Uint8Array {
  const random = randomSource(seed);
  const words = 'chunk xorb shard term pointer clean smudge the of and a commit branch tree blob index'.split(
    ' ',
  );
  let text = '';
  while (text.length < size)
    text += `${words[Math.floor(random() * words.length)]}${random() < 0.1 ? '.\n' : ' '}`;
  return Buffer.from(text.slice(0, size), 'latin1');
}

/** Data with literals and matches of all lengths, overlapping ones too. */
const mixedBytes = fc
  .array(
    fc.oneof(
      fc.uint8Array({ maxLength: 40 }).map((bytes) => ({ literal: bytes })),
      fc.record({ back: fc.nat(3000), length: fc.nat(600) }),
      fc.record({ back: fc.constantFrom(0, 1, 2, 3, 6), length: fc.nat(3000) }),
    ),
    { maxLength: 40 },
  )
  .map((pieces) => {
    const bytes: number[] = [];
    for (const piece of pieces) {
      if ('literal' in piece) bytes.push(...piece.literal);
      else for (let i = 0; i < piece.length; i++) bytes.push(bytes[bytes.length - 1 - piece.back] ?? 0);
    }
    return Uint8Array.from(bytes);
  });

function encodeTypescript(raw: Uint8Array): Uint8Array | undefined {
  return encodeFrame(raw, encodeBlock);
}

function decodeTypescript(frame: Uint8Array, rawLength: number): Uint8Array {
  return decodeFrame(frame, rawLength, decodeBlock);
}

function blockOf(raw: Uint8Array): Uint8Array {
  const target = new Uint8Array(raw.length + Math.ceil(raw.length / 255) + 16);
  return target.slice(0, encodeBlock(raw, target, 0, target.length) as number);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

interface FrameParts {
  readonly magic?: number;
  readonly flags: number;
  readonly descriptor?: number;
  readonly contentSize?: bigint;
  readonly headerChecksum?: number;
  readonly blocks: readonly {
    readonly data: Uint8Array;
    readonly stored?: boolean;
    readonly checksum?: number;
  }[];
  readonly contentChecksum?: number;
  readonly end?: boolean;
  readonly trailing?: Uint8Array;
}

/** A frame built field by field, so that any of them can be wrong. */
function frameOf(parts: FrameParts): Uint8Array {
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(parts.contentSize ?? 0n);
  const header = Buffer.concat([
    Uint8Array.of(parts.flags, parts.descriptor ?? 0x40),
    parts.contentSize === undefined ? Buffer.alloc(0) : size,
  ]);
  return Buffer.concat([
    u32(parts.magic ?? 0x184d2204),
    header,
    Uint8Array.of(parts.headerChecksum ?? (xxhash32(header) >>> 8) & 255),
    ...parts.blocks.flatMap(({ data, stored = false, checksum }) => [
      u32((data.length | (stored ? 0x80000000 : 0)) >>> 0),
      data,
      (parts.flags & 0x10) === 0 ? Buffer.alloc(0) : u32(checksum ?? xxhash32(data)),
    ]),
    parts.end === false ? Buffer.alloc(0) : u32(0),
    parts.contentChecksum === undefined ? Buffer.alloc(0) : u32(parts.contentChecksum),
    parts.trailing ?? Buffer.alloc(0),
  ]);
}

// xxHash

test('xxHash gives the published answers', (t) => {
  t.is(xxhash32(Buffer.from('')), 0x02cc5d05);
  t.is(xxhash32(Buffer.from('a')), 0x550d7456);
  t.is(xxhash32(Buffer.from('abc')), 0x32d153ff);
  t.is(xxhash32(Buffer.from('Nobody inspects the spammish repetition')), 0xe2293b2f);
  t.is(xxhash32(Buffer.from('__Nobody inspects the spammish repetition__'), 2, 41), 0xe2293b2f);
});

// Byte grouping

test('byte grouping deals bytes by their position modulo 4', (t) => {
  t.deepEqual(
    [...groupBytes(Uint8Array.of(0, 1, 2, 3, 10, 11, 12, 13, 20, 21))],
    [0, 10, 20, 1, 11, 21, 2, 12, 3, 13],
  );
});

test('ungrouping is the inverse of grouping for every length', (t) => {
  for (let length = 0; length < 40; length++) {
    const raw = randomBytes(length, length + 1);
    t.deepEqual(ungroupBytes(groupBytes(raw)), raw);
  }
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 5000 }),
      (raw) => Buffer.compare(ungroupBytes(groupBytes(raw)), raw) === 0,
    ),
  );
  t.pass();
});

// LZ4 blocks and frames

test('blocks of our encoder decode to what went in', (t) => {
  fc.assert(
    fc.property(mixedBytes, (raw) => {
      const block = blockOf(raw);
      const target = new Uint8Array(raw.length);
      return (
        decodeBlock(block, 0, block.length, target, 0, raw.length, 0) === raw.length &&
        Buffer.compare(target, raw) === 0
      );
    }),
    { numRuns: 300 },
  );
  t.pass();
});

test('the encoder ends a block with 5 literals and starts no match in the last 12 bytes', (t) => {
  for (let length = 0; length < 64; length++) {
    const block = blockOf(new Uint8Array(length));
    // Zeros: one match if any, so the last sequence is found by walking two tokens at most.
    const literals = (block[0] as number) >>> 4;
    if (length < 13) t.is(block.length, length + 1, `${length} bytes`);
    else t.true(literals >= 1 && (block.at(-6) as number) >>> 4 >= 5, `${length} bytes`);
  }
});

test('the encoder never writes beyond its limit and says when a block does not fit', (t) => {
  const raw = textBytes(3000);
  const block = blockOf(raw);
  for (const limit of [0, 1, 2, 17, block.length - 1]) {
    const target = new Uint8Array(block.length + 10).fill(0xee);
    t.is(encodeBlock(raw, target, 5, 5 + limit), undefined);
    t.true(target.subarray(0, 5).every((byte) => byte === 0xee));
    t.true(target.subarray(5 + limit).every((byte) => byte === 0xee));
  }
});

test('the encoder refers back by 65535 bytes and no more', (t) => {
  for (const distance of [65534, 65535, 65536, 65537]) {
    const raw = randomBytes(90000);
    raw.copyWithin(100 + distance, 100, 20000);
    const block = blockOf(raw);
    const target = new Uint8Array(raw.length);
    decodeBlock(block, 0, block.length, target, 0, raw.length, 0);
    t.is(Buffer.compare(target, raw), 0, `${distance}`);
    t.is(block.length < raw.length, distance <= 65535, `${distance}`);
  }
});

test('the decoder writes nothing beyond its limit, whatever the lengths', (t) => {
  for (let literals = 4; literals < 80; literals++) {
    for (const offset of [1, 2, 4, literals]) {
      for (const match of [4, 5, 6, 7, 8, 9, 18]) {
        const block = Buffer.concat([
          literals < 15
            ? Uint8Array.of((literals << 4) | (match - 4))
            : Uint8Array.of(0xf0 | (match - 4), literals - 15),
          randomBytes(literals, literals),
          Uint8Array.of(offset, 0, 0x00), // the last token has no literals: the match ends the output
          randomBytes(100),
        ]);
        const end = block.length - 100;
        const outEnd = 3 + literals + match;
        const target = new Uint8Array(outEnd + 80).fill(0xee);
        t.is(decodeBlock(block, 0, end, target, 3, outEnd, 3), outEnd);
        // With less room, and more input, it must fail, and still keep within its limit.
        for (const limit of [3 + literals - 1, outEnd - 1]) {
          t.throws(() => decodeBlock(block, 0, block.length, target.fill(0xee, limit), 3, limit, 3), {
            instanceOf: FormatError,
          });
          t.true(target.subarray(limit).every((byte) => byte === 0xee));
        }
      }
    }
  }
});

test('frames come in the two header forms that every client reads', (t) => {
  for (const encode of [compressLz4, encodeTypescript]) {
    for (const [size, header] of [
      [300, '04224d18604082'],
      [65536, '04224d18604082'],
      [65537, '04224d186050fb'],
      [MAX_CHUNK, '04224d186050fb'],
    ] as const) {
      const frame = encode(textBytes(size)) as Uint8Array;
      t.is(Buffer.from(frame.subarray(0, 7)).toString('hex'), header);
      t.is(Buffer.from(frame.subarray(-4)).toString('hex'), '00000000');
      const blockLength = Buffer.from(frame).readUInt32LE(7);
      t.is(frame.length, 7 + 4 + blockLength + 4, 'one block');
    }
  }
});

test('a frame that would not be shorter than its content is not made', (t) => {
  for (const encode of [compressLz4, encodeTypescript]) {
    t.is(encode(new Uint8Array(0)), undefined);
    t.is(encode(new Uint8Array(15)), undefined);
    t.is(encode(randomBytes(5000)), undefined);
    t.is(encode(randomBytes(MAX_CHUNK)), undefined);
    for (let size = 0; size < 80; size++) {
      const frame = encode(new Uint8Array(size));
      t.true(frame === undefined || frame.length < size, `${size} bytes`);
    }
  }
});

test('content beyond one block is framed in several, stored where a block does not shrink', (t) => {
  const raw = Buffer.concat([textBytes(262144), randomBytes(262144), textBytes(1000)]);
  const frame = encodeTypescript(raw) as Uint8Array;
  t.deepEqual(Buffer.from(decodeTypescript(frame, raw.length)), raw);
});

test("the WASM and the TypeScript codec read each other's frames", (t) => {
  t.is(lz4Engine(), 'wasm');
  fc.assert(
    fc.property(mixedBytes, (raw) => {
      for (const frame of [compressLz4(raw), encodeTypescript(raw)]) {
        if (frame === undefined) continue;
        if (Buffer.compare(decompressLz4(frame, raw.length), raw) !== 0) return false;
        if (Buffer.compare(decodeTypescript(frame, raw.length), raw) !== 0) return false;
      }
      return true;
    }),
    { numRuns: 200 },
  );
});

/** The bytes of a decoder, or the class of its refusal. */
function outcome(
  decode: (frame: Uint8Array, length: number) => Uint8Array,
  frame: Uint8Array,
  length: number,
): string {
  try {
    return Buffer.from(decode(frame, length)).toString('hex');
  } catch (error) {
    if (error instanceof FormatError && error.code === 'INVALID_LZ4') return 'INVALID_LZ4';
    throw error;
  }
}

test('damaged frames give the same bytes or the same typed error with either codec', (t) => {
  fc.assert(
    fc.property(
      mixedBytes.filter((raw) => raw.length > 100 && raw.length < 4000),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      (raw, changes) => {
        const frame = Uint8Array.from(encodeTypescript(raw) ?? raw);
        for (const [at, byte] of changes) frame[7 + (at % (frame.length - 7))] = byte;
        return outcome(decompressLz4, frame, raw.length) === outcome(decodeTypescript, frame, raw.length);
      },
    ),
    { numRuns: 1500 },
  );
  t.pass();
});

test('a frame cut anywhere is a typed error', (t) => {
  const raw = textBytes(700);
  const checked = frameOf({
    flags: 0x7c,
    contentSize: 700n,
    blocks: [{ data: blockOf(raw) }],
    contentChecksum: xxhash32(raw),
  });
  t.deepEqual(decompressLz4(checked, 700), Uint8Array.from(raw));
  for (const frame of [compressLz4(raw) as Uint8Array, checked]) {
    for (let length = 0; length < frame.length; length++) {
      for (const decode of [decompressLz4, decodeTypescript]) {
        t.is(outcome(decode, frame.subarray(0, length), 700), 'INVALID_LZ4');
      }
    }
  }
});

test('random bytes are a typed error', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(1000), (bytes, length) => {
      outcome(decompressLz4, bytes, length);
      const target = new Uint8Array(length);
      try {
        return decodeBlock(bytes, 0, bytes.length, target, 0, length, 0) <= length;
      } catch (error) {
        return error instanceof FormatError;
      }
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

const RAW = textBytes(500);
const BLOCK = blockOf(RAW);

const accepts = test.macro({
  exec(t, frame: Uint8Array, raw: Uint8Array) {
    for (const decode of [decompressLz4, decodeTypescript]) {
      t.is(Buffer.compare(decode(frame, raw.length), raw), 0);
      t.throws(() => decode(frame, raw.length + 1), { instanceOf: FormatError });
      t.throws(() => decode(frame, raw.length - 1), { instanceOf: FormatError });
    }
  },
  title: (what = '') => `the decoder reads ${what}`,
});

test(
  'every block size id',
  accepts,
  frameOf({ flags: 0x60, descriptor: 0x70, blocks: [{ data: BLOCK }] }),
  RAW,
);
test('linked blocks', accepts, frameOf({ flags: 0x40, descriptor: 0x70, blocks: [{ data: BLOCK }] }), RAW);
test(
  'a linked block that refers to the one before',
  accepts,
  frameOf({
    flags: 0x40,
    blocks: [
      { data: RAW, stored: true },
      { data: Uint8Array.of(0x0f, 0xf4, 0x01, 0xff, 0xe2, 0x50, 1, 2, 3, 4, 5) },
    ],
  }),
  Buffer.concat([RAW, RAW, Uint8Array.of(1, 2, 3, 4, 5)]),
);
test(
  'overlapping matches',
  accepts,
  frameOf({
    flags: 0x60,
    blocks: [{ data: Uint8Array.of(0x1f, 65, 1, 0, 255, 10, 0x2f, 66, 67, 2, 0, 255, 255, 9, 0x10, 68) }],
  }),
  Buffer.from(`${'A'.repeat(1 + 284)}${'BC'.repeat(1 + 269)}D`),
);
test(
  'stored blocks',
  accepts,
  frameOf({
    flags: 0x60,
    blocks: [
      { data: RAW.subarray(0, 9), stored: true },
      { data: RAW.subarray(9), stored: true },
    ],
  }),
  RAW,
);
test('a content size', accepts, frameOf({ flags: 0x68, contentSize: 500n, blocks: [{ data: BLOCK }] }), RAW);
test('block checksums', accepts, frameOf({ flags: 0x70, blocks: [{ data: BLOCK }] }), RAW);
test(
  'a content checksum',
  accepts,
  frameOf({ flags: 0x64, blocks: [{ data: BLOCK }], contentChecksum: xxhash32(RAW) }),
  RAW,
);
test(
  'a full chunk of one repeated byte',
  accepts,
  compressLz4(new Uint8Array(MAX_CHUNK)) as Uint8Array,
  new Uint8Array(MAX_CHUNK),
);

const refuses = test.macro({
  exec(t, parts: FrameParts, message: RegExp) {
    for (const decode of [decompressLz4, decodeTypescript]) {
      t.throws(() => decode(frameOf(parts), RAW.length), {
        instanceOf: FormatError,
        code: 'INVALID_LZ4',
        message,
      });
    }
  },
  title: (what = '') => `the decoder refuses ${what}`,
});

const GOOD: FrameParts = { flags: 0x60, blocks: [{ data: BLOCK }] };
test('another magic number', refuses, { ...GOOD, magic: 0x184c2102 }, /magic/);
test('a skippable frame', refuses, { ...GOOD, magic: 0x184d2a50 }, /magic/);
test('another frame version', refuses, { ...GOOD, flags: 0xa0 }, /version/);
test('a reserved flag', refuses, { ...GOOD, flags: 0x62 }, /reserved/);
test('reserved descriptor bits', refuses, { ...GOOD, descriptor: 0x41 }, /reserved/);
test('a dictionary id', refuses, { ...GOOD, flags: 0x61 }, /dictionary/);
test('block size id 3', refuses, { ...GOOD, descriptor: 0x30 }, /block size id 3/);
test('a wrong header checksum', refuses, { ...GOOD, headerChecksum: 0 }, /header checksum/);
test('a wrong content size', refuses, { ...GOOD, flags: 0x68, contentSize: 501n }, /content size says 501/);
test('a huge content size', refuses, { ...GOOD, flags: 0x68, contentSize: 2n ** 64n - 1n }, /content size/);
test(
  'a wrong block checksum',
  refuses,
  { flags: 0x70, blocks: [{ data: BLOCK, checksum: 7 }] },
  /block checksum/,
);
test('a wrong content checksum', refuses, { ...GOOD, flags: 0x64, contentChecksum: 7 }, /content checksum/);
test('a missing end mark', refuses, { ...GOOD, end: false }, /end mark/);
test('trailing bytes', refuses, { ...GOOD, trailing: Uint8Array.of(0) }, /1 bytes follow/);
test('a second frame', refuses, { ...GOOD, trailing: frameOf(GOOD) }, /follow the end/);
test(
  'a block above the block size',
  refuses,
  { flags: 0x60, blocks: [{ data: new Uint8Array(65537), stored: true }] },
  /65537 bytes/,
);
test(
  'a stored block beyond the content',
  refuses,
  { flags: 0x60, blocks: [{ data: new Uint8Array(501), stored: true }] },
  /longer than the 500/,
);
test(
  'content that is too short',
  refuses,
  { flags: 0x60, blocks: [{ data: RAW.subarray(1), stored: true }] },
  /499 bytes, expected 500/,
);
test(
  'a match offset of zero',
  refuses,
  { flags: 0x60, blocks: [{ data: Uint8Array.of(0x1f, 65, 0, 0, 255, 0, 0x10, 66) }] },
  /offset 0/,
);
test(
  'an independent block that refers to the one before',
  refuses,
  {
    flags: 0x60,
    blocks: [{ data: RAW.subarray(0, 100), stored: true }, { data: Uint8Array.of(0x00, 4, 0, 0x10, 66) }],
  },
  /offset 4 is outside/,
);
test(
  'a block that ends with a match',
  refuses,
  { flags: 0x60, blocks: [{ data: Uint8Array.of(0x14, 65, 1, 0) }] },
  /ends inside a sequence/,
);
test(
  'a block that decodes to far more than announced',
  refuses,
  {
    flags: 0x60,
    descriptor: 0x70,
    blocks: [
      {
        data: Buffer.concat([
          Uint8Array.of(0x1f, 65, 1, 0),
          Buffer.alloc(200000, 255),
          Uint8Array.of(0, 0x10, 66),
        ]),
      },
    ],
  },
  /more than the 500 bytes/,
);

// The lz4 program

const lz4Version = spawnSync('lz4', ['--version'], { encoding: 'utf8' });
const lz4There = lz4Version.error === undefined && lz4Version.status === 0;
const lz4Title = lz4There ? '' : ' (skipped: no lz4 program here)';
const withLz4 = lz4There ? test : test.skip;

withLz4(`the lz4 program reads the frames of both codecs${lz4Title}`, (t) => {
  for (const raw of [
    textBytes(300),
    textBytes(65536),
    textBytes(65537),
    textBytes(MAX_CHUNK),
    groupBytes(float32Bytes(40000)),
  ]) {
    for (const encode of [compressLz4, encodeTypescript]) {
      const { status, stdout } = spawnSync('lz4', ['-d', '-c'], { input: encode(raw), maxBuffer: 1 << 20 });
      t.is(status, 0);
      t.is(Buffer.compare(stdout, raw), 0);
    }
  }
});

withLz4(`frames of the lz4 program decode, whatever its options${lz4Title}`, (t) => {
  const raw = Buffer.concat([textBytes(50000), randomBytes(30000), textBytes(51072, 9)]);
  for (const options of [
    '-1',
    '-9',
    '-B4',
    '-B5',
    '-B7',
    '-B4 -BD',
    '-B4 -BX',
    '--content-size',
    '--no-frame-crc',
    '-B4 -BD -BX --content-size',
  ]) {
    const { status, stdout } = spawnSync('lz4', ['-z', '-c', ...options.split(' ')], {
      input: raw,
      maxBuffer: 1 << 20,
    });
    t.is(status, 0, options);
    for (const decode of [decompressLz4, decodeTypescript])
      t.is(Buffer.compare(decode(stdout, raw.length), raw), 0, options);
  }
});

// Schemes

test('a chunk decodes to what went in, in every mode, and no payload is as long as its chunk', (t) => {
  fc.assert(
    fc.property(
      fc.oneof(mixedBytes, fc.uint8Array({ minLength: 1, maxLength: 3000 })),
      fc.constantFrom<CompressionMode>('auto', 'none', 'lz4', 'bg4-lz4'),
      (raw, mode) => {
        const { scheme, payload } = compressChunk(raw, mode);
        if (payload === undefined) return scheme === SCHEME_NONE;
        return (
          payload.length < raw.length &&
          Buffer.compare(decompressChunk(scheme, payload, raw.length), raw) === 0
        );
      },
    ),
    { numRuns: 300 },
  );
  t.pass();
});

test('the mode decides the scheme', (t) => {
  const text = textBytes(20000);
  t.is(compressChunk(text, 'none').scheme, SCHEME_NONE);
  t.is(compressChunk(text, 'auto').scheme, SCHEME_LZ4);
  t.is(compressChunk(text, 'lz4').scheme, SCHEME_LZ4);
  t.is(compressChunk(text, 'bg4-lz4').scheme, SCHEME_BG4_LZ4);
  const floats = float32Bytes(65536);
  t.is(compressChunk(floats, 'lz4').scheme, SCHEME_NONE, 'does not shrink');
  t.is(compressChunk(floats, 'bg4-lz4').scheme, SCHEME_BG4_LZ4);
  t.deepEqual(
    [0, 1, 2].map((scheme) => schemeName(scheme as 0 | 1 | 2)),
    ['none', 'lz4', 'bg4-lz4'],
  );
});

const autoTries = test.macro({
  exec(t, bytes: Uint8Array, tries: boolean) {
    t.is(lz4Pays(bytes), tries);
    t.is(compressChunk(bytes, 'auto').scheme, tries ? SCHEME_LZ4 : SCHEME_NONE);
  },
  title: (what = '', _bytes, tries) => `auto ${tries ? 'compresses' : 'stores raw'}: ${what}`,
});

test('random bytes', autoTries, randomBytes(65536), false);
test('random bytes of the largest chunk', autoTries, randomBytes(MAX_CHUNK, 77), false);
test('float32 values', autoTries, float32Bytes(65536), false);
test('float32 values at an odd offset', autoTries, float32Bytes(65536).subarray(1), false);
test('bfloat16 values', autoTries, bfloat16Bytes(65536), false);
test(
  'bytes of a narrow bell curve',
  autoTries,
  Uint8Array.from(gaussians(65536), (x) => 128 + 1500 * x),
  false,
);
test(
  'float32 values rounded to bfloat16',
  autoTries,
  float32Bytes(65536).map((byte, i) => (i % 4 < 2 ? 0 : byte)),
  false,
);
test('random base64', autoTries, Buffer.from(Buffer.from(randomBytes(49152)).toString('base64')), false);
test('text', autoTries, textBytes(65536), true);
test('text in a small chunk', autoTries, textBytes(300), true);
test('zeros', autoTries, new Uint8Array(65536), true);
test('random bytes with a hole', autoTries, randomBytes(65536).fill(0, 20000, 30000), true);
test(
  'JSON',
  autoTries,
  Buffer.from(JSON.stringify(Array.from(gaussians(4000), (x, id) => ({ id, weight: x })))).subarray(
    0,
    MAX_CHUNK,
  ),
  true,
);
test(
  'records of 256 bytes with a constant head',
  autoTries,
  randomBytes(65536).map((byte, i) => (i % 256 < 64 ? 7 : byte)),
  true,
);

test('views over shared memory compress and decode', (t) => {
  const shared = new Uint8Array(new SharedArrayBuffer(40000)).subarray(100, 30100);
  shared.set(textBytes(30000));
  for (const mode of ['lz4', 'bg4-lz4'] as const) {
    const { scheme, payload } = compressChunk(shared, mode);
    const stored = new Uint8Array(new SharedArrayBuffer((payload as Uint8Array).length));
    stored.set(payload as Uint8Array);
    t.is(Buffer.compare(decompressChunk(scheme, stored, 30000), shared), 0);
  }
});

test('decompressing checks scheme and length', (t) => {
  const raw = Uint8Array.of(1, 2, 3);
  t.is(decompressChunk(SCHEME_NONE, raw, 3), raw, 'no copy');
  for (const length of [0, 2, 4, MAX_CHUNK + 1, -1, 1.5, Number.NaN]) {
    t.throws(() => decompressChunk(SCHEME_NONE, raw, length), {
      instanceOf: FormatError,
      code: 'INVALID_XORB',
    });
  }
  for (const scheme of [3, 99, -1]) {
    t.throws(() => decompressChunk(scheme, raw, 3), {
      instanceOf: FormatError,
      message: /unknown compression scheme/,
    });
  }
  const payload = compressChunk(new Uint8Array(5000), 'bg4-lz4').payload as Uint8Array;
  t.throws(() => decompressChunk(SCHEME_BG4_LZ4, payload, 4999), {
    instanceOf: FormatError,
    code: 'INVALID_LZ4',
  });
});

test('the predictor of the reference client groups floats and not text', (t) => {
  t.is(chooseSchemeByKl(float32Bytes(65536)), SCHEME_BG4_LZ4);
  t.is(chooseSchemeByKl(bfloat16Bytes(65536)), SCHEME_BG4_LZ4);
  t.is(chooseSchemeByKl(randomBytes(65536)), SCHEME_LZ4);
  t.is(chooseSchemeByKl(textBytes(65536)), SCHEME_LZ4);
  t.is(chooseSchemeByKl(new Uint8Array(0)), SCHEME_LZ4);
});

test('a byte position with an empty bin has no vote in the predictor', (t) => {
  // Positions 0 to 2 hold 0 and 255 only, so they have empty bins; position 3 is like the whole.
  const skewed = Uint8Array.from({ length: 40000 }, (_, i) => (i % 4 === 0 ? 255 : 0));
  t.is(chooseSchemeByKl(skewed), SCHEME_LZ4);
  // One byte of every popcount in position 0 fills its bins, and it differs from the rest.
  for (let ones = 0; ones < 9; ones++) skewed[4 * ones] = 2 ** ones - 1;
  t.is(chooseSchemeByKl(skewed), SCHEME_BG4_LZ4);
});
