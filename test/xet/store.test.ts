import {
  appendFileSync,
  existsSync,
  fstatSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { SCHEME_LZ4, SCHEME_NONE } from '../../src/xet/compress/scheme.ts';
import { FormatError, Git2dbError } from '../../src/xet/errors.ts';
import { blake3Keyed } from '../../src/xet/hash/blake3.ts';
import { DATA_KEY } from '../../src/xet/hash/keys.ts';
import { formatHash, parseHash } from '../../src/xet/hash/xet-hash.ts';
import { adoptFile } from '../../src/xet/store/adopt.ts';
import { ByteList } from '../../src/xet/store/byte-list.ts';
import { noteEvicted, readEvicted } from '../../src/xet/store/evicted.ts';
import { JOURNAL } from '../../src/xet/store/incoming.ts';
import {
  appendChunk,
  dataEnd,
  decodeJournal,
  encodeAdoptedFrame,
  encodeFileFrame,
  extendTerms,
  type IncomingState,
  type LocalFile,
  type LocalTerm,
  type LocalXorb,
  type NewChunk,
  newLocalXorb,
} from '../../src/xet/store/journal.ts';
import { StoreLayout } from '../../src/xet/store/layout.ts';
import { LivenessMark, probeLiveness, UNSURE_MS } from '../../src/xet/store/liveness.ts';
import { LocalStore } from '../../src/xet/store/local-store.ts';
import { SHARD_RESERVE, sealIncoming } from '../../src/xet/store/seal.ts';
import { forgetUser, listUsers, registerUser } from '../../src/xet/store/users.ts';
import { StoreWriter, type WriterOptions } from '../../src/xet/store/writer.ts';
import { openXorbFile, recordStart } from '../../src/xet/store/xorb-source.ts';
import { CHUNK_HEADER_SIZE, MAX_RAW_CHUNK } from '../../src/xet/xorb/chunk-record.ts';
import { footerLength } from '../../src/xet/xorb/format.ts';
import {
  chunk,
  chunkHash,
  chunkRun,
  clean,
  copyTree,
  createStore,
  injectFault,
  QUICK,
  randomBytes,
  type StoreSandbox,
  systemError,
  treeOf,
} from '../helpers/store-sandbox.ts';

// Layout

test('a store is made once, and one of another version is refused with its name', (t) => {
  const { root } = createStore(t);
  const layout = new StoreLayout(root);
  t.false(layout.exists());
  layout.create();
  layout.create();
  t.true(layout.exists());
  t.is(readFileSync(join(root, 'format'), 'latin1'), 'git2db xet store 1\n');
  writeFileSync(join(root, 'format'), '');
  t.true(layout.exists(), 'it is being written by another process');
  writeFileSync(join(root, 'format'), 'git2db xet store 2\n');
  const error = t.throws(() => layout.exists(), { instanceOf: Git2dbError });
  t.is(error?.code, 'STORE_UNSUPPORTED');
  t.throws(() => StoreWriter.open(new LocalStore(root), QUICK), { code: 'STORE_UNSUPPORTED' });
});

test('a writer that cannot make its directory says which store it is, and what to do', (t) => {
  const { dir } = createStore(t);
  writeFileSync(join(dir, 'file'), '');
  const error = t.throws(() => StoreWriter.open(new LocalStore(join(dir, 'file', 'xet')), QUICK), {
    instanceOf: Git2dbError,
  });
  t.is(error?.code, 'STORE_UNWRITABLE');
  t.regex(error?.message ?? '', /file\/xet.*xet\.store/s);
});

test('a byte list grows, shrinks and shows what is in it', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.uint8Array({ maxLength: 70 }), fc.integer({ min: 0, max: 200 }))),
      (steps) => {
        const list = new ByteList(8);
        let model = Buffer.alloc(0);
        for (const step of steps) {
          if (typeof step === 'number') {
            list.truncate(step);
            model = model.subarray(0, step);
          } else {
            const padded = Buffer.concat([Buffer.from([1, 2, 3]), step, Buffer.from([4])]);
            list.append(padded, 3, step.length);
            model = Buffer.concat([model, step]);
          }
          t.is(list.length, model.length);
          t.true(list.slice().equals(model));
        }
      },
    ),
  );
});

// Journal

interface Built {
  readonly state: IncomingState;
  readonly frames: readonly Buffer[];
}

const fileShapes = fc.array(
  fc.record({
    size: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
    /** Per new chunk: stored length, raw length, and whether another xorb begins with it. */
    chunks: fc.array(
      fc.tuple(
        fc.integer({ min: 9, max: 262152 }),
        fc.integer({ min: 1, max: MAX_RAW_CHUNK }),
        fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
      ),
      { maxLength: 6 },
    ),
    /** Terms as three numbers, made to fit. */
    terms: fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat()), { maxLength: 4 }),
    withSha: fc.boolean(),
    adopted: fc.boolean(),
  }),
  { maxLength: 6 },
);

function buildJournal(shapes: ShapeList): Built {
  const state: IncomingState = { xorbs: [], files: [], adopted: [] };
  const frames: Buffer[] = [];
  let serial = 0;
  for (const shape of shapes) {
    if (shape.adopted) {
      const hash = chunkHash(Buffer.from(`adopted ${serial++}`));
      frames.push(encodeAdoptedFrame(hash));
      state.adopted.push(hash);
    }
    const chunks: NewChunk[] = [];
    for (const [stored, raw, another] of shape.chunks) {
      if (another || state.xorbs.length === 0) state.xorbs.push(newLocalXorb(state.xorbs.length));
      const xorb = state.xorbs.at(-1) as LocalXorb;
      chunks.push({ xorb, index: xorb.count });
      appendChunk(xorb, chunkHash(Buffer.from(`chunk ${serial++}`)), 0, stored, raw);
    }
    const terms = shape.terms.map(([which, a, b]): LocalTerm => {
      const xorb = state.xorbs[which % (state.xorbs.length + 1)];
      if (xorb === undefined || xorb.count === 0) {
        const xorbHash = chunkHash(Buffer.from(`xorb ${which}`));
        return { xorbHash, local: 0, start: a % 100, end: (a % 100) + 1 + (b % 100), rawBytes: b };
      }
      const start = a % xorb.count;
      const end = start + 1 + (b % (xorb.count - start));
      return { xorbHash: undefined, local: xorb.number, start, end, rawBytes: b };
    });
    const file: LocalFile = {
      fileHash: chunkHash(Buffer.from(`file ${serial++}`)),
      size: shape.size,
      terms,
      sha256: shape.withSha ? Buffer.alloc(32, serial).toString('hex') : undefined,
    };
    frames.push(encodeFileFrame(file, chunks));
    state.files.push(file);
  }
  return { state, frames };
}

interface Shape {
  readonly size: number;
  readonly chunks: readonly (readonly [number, number, boolean])[];
  readonly terms: readonly (readonly [number, number, number])[];
  readonly withSha: boolean;
  readonly adopted: boolean;
}
type ShapeList = readonly Shape[];

