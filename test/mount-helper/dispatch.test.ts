import test from 'ava';
import fc from 'fast-check';
import { emptyEntry } from '../../src/mount-helper/fuse/answers.ts';
import { NOT_SENT } from '../../src/mount-helper/fuse/content-pipe.ts';
import { Dispatcher, type DispatchHooks, NO_REPLY } from '../../src/mount-helper/fuse/dispatch.ts';
import { DEFERRED, type FileSystem } from '../../src/mount-helper/fuse/file-system.ts';
import type { Session } from '../../src/mount-helper/fuse/init.ts';
import * as op from '../../src/mount-helper/fuse/opcodes.ts';
import { OPEN_KILL_SUIDGID } from '../../src/mount-helper/fuse/protocol.ts';
import { REPLY_BUFFER_SIZE } from '../../src/mount-helper/fuse/reply.ts';
import {
  EINVAL,
  EIO,
  ENAMETOOLONG,
  ENOENT,
  ENOSYS,
  ENOTTY,
  ERANGE,
} from '../../src/mount-helper/system/errno.ts';
import {
  type Call,
  frameOf,
  name,
  parseReply,
  type Reply,
  recordingFileSystem,
  request,
  u32,
  u64,
} from './helpers/frames.ts';

const QUIET: DispatchHooks = {
  wishes: { posixAcl: true, passthrough: true },
  onInit: () => {},
  onInterrupt: () => {},
  onFault: () => {},
};

interface Outcome {
  readonly code: number;
  readonly reply: Reply | undefined;
  readonly calls: readonly Call[];
  readonly faults: readonly unknown[];
  readonly interrupted: readonly number[];
  readonly sessions: readonly Session[];
}

/** Dispatches the frames one after the other; the outcome is that of the last. */
function dispatch(
  answers: { readonly [M in keyof FileSystem]?: FileSystem[M] },
  ...frames: readonly Buffer[]
): Outcome {
  const { fileSystem, calls } = recordingFileSystem(answers);
  const faults: unknown[] = [];
  const interrupted: number[] = [];
  const sessions: Session[] = [];
  const dispatcher = new Dispatcher(fileSystem, {
    wishes: { posixAcl: true, passthrough: true },
    onInit: (session) => sessions.push(session),
    onInterrupt: (unique) => interrupted.push(unique),
    onFault: (_opcode, error) => faults.push(error),
  });
  let code = 0;
  for (const bytes of frames) code = dispatcher.dispatch(frameOf(bytes));
  const reply = code > 0 ? parseReply(dispatcher.reply.subarray(0, code)) : undefined;
  return { code, reply, calls, faults, interrupted, sessions };
}

const CALLER = { uid: 1000, gid: 100, pid: 4711 };
const HEADER = { node: 7, ...CALLER };
// As the calls are noted: what there is of it without its class.
const ENTRY = structuredClone(emptyEntry());
const ATTRIBUTES = { timeoutMs: 0, attributes: ENTRY.attributes };
const OPEN = { handle: 0, flags: 0, backingId: 0 };

const decodes = test.macro({
  exec: (t, opcode: number, body: readonly Buffer[], call: Call, bodyLength: number) => {
    const { reply, calls, faults } = dispatch({}, request({ opcode, ...HEADER, unique: 99 }, ...body));
    t.deepEqual(calls, [call]);
    t.deepEqual(faults, []);
    t.is(reply?.error, 0);
    t.is(reply?.unique, 99);
    t.is(reply?.length, 16 + bodyLength);
  },
  title: (description) => `${description} reaches the file system with all it says`,
});

