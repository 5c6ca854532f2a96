import { readFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { type AttributeFields, emptyAttributes } from '../../src/mount-helper/fuse/answers.ts';
import { getInt64, getUint64, nameEnd, stringEnd } from '../../src/mount-helper/fuse/decode.ts';
import {
  DirectoryEncoder,
  encodeAttributesAnswer,
  encodeAttributesNotice,
  encodeEntry,
  encodeOpen,
  encodeStatistics,
  NOTICE_SIZE,
  putUint64,
} from '../../src/mount-helper/fuse/encode.ts';
import type { EntryAnswer } from '../../src/mount-helper/fuse/file-system.ts';
import { answerInit } from '../../src/mount-helper/fuse/init.ts';
import { INIT } from '../../src/mount-helper/fuse/opcodes.ts';
import {
  EINVAL,
  ENAMETOOLONG,
  EPROTO,
  errnoMessage,
  errnoName,
} from '../../src/mount-helper/system/errno.ts';
import { attributesOf, fieldsOf } from './helpers/attributes.ts';
import { frameOf, request, u32 } from './helpers/frames.ts';

interface Vectors {
  readonly entry: string;
  readonly attributes: string;
  readonly open: string;
  readonly statistics: string;
  readonly init: string;
}

// Structures filled by a C program with the kernel's own header, in hexadecimal.
const vectors = JSON.parse(readFileSync('test/vectors/fuse-structures.json', 'utf8')) as Vectors;

const KNOWN = attributesOf({
  ino: 0x1122334455667788n,
  size: 0x0102030405,
  blocks: 0x0607,
  atime: -2,
  atimeNs: 999_999_999,
  mtime: 1_700_000_000,
  mtimeNs: 1,
  ctime: 2 ** 33,
  ctimeNs: 500_000_000,
  mode: 0o100644,
  nlink: 3,
  uid: 1000,
  gid: 0xfffffffe,
  rdev: 0x801,
  blksize: 4096,
});

const KNOWN_ENTRY: EntryAnswer = {
  node: 42,
  generation: 7,
  entryTimeoutMs: 1500,
  attributesTimeoutMs: 250,
  attributes: KNOWN,
};

function encoded(size: number, encode: (words: Uint32Array) => unknown): string {
  const bytes = Buffer.alloc(size, 0xee);
  encode(new Uint32Array(bytes.buffer, bytes.byteOffset, size / 4));
  return bytes.toString('hex');
}

test("answers lie in memory as the kernel's header has them", (t) => {
  t.is(
    encoded(128, (words) => encodeEntry(words, 0, KNOWN_ENTRY)),
    vectors.entry,
  );
  t.is(
    encoded(104, (words) => encodeAttributesAnswer(words, 0, { timeoutMs: 1500, attributes: KNOWN })),
    vectors.attributes,
  );
  t.is(
    encoded(16, (words) => encodeOpen(words, 0, { handle: 2 ** 40 + 5, flags: 130, backingId: 9 })),
    vectors.open,
  );
  const statistics = {
    blocks: 1e12,
    bfree: 2,
    bavail: 3,
    files: 4,
    ffree: 5,
    bsize: 4096,
    namelen: 255,
    frsize: 512,
  };
  t.is(
    encoded(80, (words) => encodeStatistics(words, 0, statistics)),
    vectors.statistics,
  );
});

const someAttributes = fc.record<AttributeFields>({
  ino: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  size: fc.maxSafeNat(),
  blocks: fc.maxSafeNat(),
  atime: fc.maxSafeInteger(),
  atimeNs: fc.nat(999_999_999),
  mtime: fc.maxSafeInteger(),
  mtimeNs: fc.nat(999_999_999),
  ctime: fc.maxSafeInteger(),
  ctimeNs: fc.nat(999_999_999),
  mode: fc.nat(0o177777),
  nlink: fc.nat(),
  uid: fc.nat(2 ** 32 - 1),
  gid: fc.nat(2 ** 32 - 1),
  rdev: fc.nat(2 ** 32 - 1),
  blksize: fc.nat(),
});

test('attributes read back as they were written, whatever their values', (t) => {
  fc.assert(
    fc.property(someAttributes, (fields) => {
      const attributes = attributesOf(fields);
      t.deepEqual(fieldsOf(attributes), fields);
      const view = new DataView(attributes.words.buffer);
      const seconds = (at: number) => Number(view.getBigInt64(at, true));
      t.deepEqual(
        {
          ino: view.getBigUint64(0, true),
          size: seconds(8),
          blocks: seconds(16),
          atime: seconds(24),
          mtime: seconds(32),
          ctime: seconds(40),
          atimeNs: view.getUint32(48, true),
          mtimeNs: view.getUint32(52, true),
          ctimeNs: view.getUint32(56, true),
          mode: view.getUint32(60, true),
          nlink: view.getUint32(64, true),
          uid: view.getUint32(68, true),
          gid: view.getUint32(72, true),
          rdev: view.getUint32(76, true),
          blksize: view.getUint32(80, true),
        },
        fields,
      );
    }),
  );
});

test('64-bit numbers read back as they were written', (t) => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), (value) => {
      const view = new DataView(new ArrayBuffer(16));
      putUint64(new Uint32Array(view.buffer), 8, value);
      t.is(getInt64(view, 8), value);
      t.is(view.getBigInt64(8, true), BigInt(value));
      if (value >= 0) t.is(getUint64(view, 8), value);
    }),
  );
});