/** A state in a form that compares. */
function plain(state: IncomingState) {
  return {
    xorbs: state.xorbs.map(({ number, count, hashes, recordEnds, rawEnds }) => ({
      number,
      count,
      hashes: hashes.slice().toString('hex'),
      recordEnds: [...recordEnds],
      rawEnds: [...rawEnds],
    })),
    files: state.files.map(plainFile),
    adopted: state.adopted.map((hash) => formatHash(hash)),
  };
}

function plainFile({ fileHash, size, terms, sha256 }: LocalFile) {
  return {
    hash: formatHash(fileHash),
    size,
    sha256,
    terms: terms.map(({ xorbHash, ...rest }) => ({ ...rest, xorb: xorbHash && formatHash(xorbHash) })),
  };
}

test('a journal gives back what was written to it', (t) => {
  fc.assert(
    fc.property(fileShapes, (shapes) => {
      const { state, frames } = buildJournal(shapes);
      t.deepEqual(plain(decodeJournal(Buffer.concat(frames))), plain(state));
    }),
  );
});

const SAMPLE: ShapeList = [
  { size: 5, chunks: [[20, 12, false]], terms: [[0, 0, 0]], withSha: false, adopted: false },
  {
    size: 6,
    chunks: [
      [30, 22, false],
      [40, 32, true],
    ],
    terms: [
      [0, 1, 7],
      [9, 4, 4],
    ],
    withSha: true,
    adopted: true,
  },
  { size: 0, chunks: [], terms: [], withSha: false, adopted: false },
];

test('a journal that ends anywhere keeps its whole frames', (t) => {
  const { state, frames } = buildJournal(SAMPLE);
  const bytes = Buffer.concat(frames);
  const ends = frames.map((_, i) => Buffer.concat(frames.slice(0, i + 1)).length);
  for (let length = 0; length <= bytes.length; length++) {
    const whole = ends.filter((end) => end <= length).length;
    const files = frames.slice(0, whole).filter((frame) => frame.readUInt32LE(4) === 1).length;
    for (const tail of [Buffer.alloc(0), Buffer.alloc(100), randomBytes(length, 100)]) {
      const decoded = decodeJournal(Buffer.concat([bytes.subarray(0, length), tail]));
      // Zeros or noise after a cut cannot make a frame whole, except the bytes that it lost.
      if (!tail.subarray(0, 1).equals(bytes.subarray(length, length + 1))) {
        t.deepEqual(decoded.files.map(plainFile), state.files.slice(0, files).map(plainFile));
      }
    }
  }
});

test('noise in a journal ends it or is refused, and never becomes a file', (t) => {
  const { state, frames } = buildJournal(SAMPLE);
  const bytes = Buffer.concat(frames);
  const known = new Set(state.files.map((file) => JSON.stringify(plainFile(file))));
  fc.assert(
    fc.property(
      fc.nat({ max: bytes.length - 1 }),
      fc.uint8Array({ minLength: 1, maxLength: 20 }),
      (at, noise) => {
        const damaged = Buffer.from(bytes);
        damaged.set(noise.subarray(0, bytes.length - at), at);
        const decoded = tryDecode(t, damaged);
        for (const file of decoded?.files ?? []) t.true(known.has(JSON.stringify(plainFile(file))));
      },
    ),
    { numRuns: 1000 },
  );
});

function tryDecode(t: ExecutionContext, bytes: Buffer): IncomingState | undefined {
  try {
    return decodeJournal(bytes);
  } catch (error) {
    t.true(error instanceof FormatError, String(error));
    t.is((error as FormatError).code, 'INVALID_JOURNAL');
    return undefined;
  }
}

function frameOf(type: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(16);
  head.writeUInt32LE(payload.length, 0);
  head.writeUInt32LE(type, 4);
  head.set(blake3Keyed(DATA_KEY, payload).subarray(0, 8), 8);
  return Buffer.concat([head, payload]);
}

test('frames with a good checksum and impossible contents are refused', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 3 }), fc.uint8Array({ maxLength: 300 }), (type, payload) => {
      tryDecode(t, frameOf(type, Buffer.from(payload)));
    }),
    { numRuns: 500 },
  );
  const { frames } = buildJournal(SAMPLE);
  const payload = (frames[0] as Buffer).subarray(16);
  for (const [what, at, value] of [
    ['terms', 40, 0xffffffff],
    ['chunks', 44, 0xffffffff],
    ['end of a term', 56 + 40, 2],
    ['start of a term', 56 + 36, 1],
    ['local xorb of a term', 56 + 32, 1],
    ['local xorb of a chunk', 104 + 32, 1],
    ['stored length of a chunk', 104 + 36, 0xffffffff],
    ['stored length of a chunk', 104 + 36, 8],
    ['raw length of a chunk', 104 + 40, 0],
    ['raw length of a chunk', 104 + 40, MAX_RAW_CHUNK + 1],
  ] as const) {
    const hostile = Buffer.from(payload);
    hostile.writeUInt32LE(value, at);
    t.throws(() => decodeJournal(frameOf(1, hostile)), { instanceOf: FormatError }, `${what}: ${value}`);
  }
});

test('a local xorb of more chunks than a xorb can have is refused', (t) => {
  const chunks: NewChunk[] = [];
  const xorb = newLocalXorb(0);
  for (let i = 0; i < 8193; i++) {
    chunks.push({ xorb, index: i });
    appendChunk(xorb, chunkHash(Buffer.from([i & 255, i >> 8])), 0, 10, 2);
  }
  const file: LocalFile = { fileHash: Buffer.alloc(32, 1), size: 1, terms: [], sha256: undefined };
  t.is(decodeJournal(encodeFileFrame(file, chunks.slice(0, 8192))).files.length, 1);
  t.throws(() => decodeJournal(encodeFileFrame(file, chunks)), { instanceOf: FormatError });
});

// Liveness

function temporary(t: ExecutionContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'git2db-live-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function editRecord(directory: string, change: Record<string, unknown>): void {
  const path = join(directory, 'writer.json');
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...change }));
}

/** A mark whose process is gone, as far as anybody can see. */
function abandoned(t: ExecutionContext): string {
  const directory = temporary(t);
  new LivenessMark(directory).close();
  return directory;
}

test('a writer is alive while its mark is open, under whatever name and however long its path is', async (t) => {
  const directory = temporary(t);
  const mark = new LivenessMark(directory);
  t.is(await probeLiveness(directory), 'alive');
  const long = join(temporary(t), 'd'.repeat(200));
  renameSync(directory, long);
  t.is(await probeLiveness(long), 'alive');
  mark.close();
  t.is(await probeLiveness(long), 'dead');
  const deep = join(temporary(t), 'e'.repeat(200));
  mkdirSync(deep);
  const other = new LivenessMark(deep);
  t.is(await probeLiveness(deep), 'alive');
  other.close();
});