test('LOOKUP', decodes, op.LOOKUP, [name('a')], ['lookup', 7, 'a', CALLER, ENTRY], 128);
test('GETATTR by node', decodes, op.GETATTR, [u32(0, 0), u64(5)], ['getattr', 7, -1, ATTRIBUTES], 104);
test('GETATTR by handle', decodes, op.GETATTR, [u32(1, 0), u64(5)], ['getattr', 7, 5, ATTRIBUTES], 104);
test('READLINK', decodes, op.READLINK, [], ['readlink', 7, '\0'.repeat(4096)], 0);
test(
  'SYMLINK',
  decodes,
  op.SYMLINK,
  [name('l'), name('../t')],
  ['symlink', 7, 'l', '../t', CALLER, ENTRY],
  128,
);
test(
  'MKNOD',
  decodes,
  op.MKNOD,
  [u32(0o20644, 0x103, 0o22, 0), name('d')],
  ['mknod', 7, 'd', 0o20644, 0x103, 0o22, CALLER, ENTRY],
  128,
);
test(
  'MKDIR',
  decodes,
  op.MKDIR,
  [u32(0o755, 0o27), name('d')],
  ['mkdir', 7, 'd', 0o755, 0o27, CALLER, ENTRY],
  128,
);
test('UNLINK', decodes, op.UNLINK, [name('a')], ['unlink', 7, 'a', CALLER], 0);
test('RMDIR', decodes, op.RMDIR, [name('a')], ['rmdir', 7, 'a', CALLER], 0);
test('RENAME', decodes, op.RENAME, [u64(9), name('a'), name('b')], ['rename', 7, 'a', 9, 'b', 0, CALLER], 0);
test(
  'RENAME2',
  decodes,
  op.RENAME2,
  [u64(9), u32(2, 0), name('a'), name('b')],
  ['rename', 7, 'a', 9, 'b', 2, CALLER],
  0,
);
test('LINK', decodes, op.LINK, [u64(12), name('n')], ['link', 12, 7, 'n', CALLER, ENTRY], 128);
test('OPEN', decodes, op.OPEN, [u32(0o100002, 0)], ['open', 7, 0o100002, CALLER, OPEN], 16);
test(
  'OPEN that clears set-uid',
  decodes,
  op.OPEN,
  [u32(0o1001, 1)],
  ['open', 7, 0o1001 | OPEN_KILL_SUIDGID, CALLER, OPEN],
  16,
);
test('OPENDIR', decodes, op.OPENDIR, [u32(0, 0)], ['opendir', 7, CALLER, OPEN], 16);
test(
  'CREATE',
  decodes,
  op.CREATE,
  [u32(0o102, 0o100600, 0o77, 0), name('c')],
  ['create', 7, 'c', 0o102, 0o100600, 0o77, CALLER, ENTRY, OPEN],
  144,
);
test(
  'TMPFILE',
  decodes,
  op.TMPFILE,
  [u32(2, 0o100600, 0o22, 0), name('/')],
  ['tmpfile', 7, 2, 0o100600, 0o22, CALLER, ENTRY, OPEN],
  144,
);
const transfer = [u64(5, 2 ** 40), u32(4096, 0), u64(0), u32(0, 0)];
test('READ', decodes, op.READ, transfer, ['read', 5, 2 ** 40, 4096, 'buffer', 16], 0);
test('READDIR', decodes, op.READDIR, transfer, ['readdir', 5, 2 ** 40, false], 0);
test('READDIRPLUS', decodes, op.READDIRPLUS, transfer, ['readdir', 5, 2 ** 40, true], 0);
test(
  'WRITE',
  decodes,
  op.WRITE,
  [u64(5, 2 ** 33), u32(3, 4), u64(0), u32(0, 0), Buffer.from('abc')],
  [
    'write',
    5,
    2 ** 33,
    request(
      { opcode: op.WRITE, ...HEADER, unique: 99 },
      u64(5, 2 ** 33),
      u32(3, 4),
      u64(0),
      u32(0, 0),
      Buffer.from('abc'),
    ).toString('latin1'),
    80,
    3,
    4,
  ],
  8,
);
test(
  'STATFS',
  decodes,
  op.STATFS,
  [],
  ['statfs', { blocks: 0, bfree: 0, bavail: 0, files: 0, ffree: 0, bsize: 0, namelen: 0, frsize: 0 }],
  80,
);
test('RELEASE', decodes, op.RELEASE, [u64(5), u32(0, 0), u64(0)], ['release', 5], 0);
test('RELEASEDIR', decodes, op.RELEASEDIR, [u64(5), u32(0, 0), u64(0)], ['releasedir', 5], 0);
test('FLUSH', decodes, op.FLUSH, [u64(5, 0, 0)], ['flush', 5], 0);
test('FSYNC', decodes, op.FSYNC, [u64(5), u32(0, 0)], ['fsync', 5, false], 0);
test('FSYNC of data only', decodes, op.FSYNC, [u64(5), u32(1, 0)], ['fsync', 5, true], 0);
test('FSYNCDIR', decodes, op.FSYNCDIR, [u64(5), u32(1, 0)], ['fsyncdir', 5, true], 0);
test(
  'SETXATTR',
  decodes,
  op.SETXATTR,
  [u32(3, 1, 1, 0), name('user.a'), Buffer.from('v\0w')],
  ['setxattr', 7, 'user.a', 'v\0w', 1, 1, CALLER],
  0,
);
test(
  'GETXATTR of the size',
  decodes,
  op.GETXATTR,
  [u32(0, 0), name('user.a')],
  ['getxattr', 7, 'user.a', ''],
  8,
);
test('LISTXATTR', decodes, op.LISTXATTR, [u32(4, 0)], ['listxattr', 7, '\0\0\0\0', CALLER], 0);
test('REMOVEXATTR', decodes, op.REMOVEXATTR, [name('user.a')], ['removexattr', 7, 'user.a', CALLER], 0);
test(
  'FALLOCATE',
  decodes,
  op.FALLOCATE,
  [u64(5, 2 ** 32, 4096), u32(3, 0)],
  ['fallocate', 5, 2 ** 32, 4096, 3],
  0,
);
test('LSEEK', decodes, op.LSEEK, [u64(5, 2 ** 32), u32(4, 0)], ['lseek', 5, 2 ** 32, 4], 8);
const range = [u64(5, 10, 0, 6, 20, 30, 0)];
test('COPY_FILE_RANGE', decodes, op.COPY_FILE_RANGE, range, ['copyFileRange', 5, 10, 6, 20, 30], 8);
test('COPY_FILE_RANGE_64', decodes, op.COPY_FILE_RANGE_64, range, ['copyFileRange', 5, 10, 6, 20, 30], 8);

