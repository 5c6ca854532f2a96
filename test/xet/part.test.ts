/** The proof that bytes which were given before all of a file was there are its beginning. */
import test from 'ava';
import { Downloader } from '../../src/xet/download.ts';
import { parseHash } from '../../src/xet/hash/xet-hash.ts';
import { beginsWith, chunkHashesOf, planRun } from '../../src/xet/reconstruct/part.ts';
import { chunkHash, chunksOf, createStore, randomBytes } from '../helpers/store-sandbox.ts';

test('a file begins with the hashes of its first chunks, and with no others', async (t) => {
  const store = createStore(t);
  const base = randomBytes('base', 700_000);
  // In several terms: what the first file has, and what is new before, between and behind.
  const content = Buffer.concat([
    randomBytes('before', 300_000),
    base,
    randomBytes('between', 300_000),
    base,
  ]);
  await store.add(base);
  const [file] = await store.add(content);
  const plan = new Downloader(store.open()).plan(parseHash(file!.hash));
  const hashes = Buffer.concat(chunksOf(content).map(chunkHash));
  t.true(plan.terms.length > 1);
  t.true(hashes.equals(chunkHashesOf(plan)));
  for (let end = 0; end <= hashes.length; end += 32) t.true(beginsWith(plan, hashes.subarray(0, end)));
  t.false(beginsWith(plan, Buffer.concat([hashes, hashes.subarray(0, 32)])));
  for (let at = 0; at < hashes.length; at += 32) {
    const other = Buffer.from(hashes.subarray(0, at + 32));
    other[at + 31] = (other[at + 31] as number) ^ 1;
    t.false(beginsWith(plan, other));
  }
});

test('a run of a xorb is read as it is; one that the xorb does not have is refused', async (t) => {
  const store = createStore(t);
  const content = randomBytes('run', 700_000);
  const chunks = chunksOf(content);
  const [file] = await store.add(content);
  const local = store.open();
  const downloader = new Downloader(local);
  const { xorbHash } = downloader.plan(parseHash(file!.hash)).terms[0]!;
  const size = chunks[1]!.length + chunks[2]!.length;
  const read = [...downloader.read(planRun(local.term(xorbHash!, 1, 3, size)))];
  t.true(
    Buffer.concat(read.flatMap((window) => window.chunks.map((chunk) => Buffer.from(chunk)))).equals(
      Buffer.concat([chunks[1]!, chunks[2]!]),
    ),
  );
  t.throws(() => planRun(local.term(xorbHash!, 1, 3, size + 1)), { code: 'CONTENT_DAMAGED' });
  t.throws(() => planRun(local.term(xorbHash!, 1, chunks.length + 1, size)), { code: 'CONTENT_DAMAGED' });
  t.throws(() => planRun(local.term(parseHash('f'.repeat(64)), 0, 1, 1)), { code: 'CONTENT_MISSING' });
});
