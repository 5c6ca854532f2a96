import test from 'ava';
import fc from 'fast-check';
import { Git2dbError } from '../../src/xet/errors.ts';
import { formatLfsPointer } from '../../src/xet/pointer/lfs-pointer.ts';
import { POINTER_MAX, type Pointer, sniffPointer } from '../../src/xet/pointer/sniff.ts';
import { formatPointer } from '../../src/xet/pointer/xet-pointer.ts';

const HASH = '0123456789abcdef'.repeat(4);
const OTHER = 'fedcba9876543210'.repeat(4);
const OWN = `{"version":"1.0","filesize":1234,"hash":"${HASH}"}`;
const JSON_FULL = `{"hash":"${HASH}","file_size":1234,"sha256":"${OTHER}"}`;
const TOML = `# xet version 0\nfilesize = 1234\nhash = '${HASH}'\n`;
const LFS = `version https://git-lfs.github.com/spec/v1\noid sha256:${OTHER}\nsize 1234\n`;
const EXT = `ext-0-foo sha256:${HASH}\next-1-bar_2 sha256:${HASH}\n`;

const hashes = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((bytes) => Buffer.from(bytes).toString('hex'));
const sizes = fc.oneof(fc.nat(), fc.maxSafeNat());

function sniff(text: string | Uint8Array): Pointer | undefined {
  return sniffPointer(typeof text === 'string' ? Buffer.from(text, 'utf8') : text);
}

test('a pointer is one line of exactly these bytes', (t) => {
  t.is(formatPointer(HASH, 1234).toString(), `${OWN}\n`);
  t.is(formatPointer(HASH, 0).toString(), `{"version":"1.0","filesize":0,"hash":"${HASH}"}\n`);
  t.is(formatPointer(HASH, Number.MAX_SAFE_INTEGER).length, 120);
});

test('an LFS pointer is three lines of exactly these bytes', (t) => {
  t.is(formatLfsPointer(OTHER, 1234).toString(), LFS);
});

test('what is formatted is read back', (t) => {
  fc.assert(
    fc.property(hashes, sizes, (hash, size) => {
      t.deepEqual(sniffPointer(formatPointer(hash, size)), { kind: 'xet', hash, size, canonical: true });
      t.deepEqual(sniffPointer(formatLfsPointer(hash, size)), { kind: 'lfs', sha256: hash, size });
    }),
  );
});

test('hashes and sizes that no pointer can hold are refused', (t) => {
  for (const format of [formatPointer, formatLfsPointer]) {
    for (const hash of [
      '',
      HASH.slice(1),
      `${HASH}0`,
      HASH.toUpperCase(),
      `${HASH.slice(1)}g`,
      `${HASH.slice(1)}\n`,
      `${HASH}\n`,
    ]) {
      t.throws(() => format(hash, 1), { instanceOf: Git2dbError, code: 'INVALID_POINTER' });
    }
    for (const size of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
      t.throws(() => format(HASH, size), { instanceOf: Git2dbError, code: 'INVALID_POINTER' });
    }
  }
});

const reads = test.macro({
  exec(t, text: string, pointer: Pointer) {
    t.deepEqual(sniff(text), pointer);
    const shared = new Uint8Array(new SharedArrayBuffer(text.length + 6)).subarray(3, 3 + text.length);
    shared.set(Buffer.from(text));
    t.deepEqual(sniff(shared), pointer);
  },
  title: (what = '') => `read as a pointer: ${what}`,
});