test('SETATTR passes each field on', (t) => {
  const body = [
    u32(0x7f, 0),
    u64(5, 2 ** 40, 0, -1, 1_700_000_000, 0),
    u32(11, 12, 13, 0o644, 0, 1000, 100, 0),
  ];
  const { reply, calls } = dispatch({}, request({ opcode: op.SETATTR, ...HEADER }, ...body));
  const change = {
    valid: 0x7f,
    handle: 5,
    size: 2 ** 40,
    atime: -1,
    atimeNs: 11,
    mtime: 1_700_000_000,
    mtimeNs: 12,
    mode: 0o644,
    uid: 1000,
    gid: 100,
  };
  t.deepEqual(calls, [['setattr', 7, change, CALLER, ATTRIBUTES]]);
  t.is(reply?.length, 120);
});

test('requests that expect no reply get none', (t) => {
  t.is(dispatch({}, request({ opcode: op.FORGET, ...HEADER }, u64(3))).code, NO_REPLY);
  t.is(dispatch({}, request({ opcode: op.BATCH_FORGET }, u32(1, 0), u64(8, 2))).code, NO_REPLY);
  const { code, interrupted } = dispatch({}, request({ opcode: op.INTERRUPT }, u64(1234)));
  t.is(code, NO_REPLY);
  t.deepEqual(interrupted, [1234]);
});

