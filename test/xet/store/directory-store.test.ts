/** A directory store beside the others who work on the same directory: gc, clean, fsck. */

import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Git2dbError } from '../../../src/xet/errors.ts';
import { formatHash, parseHash } from '../../../src/xet/hash/xet-hash.ts';
import { DirectoryStore } from '../../../src/xet/store/directory-store.ts';
import { createStore, randomBytes } from '../../helpers/store-sandbox.ts';
import {
  fileOf,
  putFile,
  readWhole,
  shardOf,
  someChunks,
  uploadOf,
  xorbOf,
} from '../../helpers/stored-content.ts';
import { same } from '../objects/object-contract.ts';

function temporary(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'git2db-directory-'));
  t.teardown(() => {
    chmodSync(directory, 0o755);
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

function open(t: ExecutionContext, root: string): DirectoryStore {
  const store = DirectoryStore.open(root, { fsync: 'none' });
  t.teardown(() => store[Symbol.asyncDispose]());
  return store;
}

const OLD = new Date('2020-01-01');

test('what clean stored is given, and what was put clean finds', async (t) => {
  const sandbox = createStore(t);
  const bytes = randomBytes('cleaned', 700_000);
  const [result] = await sandbox.add(bytes);
  const store = open(t, sandbox.root);
  same(t, await readWhole(store, parseHash(result?.hash ?? '')), bytes);
  const chunks = someChunks('put', 5);
  const { file } = await putFile(store, chunks);
  same(t, sandbox.read(formatHash(file.fileHash)), Buffer.concat(chunks));
  // Chunk boundaries of xorbs that came from elsewhere are not believed.
  t.deepEqual(sandbox.list('irregular'), [formatHash(xorbOf(chunks).xorbHash)]);
  // Nothing is left of the writer.
  t.deepEqual(sandbox.list('incoming'), []);
});

test('files are still found in what gc has put aside, and come back from there', async (t) => {
  const root = join(temporary(t), 'xet');
  const { file, xorb } = await putFile(open(t, root), someChunks('aside', 4));
  const store = open(t, root);
  const { layout } = store.local;
  const name = formatHash(xorb.xorbHash);
  mkdirSync(layout.trash);
  renameSync(layout.xorb(name), join(layout.trash, name));
  const [shard] = readdirSync(layout.shards);
  renameSync(join(layout.shards, shard as string), join(layout.trash, shard as string));
  t.is((await readWhole(store, file.fileHash))?.length, 4000);
  t.true(existsSync(layout.xorb(name)));
  t.true(existsSync(join(layout.shards, shard as string)));
});

test('what is said to be there is young, so that gc leaves it alone', async (t) => {
  const root = join(temporary(t), 'xet');
  const { file, xorb } = await putFile(open(t, root), someChunks('young', 4));
  const { layout } = open(t, root).local;
  const xorbPath = layout.xorb(formatHash(xorb.xorbHash));
  const shardPath = join(layout.shards, readdirSync(layout.shards)[0] as string);
  const age = () => {
    utimesSync(xorbPath, OLD, OLD);
    utimesSync(shardPath, OLD, OLD);
  };
  const isYoung = (path: string) => Date.now() - statSync(path).mtimeMs < 3600_000;
  age();
  await open(t, root).findFiles([file.fileHash]);
  t.true(isYoung(xorbPath) && isYoung(shardPath));
  age();
  await open(t, root).findChunks(xorb.hashes);
  t.true(isYoung(xorbPath));
  age();
  await open(t, root).hasXorb(xorb.xorbHash);
  t.true(isYoung(xorbPath));
  age();
  await open(t, root).putShard(shardOf([], [fileOf([[xorb, 0, 2]])]));
  t.true(isYoung(xorbPath));
  age();
  const readOnly = DirectoryStore.open(root, { isReadOnly: true });
  t.teardown(() => readOnly[Symbol.asyncDispose]());
  t.is((await readWhole(readOnly, file.fileHash))?.length, 4000);
  t.false(isYoung(xorbPath));
});

test('a file whose xorb is gone is not said to be there, and put again it is', async (t) => {
  const root = join(temporary(t), 'xet');
  const chunks = someChunks('lost', 4);
  const { file, xorb } = await putFile(open(t, root), chunks);
  const store = open(t, root);
  rmSync(store.local.layout.xorb(formatHash(xorb.xorbHash)));
  t.deepEqual(await store.findFiles([file.fileHash]), [undefined]);
  t.deepEqual(await store.findChunks(xorb.hashes), []);
  const error = await t.throwsAsync(store.putShard(shardOf([], [file])), { instanceOf: Git2dbError });
  t.is(error?.code, 'CONTENT_MISSING');
  t.deepEqual(error?.data.xorbs, [formatHash(xorb.xorbHash)]);
  t.true(await store.putXorb(uploadOf(xorb)));
  t.false(await store.putShard(shardOf([xorb], [file])));
  t.is((await readWhole(store, file.fileHash))?.length, 4000);
});

test('a store is not made on a disk that is not mounted, and an empty place is an empty store', async (t) => {
  const root = join(temporary(t), 'not', 'mounted', 'xet');
  const store = open(t, root);
  t.deepEqual(await store.findFiles([new Uint8Array(32).fill(1)]), [undefined]);
  const error = await t.throwsAsync(putFile(store, someChunks('x', 1)), { instanceOf: Git2dbError });
  t.is(error?.code, 'REMOTE_MISSING');
  t.regex(error?.message ?? '', /mount the disk/);
  t.false(existsSync(root));
});

const isRoot = process.getuid?.() === 0;
(isRoot ? test.skip : test)(
  `a directory that may not be written to can be read${isRoot ? ' (skipped: root may write anywhere)' : ''}`,
  async (t) => {
    const base = temporary(t);
    const root = join(base, 'xet');
    const { file } = await putFile(open(t, root), someChunks('ro', 2));
    chmodSync(root, 0o555);
    t.teardown(() => chmodSync(root, 0o755));
    const store = open(t, root);
    t.true(store.isReadOnly);
    t.is((await readWhole(store, file.fileHash))?.length, 2000);
    const error = await t.throwsAsync(putFile(store, someChunks('more', 1)), { instanceOf: Git2dbError });
    t.is(error?.code, 'STORE_UNWRITABLE');
  },
);

test('a sender that stops leaves nothing', async (t) => {
  const root = join(temporary(t), 'xet');
  const store = open(t, root);
  const xorb = xorbOf(someChunks('stopped', 10, 10_000));
  const stop = new AbortController();
  const sending = store.putXorb(
    {
      footer: xorb,
      *records() {
        yield xorb.bytes.subarray(0, 30_000);
        stop.abort();
        yield xorb.bytes.subarray(30_000, xorb.storedBytes);
      },
    },
    { signal: stop.signal },
  );
  await t.throwsAsync(sending, { name: 'AbortError' });
  t.deepEqual(readdirSync(join(root, 'incoming')), []);
  t.deepEqual(readdirSync(join(root, 'xorbs')), []);
  t.false(await store.hasXorb(xorb.xorbHash));
});
