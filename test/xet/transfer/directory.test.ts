/** Transfers to and from a directory: by hard links where that is possible, else as to any other store. */
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { formatHash, parseHash } from '../../../src/xet/hash/xet-hash.ts';
import { parseAddress } from '../../../src/xet/remote/address.ts';
import { openRemote } from '../../../src/xet/remote/open.ts';
import { DirectoryStore } from '../../../src/xet/store/directory-store.ts';
import { fetchFiles } from '../../../src/xet/transfer/fetch.ts';
import { pushFiles } from '../../../src/xet/transfer/push.ts';
import { readRange } from '../../../src/xet/transfer/range.ts';
import type { WantedFile } from '../../../src/xet/transfer/transfer.ts';
import {
  chunkRun,
  createStore,
  hashOf,
  randomBytes,
  type StoreSandbox,
} from '../../helpers/store-sandbox.ts';
import { codes, outcomes } from './rig.ts';

const MIB = 1 << 20;
const WRITER = { writer: { fsync: 'none' } } as const;

async function add(store: StoreSandbox, ...contents: readonly Uint8Array[]): Promise<WantedFile[]> {
  return (await store.add(...contents)).map(({ hash, size }) => ({ hash: parseHash(hash), size }));
}

function openDirectory(t: ExecutionContext, root: string): DirectoryStore {
  const store = DirectoryStore.open(root, { fsync: 'none' });
  t.teardown(() => store[Symbol.asyncDispose]());
  return store;
}

/** Names of all xorbs of a store, and how many names each file has. */
function xorbLinks(store: StoreSandbox): number[] {
  return store.list('xorbs').flatMap((ab) => {
    return store.list('xorbs', ab).map((name) => statSync(join(store.root, 'xorbs', ab, name)).nlink);
  });
}

test('on one file system xorbs get a second name, both ways, and nothing is copied', async (t) => {
  const [here, nas, there] = [createStore(t), createStore(t), createStore(t)];
  const contents = [randomBytes('a', 3 * MIB), randomBytes('b', 70_000)];
  const files = await add(here, ...contents);
  const pushed = await pushFiles(here.open(), openDirectory(t, nas.root), files, { fsync: 'none' });
  t.deepEqual(outcomes(pushed), ['moved', 'moved']);
  t.is(pushed.wireBytes, 0);
  t.deepEqual(xorbLinks(nas), [2]);
  t.deepEqual(nas.list('incoming'), []);
  for (const content of contents) t.true(nas.read(hashOf(content)).equals(content));
  const fetched = await fetchFiles(there.open(), openDirectory(t, nas.root), files, WRITER);
  t.deepEqual(outcomes(fetched), ['moved', 'moved']);
  t.is(fetched.wireBytes, 0);
  t.deepEqual(xorbLinks(there), [3]);
  for (const content of contents) t.true(there.read(hashOf(content)).equals(content));
  const again = await pushFiles(there.open(), openDirectory(t, nas.root), files);
  t.deepEqual(outcomes(again), ['present', 'present']);
});

test('a xorb of which little is wanted is not linked', async (t) => {
  const [here, nas] = [createStore(t), createStore(t)];
  const [small] = await add(here, randomBytes('small', 60_000), randomBytes('large', 3 * MIB));
  const pushed = await pushFiles(here.open(), openDirectory(t, nas.root), [small!]);
  t.deepEqual(outcomes(pushed), ['moved']);
  t.true(pushed.wireBytes > 0 && pushed.wireBytes < 100_000);
  t.deepEqual(xorbLinks(nas), [1]);
});

test('damage is not linked, on the way there or back, and fails its own file', async (t) => {
  const [here, nas, there] = [createStore(t), createStore(t), createStore(t)];
  const contents = [chunkRun('a', 0, 12), chunkRun('b', 0, 12)];
  const files = await add(here, ...contents);
  const directory = openDirectory(t, nas.root);
  const damage = (store: StoreSandbox, chunk: number) => {
    const { path } = store.open().openXorb(store.open().findFile(files[0]!.hash)!.terms[0]!.xorbHash!);
    const bytes = readFileSync(path);
    bytes[chunk * 8200 + 500]! ^= 1;
    writeFileSync(path, bytes);
  };
  damage(here, 14);
  const pushed = await pushFiles(here.open(), directory, files);
  t.deepEqual(codes(pushed), [undefined, 'CONTENT_DAMAGED']);
  t.deepEqual(xorbLinks(nas), [1], 'the xorb is not linked for the sake of the other file');
  t.true(nas.tryRead(hashOf(contents[0]!))!.equals(contents[0]!));
  damage(here, 14);
  t.deepEqual(outcomes(await pushFiles(here.open(), directory, files)), ['present', 'moved']);
  damage(nas, 2);
  const fetched = await fetchFiles(there.open(), openDirectory(t, nas.root), files, WRITER);
  t.deepEqual(codes(fetched), ['CONTENT_DAMAGED', undefined]);
  t.true(there.tryRead(hashOf(contents[1]!))!.equals(contents[1]!));
});

test('a directory as a remote: an address, a second version, a range, a proof of nothing missing', async (t) => {
  const [here, there] = [createStore(t), createStore(t)];
  const nas = createStore(t);
  await using remote = await openRemote(parseAddress(`file://${nas.root}`), { fsync: 'none' });
  t.is(remote.place, nas.root);
  const first = randomBytes('v1', 8 * MIB);
  const second = Buffer.concat([first.subarray(0, 3 * MIB), randomBytes('n', MIB), first.subarray(3 * MIB)]);
  const [old, next] = await add(here, first, second);
  t.deepEqual(await remote.missing([old!, next!]), [old!, next!]);
  await remote.send(here.open(), [old!, next!]);
  t.deepEqual(await remote.missing([old!, next!]), []);
  await remote.fetch(there.open(), [next!], WRITER);
  t.true(there.read(formatHash(next!.hash)).equals(second));
  const store = openDirectory(t, nas.root);
  for (const [start, end] of [
    [0, 1],
    [3 * MIB - 5, 3 * MIB + 5],
    [second.length - 3, second.length + 10],
    [2 * MIB, 4 * MIB + 77],
    [5, 5],
    [second.length, second.length + 1],
  ] as const) {
    const pieces: Uint8Array[] = [];
    for await (const piece of readRange(store, next!.hash, start, end)) pieces.push(piece);
    t.true(Buffer.concat(pieces).equals(second.subarray(start, end)), `[${start}, ${end})`);
  }
  await t.throwsAsync(readRange(store, new Uint8Array(32).fill(1), 0, 5).next(), { code: 'CONTENT_MISSING' });
});

test('a directory that can only be read takes nothing, and gives', async (t) => {
  const [here, nas, there] = [createStore(t), createStore(t), createStore(t)];
  const [file] = await add(nas, randomBytes(1, 100_000));
  const [other] = await add(here, randomBytes(2, 100_000));
  const store = DirectoryStore.open(nas.root, { isReadOnly: true });
  t.teardown(() => store[Symbol.asyncDispose]());
  t.deepEqual(codes(await pushFiles(here.open(), store, [other!])), ['STORE_UNWRITABLE']);
  t.deepEqual(outcomes(await fetchFiles(there.open(), store, [file!], WRITER)), ['moved']);
  mkdirSync(join(nas.dir, 'empty'));
  const empty = openDirectory(t, join(nas.dir, 'empty'));
  t.deepEqual(codes(await fetchFiles(there.open(), empty, [other!], WRITER)), ['CONTENT_MISSING']);
});
