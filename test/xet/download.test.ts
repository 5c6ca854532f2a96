import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import type { CompressionMode } from '../../src/xet/compress/scheme.ts';
import { Downloader, PARALLEL_BYTES } from '../../src/xet/download.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import { merkleRoot } from '../../src/xet/hash/merkle.ts';
import { parseHash } from '../../src/xet/hash/xet-hash.ts';
import { QueuedFile, ReadAhead } from '../../src/xet/read-ahead.ts';
import { WINDOW_CHUNKS, WINDOW_RAW, type Window, windowsOf } from '../../src/xet/reconstruct/plan.ts';
import type { LocalStore } from '../../src/xet/store/local-store.ts';
import { XorbBuilder } from '../../src/xet/xorb/builder.ts';
import { encodeChunkHeader } from '../../src/xet/xorb/chunk-record.ts';
import { encodeFooter } from '../../src/xet/xorb/format.ts';
import {
  addForeign,
  chunk,
  chunkHash,
  chunkRun,
  chunksOf,
  clean,
  createStore,
  hashOf,
  randomBytes,
  readAll,
  type StoreSandbox,
} from '../helpers/store-sandbox.ts';

const MIB = 1 << 20;

/** What a file's windows say about it, and its bytes. */
function readWindows(
  downloader: Downloader,
  hash: string,
): { sizes: number[]; offsets: number[]; bytes: Buffer } {
  const sizes: number[] = [];
  const offsets: number[] = [];
  const parts: Buffer[] = [];
  for (const { fileOffset, chunks } of downloader.read(downloader.plan(parseHash(hash)))) {
    offsets.push(fileOffset);
    const bytes = Buffer.concat(chunks);
    sizes.push(bytes.length);
    parts.push(bytes);
  }
  return { sizes, offsets, bytes: Buffer.concat(parts) };
}

/** The published path of a file's term. */
function xorbPath(sandbox: StoreSandbox, hash: string, term = 0): string {
  const store = sandbox.open();
  return store.layout.xorb(store.findFile(parseHash(hash))?.terms[term]?.name as string);
}

/** Flips a byte of a chunk's content, `at` bytes into the xorb. */
function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = ~(bytes[at] as number) & 255;
  writeFileSync(path, bytes);
}

// Planning and reading

test('the windows of a file follow each other, are as large as they may be, and hold its bytes', async (t) => {
  const sandbox = createStore(t);
  const bytes = randomBytes('windows', 7 * MIB + 12_345);
  const [file] = await sandbox.add(bytes);
  const found = readWindows(new Downloader(sandbox.open()), file?.hash as string);
  t.true(found.bytes.equals(bytes));
  t.true(found.sizes.every((size) => size <= WINDOW_RAW));
  t.true(found.sizes.slice(0, -1).every((size) => size > WINDOW_RAW - 131072));
  let at = 0;
  for (const [i, size] of found.sizes.entries()) {
    t.is(found.offsets[i], at);
    at += size;
  }
});

test('very small and very large chunks fit their windows', (t) => {
  const sandbox = createStore(t);
  const contents: Buffer[] = [];
  for (const [count, size] of [
    [2000, 7],
    [1, 1],
    [WINDOW_CHUNKS, 11],
    [WINDOW_CHUNKS + 1, 13],
    [40, 131072],
    [3, 131071],
  ] as const) {
    for (const mode of ['none', 'lz4', 'bg4-lz4'] as const) {
      const builder = new XorbBuilder();
      const bytes =
        mode === 'none'
          ? randomBytes(`${count}`, count * size)
          : Buffer.alloc(count * size, `${mode}${size}`);
      for (let at = 0; at < bytes.length; at += size)
        builder.add(bytes.subarray(at, at + size), undefined, mode);
      contents.push(bytes);
      const hash = addForeign(sandbox, builder.build({ footer: true }));
      const found = readWindows(new Downloader(sandbox.open()), hash);
      t.true(found.bytes.equals(bytes), `${count} chunks of ${size}, ${mode}`);
      t.true(found.sizes.every((length) => length <= Math.min(WINDOW_RAW, WINDOW_CHUNKS * size)));
    }
  }
  t.is(contents.length, 18);
});

