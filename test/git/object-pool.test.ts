import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { BatchProcess } from '../../src/git/batch-process.ts';
import { ObjectPool, type ObjectPoolOptions } from '../../src/git/object-pool.ts';
import { type RunningGit, startGit } from '../../src/git/process.ts';
import { repositoryAt } from '../../src/git/repository.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';

isolateProcess();

interface Rig {
  readonly sandbox: Sandbox;
  readonly pool: ObjectPool;
  /** Processes the pool has started, also those that ended. */
  readonly started: RunningGit[];
}

async function createRig(
  t: ExecutionContext,
  options: Partial<ObjectPoolOptions> = {},
  flags: string[] = [],
): Promise<Rig> {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '-q', ...flags, '.']);
  for (let i = 0; i < 20; i++) sandbox.write(`file-${i}`, `content ${i}\n`.repeat(i));
  await sandbox.git(['add', '.']);
  await sandbox.git(['commit', '-q', '-m', 'one']);
  const started: RunningGit[] = [];
  const pool = new ObjectPool({
    paths: repositoryAt(sandbox.dir)!,
    start: async (args) => {
      const running = startGit(args, { cwd: sandbox.dir, env: { ...sandbox.env } }, true);
      started.push(running);
      return running;
    },
    ...options,
  });
  t.teardown(() => pool.close());
  return { sandbox, pool, started };
}

for (const format of ['sha1', 'sha256']) {
  test(`objects are told and read by any name (${format})`, async (t) => {
    const { sandbox, pool, started } = await createRig(t, {}, [`--object-format=${format}`]);
    const oid = await sandbox.gitText(['rev-parse', 'HEAD:file-3']);
    t.deepEqual(await pool.info('HEAD:file-3'), { oid, type: 'blob', size: 30 });
    t.is((await pool.read(oid))!.body.toString(), 'content 3\n'.repeat(3));
    t.is((await pool.read('HEAD:file-0'))!.body.length, 0);
    t.is((await pool.info('HEAD^{tree}'))!.type, 'tree');
    t.is(await pool.info('none'), undefined);
    t.is(await pool.read('HEAD:none'), undefined);
    t.is(await pool.open('none'), undefined);
    t.is(started.length, 1);
    const body: Buffer[] = [];
    for await (const piece of (await pool.open(oid))!.body) body.push(piece);
    t.is(Buffer.concat(body).toString(), 'content 3\n'.repeat(3));
    t.deepEqual(pool.stats(), { processes: 1, started: 1, waiting: 0 });
  });
}

test('names that git would misread are refused', async (t) => {
  const { pool } = await createRig(t);
  for (const name of ['', 'a\0b', 'x'.repeat(70_000)]) {
    await t.throwsAsync(pool.info(name), { code: 'REF_INVALID' });
    await t.throwsAsync(pool.read(name), { code: 'REF_INVALID' });
    await t.throwsAsync(pool.open(name), { code: 'REF_INVALID' });
  }
  for (const name of ['--help', 'info HEAD', 'flush', 'HEAD:a\nb', 'HEAD\ncontents HEAD'])
    t.is(await pool.info(name), undefined, name);
  t.is((await pool.info('HEAD'))!.type, 'commit');
});

test('many questions at once are answered, each with its own answer', async (t) => {
  const { pool } = await createRig(t);
  const names = Array.from({ length: 1000 }, (_, i) => `HEAD:file-${i % 25}`);
  const found = await Promise.all(names.map((name) => pool.read(name)));
  t.deepEqual(
    found.map((object) => object?.body.toString()),
    names.map((_, i) => (i % 25 < 20 ? `content ${i % 25}\n`.repeat(i % 25) : undefined)),
  );
  const listed: (string | undefined)[] = [];
  for await (const { name, object } of pool.readMany(names))
    listed.push(object === undefined ? undefined : name);
  t.deepEqual(
    listed,
    names.map((name, i) => (i % 25 < 20 ? name : undefined)),
  );
  t.true(pool.stats().processes <= 4);
});

test('an object over the limit is refused, and the questions after it are answered', async (t) => {
  const { sandbox, pool } = await createRig(t);
  sandbox.write('large', Buffer.alloc(5_000_000, 'large\n'));
  sandbox.write('medium', 'x'.repeat(100));
  await sandbox.git(['add', '.']);
  const asked = ['large', 'file-5', 'medium', 'file-6'].map((name) => pool.read(`:${name}`, { maxSize: 99 }));
  await t.throwsAsync(asked[0]!, { code: 'LIMIT_EXCEEDED', message: /5000000 bytes/ });
  t.is((await asked[1])!.body.length, 50);
  await t.throwsAsync(asked[2]!, { code: 'LIMIT_EXCEEDED' });
  t.is((await asked[3])!.body.length, 60);
});