test.serial('a mark that is closed leaves no descriptor', async (t) => {
  const directory = temporary(t);
  new LivenessMark(directory).close();
  await new Promise((resolve) => setTimeout(resolve, 10));
  const before = readdirSync('/proc/self/fd').length;
  for (let i = 0; i < 20; i++) {
    new LivenessMark(directory).close();
    t.is(await probeLiveness(directory), 'dead');
  }
  await new Promise((resolve) => setTimeout(resolve, 10));
  t.true(readdirSync('/proc/self/fd').length < before + 10);
});

test('a writer whose process was killed is dead', async (t) => {
  const store = createStore(t);
  const child = await store.process();
  await child.add(chunkRun('killed', 0, 3));
  const directory = join(store.root, 'incoming', store.list('incoming')[0] as string);
  t.is(await probeLiveness(directory), 'alive');
  await child.kill();
  t.is(await probeLiveness(directory), 'dead');
});

test('a mark whose holder gave it up is dead, so that what a failed seal left is completed', async (t) => {
  t.is(await probeLiveness(abandoned(t)), 'dead');
});

test('after a reboot a writer on a local file system is dead', async (t) => {
  const directory = temporary(t);
  const mark = new LivenessMark(directory);
  t.teardown(() => mark.close());
  editRecord(directory, { bootId: '00000000-0000-0000-0000-000000000000' });
  const isLocal = [0xef53, 0x58465342, 0x9123683e, 0x01021994].includes(statfsSync(directory).type);
  t.is(await probeLiveness(directory), isLocal ? 'dead' : 'unsure');
});

test('without a socket the process id decides, within one PID namespace and only for death', async (t) => {
  const directory = abandoned(t);
  editRecord(directory, { socket: false, pid: process.pid });
  t.is(await probeLiveness(directory), 'unsure');
  // Above the largest process id that Linux gives.
  editRecord(directory, { socket: false, pid: 4194305 });
  t.is(await probeLiveness(directory), 'dead');
  editRecord(directory, { socket: false, pid: 4194305, pidNamespace: 'pid:[1]' });
  t.is(await probeLiveness(directory), 'unsure');
});

test('a directory without a record that makes sense is unsure, for fourteen days', async (t) => {
  for (const record of [
    '',
    '{}',
    'null',
    '[]',
    '7',
    '{"bootId":5}',
    '{"pid":"x","socket":"yes"',
    undefined,
  ]) {
    const directory = temporary(t);
    if (record !== undefined) writeFileSync(join(directory, 'writer.json'), record);
    t.is(await probeLiveness(directory), 'unsure', record);
    const long = new Date(Date.now() - UNSURE_MS - 60_000);
    utimesSync(directory, long, long);
    t.is(await probeLiveness(directory), 'dead', record);
  }
});

test('an age does not make a live writer dead', async (t) => {
  const directory = temporary(t);
  const mark = new LivenessMark(directory);
  t.teardown(() => mark.close());
  t.is(await probeLiveness(directory, Date.now() + 2 * UNSURE_MS), 'alive');
});

test('a directory that is not there is dead', async (t) => {
  t.is(await probeLiveness(join(temporary(t), 'gone')), 'dead');
});

// Writer

function openWriter(
  sandbox: StoreSandbox,
  options: Partial<WriterOptions> = {},
): { store: LocalStore; writer: StoreWriter } {
  const store = sandbox.open();
  return { store, writer: StoreWriter.open(store, { fsync: 'none', ...options }) };
}

interface FakeChunk {
  readonly hash: Uint8Array;
  readonly payload: Buffer;
}

const fakes = new Map<number, FakeChunk>();

/** A chunk of 12 stored bytes that claims to be 128 KiB, so that 512 of them fill a xorb. */
function fakeChunk(id: number): FakeChunk {
  let fake = fakes.get(id);
  if (fake === undefined) {
    const payload = Buffer.from(`fake ${String(id).padStart(7, '0')}`);
    fake = { hash: chunkHash(payload), payload };
    fakes.set(id, fake);
  }
  return fake;
}

function putFake(writer: StoreWriter, id: number): NewChunk {
  const { hash, payload } = fakeChunk(id);
  return writer.put(hash, 0, payload, SCHEME_LZ4, MAX_RAW_CHUNK);
}

/** Commits a file of these new chunks, under a hash made of its number. */
function commit(writer: StoreWriter, number: number, chunks: readonly NewChunk[]): void {
  const terms: LocalTerm[] = [];
  for (const { xorb, index } of chunks) extendTerms(terms, undefined, xorb.number, index, MAX_RAW_CHUNK);
  writer.commit({
    fileHash: chunkHash(Buffer.from(`file ${number}`)),
    size: chunks.length * MAX_RAW_CHUNK,
    terms,
    sha256: undefined,
  });
}

const writerSteps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ first: fc.nat({ max: 900 }), count: fc.constantFrom(1, 3, 40) }) },
    { weight: 2, arbitrary: fc.record({ first: fc.nat({ max: 900 }), count: fc.constantFrom(300, 600) }) },
    { weight: 3, arbitrary: fc.constant('commit' as const) },
    { weight: 2, arbitrary: fc.constant('rollback' as const) },
    { weight: 1, arbitrary: fc.constant('flush' as const) },
  ),
  { maxLength: 14 },
);

test('whatever is put, committed and rolled back: exactly the committed files are there, before and after the seal', async (t) => {
  await fc.assert(
    fc.asyncProperty(writerSteps, async (steps) => {
      const sandbox = createStore(t);
      const { writer } = openWriter(sandbox);
      const committed: number[][] = [];
      const known = new Set<number>();
      let pending: { id: number; chunk: NewChunk }[] = [];
      writer.begin();
      for (const step of steps) {
        if (step === 'commit') {
          commit(
            writer,
            committed.length,
            pending.map(({ chunk }) => chunk),
          );
          committed.push(pending.map(({ id }) => id));
          for (const { id } of pending) known.add(id);
          pending = [];
        } else if (step === 'rollback') {
          writer.rollback();
          writer.begin();
          pending = [];
        } else if (step === 'flush') {
          writer.flush();
        } else {
          for (let id = step.first; id < step.first + step.count; id++) {
            pending.push({ id, chunk: putFake(writer, id) });
          }
        }
        const here = new Set([...known, ...pending.map(({ id }) => id)]);
        for (let id = 0; id < 1600; id += 13) {
          const found = writer.findChunk(fakeChunk(id).hash, 0);
          t.is(found !== undefined, here.has(id), `chunk ${id}`);
        }
      }
      checkJournal(t, writer.directory, committed);
      await writer.seal();
      t.deepEqual(sandbox.list('incoming'), []);
      checkPublished(t, sandbox.open(), committed);
    }),
    { numRuns: 25 },
  );
});