/** An LZ4 frame of stored blocks so small that it is nearly twice as long as its content. */
function bloatedFrame(raw: Uint8Array): Buffer {
  const parts = [Buffer.from('04224d18604082', 'hex')];
  for (let at = 0; at < raw.length; at += 5) {
    const block = raw.subarray(at, at + 5);
    const size = Buffer.alloc(4);
    size.writeUInt32LE((0x80000000 | block.length) >>> 0);
    parts.push(size, Buffer.from(block));
  }
  parts.push(Buffer.alloc(4));
  return Buffer.concat(parts);
}

test('records that are longer than their content are read, however many', (t) => {
  const sandbox = createStore(t);
  const bytes = randomBytes('bloated', 20 * 131072);
  const records: Buffer[] = [];
  const hashes: Uint8Array[] = [];
  const recordEnds: number[] = [];
  const rawEnds: number[] = [];
  let end = 0;
  for (let at = 0; at < bytes.length; at += 131072) {
    const raw = bytes.subarray(at, at + 131072);
    const payload = bloatedFrame(raw);
    const header = Buffer.alloc(8);
    encodeChunkHeader(header, 0, { storedLength: payload.length, scheme: 1, rawLength: raw.length });
    records.push(header, payload);
    hashes.push(chunkHash(raw));
    end += 8 + payload.length;
    recordEnds.push(end);
    rawEnds.push(at + raw.length);
  }
  const lengths = Uint32Array.from(rawEnds, () => 131072);
  const list = Buffer.concat(hashes);
  const xorbHash = merkleRoot(list, lengths);
  const footer = encodeFooter({
    xorbHash,
    count: lengths.length,
    hashes: list,
    recordEnds: Uint32Array.from(recordEnds),
    rawEnds: Uint32Array.from(rawEnds),
  });
  const xorb = {
    bytes: Buffer.concat([...records, footer]),
    xorbHash,
    hashes: list,
    lengths,
    storedBytes: end,
  };
  t.true(end > 1.7 * bytes.length);
  t.true(sandbox.read(addForeign(sandbox, xorb)).equals(bytes));
});

test('a xorb with a footer of version 0 is read', (t) => {
  const sandbox = createStore(t);
  const builder = new XorbBuilder();
  const bytes = chunkRun('v0', 0, 5);
  for (const part of chunksOf(bytes)) builder.add(part, undefined, 'lz4');
  const xorb = builder.build({ footer: false });
  const footer = Buffer.alloc(60 + 36 * xorb.count + 4);
  footer.write('XETBLOB');
  footer.set(xorb.xorbHash, 8);
  footer.writeUInt32LE(xorb.count, 40);
  xorb.recordEnds.forEach((end, i) => {
    footer.writeUInt32LE(end, 44 + 4 * i);
  });
  footer.set(xorb.hashes, 44 + 4 * xorb.count);
  footer.writeUInt32LE(60 + 36 * xorb.count, 60 + 36 * xorb.count);
  const hash = addForeign(sandbox, { ...xorb, bytes: Buffer.concat([xorb.bytes, footer]) });
  t.true(sandbox.read(hash).equals(bytes));
});

test('content of any sizes and compression is read back by threads, as it is by one', async (t) => {
  const sandbox = createStore(t);
  const modes: readonly CompressionMode[] = ['none', 'lz4', 'bg4-lz4', 'auto'];
  const files: { hash: string; bytes: Buffer }[] = [];
  for (const [i, mode] of modes.entries()) {
    const uploader = sandbox.uploader({ compression: mode });
    for (const size of [0, 1, 100_000, 3 * MIB + i]) {
      const bytes = Buffer.concat([
        randomBytes(`${i}`, size >> 1),
        Buffer.alloc(size - (size >> 1), 'text '),
      ]);
      files.push({ hash: clean(uploader, bytes).hash, bytes });
    }
    await uploader.seal();
  }
  for (const workers of [0, 1, 3]) {
    const downloader = new Downloader(sandbox.open(), { workers });
    const ahead = new ReadAhead(downloader);
    const queue = files.map(
      ({ hash }) => new QueuedFile(PARALLEL_BYTES, () => downloader.plan(parseHash(hash))),
    );
    for (const file of queue) ahead.add(file);
    for (const [i, file] of queue.entries()) {
      t.true(collect(ahead, file).equals(files[i]?.bytes as Buffer), `file ${i} with ${workers} workers`);
      // So that the threads come to life.
      if (i === 2) await new Promise((resolve) => setTimeout(resolve, 80));
    }
  }
});

