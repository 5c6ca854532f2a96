import test from 'ava';
import fc from 'fast-check';
import { formatPart, parsePart } from '../../src/filter-process/part-line.ts';
import type { FilePart } from '../../src/xet/transfer/file-part.ts';

const bytes = { offset: fc.maxSafeNat(), size: fc.maxSafeNat() };
const hash = fc.uint8Array({ minLength: 32, maxLength: 32 });
const count = fc.nat(99_999_999);
const part: fc.Arbitrary<FilePart> = fc.oneof(
  fc.record({ ...bytes, kind: fc.constant('file' as const), hash }),
  fc.record({ ...bytes, kind: fc.constant('xorb' as const), hash, start: count, end: count }),
);

test('what was written of a part is read again', (t) => {
  fc.assert(
    fc.property(part, (one) => {
      const { hash: read, ...rest } = parsePart(formatPart(one)) as FilePart;
      t.deepEqual({ ...rest, hash: Uint8Array.from(read) }, one);
    }),
  );
});

test('a line that is none is nothing, whatever it is', (t) => {
  const name = 'a'.repeat(64);
  for (const line of [
    '',
    `0 1 file ${name} `,
    `0 1 file ${name.toUpperCase()}`,
    `0 1 file ${name.slice(1)}`,
    `-1 1 file ${name}`,
    `0 1 xorb ${name}`,
    `0 1 xorb ${name} 1`,
    `0 1 xorb ${name} 1 2 3`,
    `0 12345678901234567 file ${name}`,
    `0 1 shard ${name}`,
  ])
    t.is(parsePart(line), undefined, line);
  fc.assert(fc.property(fc.string(), (line) => t.is(parsePart(line), undefined)));
});
