/** What every place for objects must do (src/xet/objects/objects.ts). */
import { createCipheriv } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { Git2dbError } from '../../../src/xet/errors.ts';
import { bodyOf, type ObjectPart, type ObjectStore } from '../../../src/xet/objects/objects.ts';

export interface ObjectContractOptions {
  /** An empty place. */
  readonly open: (t: ExecutionContext) => Promise<ObjectStore>;
  readonly skip?: string | undefined;
}

export function objectContract(name: string, options: ObjectContractOptions): void {
  const define = options.skip === undefined ? test : test.skip;
  const suffix = options.skip === undefined ? '' : ` (skipped: ${options.skip})`;

  function it(title: string, body: (t: ExecutionContext, objects: ObjectStore) => Promise<void>): void {
    define(`${name}, objects: ${title}${suffix}`, async (t) => {
      const objects = await options.open(t);
      t.teardown(() => objects[Symbol.asyncDispose]());
      await body(t, objects);
    });
  }

  it('what is not there is undefined, and may be deleted', async (t, objects) => {
    t.is(await objects.head('a/b'), undefined);
    t.is(await objects.read('a/b', 0, 10), undefined);
    t.is(await objects.readTail('a/b', 10), undefined);
    t.is(await objects.readWhole('a/b', { limit: 10 }), undefined);
    await objects.delete('a/b');
    t.deepEqual(await namesIn(objects, ''), []);
  });

  it('ranges are given as far as there is something', async (t, objects) => {
    const bytes = noise(100_000);
    t.true(await objects.putIfAbsent('dir/thing', bodyOf(bytes)));
    t.is((await objects.head('dir/thing'))?.size, 100_000);
    const part = async (start: number, end: number) => bytesOf(await objects.read('dir/thing', start, end));
    same(t, await part(0, 1), bytes.subarray(0, 1));
    same(t, await part(500, 70_000), bytes.subarray(500, 70_000));
    same(t, await part(99_999, 200_000), bytes.subarray(99_999));
    same(t, await part(100_000, 100_001), Buffer.alloc(0));
    same(t, await part(500_000, 600_000), Buffer.alloc(0));
    t.is((await objects.read('dir/thing', 5, 6))?.size, 100_000);
    same(t, bytesOf(await objects.readTail('dir/thing', 1000)), bytes.subarray(-1000));
    same(t, bytesOf(await objects.readTail('dir/thing', 1_000_000)), bytes);
    t.is((await objects.readTail('dir/thing', 1000))?.size, 100_000);
    await objects.putIfAbsent('empty', bodyOf(Buffer.alloc(0)));
    same(t, bytesOf(await objects.read('empty', 0, 100)), Buffer.alloc(0));
    same(t, bytesOf(await objects.readTail('empty', 100)), Buffer.alloc(0));
    same(t, bytesOf(whole(await objects.readWhole('empty', { limit: 0 }))), Buffer.alloc(0));
  });

  it('a whole is read within a limit, and only where it has changed', async (t, objects) => {
    await objects.putIfAbsent('HEAD', bodyOf(Buffer.from('one')));
    const first = whole(await objects.readWhole('HEAD', { limit: 3 }));
    t.is(first.bytes.toString(), 'one');
    t.is(await objects.readWhole('HEAD', { limit: 3, unless: first.etag }), 'unchanged');
    const error = await t.throwsAsync(objects.readWhole('HEAD', { limit: 2 }), { instanceOf: Git2dbError });
    t.is(error?.code, 'REMOTE_INVALID');
    await objects.replace('HEAD', bodyOf(Buffer.from('two')), first.etag);
    t.is(whole(await objects.readWhole('HEAD', { limit: 3, unless: first.etag })).bytes.toString(), 'two');
  });

  it('what is there is not overwritten', async (t, objects) => {
    t.true(await objects.putIfAbsent('key', bodyOf(Buffer.from('first'))));
    t.false(await objects.putIfAbsent('key', bodyOf(Buffer.from('second'))));
    t.is(await objects.replace('key', bodyOf(Buffer.from('third')), undefined), undefined);
    t.is(whole(await objects.readWhole('key', { limit: 10 })).bytes.toString(), 'first');
  });

  it('of many that put the same key at once one does', async (t, objects) => {
    const outcomes = await Promise.all(
      Array.from({ length: 12 }, (_, i) => objects.putIfAbsent('race', bodyOf(Buffer.from(`writer ${i}`)))),
    );
    t.is(outcomes.filter((isFirst) => isFirst).length, 1);
    const winner = whole(await objects.readWhole('race', { limit: 100 })).bytes.toString();
    t.is(winner, `writer ${outcomes.indexOf(true)}`);
  });

  it('of many that replace the same object at once one does, and nobody with an old ETag', async (t, objects) => {
    const first = await objects.replace('HEAD', bodyOf(Buffer.from('0')), undefined);
    t.not(first, undefined);
    const etag = (await objects.head('HEAD'))?.etag;
    const outcomes = await Promise.all(
      Array.from({ length: 8 }, (_, i) => objects.replace('HEAD', bodyOf(Buffer.from(`new ${i}`)), etag)),
    );
    t.is(outcomes.filter((one) => one !== undefined).length, 1);
    const now = whole(await objects.readWhole('HEAD', { limit: 100 }));
    t.is(now.bytes.toString(), `new ${outcomes.findIndex((one) => one !== undefined)}`);
    t.is(await objects.replace('HEAD', bodyOf(Buffer.from('late')), etag), undefined);
    await objects.delete('HEAD');
    t.is(await objects.replace('HEAD', bodyOf(Buffer.from('later')), now.etag), undefined);
  });

  it('a body that comes in pieces arrives whole, and one that fails leaves nothing', async (t, objects) => {
    const bytes = noise(3_000_000);
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < bytes.length; at += 70_001) yield bytes.subarray(at, at + 70_001);
    }
    t.true(await objects.putIfAbsent('streamed', { length: bytes.length, stream: pieces }));
    same(t, bytesOf(whole(await objects.readWhole('streamed', { limit: 1e7 }))), bytes);
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, 1_000_000);
      throw new Git2dbError('CONTENT_DAMAGED', 'no more of it');
    }
    const error = await t.throwsAsync(
      objects.putIfAbsent('failed', { length: bytes.length, stream: failing }),
      { instanceOf: Git2dbError },
    );
    t.is(error?.code, 'CONTENT_DAMAGED');
    t.is(await objects.head('failed'), undefined);
  });

  it('a prefix is listed, however much there is', async (t, objects) => {
    const names = Array.from({ length: 30 }, (_, i) => `shards/${i}.mdb`);
    await Promise.all(names.map((key) => objects.putIfAbsent(key, bodyOf(Buffer.from(key)))));
    await objects.putIfAbsent('catalog/HEAD', bodyOf(Buffer.from('x')));
    t.deepEqual((await namesIn(objects, 'shards/')).sort(), names.sort());
    t.deepEqual(await namesIn(objects, 'shards/29'), ['shards/29.mdb']);
    await objects.delete('shards/29.mdb');
    t.is((await namesIn(objects, '')).length, 30);
  });

  it('an abort ends what waits', async (t, objects) => {
    const { signal } = (() => {
      const controller = new AbortController();
      controller.abort();
      return controller;
    })();
    const expectation = { any: true, name: 'AbortError' } as const;
    await t.throwsAsync(objects.read('x', 0, 1, { signal }), expectation);
    await t.throwsAsync(objects.readWhole('x', { limit: 1, signal }), expectation);
    await t.throwsAsync(objects.putIfAbsent('x', bodyOf(Buffer.from('x')), { signal }), expectation);
    t.is(await objects.head('x'), undefined);
  });
}

/** As deepEqual, which takes seconds for a megabyte. */
export function same(t: ExecutionContext, found: Uint8Array | undefined, expected: Uint8Array): void {
  t.true(found !== undefined && Buffer.compare(found, expected) === 0, `${found?.length} bytes`);
}

export async function namesIn(objects: ObjectStore, prefix: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { key } of objects.list(prefix)) names.push(key);
  return names;
}

function whole(answer: ObjectPart | 'unchanged' | undefined): ObjectPart {
  if (answer === undefined || answer === 'unchanged') throw new Error(`expected an object, found ${answer}`);
  return answer;
}

function bytesOf(part: ObjectPart | undefined): Buffer | undefined {
  return part && Buffer.from(part.bytes);
}

function noise(size: number): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16, 1), Buffer.alloc(16)).update(Buffer.alloc(size));
}
