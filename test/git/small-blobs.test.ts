import { rmSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { readSmallBlobs, type SmallBlobsRun, selectSmallBlobs } from '../../src/git/small-blobs.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';

isolateProcess();

const ABSENT = '1234567890'.repeat(4);
const MAX = 300;

interface Rig {
  readonly sandbox: Sandbox;
  readonly run: SmallBlobsRun;
  /** Object ids of blobs with these contents. */
  store(contents: readonly Buffer[]): Promise<string[]>;
}

async function rig(t: ExecutionContext): Promise<Rig> {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '-q', 'a']);
  const cwd = sandbox.path('a');
  return {
    sandbox,
    run: { cwd, env: sandbox.env, maxSize: MAX },
    async store(contents) {
      contents.forEach((content, i) => {
        sandbox.write(`a/${i}`, content);
      });
      const input = `${contents.map((_, i) => i).join('\n')}\n`;
      const hashed = await sandbox.git(['hash-object', '-w', '--no-filters', '--stdin-paths'], {
        cwd,
        input,
      });
      return hashed.stdout.trim().split('\n');
    },
  };
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

test('contents come whole and in order, whatever bytes they have and wherever pieces are cut', async (t) => {
  const { run, store } = await rig(t);
  // Newlines, what looks like an answer, nothing at all, and more than fits into one piece of a pipe.
  const odd = ['', '\n', '\n\n', `${ABSENT} missing\n`, `${ABSENT} 5\nabcde\n`].map((text) =>
    Buffer.from(text),
  );
  const many = Array.from({ length: 1500 }, (_, i) => Buffer.alloc(i % (MAX + 1), `${i}\n`));
  const contents = [...odd, ...many];
  const oids = await store(contents);
  const found = await all(readSmallBlobs(oids, run));
  t.deepEqual(
    found.map(({ oid }) => oid),
    oids,
  );
  t.true(found.every(({ body }, i) => body.equals(contents[i]!)));
});

test('what is not here, no blob or too large is not selected; what went away is left out', async (t) => {
  const { sandbox, run, store } = await rig(t);
  const [small, large, edge, gone] = (await store([
    Buffer.from('small'),
    Buffer.alloc(MAX + 1),
    Buffer.alloc(MAX),
    Buffer.from('gone'),
  ])) as [string, string, string, string];
  const cwd = sandbox.path('a');
  const { stdout } = await sandbox.git(['mktree'], { cwd, input: `100644 blob ${small}\tx\n` });
  rmSync(`${cwd}/.git/objects/${gone.slice(0, 2)}/${gone.slice(2)}`);
  const oids = [ABSENT, small, large, stdout.trim(), edge, gone];
  t.deepEqual(await all(selectSmallBlobs(oids, run)), [small, edge]);
  t.deepEqual(
    (await all(readSmallBlobs([gone, small, ABSENT, edge], run))).map(({ oid }) => oid),
    [small, edge],
  );
  t.deepEqual(await all(readSmallBlobs([], run)), []);
  await t.throwsAsync(all(readSmallBlobs([small, large], run)), { code: 'LIMIT_EXCEEDED' });
});

test('a failure of whoever names them, or of git, is told; leaving early is none', async (t) => {
  const { sandbox, run, store } = await rig(t);
  const [one, two] = (await store([Buffer.from('one'), Buffer.from('two')])) as [string, string];
  async function* failing(): AsyncIterable<string> {
    yield one;
    throw new Error('no more of it');
  }
  await t.throwsAsync(all(readSmallBlobs(failing(), run)), { message: 'no more of it' });
  for await (const { oid } of readSmallBlobs([one, two], run)) {
    t.is(oid, one);
    break;
  }
  const stop = new AbortController();
  stop.abort();
  await t.throwsAsync(all(readSmallBlobs([one], { ...run, signal: stop.signal })), { name: 'AbortError' });
  await t.throwsAsync(all(readSmallBlobs([one], { ...run, cwd: sandbox.dir })), { code: 'GIT_FAILED' });
});
