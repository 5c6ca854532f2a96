import { writeFileSync } from 'node:fs';
import test from 'ava';
import { type GitObject, ObjectReader } from '../../src/git/cat-file.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';

isolateProcess();

async function commitFiles(
  sandbox: Sandbox,
  files: readonly [string | Buffer, string | Buffer][],
  flags: string[] = [],
) {
  await sandbox.git(['init', '--quiet', ...flags, '.']);
  for (const [name, body] of files) {
    writeFileSync(Buffer.concat([Buffer.from(`${sandbox.dir}/`), Buffer.from(name as string)]), body);
  }
  await sandbox.git(['add', '.']);
  await sandbox.git(['commit', '--quiet', '-m', 'one']);
}

for (const format of ['sha1', 'sha256']) {
  test(`objects are read by id and by path (${format})`, async (t) => {
    const sandbox = createSandbox(t);
    const body = Buffer.from([0, 10, 255, 10]);
    await commitFiles(sandbox, [['a b', body]], [`--object-format=${format}`]);
    const reader = new ObjectReader({ cwd: sandbox.dir, env: sandbox.env });
    const oid = await sandbox.gitText(['rev-parse', 'HEAD:a b']);
    const blob = { oid, type: 'blob', size: 4, body } as const;
    t.deepEqual(await reader.read('HEAD:a b'), blob);
    t.deepEqual(await reader.read(oid), blob);
    t.is((await reader.info(':a b'))?.oid, oid);
    t.is((await reader.read('HEAD'))?.type, 'commit');
    t.is((await reader.info('HEAD^{tree}'))?.type, 'tree');
    t.is(await reader.read('HEAD:none'), undefined);
    t.is(await reader.info(oid.replace(/./g, 'e')), undefined);
    await reader.close();
    await t.throwsAsync(reader.read(oid));
  });
}

test('a path may hold any byte', async (t) => {
  const sandbox = createSandbox(t);
  const names = ['new\nline', 'blob 3\n', 'quo"te', Buffer.from([0x66, 0xff, 0x0a, 0x20])];
  await commitFiles(
    sandbox,
    names.map((name, number) => [name, `body ${number}`]),
  );
  const reader = new ObjectReader({ cwd: sandbox.dir, env: sandbox.env });
  for (const [number, name] of names.entries()) {
    const asked = Buffer.concat([Buffer.from('HEAD:'), Buffer.from(name as string)]);
    t.is((await reader.read(asked))?.body.toString(), `body ${number}`);
    t.is(await reader.read(Buffer.concat([asked, Buffer.from('\nnot there missing\n')])), undefined);
  }
  await t.throwsAsync(reader.read('HEAD:a\0b'), { code: 'REF_INVALID' });
  await reader.close();
});

test('many questions at once are answered in their order', async (t) => {
  const sandbox = createSandbox(t);
  const names = Array.from({ length: 300 }, (_, number) => `file-${number}`);
  await commitFiles(
    sandbox,
    names.map((name, number) => [name, `${name} `.repeat(number)]),
  );
  const reader = new ObjectReader({ cwd: sandbox.dir, env: sandbox.env });
  const asked = names.flatMap((name) => [`:${name}`, `:no-${name}`]);
  const seen: [string, string | undefined][] = [];
  for await (const { name, object } of reader.readMany(asked)) seen.push([name, object?.body.toString()]);
  const expected = names.flatMap((name, number) => [
    [`:${name}`, `${name} `.repeat(number)],
    [`:no-${name}`, undefined],
  ]);
  t.deepEqual(seen, expected as [string, string | undefined][]);
  await reader.close();
});

test('a blob over the limit is refused before it is loaded', async (t) => {
  const sandbox = createSandbox(t);
  await commitFiles(sandbox, [
    ['large', Buffer.alloc(1025)],
    ['exact', Buffer.alloc(1024)],
  ]);
  const reader = new ObjectReader({ cwd: sandbox.dir, env: sandbox.env, maxSize: 1024 });
  await t.throwsAsync(reader.read('HEAD:large'), { code: 'LIMIT_EXCEEDED', message: /1025 bytes/ });
  t.is((await reader.info('HEAD:large'))?.size, 1025);
  t.is((await reader.read('HEAD:exact'))?.body.length, 1024);
  await reader.close();
});

