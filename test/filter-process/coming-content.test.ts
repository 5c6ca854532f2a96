/** What a filter gives of a file while it comes, whatever it is told of. */
import test, { type ExecutionContext } from 'ava';
import { ComingContent } from '../../src/filter-process/coming-content.ts';
import type { FilterContext } from '../../src/filter-process/filter-context.ts';
import type { GivenContent } from '../../src/filter-process/given-content.ts';
import { OutputClosed } from '../../src/filter-process/pkt-output.ts';
import { Downloader } from '../../src/xet/download.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import { parseHash } from '../../src/xet/hash/xet-hash.ts';
import { planRun } from '../../src/xet/reconstruct/part.ts';
import type { FilePart } from '../../src/xet/transfer/file-part.ts';
import { chunksOf, createStore, randomBytes } from '../helpers/store-sandbox.ts';

const CONTENT = randomBytes('content', 5_000_000);
const OTHER = randomBytes('other', 1_000_000);

interface Rig {
  /** Gives the file of CONTENT, being told of parts; the bytes that were given, or what it throws. */
  give(parts: readonly FilePart[], state?: true | Git2dbError, onMissing?: string): Promise<Buffer>;
  /** Chunks [start, end) of CONTENT or OTHER as a part that begins at `offset`. */
  run(of: 'content' | 'other', start: number, end: number, offset: number): FilePart;
}

async function setUp(t: ExecutionContext, onContent: (bytes: Uint8Array) => void = () => {}): Promise<Rig> {
  const sandbox = createStore(t);
  const files = await sandbox.add(CONTENT, OTHER);
  const store = sandbox.open();
  const downloader = new Downloader(store);
  const [own, other] = files.map(({ hash }) => downloader.plan(parseHash(hash)).terms[0]!);
  return {
    async give(parts, state = true, onMissing = 'error') {
      const left = [...parts];
      const fetcher = {
        ask: () => {},
        partAt: (_: unknown, offset: number) => {
          const found = left.findIndex((part) => part.offset === offset);
          return found < 0 ? undefined : left.splice(0, found + 1).at(-1);
        },
        stateOf: () => (left.length === 0 ? state : undefined),
        // Whatever does not fit is passed over by the next part, or by the end.
        change: async () => void left.shift(),
      };
      const planPart = (part: FilePart) =>
        part.kind === 'file'
          ? downloader.plan(part.hash, part.size)
          : planRun(store.term(part.hash, part.start, part.end, part.size));
      const context = { fetcher, config: { onMissing }, content: { planPart, downloader } };
      const hash = files[0]!.hash;
      const content = { wanted: { hash }, file: { plan: () => downloader.plan(parseHash(hash)) } };
      const coming = new ComingContent(
        context as unknown as FilterContext,
        content as unknown as GivenContent,
      );
      const given: Buffer[] = [];
      const take = (bytes: Uint8Array) => {
        onContent(bytes);
        given.push(Buffer.from(bytes));
      };
      const fetched = await coming.giveParts({ content: take, sync: () => {} });
      if (fetched !== true) throw fetched;
      for (const { chunks } of coming.rest()) for (const chunk of chunks) take(chunk);
      return Buffer.concat(given);
    },
    run(of, start, end, offset) {
      const [term, bytes] = of === 'content' ? [own!, CONTENT] : [other!, OTHER];
      const size = chunksOf(bytes)
        .slice(start, end)
        .reduce((sum, { length }) => sum + length, 0);
      const [from, to] = [term.start + start, term.start + end];
      return { kind: 'xorb', hash: term.xorbHash!, start: from, end: to, offset, size };
    },
  };
}

test('the bytes are those of the file, however much of it was told of before', async (t) => {
  const { give, run } = await setUp(t);
  const count = chunksOf(CONTENT).length;
  for (const cuts of [[], [0, 1], [0, count], [0, 3, 4, count - 1], [0, 2, count]]) {
    let offset = 0;
    const parts = cuts.slice(1).map((end, i) => {
      const part = run('content', cuts[i]!, end, offset);
      offset += part.size;
      return part;
    });
    t.true((await give(parts)).equals(CONTENT), cuts.join());
  }
});

test('what is told a second time, or out of its place, is passed over', async (t) => {
  const { give, run } = await setUp(t);
  const first = run('content', 0, 5, 0);
  const second = run('content', 5, 9, first.size);
  t.true((await give([first, first, second])).equals(CONTENT));
  t.true((await give([second, first])).equals(CONTENT));
  t.true((await give([run('content', 0, 2, 0), first, second])).equals(CONTENT));
});

test('a part that cannot be read, or is not what it says, is left for the end', async (t) => {
  const { give, run } = await setUp(t);
  const first = run('content', 0, 5, 0) as FilePart & { kind: 'xorb' };
  for (const part of [
    { ...first, hash: parseHash('e'.repeat(64)) },
    { ...first, size: first.size + 1 },
    { ...first, start: 1 },
    { ...first, end: 8192 },
    { kind: 'file' as const, hash: parseHash('e'.repeat(64)), offset: 0, size: 9 },
  ]) {
    t.true((await give([part, run('content', 5, 9, first.size)])).equals(CONTENT));
  }
});

test('what was given and is not how the file begins fails it', async (t) => {
  const { give, run } = await setUp(t);
  const first = run('content', 0, 5, 0);
  for (const parts of [
    [run('other', 0, 3, 0)],
    [run('content', 1, 3, 0)],
    [first, run('other', 0, 1, first.size)],
    [first, run('content', 6, 9, first.size)],
  ]) {
    await t.throwsAsync(give(parts), {
      code: 'CONTENT_DAMAGED',
      message: /is not how file [0-9a-f]{64} begins/,
    });
  }
});

test('a file that does not come fails with the reason, and nothing is begun where a pointer may stand for it', async (t) => {
  const seen: number[] = [];
  const { give, run } = await setUp(t, ({ length }) => void seen.push(length));
  const missing = new Git2dbError('CONTENT_MISSING', 'nobody has it');
  await t.throwsAsync(give([run('content', 0, 5, 0)], missing), { is: missing });
  t.is(seen.length, 5);
  await t.throwsAsync(give([run('content', 0, 5, 0)], missing, 'pointer'), { is: missing });
  t.is(seen.length, 5);
});

test('when git has gone away, that is the end, and not after the rest has come', async (t) => {
  const gone = new OutputClosed(new Error('EPIPE'));
  const { give, run } = await setUp(t, () => {
    throw gone;
  });
  const never = run('content', 0, 5, 0);
  await t.throwsAsync(give([never, never], new Git2dbError('NETWORK', 'not looked at')), { is: gone });
});