test('a cache time without end is one that the kernel can add to its clock', (t) => {
  const view = new DataView(new ArrayBuffer(128));
  const entry = { ...KNOWN_ENTRY, entryTimeoutMs: Number.POSITIVE_INFINITY, attributesTimeoutMs: 0 };
  encodeEntry(new Uint32Array(view.buffer), 0, entry);
  t.true(view.getBigUint64(16, true) > 10n ** 9n);
  t.true(view.getBigUint64(16, true) < 10n ** 12n);
  t.is(view.getUint32(32, true), 0);
  t.is(view.getBigUint64(24, true), 0n);
});

const nameMacro = test.macro({
  exec: (t, bytes: string, expected: number) => {
    const frame = frameOf(Buffer.from(bytes, 'latin1'));
    t.is(nameEnd(frame, 0), expected);
  },
  title: (description) => `a name: ${description}`,
});

test('ends after its NUL', nameMacro, 'file\0rest', 5);
test('may be of bytes that are no text', nameMacro, '\xff\xfe\0', 3);
test('may begin with dots', nameMacro, '...\0', 4);
test('may be a dot and something', nameMacro, '.a\0', 3);
test('may be something and a dot', nameMacro, 'a.\0', 3);
test('is refused when it is empty', nameMacro, '\0', -EINVAL);
test('is refused when it is the directory itself', nameMacro, '.\0', -EINVAL);
test('is refused when it is the parent', nameMacro, '..\0', -EINVAL);
test('is refused with a slash', nameMacro, 'a/b\0', -EINVAL);
test('is refused without its NUL', nameMacro, 'name', -EINVAL);
test('may have 255 bytes', nameMacro, `${'x'.repeat(255)}\0`, 256);
test('is too long with 256', nameMacro, `${'x'.repeat(256)}\0`, -ENAMETOOLONG);

test('a name is not looked for beyond the bytes that were read', (t) => {
  const bytes = Buffer.from('abc\0');
  t.is(nameEnd(frameOf(bytes, 3), 0), -EINVAL);
  t.is(stringEnd(frameOf(bytes, 3), 0), -1);
  t.is(stringEnd(frameOf(bytes, 4), 0), 4);
  t.is(stringEnd(frameOf(bytes, 4), 9), -1);
});

interface Dirent {
  readonly name: Uint8Array;
  readonly ino: bigint;
  readonly type: number;
  readonly next: number;
}

function parseDirents(bytes: Buffer, withEntries: boolean): (Dirent & { node: number })[] {
  const found: (Dirent & { node: number })[] = [];
  let at = 0;
  while (at < bytes.length) {
    const node = withEntries ? Number(bytes.readBigUInt64LE(at)) : 0;
    if (withEntries) at += 128;
    const length = bytes.readUInt32LE(at + 16);
    const end = (at + 24 + length + 7) & ~7;
    const name = new Uint8Array(bytes.subarray(at + 24, at + 24 + length));
    for (const padding of bytes.subarray(at + 24 + length, end))
      if (padding !== 0) throw new Error('padding');
    const next = Number(bytes.readBigUInt64LE(at + 8));
    found.push({ node, name, ino: bytes.readBigUInt64LE(at), type: bytes.readUInt32LE(at + 20), next });
    at = end;
  }
  return found;
}