test('forgets are counted as they are said', (t) => {
  t.deepEqual(dispatch({}, request({ opcode: op.FORGET, node: 9 }, u64(3))).calls, [['forget', 9, 3]]);
  const batch = request({ opcode: op.BATCH_FORGET }, u32(2, 0), u64(8, 2, 9, 1));
  t.deepEqual(dispatch({}, batch).calls, [
    ['forget', 8, 2],
    ['forget', 9, 1],
  ]);
});

test('a batch of forgets ends with its frame, whatever count it claims', (t) => {
  const batch = request({ opcode: op.BATCH_FORGET }, u32(0xffffffff, 0), u64(8, 2), u32(1));
  t.deepEqual(dispatch({}, batch).calls, [['forget', 8, 2]]);
});

const refuses = test.macro({
  exec: (t, bytes: Buffer, errno: number) => {
    const { reply, calls, faults } = dispatch({}, bytes);
    t.deepEqual(calls, []);
    t.deepEqual(faults, []);
    t.deepEqual([reply?.length, reply?.error], [16, -errno]);
  },
  title: (description) => `${description} is refused before the file system is asked`,
});

const writeOf = (size: number) => [u64(5, 0), u32(size, 0), u64(0), u32(0, 0), Buffer.from('abc')];
test(
  'a WRITE that claims more than it brings',
  refuses,
  request({ opcode: op.WRITE }, ...writeOf(4)),
  EINVAL,
);
test(
  'a READ of more than the buffer takes',
  refuses,
  request({ opcode: op.READ }, u64(5, 0), u32((1 << 20) + 1, 0), u64(0, 0)),
  EINVAL,
);
test(
  'a SETXATTR with too long a value',
  refuses,
  request({ opcode: op.SETXATTR }, u32(9, 0, 0, 0), name('a'), u32(0)),
  EINVAL,
);
test('a SETATTR that is cut off', refuses, request({ opcode: op.SETATTR }, u32(8, 0)), EINVAL);
test('a name without its NUL', refuses, request({ opcode: op.LOOKUP }, Buffer.from('abc')), EINVAL);
test('a name beyond NAME_MAX', refuses, request({ opcode: op.LOOKUP }, name('n'.repeat(256))), ENAMETOOLONG);
test('a rename without its second name', refuses, request({ opcode: op.RENAME }, u64(1), name('a')), EINVAL);
test('a symbolic link to nothing', refuses, request({ opcode: op.SYMLINK }, name('a'), name('')), EINVAL);
test('a request that is not served', refuses, request({ opcode: 40 }, u64(0, 0)), ENOSYS);
test('a request of the future', refuses, request({ opcode: 0xfffffff }, u64(0, 0)), ENOSYS);
test('an ioctl', refuses, request({ opcode: op.IOCTL }, u64(0, 0, 0, 0)), ENOTTY);

test('a frame whose length is not what was read is an error, and one without a header is ignored', (t) => {
  const whole = request({ opcode: op.LOOKUP }, name('abc'));
  const { fileSystem, calls } = recordingFileSystem();
  const dispatcher = new Dispatcher(fileSystem, QUIET);
  t.is(dispatcher.dispatch(frameOf(whole, whole.length - 1)), 16);
  t.is(parseReply(dispatcher.reply).error, -EIO);
  t.is(dispatcher.dispatch(frameOf(whole, 39)), NO_REPLY);
  t.deepEqual(calls, []);
});

test('an error of the file system reaches the caller', (t) => {
  const { reply } = dispatch({ lookup: () => -ENOENT }, request({ opcode: op.LOOKUP, unique: 6 }, name('a')));
  t.deepEqual([reply?.length, reply?.error, reply?.unique], [16, -ENOENT, 6]);
});

test('a method that throws gives EIO and a fault, and the next request works', (t) => {
  const error = new Error('broken');
  const broken = () => {
    throw error;
  };
  const { faults, reply, calls } = dispatch(
    { lookup: broken },
    request({ opcode: op.LOOKUP }, name('a')),
    request({ opcode: op.UNLINK }, name('a')),
  );
  t.deepEqual(faults, [error]);
  t.is(reply?.error, 0);
  t.is(calls.length, 2);
  t.is(dispatch({ lookup: broken }, request({ opcode: op.LOOKUP }, name('a'))).reply?.error, -EIO);
});