test('an object of any size is a stream that waits for its reader', async (t) => {
  const { sandbox, pool } = await createRig(t);
  const large = Buffer.alloc(30_000_000);
  for (let i = 0; i < large.length; i += 4) large.writeUInt32LE(i, i);
  sandbox.write('large', large);
  await sandbox.git(['add', '.']);
  const stream = (await pool.open(':large'))!;
  t.is(stream.size, large.length);
  const iterator = stream.body[Symbol.asyncIterator]();
  const first = (await iterator.next()).value as Buffer;
  // Others are served while a stream stands still.
  t.is((await pool.read(':file-2'))!.body.length, 20);
  const rest: Buffer[] = [first];
  for (let next = await iterator.next(); next.done !== true; next = await iterator.next())
    rest.push(next.value);
  t.true(Buffer.concat(rest).equals(large));
});

test('a stream that is left, closed or aborted frees its place', async (t) => {
  const { sandbox, pool } = await createRig(t, { limit: 2 });
  sandbox.write('large', Buffer.alloc(8_000_000, 'x'));
  await sandbox.git(['add', '.']);
  for await (const piece of (await pool.open(':large'))!.body) {
    t.true(piece.length > 0);
    break;
  }
  const unread = (await pool.open(':large'))!;
  const waiting = pool.open(':file-1');
  const given = new AbortController();
  const tired = pool.open(':file-1', { signal: given.signal });
  given.abort();
  await t.throwsAsync(tired, { name: 'AbortError' });
  await unread.close();
  t.is((await buffer((await waiting)!.body)).length, 10);
  const controller = new AbortController();
  const stopped = (await pool.open(':large', { signal: controller.signal }))!;
  await t.throwsAsync(
    (async () => {
      for await (const _ of stopped.body) controller.abort();
    })(),
    { name: 'AbortError' },
  );
  t.is((await buffer((await pool.open(':file-1'))!.body)).length, 10);
  t.is((await pool.read(':file-1'))!.body.length, 10);
});

test('a process that died is replaced, and nobody notices', async (t) => {
  const { pool, started } = await createRig(t);
  t.truthy(await pool.info('HEAD'));
  started[0]!.stop();
  const answers = await Promise.all(['HEAD', 'HEAD:file-1', 'none'].map((name) => pool.info(name)));
  t.deepEqual(
    answers.map((found) => found?.type),
    ['commit', 'blob', undefined],
  );
  t.true(started.length >= 2);
  started.at(-1)!.stop();
  await started.at(-1)!.ended.catch(() => {});
  t.is((await pool.read('HEAD:file-1'))!.body.length, 10);
  t.is((await buffer((await pool.open('HEAD:file-1'))!.body)).length, 10);
});

test('a damaged object is an error with git’s reason, and others are still read', async (t) => {
  const { sandbox, pool } = await createRig(t);
  const oid = await sandbox.gitText(['rev-parse', 'HEAD:file-19']);
  const file = sandbox.path(`.git/objects/${oid.slice(0, 2)}/${oid.slice(2)}`);
  const bytes = readFileSync(file);
  rmSync(file);
  // Cut off in the content, in its header, and altogether.
  for (const length of [bytes.length - 4, 3, 0]) {
    writeFileSync(file, bytes.subarray(0, length));
    const answers = await Promise.allSettled([
      pool.read(oid),
      pool.read('HEAD:file-1'),
      pool.read('HEAD:file-2'),
    ]);
    t.is(answers[0].status, 'rejected', `${length}`);
    t.is((answers[0] as PromiseRejectedResult).reason.code, 'OBJECT_MISSING', `${length}`);
    t.deepEqual(
      answers.slice(1).map((answer) => answer.status),
      ['fulfilled', 'fulfilled'],
    );
    if (length <= 3) await t.throwsAsync(pool.info(oid), { code: 'OBJECT_MISSING' });
  }
  rmSync(file);
  t.is(await pool.info(oid), undefined);
});