function collect(ahead: ReadAhead, file: QueuedFile): Buffer {
  const parts: Buffer[] = [];
  for (const window of ahead.read(file)) parts.push(Buffer.concat(window.chunks));
  return Buffer.concat(parts);
}

// Failures of one file

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return error instanceof Git2dbError ? error.code : String(error);
  }
  return 'none';
}

test('a file that was never stored is missing; one with another size than its pointer says is an error', async (t) => {
  const sandbox = createStore(t);
  const before = new Downloader(sandbox.open());
  t.is(
    codeOf(() => before.plan(Buffer.alloc(32, 1))),
    'CONTENT_MISSING',
    'no store at all',
  );
  const [file] = await sandbox.add(chunkRun('known', 0, 3));
  const downloader = new Downloader(sandbox.open());
  const hash = parseHash(file?.hash as string);
  t.is(
    codeOf(() => downloader.plan(Buffer.alloc(32, 1))),
    'CONTENT_MISSING',
  );
  t.is(
    codeOf(() => downloader.plan(hash, 5)),
    'CONTENT_DAMAGED',
  );
  t.is(downloader.plan(hash, 3 * 8192).size, 3 * 8192);
  t.is(before.plan(hash).size, 3 * 8192, 'stored since it was looked for first');
});

for (const [what, damage, code] of [
  ['gone', (path: string) => rmSync(path), 'CONTENT_MISSING'],
  ['cut short', (path: string) => truncateSync(path, statSync(path).size - 1), 'CONTENT_DAMAGED'],
  ['empty', (path: string) => truncateSync(path, 0), 'CONTENT_DAMAGED'],
  [
    'a directory',
    (path: string) => {
      rmSync(path);
      mkdirSync(path);
    },
    'CONTENT_DAMAGED',
  ],
  ['damaged in a chunk', (path: string) => flip(path, 8 + 8200 + 30), 'CONTENT_DAMAGED'],
  ['damaged in a record header', (path: string) => flip(path, 8200 + 1), 'CONTENT_DAMAGED'],
  [
    'damaged in the hash list',
    (path: string) => flip(path, statSync(path).size - 4 - 3 * 40 - 20),
    'CONTENT_DAMAGED',
  ],
] as const) {
  test(`of a file whose xorb is ${what} no wrong byte is given out`, async (t) => {
    const sandbox = createStore(t);
    const bytes = chunkRun('whole', 0, 3);
    const [file] = await sandbox.add(bytes);
    const path = xorbPath(sandbox, file?.hash as string);
    damage(path);
    const descriptors = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 3; i++) {
      const downloader = new Downloader(sandbox.open());
      t.is(
        codeOf(() => readAll(downloader, file?.hash as string)),
        code,
      );
    }
    t.true(readdirSync('/proc/self/fd').length < descriptors + 20);
    const error = t.throws(() => readAll(new Downloader(sandbox.open()), file?.hash as string));
    t.true(error?.message.includes(path.slice(-64)) || error?.message.includes('shard'), error?.message);
  });
}

test('damage in the middle of a file shows there, and what comes before is right', async (t) => {
  const sandbox = createStore(t);
  const bytes = chunkRun('middle', 0, 600, 8192);
  const [file] = await sandbox.add(bytes);
  flip(xorbPath(sandbox, file?.hash as string), 8200 * 400 + 100);
  const downloader = new Downloader(sandbox.open());
  const parts: Buffer[] = [];
  const error = t.throws(
    () => {
      for (const { chunks } of downloader.read(downloader.plan(parseHash(file?.hash as string)))) {
        parts.push(Buffer.concat(chunks));
      }
    },
    { instanceOf: Git2dbError },
  );
  t.is(error?.data.chunk, 400);
  t.regex(error?.message ?? '', new RegExp(`chunk 400 at offset ${8200 * 400}`));
  const given = Buffer.concat(parts);
  t.is(given.length, 256 * 8192);
  t.true(given.equals(bytes.subarray(0, given.length)));
  // The same downloader reads other files.
  const [other] = await sandbox.add(chunkRun('other', 0, 5));
  t.true(readAll(downloader, other?.hash as string).equals(chunkRun('other', 0, 5)));
});