test('an answer that makes no sense to the kernel becomes EIO', (t) => {
  for (const nonsense of [Number.NaN, -512, -100_000, 1e12, Number.NEGATIVE_INFINITY]) {
    const { reply, faults } = dispatch(
      { read: () => nonsense },
      request({ opcode: op.READ }, u64(5, 0), u32(10, 0), u64(0, 0)),
    );
    t.deepEqual([reply?.length, reply?.error, faults.length], [16, -EIO, 1], `${nonsense}`);
  }
});

test('DEFERRED is passed on, and the same frame can be dispatched again', (t) => {
  let isReady = false;
  const answers = { open: () => (isReady ? 0 : DEFERRED) };
  const { fileSystem } = recordingFileSystem(answers);
  const dispatcher = new Dispatcher(fileSystem, QUIET);
  const frame = frameOf(request({ opcode: op.OPEN, unique: 8 }, u32(0, 0)));
  t.is(dispatcher.dispatch(frame), DEFERRED);
  isReady = true;
  t.is(dispatcher.dispatch(frame), 32);
  t.is(parseReply(dispatcher.reply).unique, 8);
});

test('what READ brings lies behind the header', (t) => {
  const answers: Partial<FileSystem> = {
    read: (_handle, _offset, size, out, at) => {
      out.set(Buffer.from('content'), at);
      return Math.min(size, 7);
    },
  };
  const { reply } = dispatch(answers, request({ opcode: op.READ }, u64(5, 0), u32(100, 0), u64(0, 0)));
  t.is(reply?.length, 23);
  t.is(reply?.body.toString(), 'content');
});

const large = (offset: number, size: number) =>
  request({ opcode: op.READ, unique: 12 }, u64(5, offset), u32(size, 0), u64(0, 0));

/** Sends READs of 64 KiB and more; notes what it is asked for. */
function contentSender(outcome: number) {
  const sent: unknown[] = [];
  const content = {
    leastBytes: 65536,
    mostBytes: 1 << 19,
    send: (header: Uint8Array, _view: DataView, fd: number, offset: number, size: number) => {
      sent.push({ unique: parseReply(header).unique, fd, offset, size });
      return outcome;
    },
  };
  return { content, sent };
}

test('a large READ is sent past the process where the file system has a descriptor for it', (t) => {
  for (const [outcome, fd, size, expected] of [
    [65552, 9, 65536, []],
    [-ENOENT, 9, 65536, []],
    [NOT_SENT, 9, 65536, ['read']],
    [65552, -1, 65536, ['read']],
    [65552, 9, 65535, ['read']],
    [65552, 9, (1 << 19) + 1, ['read']],
  ] as const) {
    const { content, sent } = contentSender(outcome);
    const { fileSystem, calls } = recordingFileSystem({ readDescriptor: () => fd, read: () => 3 });
    const dispatcher = new Dispatcher(fileSystem, { ...QUIET, content });
    t.is(dispatcher.dispatch(frameOf(large(7, size))), expected.length === 0 ? NO_REPLY : 19);
    t.deepEqual(
      calls.map(([method]) => method).filter((method) => method === 'read'),
      [...expected],
    );
    const wasAsked = fd >= 0 && size === 65536;
    t.deepEqual(sent, wasAsked ? [{ unique: 12, fd, offset: 7, size }] : []);
  }
});

test('an attribute is answered with its value, or its size', (t) => {
  const answers: Partial<FileSystem> = {
    getxattr: (_node, _name, out) => {
      if (out.length === 0) return 5;
      if (out.length < 5) return -ERANGE;
      out.set(Buffer.from('value'));
      return 5;
    },
  };
  const ask = (size: number) =>
    dispatch(answers, request({ opcode: op.GETXATTR }, u32(size, 0), name('user.a'))).reply;
  t.is(ask(5)?.body.toString(), 'value');
  t.is(ask(0)?.body.readUInt32LE(0), 5);
  t.is(ask(4)?.error, -ERANGE);
});

