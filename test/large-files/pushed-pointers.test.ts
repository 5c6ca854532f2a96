/** Which pointers are found between what is pushed and what the other side has; objects that are not here among these. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { findRepository, type RepositoryPaths } from '../../src/git/repository.ts';
import { pushedPointers } from '../../src/large-files/pushed-pointers.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import { formatPointer } from '../../src/xet/pointer/xet-pointer.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';

isolateProcess();

const ABSENT = '1234567890'.repeat(4);

interface History {
  readonly sandbox: Sandbox;
  readonly repository: RepositoryPaths;
  /** Commits, each of which adds the pointer file `<number>.bin`. */
  readonly commits: readonly string[];
}

async function history(t: ExecutionContext): Promise<History> {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '-q', 'a']);
  const commits: string[] = [];
  for (let i = 0; i < 3; i++) {
    sandbox.write(`a/${i}.bin`, formatPointer(`${i}`.repeat(64), 1000 + i));
    await sandbox.git(['add', '.'], { cwd: 'a' });
    await sandbox.git(['commit', '-q', '-m', `${i}`], { cwd: 'a' });
    commits.push(await sandbox.gitText(['rev-parse', 'HEAD'], { cwd: 'a' }));
  }
  return { sandbox, repository: findRepository(sandbox.path('a'), sandbox.env)!, commits };
}

async function paths(
  { repository }: History,
  tips: readonly string[],
  boundaries: readonly string[] = [],
): Promise<string[]> {
  const found: string[] = [];
  for await (const { path } of pushedPointers(repository, { tips, boundaries })) found.push(path.toString());
  return found.sort();
}

test('what the other side has is left out', async (t) => {
  const a = await history(t);
  const [first, second, third] = a.commits as [string, string, string];
  t.deepEqual(await paths(a, [third]), ['0.bin', '1.bin', '2.bin']);
  t.deepEqual(await paths(a, [third], [first]), ['1.bin', '2.bin']);
  t.deepEqual(await paths(a, [third], [first, second]), ['2.bin']);
  t.deepEqual(await paths(a, [first], [third]), []);
  t.deepEqual(await paths(a, []), []);
});

test('what the other side is said to have and is not here counts for nothing', async (t) => {
  const a = await history(t);
  const [first, second, third] = a.commits as [string, string, string];
  t.deepEqual(await paths(a, [third], [ABSENT]), ['0.bin', '1.bin', '2.bin']);
  t.deepEqual(await paths(a, [third], [ABSENT, second]), ['2.bin']);
  t.deepEqual(await paths(a, [second, third], [first, ABSENT, first]), ['1.bin', '2.bin']);
});

test('a tip that is not here is named before anything is handed out', async (t) => {
  const a = await history(t);
  const [first, , third] = a.commits as [string, string, string];
  for (const tips of [[ABSENT], [third, ABSENT], [ABSENT, third]]) {
    for (const boundaries of [[], [first]]) {
      let found = 0;
      const error = await t.throwsAsync(async () => {
        for await (const _ of pushedPointers(a.repository, { tips, boundaries })) found++;
      });
      t.is((error as { code?: string }).code, 'OBJECT_MISSING');
      t.regex(error?.message ?? '', new RegExp(ABSENT));
      t.is(found, 0);
    }
  }
});

for (const name of ['HEAD~1', 'HEAD~1^{tree}', 'HEAD:1.bin']) {
  test(`what a tip leads to and is not here is not passed over: ${name}`, async (t) => {
    const a = await history(t);
    const oid = await a.sandbox.gitText(['rev-parse', name], { cwd: 'a' });
    rmSync(join(a.repository.commonDir, 'objects', oid.slice(0, 2), oid.slice(2)));
    for (const boundaries of [[], [ABSENT], [a.commits[0]!]]) {
      await t.throwsAsync(() => paths(a, [a.commits[2]!], boundaries), { instanceOf: Git2dbError });
    }
  });
}