test('objects that are known to be small are asked for once, and one that is not is passed over', async (t) => {
  const sandbox = createSandbox(t);
  const names = Array.from({ length: 200 }, (_, i) => `file-${i}`);
  await commitFiles(
    sandbox,
    names.map((name, i) => [name, i === 100 ? Buffer.alloc(70_000, 'x') : `body ${i}`]),
  );
  const reader = new ObjectReader({ cwd: sandbox.dir, env: sandbox.env, maxSize: 100 });
  const asked = names.map((name) => `HEAD:${name}`);
  const bodies: (string | undefined)[] = [];
  for await (const { object } of reader.readMany([...asked.slice(0, 100), 'HEAD:none'], { areSmall: true }))
    bodies.push(object?.body.toString());
  t.deepEqual(bodies, [...names.slice(0, 100).map((_, i) => `body ${i}`), undefined]);
  const [large, next] = await Promise.allSettled([
    reader.readSmall('HEAD:file-100'),
    reader.readSmall('HEAD:file-101'),
  ]);
  t.like(large, { status: 'rejected', reason: { code: 'LIMIT_EXCEEDED' } });
  t.like(next, { status: 'fulfilled', value: { size: 8, body: Buffer.from('body 101') } });
  await reader.close();
});

test('a large blob arrives whole', async (t) => {
  const sandbox = createSandbox(t);
  const body = Buffer.alloc(3_000_000, 'line\n');
  await commitFiles(sandbox, [['large', body]]);
  const reader = new ObjectReader({ cwd: sandbox.dir, env: sandbox.env });
  const [large, again] = await Promise.all([reader.read(':large'), reader.read('HEAD:large')]);
  t.true((large as GitObject).body.equals(body));
  t.true((again as GitObject).body.equals(body));
  await reader.close();
});

test('a body is not changed by what is read after it', async (t) => {
  const sandbox = createSandbox(t);
  await commitFiles(sandbox, [
    ['a', 'first'],
    ['b', 'other'],
  ]);
  const reader = new ObjectReader({ cwd: sandbox.dir, env: sandbox.env });
  const first = (await reader.read(':a'))!.body;
  (await reader.read(':b'))!.body.fill(0);
  t.is(first.toString(), 'first');
  await reader.close();
});

test('outside a repository every question fails with the reason', async (t) => {
  const sandbox = createSandbox(t);
  const reader = new ObjectReader({ cwd: sandbox.dir, env: sandbox.env });
  for (const name of ['HEAD', 'HEAD:x']) {
    await t.throwsAsync(reader.read(name), { code: 'GIT_FAILED', message: /not a git repository/ });
  }
  await reader.close();
});

test('an abort ends what is waiting', async (t) => {
  const sandbox = createSandbox(t);
  await commitFiles(sandbox, [['a', 'x']]);
  const controller = new AbortController();
  const reader = new ObjectReader({ cwd: sandbox.dir, env: sandbox.env, signal: controller.signal });
  await reader.read(':a');
  controller.abort();
  await t.throwsAsync(reader.read(':a'), { name: 'AbortError' });
  await reader.close();
});

test('a damaged object is an error', async (t) => {
  const sandbox = createSandbox(t);
  await commitFiles(sandbox, [['a', 'x'.repeat(100_000)]]);
  const oid = await sandbox.gitText(['rev-parse', ':a']);
  const file = `.git/objects/${oid.slice(0, 2)}/${oid.slice(2)}`;
  const bytes = sandbox.read(file);
  await sandbox.run('chmod', ['u+w', file]);
  sandbox.write(file, bytes.subarray(0, bytes.length - 20));
  const reader = new ObjectReader({ cwd: sandbox.dir, env: sandbox.env });
  await t.throwsAsync(reader.read(oid), { code: 'GIT_FAILED', message: /corrupt|unable|cannot/ });
  await reader.close();
});