/** What another process reads in the directory of the writer. */
function checkJournal(t: ExecutionContext, directory: string, files: readonly number[][]): void {
  if (files.length === 0) return;
  const state = decodeJournal(readFileSync(join(directory, JOURNAL)));
  t.is(state.files.length, files.length);
  const bytes = state.xorbs.map((xorb) => readFileSync(join(directory, `${xorb.number}.xorb`)));
  for (const [i, file] of state.files.entries()) {
    const payloads = file.terms.flatMap((term) => {
      const xorb = state.xorbs[term.local] as LocalXorb;
      return Array.from({ length: term.end - term.start }, (_, k) => {
        const end = xorb.recordEnds[term.start + k] as number;
        return bytes[term.local]?.toString('latin1', end - 12, end);
      });
    });
    t.deepEqual(
      payloads,
      files[i]?.map((id) => fakeChunk(id).payload.toString('latin1')),
    );
  }
}

/** What the published shards and xorbs say. */
function checkPublished(t: ExecutionContext, store: LocalStore, files: readonly number[][]): void {
  for (const [i, ids] of files.entries()) {
    const file = store.findFile(chunkHash(Buffer.from(`file ${i}`)));
    if (!t.truthy(file)) return;
    const payloads = file?.terms.flatMap((term) => {
      const source = term.open();
      const bytes = readFileSync(source.path);
      return Array.from({ length: term.end - term.start }, (_, k) => {
        const at = recordStart(source, term.start + k) + CHUNK_HEADER_SIZE;
        return bytes.toString('latin1', at, at + 12);
      });
    });
    t.deepEqual(
      payloads,
      ids.map((id) => fakeChunk(id).payload.toString('latin1')),
    );
  }
}

test('a chunk that was stored twice is still known by its first place when the second is rolled back', async (t) => {
  const { writer } = openWriter(createStore(t));
  writer.begin();
  commit(writer, 0, [putFake(writer, 1), putFake(writer, 2)]);
  putFake(writer, 3);
  putFake(writer, 1);
  putFake(writer, 1);
  writer.rollback();
  t.is(writer.findChunk(fakeChunk(1).hash, 0)?.index, 0);
  t.is(writer.findChunk(fakeChunk(3).hash, 0), undefined);
  await writer.seal();
});

test('a file that was begun and forgotten is dropped by the next one', async (t) => {
  const sandbox = createStore(t);
  const { writer } = openWriter(sandbox);
  writer.begin();
  commit(writer, 0, [putFake(writer, 1)]);
  writer.begin();
  putFake(writer, 2);
  writer.begin();
  commit(writer, 1, [putFake(writer, 3)]);
  t.is(writer.findChunk(fakeChunk(2).hash, 0), undefined);
  checkJournal(t, writer.directory, [[1], [3]]);
  await writer.seal();
  checkPublished(t, sandbox.open(), [[1], [3]]);
});

test('a xorb is full at 8192 chunks', async (t) => {
  const sandbox = createStore(t);
  const { writer } = openWriter(sandbox);
  writer.begin();
  const terms: LocalTerm[] = [];
  const hashes = Buffer.alloc(32);
  for (let i = 0; i < 8192 + 10; i++) {
    hashes.writeUInt32LE(i, 0);
    const { xorb, index } = writer.put(hashes, 0, Buffer.from('x'), SCHEME_NONE, 1);
    extendTerms(terms, undefined, xorb.number, index, 1);
  }
  writer.commit({ fileHash: Buffer.alloc(32, 5), size: 8202, terms, sha256: undefined });
  t.deepEqual(
    terms.map(({ local, start, end }) => [local, start, end]),
    [
      [0, 0, 8192],
      [1, 0, 10],
    ],
  );
  await writer.seal();
  const file = sandbox.open().findFile(Buffer.alloc(32, 5));
  t.deepEqual(
    file?.terms.map((term) => term.open().count),
    [8192, 10],
  );
});

test('70 MiB of new content take two xorbs, neither above 64 MiB of raw bytes or of records', async (t) => {
  const sandbox = createStore(t);
  const { writer } = openWriter(sandbox, { fsync: 'batch' });
  writer.begin();
  const terms: LocalTerm[] = [];
  const payload = randomBytes(1, MAX_RAW_CHUNK);
  const hash = Buffer.alloc(32);
  for (let i = 0; i < 560; i++) {
    hash.writeUInt32LE(i, 4);
    const { xorb, index } = writer.put(hash, 0, payload, SCHEME_NONE, payload.length);
    extendTerms(terms, undefined, xorb.number, index, payload.length);
    if (i % 8 === 7) writer.flush();
  }
  writer.commit({ fileHash: Buffer.alloc(32, 6), size: 560 * MAX_RAW_CHUNK, terms, sha256: undefined });
  await writer.seal();
  const file = sandbox.open().findFile(Buffer.alloc(32, 6));
  const sources = file?.terms.map((term) => term.open());
  t.deepEqual(
    sources?.map((source) => source.count),
    [511, 49],
  );
  for (const source of sources ?? []) {
    t.true(recordStart(source, source.count) <= 64 << 20);
    t.is(fstatSync(source.fd).size, recordStart(source, source.count) + footerLength(source.count));
  }
});

test('rolling back over the end of a full xorb takes it up again where it stood', async (t) => {
  const sandbox = createStore(t);
  const { writer } = openWriter(sandbox);
  writer.begin();
  const first = Array.from({ length: 500 }, (_, i) => putFake(writer, i));
  commit(writer, 0, first);
  for (let i = 1000; i < 2200; i++) putFake(writer, i);
  writer.rollback();
  t.deepEqual(
    readdirSync(writer.directory).filter((name) => name.endsWith('.xorb')),
    ['0.xorb'],
  );
  writer.begin();
  const second = [putFake(writer, 3000), putFake(writer, 3001)];
  t.deepEqual(
    second.map(({ xorb, index }) => [xorb.number, index]),
    [
      [0, 500],
      [0, 501],
    ],
  );
  commit(writer, 1, second);
  const ids = [Array.from({ length: 500 }, (_, i) => i), [3000, 3001]];
  checkJournal(t, writer.directory, ids);
  await writer.seal();
  checkPublished(t, sandbox.open(), ids);
});

test('xorbs that were full when they were rolled back may be filled again, with something else', async (t) => {
  for (const kept of [0, 5]) {
    const sandbox = createStore(t);
    const { writer } = openWriter(sandbox, { fsync: 'batch' });
    const ids: number[][] = [];
    const store = (...file: number[]) => {
      writer.begin();
      commit(
        writer,
        ids.length,
        file.map((id) => putFake(writer, id)),
      );
      ids.push(file);
    };
    if (kept > 0) store(...Array.from({ length: kept }, (_, i) => i));
    writer.begin();
    for (let i = 1000; i < 2200; i++) putFake(writer, i);
    writer.rollback();
    store(...Array.from({ length: 700 }, (_, i) => 5000 + i));
    await writer.seal();
    checkPublished(t, sandbox.open(), ids);
  }
});

