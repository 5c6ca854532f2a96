/** Stores of this machine, and stores over objects that are not far away, against the contract. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { DirectoryObjects } from '../../../src/xet/objects/directory.ts';
import { MemoryObjects } from '../../../src/xet/objects/memory.ts';
import { bodyOf } from '../../../src/xet/objects/objects.ts';
import { DirectoryStore } from '../../../src/xet/store/directory-store.ts';
import { MemoryStore } from '../../../src/xet/store/memory-store.ts';
import { StoreOverObjects } from '../../../src/xet/store/object-store.ts';
import type { Store } from '../../../src/xet/store/store.ts';
import { type StoreContractOptions, servableContract, storeContract } from './store-contract.ts';

function temporary(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'git2db-stores-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const memory: StoreContractOptions = { open: async () => new MemoryStore() };
storeContract('memory', memory);
servableContract('memory', memory);

/** Replaces a file of a store by another one: somebody may have it open. */
async function damageFile(store: Store, key: string, change: (bytes: Buffer) => Buffer): Promise<void> {
  const path = join(store.place, key);
  const bytes = readFileSync(path);
  rmSync(path);
  writeFileSync(path, change(bytes));
}

async function listFiles(store: Store, prefix: string): Promise<string[]> {
  return readdirSync(join(store.place, dirname(`${prefix}x`))).map((name) => `${prefix}${name}`);
}

const directory: StoreContractOptions = {
  open: async (t) => DirectoryStore.open(join(temporary(t), 'xet'), { fsync: 'none' }),
  openAgain: async (t, store) => {
    const view = DirectoryStore.open(store.place, { fsync: 'none' });
    t.teardown(() => view[Symbol.asyncDispose]());
    return view;
  },
  damage: damageFile,
  keys: listFiles,
};
storeContract('directory', directory);
servableContract('directory', directory);

const memoryObjects = new WeakMap<Store, MemoryObjects>();
const objectMemory: StoreContractOptions = {
  async open() {
    const objects = new MemoryObjects();
    const store = await StoreOverObjects.open(objects);
    memoryObjects.set(store, objects);
    return store;
  },
  async openAgain(t, store) {
    const view = await StoreOverObjects.open(memoryObjects.get(store) as MemoryObjects);
    t.teardown(() => view[Symbol.asyncDispose]());
    return view;
  },
  async damage(store, key, change) {
    const objects = memoryObjects.get(store) as MemoryObjects;
    const whole = await objects.readWhole(key, { limit: 1e9 });
    if (whole === undefined || whole === 'unchanged') throw new Error(`${key} is not there`);
    await objects.replace(key, bodyOf(change(whole.bytes)), whole.etag);
  },
  async keys(store, prefix) {
    const keys: string[] = [];
    for await (const { key } of (memoryObjects.get(store) as MemoryObjects).list(prefix)) keys.push(key);
    return keys;
  },
};
storeContract('objects in memory', objectMemory);
servableContract('objects in memory', objectMemory);

const objectDirectory: StoreContractOptions = {
  open: async (t) => StoreOverObjects.open(await DirectoryObjects.open(temporary(t))),
  async openAgain(t, store) {
    const view = await StoreOverObjects.open(await DirectoryObjects.open(store.place));
    t.teardown(() => view[Symbol.asyncDispose]());
    return view;
  },
  damage: damageFile,
  keys: listFiles,
};
storeContract('objects in a directory', objectDirectory);
servableContract('objects in a directory', objectDirectory);
