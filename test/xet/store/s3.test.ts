/** A bucket of a real S3 service as a store, and as objects. */
import type { ExecutionContext } from 'ava';
import { bodyOf } from '../../../src/xet/objects/objects.ts';
import { openS3, type S3Objects } from '../../../src/xet/objects/s3.ts';
import { StoreOverObjects } from '../../../src/xet/store/object-store.ts';
import type { Store } from '../../../src/xet/store/store.ts';
import { s3Missing, startS3 } from '../../helpers/s3-server.ts';
import { objectContract } from '../objects/object-contract.ts';
import { type StoreContractOptions, servableContract, storeContract } from './store-contract.ts';

const skip = s3Missing();
const buckets = new WeakMap<Store, string>();

async function objectsIn(url: string): Promise<S3Objects> {
  return openS3(url, { credentials: (await startS3()).credentials });
}

async function openAt(url: string): Promise<Store> {
  const store = await StoreOverObjects.open(await objectsIn(url));
  buckets.set(store, url);
  return store;
}

async function newUrl(): Promise<string> {
  const server = await startS3();
  return server.url(await server.createBucket(), 'some/prefix');
}

const s3: StoreContractOptions = {
  skip,
  open: async () => openAt(await newUrl()),
  async openAgain(t: ExecutionContext, store: Store) {
    const view = await openAt(buckets.get(store) as string);
    t.teardown(() => view[Symbol.asyncDispose]());
    return view;
  },
  async damage(store, key, change) {
    const objects = await objectsIn(buckets.get(store) as string);
    const whole = await objects.readWhole(key, { limit: 1e9 });
    if (whole === undefined || whole === 'unchanged') throw new Error(`${key} is not there`);
    await objects.replace(key, bodyOf(change(whole.bytes)), whole.etag);
    await objects[Symbol.asyncDispose]();
  },
  async keys(store, prefix) {
    const objects = await objectsIn(buckets.get(store) as string);
    const keys: string[] = [];
    for await (const { key } of objects.list(prefix)) keys.push(key);
    await objects[Symbol.asyncDispose]();
    return keys;
  },
};

storeContract('S3', s3);
servableContract('S3', s3);
objectContract('S3', { skip, open: async () => objectsIn(await newUrl()) });