test('committing as many small files as there are takes time in proportion to their number', (t) => {
  const { writer } = openWriter(createStore(t));
  writer.begin();
  let reads = 0;
  for (let i = 0; i < 300; i++) {
    const chunks = [putFake(writer, i)];
    const terms = [{ xorbHash: undefined, local: 0, start: i, end: i + 1, rawBytes: 1 }];
    const file = { fileHash: chunkHash(Buffer.from([i & 255, i >> 8])), size: 1, sha256: undefined };
    // Every look at the terms of a file that was committed before counts.
    writer.commit(
      Object.defineProperty({ ...file, terms }, 'terms', {
        get() {
          reads++;
          return terms;
        },
      }) as LocalFile,
    );
    t.is(chunks.length, 1);
  }
  t.true(reads < 300 * 20, `${reads} looks`);
});

test('space for footer and shard is on the disk before a file is acknowledged', async (t) => {
  const sandbox = createStore(t);
  const { writer } = openWriter(sandbox);
  writer.begin();
  let id = 0;
  for (let file = 0; file < 12; file++) {
    const chunks = Array.from({ length: 1 + ((file * 7) % 60) }, () => putFake(writer, id++));
    commit(writer, file, chunks);
    const state = decodeJournal(readFileSync(join(writer.directory, JOURNAL)));
    const xorb = state.xorbs.at(-1) as LocalXorb;
    t.true(
      statSync(join(writer.directory, `${xorb.number}.xorb`)).size >=
        dataEnd(xorb) + footerLength(xorb.count),
    );
    const copy = join(sandbox.dir, `copy${file}`);
    copyTree(sandbox.root, copy);
    const store = sandbox.open(copy);
    const directory = join(copy, 'incoming', sandbox.list('incoming')[0] as string);
    await sealIncoming(store, directory, state, { fsync: 'none' });
    const shards = readdirSync(store.layout.shards).map(
      (name) => statSync(join(store.layout.shards, name)).size,
    );
    t.is(shards.length, 1);
    t.true(statSync(join(writer.directory, SHARD_RESERVE)).size >= (shards[0] as number));
  }
  await writer.seal();
});

test.serial('a seal takes no further space for xorbs and shard', async (t) => {
  const sandbox = createStore(t);
  const { writer } = openWriter(sandbox);
  writer.begin();
  const ids = [Array.from({ length: 700 }, (_, i) => i), [9000, 9001]];
  for (const [i, list] of ids.entries()) {
    commit(
      writer,
      i,
      list.map((id) => putFake(writer, id)),
    );
  }
  let writes = 0;
  const restore = injectFault(t, 'writevSync', (original, fd, buffers, position) => {
    const length = (buffers as readonly Uint8Array[]).reduce((sum, buffer) => sum + buffer.length, 0);
    if (position === undefined || position === null || position + length > fstatSync(fd).size)
      throw systemError('ENOSPC');
    writes++;
    return original(fd, buffers, position);
  });
  await writer.seal();
  restore();
  t.is(writes, 2, 'the footer of the last xorb, and the shard');
  checkPublished(t, sandbox.open(), ids);
});

test.serial(
  'a disk that fails at any moment of a file that fills xorbs costs that file and no other',
  async (t) => {
    for (let n = 0; ; n++) {
      const sandbox = createStore(t);
      const { writer } = openWriter(sandbox);
      writer.begin();
      const first = Array.from({ length: 500 }, (_, i) => putFake(writer, i));
      commit(writer, 0, first);
      const ids = [Array.from({ length: 500 }, (_, i) => i)];
      let calls = 0;
      const names = ['openSync', 'writevSync', 'writeSync', 'ftruncateSync', 'rmSync'] as const;
      const restores = names.map((name) =>
        injectFault(t, name, (original, ...args) => {
          const isOurs = typeof args[0] === 'number' || String(args[0]).startsWith(sandbox.root);
          if (isOurs && ++calls > n) throw systemError('EIO');
          return original(...args);
        }),
      );
      try {
        const chunks = Array.from({ length: 1200 }, (_, i) => putFake(writer, 1000 + i));
        commit(writer, 1, chunks);
        ids.push(Array.from({ length: 1200 }, (_, i) => 1000 + i));
      } catch (error) {
        t.regex((error as Error).message, /EIO: injected/);
        writer.rollback();
      }
      for (const restore of restores) restore();
      writer.begin();
      commit(
        writer,
        ids.length,
        [5000, 5001].map((id) => putFake(writer, id)),
      );
      ids.push([5000, 5001]);
      checkJournal(t, writer.directory, ids);
      await writer.seal();
      checkPublished(t, sandbox.open(), ids);
      if (calls <= n) {
        t.true(n > 8, `${n} steps`);
        break;
      }
    }
  },
);

test('what was published under a name is never replaced, and the second writer counts it as its own', async (t) => {
  const sandbox = createStore(t);
  const writers = [openWriter(sandbox), openWriter(sandbox)];
  for (const [i, { writer }] of writers.entries()) {
    writer.begin();
    commit(writer, i, [putFake(writer, 1), putFake(writer, 2)]);
  }
  await writers[0]?.writer.seal();
  const [dir] = sandbox.list('xorbs');
  const path = join(sandbox.root, 'xorbs', dir as string, sandbox.list('xorbs', dir as string)[0] as string);
  const { ino } = statSync(path);
  await writers[1]?.writer.seal();
  t.is(statSync(path).ino, ino);
  checkPublished(t, sandbox.open(), [
    [1, 2],
    [1, 2],
  ]);
  t.deepEqual(sandbox.list('incoming'), []);
});

test('two processes that store the same content at once publish it once', async (t) => {
  const sandbox = createStore(t);
  const children = await Promise.all([sandbox.process(), sandbox.process()]);
  const bytes = chunkRun('same', 0, 20);
  const [a, b] = await Promise.all(children.map((child) => child.add(bytes)));
  t.deepEqual(a, b);
  const warnings = await Promise.all(children.map((child) => child.seal()));
  t.deepEqual(warnings.flat(), []);
  t.true(sandbox.read(a?.hash as string).equals(bytes));
  t.is(sandbox.list('xorbs').flatMap((name) => sandbox.list('xorbs', name)).length, 1);
});

test('publishing twice changes nothing', async (t) => {
  const sandbox = createStore(t);
  const { store, writer } = openWriter(sandbox);
  writer.begin();
  const ids = [Array.from({ length: 520 }, (_, i) => i), [9000]];
  for (const [i, list] of ids.entries()) {
    commit(
      writer,
      i,
      list.map((id) => putFake(writer, id)),
    );
  }
  const journal = join(writer.directory, JOURNAL);
  const seal = () =>
    sealIncoming(store, writer.directory, decodeJournal(readFileSync(journal)), { fsync: 'batch' });
  await seal();
  const before = treeOf(sandbox.root, ['incoming']);
  t.is(Object.keys(before).filter((path) => path.startsWith('shards/')).length, 1);
  renameSync(join(writer.directory, 'journal.sealed'), journal);
  await seal();
  t.deepEqual(treeOf(sandbox.root, ['incoming']), before);
  checkPublished(t, sandbox.open(), ids);
  renameSync(join(writer.directory, 'journal.sealed'), journal);
  await writer.seal();
});