test('of two places of a file the sound one is taken', async (t) => {
  const sandbox = createStore(t);
  const bytes = chunkRun('twice', 0, 6);
  const [first] = await sandbox.add(bytes);
  const hash = first?.hash as string;
  const old = xorbPath(sandbox, hash);
  renameSync(old, `${old}.away`);
  // Packed differently, so that it has another name.
  const [, second] = await sandbox.add(chunk('in front'), bytes);
  t.is(second?.hash, hash);
  const fresh = xorbPath(sandbox, hash);
  renameSync(`${old}.away`, old);
  t.not(old, fresh);
  for (const broken of [old, fresh]) {
    const whole = readFileSync(broken);
    truncateSync(broken, 100);
    t.true(sandbox.read(hash).equals(bytes));
    rmSync(broken);
    t.true(sandbox.read(hash).equals(bytes));
    writeFileSync(broken, whole);
  }
});

test('a shard that says something else about a file is not believed', async (t) => {
  const sandbox = createStore(t);
  const [file] = await sandbox.add(chunkRun('lie', 0, 6));
  const [name] = sandbox.list('shards');
  const path = join(sandbox.root, 'shards', name as string);
  const bytes = readFileSync(path);
  // The end of the only term: one chunk less.
  const at = 48 + 48 + 44;
  t.is(bytes.readUInt32LE(at), 6);
  bytes.writeUInt32LE(5, at);
  bytes.writeUInt32LE(5 * 8192, at - 8);
  writeFileSync(path, bytes);
  t.is(
    codeOf(() => sandbox.read(file?.hash as string)),
    'CONTENT_DAMAGED',
  );
});

// Things that change meanwhile

test('files that were published, repacked or moved since the catalog was read are found', async (t) => {
  const sandbox = createStore(t);
  const bytes = chunkRun('moving', 0, 6);
  const [file] = await sandbox.add(bytes);
  const hash = file?.hash as string;
  const downloader = new Downloader(sandbox.open());
  t.true(readAll(downloader, hash).equals(bytes));
  const [, later] = await sandbox.add(chunk('x'), chunkRun('later', 0, 2));
  t.true(readAll(downloader, later?.hash as string).equals(chunkRun('later', 0, 2)));
  // Repacked: another xorb, another shard, another catalog; the old ones are gone.
  const elsewhere = createStore(t);
  await elsewhere.add(chunk('y'), bytes);
  for (const part of ['xorbs', 'shards', 'catalog']) {
    rmSync(join(sandbox.root, part), { recursive: true });
    renameSync(join(elsewhere.root, part), join(sandbox.root, part));
  }
  t.true(readAll(downloader, hash).equals(bytes));
});

test('a term that is opened again and has other chunks is not given out', async (t) => {
  const sandbox = createStore(t);
  const bytes = chunkRun('proof', 0, 600);
  const [file] = await sandbox.add(bytes);
  const hash = file?.hash as string;
  const path = xorbPath(sandbox, hash);
  const store = sandbox.open();
  const downloader = new Downloader(store);
  const windows = downloader.read(downloader.plan(parseHash(hash)));
  t.true(
    Buffer.concat((windows.next().value as { chunks: Uint8Array[] }).chunks).equals(
      bytes.subarray(0, 256 * 8192),
    ),
  );
  // A xorb that says the same name, count and lengths, and holds something else, consistently.
  const forged = chunkRun('proof', 0, 600);
  chunk('forged').copy(forged, 8192 * 300);
  const builder = new XorbBuilder();
  for (const part of chunksOf(forged)) builder.add(part, undefined, 'none');
  const built = builder.build({ footer: true });
  const forgery = Buffer.from(built.bytes);
  forgery.set(parseHash(path.slice(-64)), built.storedBytes + 8);
  rmSync(path);
  writeFileSync(path, forgery);
  store.forgetSources();
  t.is(
    codeOf(() => [...windows].length),
    'CONTENT_DAMAGED',
  );
});