test('a directory reply has the entries that fit, whole, and says which did not', (t) => {
  const dirent = fc.record<Dirent>({
    name: fc.uint8Array({ minLength: 1, maxLength: 255 }),
    ino: fc.bigInt({ min: 1n, max: 2n ** 63n }),
    type: fc.nat(15),
    next: fc.maxSafeNat(),
  });
  fc.assert(
    fc.property(fc.array(dirent), fc.nat(4096), fc.boolean(), (dirents, size, withEntries) => {
      const bytes = Buffer.alloc(16 + 4096 + 64, 0xee);
      const encoder = new DirectoryEncoder(bytes);
      encoder.begin(16, size, withEntries);
      const entry: EntryAnswer = { ...KNOWN_ENTRY, attributes: emptyAttributes() };
      const taken = dirents.filter((dirent, i) => {
        entry.attributes.ino = dirent.ino;
        entry.node = i + 2;
        return i % 2 === 0
          ? encoder.add(dirent.name, dirent.name.length, dirent.ino, dirent.type, dirent.next)
          : encoder.addWithEntry(dirent.name, dirent.name.length, dirent.type, dirent.next, entry);
      });
      t.true(encoder.length <= size);
      const parsed = parseDirents(bytes.subarray(16, 16 + encoder.length), withEntries);
      t.deepEqual(
        parsed.map(({ node: _, ...dirent }) => dirent),
        taken,
      );
      for (const rest of bytes.subarray(16 + encoder.length)) t.is(rest, 0xee);
    }),
    { numRuns: 50 },
  );
});

function initRequest(major: number, minor: number, flags: number, more = 0): Buffer {
  return request({ opcode: INIT }, u32(major, minor, 131072, flags, more), Buffer.alloc(44));
}

const ALL = 0xffffffff;
const INIT_EXT = 1 << 30;

function answer(bytes: Buffer, wishes = { posixAcl: true, passthrough: true }) {
  const reply = new DataView(new ArrayBuffer(80));
  const session = answerInit(frameOf(bytes), reply, wishes);
  return { session, reply, flags: reply.getUint32(28, true), more: reply.getUint32(48, true) };
}

test('INIT is answered with what is wanted and offered, and with nothing else', (t) => {
  fc.assert(
    fc.property(
      fc.nat(ALL),
      fc.nat(ALL),
      fc.boolean(),
      fc.boolean(),
      (offered, more, posixAcl, passthrough) => {
        const bytes = initRequest(7, 45, offered, more);
        const { session, reply, flags, more: moreFlags } = answer(bytes, { posixAcl, passthrough });
        if (typeof session === 'number') return t.fail();
        t.is((flags & ~offered) >>> 0, 0);
        t.is(flags & (1 << 16), 0, 'the write-back cache is not asked for');
        t.is(flags & ((1 << 1) | (1 << 10)), 0, 'locks stay with the kernel');
        t.is(session.posixAcl, posixAcl && (offered & (1 << 20)) !== 0);
        t.is(session.passthrough, passthrough && (offered & INIT_EXT) !== 0 && (more & 32) !== 0);
        t.is(moreFlags, session.passthrough ? 32 : 0);
        t.is(reply.getUint32(16, true), 7);
        t.is(reply.getUint32(52, true), session.passthrough ? 1 : 0);
        return true;
      },
    ),
  );
});

test('INIT of a recent kernel agrees on large transfers', (t) => {
  const { session, reply } = answer(initRequest(7, 45, ALL, ALL));
  t.deepEqual(session, { minor: 40, posixAcl: true, passthrough: true, hasSetxattrExtension: true });
  t.is(reply.getUint32(36, true), 1 << 20);
  t.is(reply.getUint16(44, true), 256);
  t.is(Buffer.from(reply.buffer, 16).toString('hex'), vectors.init);
});

test('INIT of an older kernel is answered in its version', (t) => {
  const { session, reply } = answer(initRequest(7, 31, ALL & ~INIT_EXT).subarray(0, 56));
  t.is(typeof session === 'object' && session.minor, 31);
  t.is(reply.getUint32(20, true), 31);
});

test('INIT of a kernel that is too old is an error', (t) => {
  t.is(answer(initRequest(7, 27, ALL)).session, -EPROTO);
  t.is(answer(initRequest(6, 99, ALL)).session, -EPROTO);
});

test('error numbers have names and meanings', (t) => {
  t.is(errnoName(-2), 'ENOENT');
  t.is(errnoName(95), 'EOPNOTSUPP');
  t.is(errnoName(4000), 'errno 4000');
  t.is(errnoMessage(-13), 'permission denied (EACCES)');
});

test('a notice of changed attributes names the node and leaves its content alone', (t) => {
  const words = new Uint32Array(NOTICE_SIZE / 4).fill(0xffff_ffff);
  encodeAttributesNotice(words, 0x1_0000_0002);
  const fields = [
    '28000000 02000000', // its length; INVAL_INODE
    '00000000 00000000', // no request
    '02000000 01000000', // the node
    'ffffffff ffffffff', // from before the content
    '00000000 00000000',
  ];
  t.is(Buffer.from(words.buffer).toString('hex'), fields.join('').replaceAll(' ', ''));
});