test('publishing again does not write into what is published already', async (t) => {
  const sandbox = createStore(t);
  const { store, writer } = openWriter(sandbox);
  writer.begin();
  for (let i = 0; i < 3; i++) commit(writer, i, [putFake(writer, i)]);
  const journal = join(writer.directory, JOURNAL);
  const state = () => decodeJournal(readFileSync(journal));
  await sealIncoming(store, writer.directory, state(), { fsync: 'none' });
  const published = treeOf(sandbox.root, ['incoming', 'catalog']);
  // A state that says less: another shard, which must not be written over the first one's bytes.
  renameSync(join(writer.directory, 'journal.sealed'), journal);
  const less = state();
  less.files.pop();
  await sealIncoming(store, writer.directory, less, { fsync: 'none' });
  const after = treeOf(sandbox.root, ['incoming', 'catalog']);
  for (const [path, digest] of Object.entries(published)) t.is(after[path], digest, path);
  checkPublished(t, sandbox.open(), [[0], [1], [2]]);
  renameSync(join(writer.directory, 'journal.sealed'), journal);
  await writer.seal();
});

test.serial('without hard links a xorb is copied, synced, and then given its name', async (t) => {
  const sandbox = createStore(t);
  const { writer } = openWriter(sandbox, { fsync: 'batch' });
  writer.begin();
  commit(writer, 0, [putFake(writer, 1)]);
  commit(writer, 1, [putFake(writer, 2)]);
  const restores = [
    injectFault(t, 'linkSync', () => {
      throw systemError('EPERM');
    }),
  ];
  const events: string[] = [];
  restores.push(
    injectFault(t, 'fdatasyncSync', (original, fd) => {
      events.push(`sync ${fstatSync(fd).ino}`);
      return original(fd);
    }),
    injectFault(t, 'renameSync', (original, from, to) => {
      if (String(to).includes('/xorbs/') || String(to).includes('/shards/')) {
        events.push(`rename ${statSync(from).ino}`);
      }
      return original(from, to);
    }),
  );
  await writer.seal();
  for (const restore of restores) restore();
  checkPublished(t, sandbox.open(), [[1], [2]]);
  const renames = events.filter((event) => event.startsWith('rename'));
  t.is(renames.length, 2);
  for (const event of renames) {
    const sync = events.indexOf(event.replace('rename', 'sync'));
    t.true(sync >= 0 && sync < events.indexOf(event), `${event}: ${events.join(', ')}`);
  }
  t.deepEqual(
    sandbox.list('xorbs').flatMap((name) => sandbox.list('xorbs', name).filter((n) => n.length !== 64)),
    [],
  );
});

test.serial('a disk that fails behind our back makes the seal fail, and nothing is given up', async (t) => {
  const sandbox = createStore(t);
  const { writer } = openWriter(sandbox, { fsync: 'batch' });
  const restore = injectFault(t, 'fdatasync', (_original, _fd, callback) => {
    setImmediate(callback, systemError('EIO'));
  });
  writer.begin();
  // More than one xorb: the first one's data are on their way to the disk while the second is filled.
  const ids = [Array.from({ length: 600 }, (_, i) => i)];
  commit(
    writer,
    0,
    (ids[0] as number[]).map((id) => putFake(writer, id)),
  );
  await t.throwsAsync(writer.seal(), { code: 'STORE_UNWRITABLE', message: /EIO/ });
  restore();
  t.is(sandbox.list('incoming').length, 1);
  t.deepEqual(sandbox.list('shards'), []);
});

test.serial('many xorbs are published with few of them open at a time', async (t) => {
  const sandbox = createStore(t);
  const { store, writer } = openWriter(sandbox);
  const state: IncomingState = { xorbs: [], files: [], adopted: [] };
  const terms: LocalTerm[] = [];
  for (let i = 0; i < 150; i++) {
    const xorb = newLocalXorb(i);
    const record = Buffer.from([0, 1, 0, 0, 0, 1, 0, 0, i]);
    appendChunk(xorb, chunkHash(record.subarray(8)), 0, record.length, 1);
    writeFileSync(join(writer.directory, `${i}.xorb`), record);
    state.xorbs.push(xorb);
    extendTerms(terms, undefined, i, 0, 1);
  }
  const chunks = state.xorbs.map((xorb) => ({ xorb, index: 0 }));
  const file = { fileHash: Buffer.alloc(32, 9), size: 150, terms, sha256: undefined };
  state.files.push(file);
  writeFileSync(join(writer.directory, JOURNAL), encodeFileFrame(file, chunks));
  const before = readdirSync('/proc/self/fd').length;
  let most = 0;
  const done = sealIncoming(store, writer.directory, state, { fsync: 'batch' });
  const watch = setInterval(() => {
    most = Math.max(most, readdirSync('/proc/self/fd').length - before);
  }, 0);
  most = Math.max(most, readdirSync('/proc/self/fd').length - before);
  await done;
  clearInterval(watch);
  t.true(most < 100, `${most} at once`);
  t.is(sandbox.open().findFile(Buffer.alloc(32, 9))?.terms.length, 150);
  await writer.seal();
});

test('fsync=batch and fsync=none publish the same bytes', async (t) => {
  const trees = [];
  for (const fsync of ['batch', 'none'] as const) {
    const sandbox = createStore(t);
    const uploader = sandbox.uploader({ fsync });
    const result = clean(uploader, chunkRun('fsync', 0, 30));
    await uploader.seal();
    t.true(sandbox.read(result.hash).equals(chunkRun('fsync', 0, 30)));
    trees.push(treeOf(sandbox.root, ['incoming', 'shards', 'catalog']));
  }
  t.deepEqual(trees[0], trees[1]);
});

test('a session that stored nothing leaves nothing', async (t) => {
  const sandbox = createStore(t);
  const { writer } = openWriter(sandbox);
  const before = treeOf(sandbox.root, ['incoming']);
  await writer.seal();
  t.deepEqual(treeOf(sandbox.root), { ...before, incoming: 'directory' });
});

test('a xorb that is gone holds back only the files that need it', async (t) => {
  const sandbox = createStore(t);
  const [known] = await sandbox.add(chunkRun('known', 0, 4));
  const uploader = sandbox.uploader();
  const needy = clean(uploader, Buffer.concat([chunkRun('known', 0, 4), chunkRun('new', 0, 2)]));
  const other = clean(uploader, chunkRun('other', 0, 3));
  rmSync(join(sandbox.root, 'xorbs'), { recursive: true });
  uploader.store.forgetSources();
  await t.throwsAsync(uploader.seal(), { code: 'STORE_UNWRITABLE' });
  t.true(sandbox.read(other.hash).equals(chunkRun('other', 0, 3)));
  t.is(sandbox.list('incoming').length, 1, 'what could not be published is kept');
  t.is(sandbox.tryRead(needy.hash), undefined);
  t.is(known?.newBytes, 4 * 8192);
});

// Adopting