const own: Pointer = { kind: 'xet', hash: HASH, size: 1234, canonical: true };
test('our own', reads, `${OWN}\n`, own);
test('our own with CRLF', reads, `${OWN}\r\n`, { ...own, canonical: false });
test('our own without its final newline', reads, OWN, { ...own, canonical: false });
test('our own of no bytes', reads, `${OWN.replace('1234', '0')}\n`, { ...own, size: 0 });
test('our own of the largest size', reads, `${OWN.replace('1234', '9007199254740991')}\n`, {
  ...own,
  size: Number.MAX_SAFE_INTEGER,
});
test('JSON of xet-core with SHA-256', reads, JSON_FULL, {
  kind: 'xet-json',
  hash: HASH,
  size: 1234,
  sha256: OTHER,
});
test('JSON of xet-core with a final newline', reads, `${JSON_FULL}\n`, {
  kind: 'xet-json',
  hash: HASH,
  size: 1234,
  sha256: OTHER,
});
test('JSON of xet-core without SHA-256', reads, `{"hash":"${HASH}","file_size":0}`, {
  kind: 'xet-json',
  hash: HASH,
  size: 0,
});
test('TOML in single quotes', reads, TOML, { kind: 'xet-toml', hash: HASH, size: 1234 });
test('TOML in double quotes', reads, TOML.replaceAll("'", '"'), { kind: 'xet-toml', hash: HASH, size: 1234 });
test('LFS', reads, LFS, { kind: 'lfs', sha256: OTHER, size: 1234 });
test('LFS with extensions', reads, LFS.replace('oid', `${EXT}oid`), {
  kind: 'lfs',
  sha256: OTHER,
  size: 1234,
});

const content = test.macro({
  exec(t, text: string | Uint8Array) {
    t.is(sniff(text), undefined);
  },
  title: (what = '') => `content, not a pointer: ${what}`,
});

test('nothing', content, '');
test('a newline', content, '\n');
test('a brace', content, '{');

// Deviations from our own form
for (const [what, text] of Object.entries({
  'a BOM': `\ufeff${OWN}\n`,
  'a trailing space': `${OWN} \n`,
  'a second newline': `${OWN}\n\n`,
  'CRLF twice': `${OWN}\r\n\r\n`,
  'a lone carriage return': `${OWN}\r`,
  'a newline and a carriage return': `${OWN}\n\r`,
  'a trailing NUL': `${OWN}\n\0`,
  'a leading newline': `\n${OWN}\n`,
  'a leading space': ` ${OWN}\n`,
  'white space after a colon': `${OWN.replace(':', ': ')}\n`,
  'white space after a comma': `${OWN.replace(',', ', ')}\n`,
  'white space inside the braces': `${OWN.replace('{', '{ ')}\n`,
  'several lines': `${OWN.replaceAll(',', ',\n')}\n`,
  'another version': `${OWN.replace('1.0', '1.1')}\n`,
  'a version that only looks the same': `${OWN.replace('1.0', '1x0')}\n`,
  'a version number': `${OWN.replace('"1.0"', '1.0')}\n`,
  'no version': `{"filesize":1234,"hash":"${HASH}"}\n`,
  'an extra key at the end': `${OWN.replace('}', ',"x":1}')}\n`,
  'an extra key at the start': `${OWN.replace('{', '{"x":1,')}\n`,
  'a key twice': `${OWN.replace('"hash"', '"filesize":1234,"hash"')}\n`,
  'another order of the keys': `{"version":"1.0","hash":"${HASH}","filesize":1234}\n`,
  'another key': `${OWN.replace('filesize', 'file_size')}\n`,
  'an upper-case key': `${OWN.replace('hash', 'Hash')}\n`,
  'an upper-case hash': `${OWN.replace(HASH, HASH.toUpperCase())}\n`,
  'a hash of 63 digits': `${OWN.replace(HASH, HASH.slice(1))}\n`,
  'a hash of 65 digits': `${OWN.replace(HASH, `${HASH}0`)}\n`,
  'a hash with another letter': `${OWN.replace('abcdef', 'abcdeg')}\n`,
  'an escaped hash': `${OWN.replace('0123', '\\u0030123')}\n`,
  'single quotes': `${OWN.replaceAll('"', "'")}\n`,
  'a negative size': `${OWN.replace('1234', '-1234')}\n`,
  'a size with a sign': `${OWN.replace('1234', '+1234')}\n`,
  'a size with leading zeros': `${OWN.replace('1234', '01234')}\n`,
  'a fractional size': `${OWN.replace('1234', '1234.0')}\n`,
  'an exponent': `${OWN.replace('1234', '1e3')}\n`,
  'a size in quotes': `${OWN.replace('1234', '"1234"')}\n`,
  'a size of 2^53': `${OWN.replace('1234', '9007199254740992')}\n`,
  'a size of 2^64': `${OWN.replace('1234', '18446744073709551616')}\n`,
  'no size': `${OWN.replace('1234', '')}\n`,
  'a missing brace': `${OWN.slice(0, -1)}\n`,
  'two pointers': `${OWN}\n${OWN}\n`,
})) {
  test(`our own form with ${what}`, content, text);
}
test('our own form in UTF-16', content, Buffer.from(`${OWN}\n`, 'utf16le'));
test('our own form with a byte above ASCII', content, Buffer.concat([Buffer.from(OWN), Uint8Array.of(0x85)]));
test('our own form with a digit above ASCII', content, `${OWN.replace('1234', '\u0661')}\n`);