test('content of a living writer is read while it goes on writing, and while it seals', async (t) => {
  const sandbox = createStore(t);
  const child = await sandbox.process();
  const first = chunkRun('first', 0, 600);
  const { hash } = await child.add(first);
  const store = sandbox.open();
  const downloader = new Downloader(store);
  const windows = downloader.read(downloader.plan(parseHash(hash)));
  const parts: Buffer[] = [];
  const take = () => {
    const next = windows.next();
    if (next.done !== true) parts.push(Buffer.concat(next.value.chunks));
  };
  take();
  const second = await child.add(Buffer.concat([chunkRun('second', 0, 20), first.subarray(0, 50_000)]));
  take();
  t.is(readAll(downloader, second.hash).length, 20 * 8192 + 50_000);
  await child.begin(randomBytes('unfinished', 2 * MIB));
  t.deepEqual(await child.seal(), []);
  // What the writer had is published now, under another name; and ours must be opened again.
  store.forgetSources();
  while (parts.length < 3) take();
  t.true(Buffer.concat(parts).equals(first));
  t.true(readAll(downloader, second.hash).length > 0);
  t.true(readAll(new Downloader(sandbox.open()), hash).equals(first));
});

test('a file is found at every moment between its acknowledgement and after its publication', async (t) => {
  const sandbox = createStore(t);
  const child = await sandbox.process();
  for (let round = 0; round < 5; round++) {
    const bytes = chunkRun(`round ${round} `, 0, 4);
    const { hash } = await child.add(bytes);
    let sealed = false;
    const sealing = child.seal().finally(() => {
      sealed = true;
    });
    // One that has looked around before, and one that has not.
    const old = new Downloader(sandbox.open());
    old.plan(parseHash(hash));
    let reads = 0;
    while (!sealed || reads < 3) {
      t.true(readAll(old, hash).equals(bytes));
      t.true(sandbox.tryRead(hash)?.equals(bytes));
      old.store.forgetSources();
      reads++;
      await new Promise((resolve) => setImmediate(resolve));
    }
    t.deepEqual(await sealing, []);
  }
});

test('a file of more xorbs than are kept open is read, ahead and alone', async (t) => {
  const sandbox = createStore(t);
  const parts: Buffer[] = [];
  for (let i = 0; i < 80; i++) {
    parts.push(chunkRun(`many ${i} `, 0, 2));
    await sandbox.add(parts.at(-1) as Buffer);
  }
  // Forwards and backwards: what was opened first is needed last.
  const bytes = Buffer.concat([...parts, ...parts.toReversed()]);
  const [file] = await sandbox.add(bytes);
  t.is(file?.newBytes, 0);
  const hash = file?.hash as string;
  const descriptors = readdirSync('/proc/self/fd').length;
  for (const workers of [0, 2]) {
    const store = sandbox.open();
    const downloader = new Downloader(store, { workers });
    t.true(readAll(downloader, hash).equals(bytes));
    const ahead = new ReadAhead(downloader);
    const queue = [0, 1].map(() => new QueuedFile(PARALLEL_BYTES, () => downloader.plan(parseHash(hash))));
    for (const queued of queue) ahead.add(queued);
    for (const queued of queue) t.true(collect(ahead, queued).equals(bytes));
    t.true(readdirSync('/proc/self/fd').length < descriptors + 64 + 40);
    store.close();
  }
});

// The pump

function setup(t: ExecutionContext, workers: number, contents: readonly Buffer[]) {
  const sandbox = createStore(t);
  const store = sandbox.open();
  const downloader = new Downloader(store, { workers });
  const hashes = contents.map((bytes) => hashOf(bytes));
  const windows = (i: number): Window[] => [...windowsOf(downloader.plan(parseHash(hashes[i] as string)))];
  return { sandbox, store, downloader, hashes, windows };
}