test('what a running process remembers is not used once it has changed', async (t) => {
  const { sandbox, pool } = await createRig(t);
  const first = (await pool.info(':file-1'))!.oid;
  sandbox.write('file-1', 'other\n');
  await sandbox.git(['add', 'file-1']);
  t.not((await pool.info(':file-1'))!.oid, first);
  const commit = (await pool.info('HEAD'))!.oid;
  await sandbox.git(['commit', '-q', '-m', 'two']);
  t.not((await pool.info('HEAD'))!.oid, commit);
  t.is((await pool.info('HEAD~1'))!.oid, commit);
  await sandbox.git([
    'replace',
    'HEAD~1',
    await sandbox.gitText(['commit-tree', '-m', 'replaced', 'HEAD^{tree}']),
  ]);
  t.is((await pool.info('HEAD~1^{tree}'))!.oid, (await pool.info('HEAD^{tree}'))!.oid);
  await sandbox.git(['gc', '-q', '--prune=now']);
  t.is((await pool.read('HEAD:file-19'))!.body.length, 190 + 19);
  await sandbox.git(['init', '-q', '../tmp/far']);
  await sandbox.run('sh', ['-c', 'echo far > x && git -C ../tmp/far hash-object -w --stdin < x']);
  const far = await sandbox.gitText(['-C', '../tmp/far', 'hash-object', '--stdin'], { input: 'far\n' });
  t.is(await pool.info(far), undefined);
  appendFileSync(sandbox.path('.git/objects/info/alternates'), `${sandbox.tmp}/far/.git/objects\n`);
  t.is((await pool.read(far))!.body.toString(), 'far\n');
});

test('idle processes end by themselves, and a later question starts one', async (t) => {
  const { pool, started } = await createRig(t, { idleMs: 20 });
  await pool.info('HEAD');
  await started[0]!.ended;
  t.is(pool.stats().processes, 0);
  t.is((await pool.info('HEAD'))!.type, 'commit');
  await pool.close();
  t.is((await pool.info('HEAD'))!.type, 'commit');
});

test('what was asked before a pool is closed is answered, also in the same turn', async (t) => {
  const { pool, started } = await createRig(t);
  await pool.info('HEAD');
  const [asked, closed] = [pool.read('HEAD:file-4'), pool.close()];
  t.is((await asked)!.body.length, 40);
  await closed;
  t.is(started.length, 1);
});

test('a pool does not keep a program alive', async (t) => {
  const { sandbox } = await createRig(t);
  const module = (name: string) => JSON.stringify(new URL(`../../src/git/${name}.js`, import.meta.url).href);
  sandbox.write(
    'program.mjs',
    `import { ObjectPool } from ${module('object-pool')};\nimport { repositoryAt } from ${module('repository')};\nimport { startGit } from ${module('process')};\n` +
      `const pool = new ObjectPool({ paths: repositoryAt('.'), start: async (args) => startGit(args, {}, true) });\n` +
      `console.log((await pool.info('HEAD')).type, (await pool.read('HEAD:file-2')).size);\n`,
  );
  const child = spawn(process.execPath, ['program.mjs'], {
    cwd: sandbox.dir,
    env: { ...sandbox.env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [text, [status]] = await Promise.all([buffer(child.stdout), once(child, 'exit')]);
  t.is(text.toString(), 'commit 20\n');
  t.is(status, 0);
});

for (const [mode, flag] of [
  ['contents', '--batch'],
  ['check', '--batch-check'],
] as const) {
  test(`an older git answers through ${flag}`, async (t) => {
    const { sandbox } = await createRig(t);
    const running = startGit(['cat-file', flag], { cwd: sandbox.dir, env: { ...sandbox.env } }, true);
    const batch = new BatchProcess(running, mode, false);
    if (mode === 'check') {
      t.is((await batch.info('HEAD:file-4'))!.size, 40);
      t.is(await batch.info('none'), undefined);
    } else {
      t.is((await batch.read('HEAD:file-4', 100))!.body.length, 40);
      t.is(await batch.read('none', 100), undefined);
      await t.throwsAsync(batch.read('HEAD:file-4', 1), { code: 'LIMIT_EXCEEDED' });
      t.is((await batch.read('HEAD:file-5', 100))!.body.length, 50);
    }
    await t.throwsAsync(batch.info('HEAD:a\nb'), { code: 'REF_INVALID', message: /2\.38/ });
    await batch.close();
  });
}

test('outside a repository every question fails with the reason', async (t) => {
  const sandbox = createSandbox(t);
  const pool = new ObjectPool({
    paths: { gitDir: sandbox.dir, commonDir: sandbox.dir, workTree: undefined },
    start: async (args) => startGit(args, { cwd: sandbox.dir, env: { ...sandbox.env } }, true),
  });
  await t.throwsAsync(pool.info('HEAD'), { code: 'NOT_A_REPOSITORY' });
  await t.throwsAsync(pool.open('HEAD'), { code: 'NOT_A_REPOSITORY' });
  await pool.close();
});