test('a file of another store becomes ours: linked, readable without the other, and marked as unchecked only if foreign', async (t) => {
  const theirs = createStore(t);
  const [file] = await theirs.add(chunkRun('adopt', 0, 12));
  const hash = parseHash(file?.hash as string);
  const sandbox = createStore(t);
  const { store, writer } = openWriter(sandbox);
  const source = theirs.open();
  const found = source.findFile(hash);
  if (!t.truthy(found) || found === undefined) return;
  adoptFile(store, writer, source, found);
  t.true(store.findFile(hash) !== undefined, 'acknowledged is readable');
  await writer.seal();
  rmSync(theirs.root, { recursive: true });
  t.true(sandbox.read(file?.hash as string).equals(chunkRun('adopt', 0, 12)));
  t.deepEqual(sandbox.list('irregular'), []);
  // Its chunks are known for later files.
  const [again] = await sandbox.add(Buffer.concat([chunkRun('adopt', 0, 12), chunk('more')]));
  t.is(again?.newBytes, 8192);
});

test.serial('where a link is refused an adopted xorb is copied', async (t) => {
  const theirs = createStore(t);
  const [file] = await theirs.add(chunkRun('copied', 0, 5));
  const sandbox = createStore(t);
  const { store, writer } = openWriter(sandbox);
  const source = theirs.open();
  const restore = injectFault(t, 'linkSync', (original, from, to) => {
    if (String(from).startsWith(theirs.root)) throw systemError('EXDEV');
    return original(from, to);
  });
  const found = source.findFile(parseHash(file?.hash as string));
  if (found === undefined) return t.fail();
  adoptFile(store, writer, source, found);
  restore();
  await writer.seal();
  t.true(sandbox.read(file?.hash as string).equals(chunkRun('copied', 0, 5)));
  const [dir] = sandbox.list('xorbs');
  const [name] = sandbox.list('xorbs', dir as string);
  t.not(
    statSync(join(sandbox.root, 'xorbs', dir as string, name as string)).ino,
    statSync(join(theirs.root, 'xorbs', dir as string, name as string)).ino,
  );
});

test('an irregular mark travels with the xorb', async (t) => {
  const theirs = createStore(t);
  const [file] = await theirs.add(chunkRun('irregular', 0, 5));
  const source = theirs.open();
  const found = source.findFile(parseHash(file?.hash as string));
  const name = found?.terms[0]?.name as string;
  mkdirSync(join(theirs.root, 'irregular'));
  writeFileSync(join(theirs.root, 'irregular', name), '');
  const sandbox = createStore(t);
  const { store, writer } = openWriter(sandbox);
  if (found === undefined) return t.fail();
  adoptFile(store, writer, source, found);
  await writer.seal();
  t.deepEqual(sandbox.list('irregular'), [name]);
  t.true(sandbox.open().isIrregular(name));
});

// Sources and users

test('a xorb is opened by its name, and refused when its footer has another', async (t) => {
  const sandbox = createStore(t);
  const [a, b] = await sandbox.add(chunkRun('a', 0, 2));
  t.is(b, undefined);
  const store = sandbox.open();
  const term = store.findFile(parseHash(a?.hash as string))?.terms[0];
  const path = store.layout.xorb(term?.name as string);
  const other = Buffer.alloc(32, 7);
  t.throws(() => openXorbFile(path, other), { code: 'INVALID_XORB' });
  const error = t.throws(() => store.openXorb(other), { instanceOf: Git2dbError });
  t.is(error?.code, 'CONTENT_MISSING');
  const bytes = readFileSync(path);
  const copy = join(sandbox.dir, 'copy');
  for (let length = 0; length < bytes.length; length += 61) {
    writeFileSync(copy, bytes.subarray(0, length));
    t.throws(() => openXorbFile(copy, parseHash(term?.name as string)), { instanceOf: FormatError });
  }
  const descriptors = readdirSync('/proc/self/fd').length;
  for (let i = 0; i < 20; i++) t.throws(() => openXorbFile(copy, other));
  t.true(readdirSync('/proc/self/fd').length < descriptors + 10);
});

test('xorbs that gc has put aside are still read, and count as gone for new files', async (t) => {
  const sandbox = createStore(t);
  const bytes = chunkRun('trash', 0, 6);
  const [file] = await sandbox.add(bytes);
  const hash = file?.hash as string;
  const store = sandbox.open();
  const name = store.findFile(parseHash(hash))?.terms[0]?.name as string;
  const [shard] = sandbox.list('shards');
  mkdirSync(store.layout.trash, { recursive: true });
  renameSync(store.layout.xorb(name), join(store.layout.trash, name));
  renameSync(join(store.layout.shards, shard as string), join(store.layout.trash, shard as string));
  t.true(sandbox.read(hash).equals(bytes));
  t.false(store.hasXorb(name));
  t.false(store.touchXorb(name));
  rmSync(join(store.layout.trash, shard as string));
  const [again] = await sandbox.add(bytes);
  t.is(again?.newBytes, bytes.length);
  rmSync(store.layout.trash, { recursive: true });
  t.true(sandbox.read(hash).equals(bytes));
});

test('what gc put aside after we relied on it is taken back by the seal', async (t) => {
  const sandbox = createStore(t);
  const bytes = chunkRun('rescued', 0, 6);
  const [file] = await sandbox.add(bytes);
  const store = sandbox.open();
  const name = store.findFile(parseHash(file?.hash as string))?.terms[0]?.name as string;
  const [shard] = sandbox.list('shards');
  const uploader = sandbox.uploader();
  const longer = Buffer.concat([bytes, chunk('tail')]);
  const known = clean(uploader, bytes);
  const result = clean(uploader, longer);
  t.is(result.newBytes, 8192);
  t.is(known.newBytes, 0);
  mkdirSync(store.layout.trash, { recursive: true });
  renameSync(store.layout.xorb(name), join(store.layout.trash, name));
  renameSync(join(store.layout.shards, shard as string), join(store.layout.trash, shard as string));
  await uploader.seal();
  rmSync(store.layout.trash, { recursive: true });
  t.true(sandbox.read(result.hash).equals(longer));
  t.true(sandbox.read(known.hash).equals(bytes));
});

test('sources that are being read stay open however many others are opened', async (t) => {
  const sandbox = createStore(t);
  const hashes: string[] = [];
  for (let i = 0; i < 70; i++) {
    const [file] = await sandbox.add(chunk(`source ${i}`));
    hashes.push(file?.hash as string);
  }
  const store = sandbox.open();
  const sources = hashes.map((hash, i) => {
    const source = store.findFile(parseHash(hash))?.terms[0]?.open();
    if (source !== undefined && i < 3) source.pins++;
    return source;
  });
  for (const source of sources.slice(0, 3)) t.is(fstatSync(source?.fd as number).nlink, 1);
  store.forgetSources();
  for (const source of sources.slice(0, 3)) t.is(fstatSync(source?.fd as number).nlink, 1);
});