for (const [what, text] of Object.entries({
  CRLF: `${JSON_FULL}\r\n`,
  'white space': JSON_FULL.replaceAll(':', ': '),
  'another order of the keys': `{"file_size":1234,"hash":"${HASH}"}`,
  'no size': `{"hash":"${HASH}"}`,
  'a null SHA-256': `{"hash":"${HASH}","file_size":1234,"sha256":null}`,
  'a SHA-256 but no size': `{"hash":"${HASH}","sha256":"${OTHER}"}`,
  'an upper-case SHA-256': JSON_FULL.replace(OTHER, OTHER.toUpperCase()),
  'an upper-case hash': JSON_FULL.replace(HASH, HASH.toUpperCase()),
  'an extra key': JSON_FULL.replace('}', ',"x":1}'),
  'a size of 2^53': JSON_FULL.replace('1234', '9007199254740992'),
  'trailing bytes': `${JSON_FULL}\n\n`,
  'a BOM': `\ufeff${JSON_FULL}`,
})) {
  test(`JSON of xet-core with ${what}`, content, text);
}

for (const [what, text] of Object.entries({
  CRLF: TOML.replaceAll('\n', '\r\n'),
  'no final newline': TOML.slice(0, -1),
  'another first line': TOML.replace('version 0', 'version 1'),
  'a space after the first line': TOML.replace('version 0', 'version 0 '),
  'no first line': TOML.slice('# xet version 0\n'.length),
  'a blank line': TOML.replace('\nhash', '\n\nhash'),
  'an extra key': `${TOML}x = 1\n`,
  'a comment': `${TOML}# comment\n`,
  'another order of the keys': `# xet version 0\nhash = '${HASH}'\nfilesize = 1234\n`,
  'unlike quotes': TOML.replace("'\n", '"\n'),
  'triple quotes': TOML.replaceAll("'", "'''"),
  'a negative size': TOML.replace('1234', '-1234'),
  'underscores in the size': TOML.replace('1234', '1_234'),
  'a hexadecimal size': TOML.replace('1234', '0x4d2'),
  'a fractional size': TOML.replace('1234', '1234.0'),
  'a size of 2^53': TOML.replace('1234', '9007199254740992'),
  'an upper-case hash': TOML.replace(HASH, HASH.toUpperCase()),
  'a hash of 63 digits': TOML.replace(HASH, HASH.slice(1)),
  '150 bytes': `${TOML}${'#'.repeat(149 - TOML.length)}\n`,
})) {
  test(`TOML with ${what}`, content, text);
}
test('TOML that is not UTF-8', content, Buffer.concat([Buffer.from(TOML), Uint8Array.of(0xff)]));