test('entries that were taken are sent although the listing then failed', (t) => {
  const answers: Partial<FileSystem> = {
    readdir: (_handle, offset, _withEntries, out) => {
      if (offset === 0) out.add(Buffer.from('a'), 1, 1n, 8, 1);
      return -EIO;
    },
  };
  const ask = (offset: number) =>
    dispatch(answers, request({ opcode: op.READDIR }, u64(5, offset), u32(4096, 0), u64(0, 0))).reply;
  t.is(ask(0)?.length, 16 + 32);
  t.is(ask(1)?.error, -EIO);
});

test('INIT is agreed on once, and told', (t) => {
  const init = request({ opcode: op.INIT }, u32(7, 45, 131072, 0xffffffff, 0xffffffff), Buffer.alloc(44));
  const { reply, sessions } = dispatch({}, init);
  t.is(reply?.length, 80);
  t.is(sessions.length, 1);
});

test('without the extension SETXATTR has its shorter form', (t) => {
  const init = request({ opcode: op.INIT }, u32(7, 31, 131072, 0x1ff), Buffer.alloc(0));
  const set = request({ opcode: op.SETXATTR }, u32(1, 2), name('user.a'), Buffer.from('v'));
  t.deepEqual(dispatch({}, init, set).calls, [
    ['setxattr', 1, 'user.a', 'v', 2, 0, { uid: 0, gid: 0, pid: 0 }],
  ]);
});

/** Answers in all the ways a file system can, sensible and not. */
class RandomAnswers {
  results: readonly number[] = [0];
  #next = 0;
  readonly fileSystem = new Proxy({} as FileSystem, { get: () => () => this.#answer() });

  #answer(): number {
    const result = this.results[this.#next++ % this.results.length]!;
    if (result === THROWS) throw new Error('a method failed');
    return result;
  }
}

const THROWS = 7;
const someResults = fc.array(
  fc.oneof(fc.integer({ min: -600, max: 2 ** 21 }), fc.constant(THROWS), fc.constant(DEFERRED)),
  {
    minLength: 1,
  },
);

/** Frames with a header that is right as far as it goes, so that what follows it is looked at. */
const likelyFrame = fc
  .record({
    opcode: fc.oneof(fc.integer({ min: 0, max: 60 }), fc.nat()),
    body: fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc
        .array(fc.constantFrom(0, 0, 0, 1, 0x2e, 0x2f, 0x61, 0xff), { maxLength: 300 })
        .map((a) => Uint8Array.from(a)),
    ),
    cut: fc.nat(100),
    isCut: fc.boolean(),
  })
  .map(({ opcode, body, cut, isCut }) => {
    const bytes = request({ opcode, unique: 10 }, body);
    return isCut ? bytes.subarray(0, Math.max(0, bytes.length - cut)) : bytes;
  });

test('no frame, random or cut off, does more than get one well-formed reply', (t) => {
  const answers = new RandomAnswers();
  const dispatcher = new Dispatcher(answers.fileSystem, QUIET);
  const isWellFormed = (bytes: Uint8Array) => {
    const code = dispatcher.dispatch(frameOf(bytes));
    if (code === NO_REPLY || code === DEFERRED) return true;
    const { length, error } = parseReply(dispatcher.reply.subarray(0, code));
    const isLength = code >= 16 && code <= REPLY_BUFFER_SIZE && length === code;
    return isLength && (error === 0 || (error < 0 && error >= -511 && code === 16));
  };
  const someFrame = fc.oneof(likelyFrame, fc.uint8Array({ maxLength: 120 }));
  fc.assert(
    fc.property(fc.array(someFrame), someResults, (frames, results) => {
      answers.results = results;
      return frames.every(isWellFormed);
    }),
    { numRuns: 2000 },
  );
  t.pass();
});