test('repositories are entered, listed and forgotten', (t) => {
  const sandbox = createStore(t);
  const layout = new StoreLayout(sandbox.root);
  t.deepEqual(listUsers(layout), []);
  for (const path of ['/a/.git', '/b c\u00e9/.git', '/a/.git']) registerUser(layout, path);
  t.deepEqual(
    listUsers(layout)
      .map((user) => user.commonDir)
      .sort(),
    ['/a/.git', '/b c\u00e9/.git'],
  );
  t.true(forgetUser(layout, '/a/.git'));
  t.false(forgetUser(layout, '/a/.git'));
  t.is(listUsers(layout).length, 1);
});

// What any store must do, whatever it lies on

interface StoreUnderTest {
  readonly name: string;
  create(t: ExecutionContext): { sandbox: StoreSandbox; open(): LocalStore };
}

const stores: readonly StoreUnderTest[] = [
  {
    name: 'LocalStore',
    create(t) {
      const sandbox = createStore(t);
      return { sandbox, open: () => sandbox.open() };
    },
  },
];

/**
 * The contract of a store:
 *   - nothing is known of a hash that was never stored, and asking does not fail, also before the store exists;
 *   - of a stored file the size and the terms are known, which cover it from the first byte to the last;
 *   - each term's xorb can be opened, has the chunks that the term names, and their records lie where
 *     it says, one after the other;
 *   - each chunk of the file is found, at a place that holds exactly this chunk;
 *   - bytes that were given are those of the chunk hashes.
 */
const contract = test.macro<[StoreUnderTest]>({
  title: (_, { name }) => `the contract of a store holds for ${name}`,
  async exec(t, { create }) {
    const { sandbox, open } = create(t);
    const absent = Buffer.alloc(32, 0xab);
    t.is(open().findFile(absent), undefined);
    t.deepEqual(open().findChunk(absent, 0), []);
    t.false(open().hasXorb(formatHash(absent)));

    const contents = [
      chunkRun('one', 0, 9),
      Buffer.concat([chunkRun('one', 3, 9), chunkRun('two', 0, 5)]),
      randomBytes(1, 300_000),
    ];
    const results = await sandbox.add(...contents);
    const store = open();
    for (const [i, { hash, size }] of results.entries()) {
      const bytes = contents[i] as Buffer;
      const file = store.findFile(parseHash(hash));
      t.is(file?.size, size);
      t.is(size, bytes.length);
      let at = 0;
      for (const term of file?.terms ?? []) {
        const source = term.open();
        t.true(store.hasXorb(term.name));
        t.true(term.end <= source.count);
        const stored = readFileSync(source.path);
        const from = at;
        for (let n = term.start; n < term.end; n++) {
          const start = recordStart(source, n);
          const raw = stored.subarray(start + CHUNK_HEADER_SIZE, recordStart(source, n + 1));
          t.true(raw.equals(bytes.subarray(at, at + raw.length)));
          t.deepEqual(chunkHash(raw), new Uint8Array(source.hashes.subarray(32 * n, 32 * n + 32)));
          const places = store.findChunk(source.hashes, 32 * n);
          t.true(
            places.some(({ xorb, index }) => {
              const other = store.openXorb(xorb);
              return other.hashes
                .subarray(32 * index, 32 * index + 32)
                .every((byte, k) => byte === source.hashes[32 * n + k]);
            }),
          );
          at += raw.length;
        }
        t.is(at - from, term.rawBytes);
      }
      t.is(at, bytes.length);
    }
    t.is(open().findFile(absent), undefined);
    t.deepEqual(open().findChunk(absent, 0), []);
  },
});

for (const store of stores) test(contract, store);

// Damage that other writers' directories may have

test('what is no writer directory in incoming/ is passed over', async (t) => {
  const sandbox = createStore(t);
  const [file] = await sandbox.add(chunkRun('stray', 0, 2));
  writeFileSync(join(sandbox.root, 'incoming', 'stray'), 'a file');
  mkdirSync(join(sandbox.root, 'incoming', 'empty'));
  mkdirSync(join(sandbox.root, 'incoming', 'newer'));
  writeFileSync(
    join(sandbox.root, 'incoming', 'newer', JOURNAL),
    frameOf(77, Buffer.from('from the future')),
  );
  t.true(sandbox.read(file?.hash as string).equals(chunkRun('stray', 0, 2)));
  t.is(sandbox.open().findFile(Buffer.alloc(32, 1)), undefined);
  const [next] = await sandbox.add(chunkRun('stray2', 0, 2));
  t.true(sandbox.read(next?.hash as string).equals(chunkRun('stray2', 0, 2)));
  const long = new Date(Date.now() - UNSURE_MS - 60_000);
  for (const name of ['stray', 'empty', 'newer'])
    utimesSync(join(sandbox.root, 'incoming', name), long, long);
  const [last] = await sandbox.add(chunkRun('stray3', 0, 2));
  t.true(sandbox.read(last?.hash as string).equals(chunkRun('stray3', 0, 2)));
  t.true(
    existsSync(join(sandbox.root, 'incoming', 'newer', JOURNAL)),
    'a newer version may know what it says',
  );
  t.false(existsSync(join(sandbox.root, 'incoming', 'empty')));
});

test('a published xorb with more names than ours is not written to when its writer is recovered', async (t) => {
  const sandbox = createStore(t);
  const { writer } = openWriter(sandbox);
  writer.begin();
  commit(writer, 0, [putFake(writer, 1), putFake(writer, 2)]);
  // A snapshot by hard links, as backup programs make them, while the writer is at work.
  const link = join(sandbox.dir, 'snapshot');
  linkSync(join(writer.directory, '0.xorb'), link);
  await writer.seal();
  checkPublished(t, sandbox.open(), [[1, 2]]);
});

test('notes of evicted files: the last of a file counts, broken lines do not, and there is no end of them', (t) => {
  const { root } = createStore(t);
  const layout = new StoreLayout(root);
  t.deepEqual([...readEvicted(layout)], []);
  layout.create();
  const provedAt = new Date(1_700_000_000_000);
  const note = (digit: string, place: string) => ({ hash: digit.repeat(64), size: 5, provedAt, place });
  noteEvicted(layout, [note('a', '/one'), note('b', 'https://host/x y')]);
  appendFileSync(layout.evicted, 'nonsense\n');
  appendFileSync(layout.evicted, `${'c'.repeat(64)} 5 170000`);
  noteEvicted(layout, [note('a', '/two\nlines')]);
  const read = () => [...readEvicted(layout).values()];
  t.deepEqual(read(), [note('a', '/two lines'), note('b', 'https://host/x y')]);
  appendFileSync(layout.evicted, 'x'.repeat(1 << 20));
  noteEvicted(layout, [note('b', '/three')]);
  t.deepEqual(read(), [note('a', '/two lines'), note('b', '/three')]);
  t.true(statSync(layout.evicted).size < 1000);
  t.deepEqual(
    readdirSync(root).filter((name) => name.includes('tmp')),
    [],
  );
});