for (const workers of [0, 2]) {
  test(`windows are taken in the order they were added, dropped or stopped, with ${workers} workers`, async (t) => {
    const contents = [randomBytes('p', 9 * MIB), chunkRun('q', 0, 30)];
    const { sandbox, downloader, windows } = setup(t, workers, contents);
    await sandbox.add(...contents);
    const pump = downloader.pump(workers > 0);
    await new Promise((resolve) => setTimeout(resolve, 60));
    t.true(pump.hasRoom);
    t.is(pump.pending, 0);
    t.false(pump.isReady);
    const list = [...windows(0), ...windows(1), ...windows(0)];
    let added = 0;
    let taken = 0;
    for (let step = 0; taken < list.length; step++) {
      while (added < list.length && pump.hasRoom && (step % 3 !== 0 || pump.pending === 0)) {
        pump.add(list[added++] as Window);
      }
      const window = list[taken++] as Window;
      if (step % 4 === 2) {
        pump.drop();
        continue;
      }
      const content = taken > windows(0).length && taken <= windows(0).length + 1 ? contents[1] : contents[0];
      const { chunks, fileOffset } = pump.take();
      t.is(fileOffset, window.fileOffset);
      t.true(
        Buffer.concat(chunks).equals((content as Buffer).subarray(fileOffset, fileOffset + window.rawBytes)),
      );
    }
    t.throws(() => pump.take(), { message: /empty/ });
    while (pump.hasRoom) pump.add(list[0] as Window);
    t.throws(() => pump.add(list[0] as Window), { message: /no room/ });
    pump.stop();
    t.is(pump.pending, 0);
    for (let i = 0; i < 30; i++) {
      pump.add(list[i % list.length] as Window);
      pump.drop();
    }
    t.true(pump.hasRoom);
  });

  test(`windows are written where they belong by the thread that reads them, with ${workers} workers`, async (t) => {
    const bytes = Buffer.concat([randomBytes('w', 5 * MIB), chunkRun('w', 0, 300), Buffer.alloc(MIB)]);
    const { sandbox, downloader, windows } = setup(t, workers, [bytes]);
    await sandbox.add(bytes);
    const pump = downloader.pump(workers > 0);
    await new Promise((resolve) => setTimeout(resolve, 60));
    const path = join(sandbox.dir, 'target');
    const fd = openSync(path, 'w+');
    let written = 0;
    for (const window of windows(0)) {
      if (!pump.hasRoom) written += pump.complete();
      pump.add(window, { fd });
    }
    while (pump.pending > 0) written += pump.complete();
    closeSync(fd);
    t.is(written, bytes.length);
    t.true(readFileSync(path).equals(bytes));
    // A target that cannot be written to.
    const readOnly = openSync(path, 'r');
    pump.add(windows(0)[0] as Window, { fd: readOnly });
    t.throws(() => pump.complete(), { code: 'EBADF' });
    closeSync(readOnly);
    pump.add(windows(0)[0] as Window);
    t.true(Buffer.concat(pump.take().chunks).equals(bytes.subarray(0, windows(0)[0]?.rawBytes)));
  });
}

// Reading ahead

interface Scene {
  readonly sandbox: StoreSandbox;
  readonly ahead: ReadAhead;
  readonly queue: QueuedFile[];
  readonly contents: Buffer[];
  readonly hashes: string[];
  readonly store: LocalStore;
}

async function scene(t: ExecutionContext, contents: Buffer[], workers: number): Promise<Scene> {
  const sandbox = createStore(t);
  const hashes: string[] = [];
  // Each in its own xorb, to be damaged on its own.
  for (const bytes of contents) hashes.push((await sandbox.add(bytes))[0]?.hash as string);
  const store = sandbox.open();
  const downloader = new Downloader(store, { workers });
  const ahead = new ReadAhead(downloader);
  const queue = contents.map(
    (_, i) => new QueuedFile(PARALLEL_BYTES, () => downloader.plan(parseHash(hashes[i] as string))),
  );
  for (const file of queue) ahead.add(file);
  return { sandbox, ahead, queue, contents, hashes, store };
}

