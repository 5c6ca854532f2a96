import test from 'ava';
import fc from 'fast-check';
import {
  type ByteRange,
  formatContentRange,
  formatRange,
  MultipartWriter,
  multipartBoundary,
  parseContentRange,
  parseRange,
  readMultipart,
} from '../../../src/xet/cas/range.ts';
import { randomBytes } from '../../helpers/xet-sandbox.ts';

const MAX = '340282366920938463463374607431768211455';

for (const [header, expected] of [
  [undefined, undefined],
  ['', undefined],
  ['bytes=0-9', [[0, 10]]],
  [
    'Bytes = 0-9 , 20-29',
    [
      [0, 10],
      [20, 30],
    ],
  ],
  ['bytes=90-', [[90, 100]]],
  ['bytes=-10', [[90, 100]]],
  ['bytes=-1000', [[0, 100]]],
  ['bytes=-0', []],
  ['bytes=50-1000', [[50, 100]]],
  [`bytes=50-${MAX}`, [[50, 100]]],
  [`bytes=${MAX}-${MAX}`, []],
  [`bytes=-${MAX}`, [[0, 100]]],
  ['bytes=100-', []],
  ['bytes=100-200,0-0', [[0, 1]]],
  ['bytes=9-0', undefined],
  ['bytes=9-0,1-2', undefined],
  ['bytes=,,0-1', [[0, 2]]],
  ['bytes=', undefined],
  ['bytes=,', undefined],
  ['bytes=-', undefined],
  ['bytes=a-b', undefined],
  ['bytes=0x1-2', undefined],
  ['bytes=1.5-2', undefined],
  ['bytes=--1', undefined],
  ['items=0-9', undefined],
  [`bytes=${'0-0,'.repeat(2000)}`, undefined],
] as const) {
  test(`Range ${JSON.stringify(header)?.slice(0, 60)} of 100 bytes`, (t) => {
    t.deepEqual(
      parseRange(header, 100),
      expected?.map(([start, end]) => ({ start, end })),
    );
  });
}

test('nothing of something empty can be given', (t) => {
  t.deepEqual(parseRange('bytes=0-0', 0), []);
  t.deepEqual(parseRange('bytes=-5', 0), []);
});

for (const [header, expected] of [
  ['bytes 0-9/100', { start: 0, end: 10, total: 100 }],
  ['BYTES 5-5/*', { start: 5, end: 6, total: undefined }],
  ['bytes 9-0/100', undefined],
  ['bytes 0-100/100', undefined],
  ['bytes */100', undefined],
  ['bytes 0-9007199254740991/*', undefined],
  [`bytes 0-1/${MAX}`, undefined],
  ['bytes=0-9/100', undefined],
  [undefined, undefined],
] as const) {
  test(`Content-Range ${header}`, (t) => t.deepEqual(parseContentRange(header), expected));
}

const ranges = fc
  .array(fc.tuple(fc.nat(5000), fc.integer({ min: 1, max: 3000 })), { minLength: 1, maxLength: 20 })
  .map((list) => list.map(([start, size]): ByteRange => ({ start, end: Math.min(8000, start + size) })));

test('ranges are read as they are written', (t) => {
  fc.assert(
    fc.property(ranges, (list) => {
      t.deepEqual(parseRange(formatRange(list), 8000), list);
      for (const range of list) {
        t.deepEqual(parseContentRange(formatContentRange(range, 8000)), { ...range, total: 8000 });
      }
    }),
  );
});

const WHOLE = randomBytes(1, 8000);

function write(list: readonly ByteRange[]): { body: Buffer; boundary: string; length: number } {
  const writer = new MultipartWriter(list, WHOLE.length);
  const parts = list.flatMap(({ start, end }, i) => [writer.head(i), WHOLE.subarray(start, end)]);
  const boundary = multipartBoundary(writer.contentType) as string;
  return { body: Buffer.concat([...parts, writer.tail]), boundary, length: writer.contentLength };
}

async function* sliced(body: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < body.length; at += size) yield body.subarray(at, at + size);
}

test('several ranges are read as they are written, however the body is cut', async (t) => {
  await fc.assert(
    fc.asyncProperty(ranges, fc.integer({ min: 1, max: 5000 }), async (list, size) => {
      const { body, boundary, length } = write(list);
      t.is(body.length, length);
      const pieces: [number, Buffer][] = [];
      for await (const { offset, bytes } of readMultipart(sliced(body, size), boundary))
        pieces.push([offset, bytes]);
      for (const [offset, bytes] of pieces)
        t.true(WHOLE.subarray(offset, offset + bytes.length).equals(bytes));
      const expected = Buffer.concat(list.map(({ start, end }) => WHOLE.subarray(start, end)));
      t.true(Buffer.concat(pieces.map(([, bytes]) => bytes)).equals(expected));
    }),
    { numRuns: 60 },
  );
});

test('a multipart body that is cut anywhere before its end is an error', async (t) => {
  const { body, boundary } = write([
    { start: 0, end: 20 },
    { start: 100, end: 130 },
  ]);
  // Without its last line end it is whole.
  for (let length = 0; length < body.length - 2; length++) {
    await t.throwsAsync(
      async () => {
        for await (const _ of readMultipart(sliced(body.subarray(0, length), 7), boundary));
      },
      { code: 'REMOTE_INVALID' } as never,
      `${length} of ${body.length} bytes`,
    );
  }
});

test('random bytes are an error or nothing, never more bytes than there were', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (noise) => {
      const body = Buffer.concat([Buffer.from('--B\r\n'), noise]);
      let bytes = 0;
      try {
        for await (const piece of readMultipart(sliced(body, 50), 'B')) bytes += piece.bytes.length;
      } catch (error) {
        t.is((error as { code?: string }).code, 'REMOTE_INVALID');
      }
      t.true(bytes <= noise.length);
    }),
  );
});

test('boundaries are read in all their forms', (t) => {
  t.is(multipartBoundary('multipart/byteranges; boundary=abc'), 'abc');
  t.is(multipartBoundary('Multipart/ByteRanges;charset=x; BOUNDARY="a b;c"'), 'a b;c');
  for (const type of [
    undefined,
    'multipart/mixed; boundary=abc',
    'multipart/byteranges',
    'multipart/byteranges; boundary=',
  ]) {
    t.is(multipartBoundary(type), undefined, type);
  }
});