for (const [what, text] of Object.entries({
  CRLF: LFS.replaceAll('\n', '\r\n'),
  'no final newline': LFS.slice(0, -1),
  'another version': LFS.replace('v1', 'v2'),
  'the old version line': LFS.replace('git-lfs.github.com/spec/v1', 'hawser.github.com/spec/v1'),
  'http in the version': LFS.replace('https', 'http'),
  'size before oid': `version https://git-lfs.github.com/spec/v1\nsize 1234\noid sha256:${OTHER}\n`,
  'another hash': LFS.replace('sha256:', 'sha512:'),
  'an upper-case oid': LFS.replace(OTHER, OTHER.toUpperCase()),
  'an oid of 63 digits': LFS.replace(OTHER, OTHER.slice(1)),
  'a negative size': LFS.replace('1234', '-1'),
  'leading zeros in the size': LFS.replace('1234', '01234'),
  'a size of 2^53': LFS.replace('1234', '9007199254740992'),
  'no size': LFS.replace(/size.*\n/, ''),
  'an extra key': `${LFS}x 1\n`,
  'a key that is no extension before oid': LFS.replace('oid', 'note x\noid'),
  'two spaces': LFS.replace('size ', 'size  '),
  'a trailing newline': `${LFS}\n`,
  'a BOM': `\ufeff${LFS}`,
  'extensions out of order': LFS.replace('oid', `ext-1-a sha256:${HASH}\next-0-b sha256:${HASH}\noid`),
  'two extensions of one priority': LFS.replace('oid', `ext-1-a sha256:${HASH}\next-1-b sha256:${HASH}\noid`),
  'an extension after oid': LFS.replace('size', `ext-0-a sha256:${HASH}\nsize`),
  'an extension of two digits': LFS.replace('oid', `ext-10-a sha256:${HASH}\noid`),
  'an extension without name': LFS.replace('oid', `ext-0- sha256:${HASH}\noid`),
})) {
  test(`LFS with ${what}`, content, text);
}

test('an LFS pointer of 1023 bytes is read, one of 1024 is content', (t) => {
  const padded = (length: number): string => {
    const line = (name: string) => `ext-0-${name} sha256:${HASH}\n`;
    return LFS.replace('oid', `${line('n'.repeat(length - LFS.length - line('').length))}oid`);
  };
  t.is(padded(1023).length, 1023);
  t.is(sniff(padded(1023))?.kind, 'lfs');
  t.is(sniff(padded(1024)), undefined);
});

test('content of more than 1024 bytes is never looked into', (t) => {
  t.is(POINTER_MAX, 1024);
  t.is(sniff(OWN + ' '.repeat(POINTER_MAX)), undefined);
  t.is(sniff(new Uint8Array(1 << 20).fill(0x7b)), undefined);
});

test('every proper beginning of a pointer is content, but for the final newline', (t) => {
  for (const text of [`${OWN}\n`, JSON_FULL, TOML, LFS]) {
    for (let length = 0; length < text.length; length++) {
      const found = sniff(text.slice(0, length));
      t.is(found !== undefined, text.slice(0, length) === OWN, `${length} bytes of ${text}`);
    }
  }
});

test('a changed byte makes content, or a pointer of another hash or size', (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(`${OWN}\n`, JSON_FULL, TOML, LFS),
      fc.nat(),
      fc.nat(255),
      (text, at, byte) => {
        const bytes = Buffer.from(text);
        const position = at % bytes.length;
        const digit = /[0-9a-f]/.test(text[position] as string);
        bytes[position] = byte;
        const found = sniffPointer(bytes);
        return found === undefined || digit || bytes.toString('latin1') === text;
      },
    ),
    { numRuns: 3000 },
  );
  t.pass();
});

test('any bytes are content or a pointer, never an error', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 1100 }), (bytes) => sniffPointer(bytes) === undefined),
    { numRuns: 500 },
  );
  t.pass();
});