for (const workers of [0, 2]) {
  test(`files are read in turn, out of turn, in part or not at all, with ${workers} workers`, async (t) => {
    const contents = Array.from({ length: 14 }, (_, i) =>
      i % 4 === 3 ? randomBytes(`ahead ${i}`, 5 * MIB) : chunkRun(`ahead ${i} `, 0, i % 4),
    );
    const { ahead, queue } = await scene(t, contents, workers);
    ahead.start();
    await new Promise((resolve) => setTimeout(resolve, 60));
    const check = (i: number) =>
      t.true(collect(ahead, queue[i] as QueuedFile).equals(contents[i] as Buffer), `file ${i}`);
    check(0);
    check(3);
    check(2);
    check(1);
    // Given up after the first window.
    for (const window of ahead.read(queue[7] as QueuedFile)) {
      t.true(window.chunks.length > 0);
      break;
    }
    check(5);
    check(4);
    check(6);
    for (const window of ahead.read(queue[8] as QueuedFile)) t.true(window.chunks.length === 0);
    check(13);
    check(9);
    check(11);
    check(12);
    check(10);
  });

  test(`a failure of one file ahead does not disturb the others, with ${workers} workers`, async (t) => {
    const contents = Array.from({ length: 9 }, (_, i) => chunkRun(`fail ${i} `, 0, i % 3 === 1 ? 600 : 20));
    const { sandbox, ahead, queue, hashes } = await scene(t, contents, workers);
    rmSync(xorbPath(sandbox, hashes[2] as string));
    flip(xorbPath(sandbox, hashes[4] as string), 8200 * 300 + 99);
    flip(xorbPath(sandbox, hashes[5] as string), 99);
    truncateSync(xorbPath(sandbox, hashes[7] as string), 5000);
    ahead.start();
    await new Promise((resolve) => setTimeout(resolve, 60));
    const expected: Record<number, string> = {
      2: 'CONTENT_MISSING',
      4: 'CONTENT_DAMAGED',
      5: 'CONTENT_DAMAGED',
      7: 'CONTENT_DAMAGED',
    };
    for (const [i, file] of queue.entries()) {
      if (expected[i] === undefined) t.true(collect(ahead, file).equals(contents[i] as Buffer), `file ${i}`);
      else
        t.is(
          codeOf(() => collect(ahead, file)),
          expected[i] as string,
          `file ${i}`,
        );
    }
  });
}

test('what is read meanwhile is not read again, and no more is read than the next window', async (t) => {
  const contents = [chunkRun('meanwhile a ', 0, 20), chunkRun('meanwhile b ', 0, 20)];
  const { sandbox, ahead, queue, hashes } = await scene(t, contents, 0);
  ahead.work(); // Nobody has asked for anything yet.
  ahead.start();
  ahead.work();
  for (const hash of hashes) truncateSync(xorbPath(sandbox, hash), 0);
  t.true(collect(ahead, queue[0] as QueuedFile).equals(contents[0] as Buffer));
  t.is(
    codeOf(() => collect(ahead, queue[1] as QueuedFile)),
    'CONTENT_DAMAGED',
  );
  ahead.work();
});

test('any order of asking gives every file its bytes', async (t) => {
  const contents = Array.from({ length: 6 }, (_, i) =>
    chunkRun(`any ${i} `, 0, [1, 300, 0, 40, 700, 5][i] as number),
  );
  const sandbox = createStore(t);
  const results = await sandbox.add(...contents);
  const downloader = new Downloader(sandbox.open(), { workers: 1 });
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          which: fc.nat({ max: 5 }),
          windows: fc.nat({ max: 4 }),
          skip: fc.boolean(),
          work: fc.nat({ max: 3 }),
        }),
        { maxLength: 10 },
      ),
      fc.infiniteStream(fc.nat({ max: 9 })),
      (wishes, order) => {
        const ahead = new ReadAhead(downloader);
        const queue = wishes.map(
          ({ which }) => new QueuedFile(1, () => downloader.plan(parseHash(results[which]?.hash as string))),
        );
        for (const file of queue) ahead.add(file);
        const left = queue.map((_, i) => i);
        while (left.length > 0) {
          const pick = (order.next().value as number) % Math.min(3, left.length);
          const i = left.splice(pick, 1)[0] as number;
          const { which, windows, skip, work } = wishes[i] as (typeof wishes)[number];
          for (let n = 0; n < work; n++) ahead.work();
          if (skip && windows === 0) continue;
          let at = 0;
          let count = 0;
          for (const window of ahead.read(queue[i] as QueuedFile)) {
            const bytes = Buffer.concat(window.chunks);
            t.is(window.fileOffset, at);
            t.true(bytes.equals((contents[which] as Buffer).subarray(at, at + bytes.length)));
            at += bytes.length;
            if (skip && ++count === windows) break;
          }
          if (!skip) t.is(at, (contents[which] as Buffer).length);
        }
        ahead.start();
      },
    ),
    { numRuns: 25 },
  );
});
