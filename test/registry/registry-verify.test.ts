import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Git2DB } from '../../src/registry/git2db.ts';
import { RepoId } from '../../src/registry/repo-id.ts';
import { StoreLayout } from '../../src/xet/store/layout.ts';
import { registerUser } from '../../src/xet/store/users.ts';
import { createRegistrySandbox, exists, metadataOf } from './registry-sandbox.ts';

test('verify finds all that is wrong, changes nothing, and repair mends what is safe, once', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const { root } = sandbox;
  const source = await sandbox.repository('source');
  const [a, b] = [
    await registry.clone(source, { name: 'a' }),
    await registry.clone(source, { name: 'org/b' }),
  ];
  await registry.register({ path: source });
  await registry.register({ path: await sandbox.repository('gone') });
  await registry.register({ path: await sandbox.repository('broken') });
  await registry.register({ path: await sandbox.repository('stale', { url: 'https://example.com/x' }) });
  t.deepEqual(await registry.verify(), []);
  t.deepEqual(await registry.repair(), { done: [], left: [], failed: [] });

  rmSync(sandbox.path('gone'), { recursive: true });
  rmSync(sandbox.path('broken/.git/HEAD'));
  await sandbox.git(['remote', 'set-url', 'origin', 'https://u:s3cret@example.com/y'], {
    cwd: sandbox.path('stale'),
  });
  chmodSync(join(root, '.git2db'), 0o755);
  chmodSync(join(root, '.git2db/metadata.json'), 0o644);
  writeFileSync(join(root, '.git2db/metadata.json.new'), 'half');
  mkdirSync(join(root, '.git2db/trash/old/x'), { recursive: true });
  mkdirSync(join(root, 'repos/.git2db-clone-dead'));
  mkdirSync(join(root, 'repos/.git2db-clone-good/repository'), { recursive: true });
  mkdirSync(join(root, 'repos/orphan/x'), { recursive: true });
  mkdirSync(join(root, 'repos/org/litter'));
  writeFileSync(join(root, 'repos/stray'), 'x');
  await sandbox.git(['init', '-q', join(root, 'repos/foreign')]);
  mkdirSync(join(root, '.git2db/names/0123'), { recursive: true });
  writeFileSync(join(root, '.git2db/names/0123/name.json'), '{"name":"kept"}');
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  writeFileSync(
    join(root, '.git2db/names/0123/writer.json'),
    JSON.stringify({ pid: 1, pidNamespace: '', bootId, socket: true }),
  );
  for (const [id, state] of [
    ['w1', { commonDir: '/nowhere/.git', path: '/x', step: 'ready' }],
    ['w2', 'broken'],
  ] as const) {
    mkdirSync(join(root, '.git2db/worktrees', id, 'upper'), { recursive: true });
    writeFileSync(join(root, '.git2db/worktrees', id, 'state.json'), JSON.stringify(state));
  }
  const store = new StoreLayout(join(root, '.git2db/xet'));
  mkdirSync(store.users, { recursive: true });
  registerUser(store, join(root, 'repos/was/.git'));
  registerUser(store, '/elsewhere/.git');
  const other = RepoId.create();
  const mark = join(root, 'repos/org/b/.git/git2db/repository.json');
  writeFileSync(mark, JSON.stringify({ version: 1, id: other }));

  const snapshot = async () => (await sandbox.run('find', [root, '-printf', '%p %m %s %T@\n'])).stdout;
  const before = await snapshot();
  const findings = await registry.verify();
  t.is(await snapshot(), before, 'verify changes nothing');
  const summary = findings
    .map(({ code, path, repairable }) => `${code} ${path.replace(root, '')} ${repairable}`)
    .sort();
  t.deepEqual(
    summary,
    [
      'broken-worktree /.git2db/worktrees/w2 false',
      `missing-directory ${sandbox.path('gone')} false`,
      `not-a-repository ${sandbox.path('broken')} false`,
      'orphan-directory /repos/org/litter false',
      'orphan-directory /repos/orphan false',
      'orphan-repository /repos/foreign false',
      'orphan-worktree /.git2db/worktrees/w1 false',
      'other-repository /repos/org/b false',
      'permissions /.git2db true',
      'permissions /.git2db/metadata.json true',
      `secret-in-url ${sandbox.path('stale/.git/config')} false`,
      `stale-remote-url ${sandbox.path('stale')} false`,
      'stale-reservation /.git2db/names/0123 true',
      'stale-store-user /elsewhere/.git false',
      'stale-store-user /repos/was/.git true',
      'stray-file /.git2db/metadata.json.new true',
      'stray-file /repos/stray false',
      'trash /.git2db/trash/old true',
      'unfinished-clone /repos/.git2db-clone-dead true',
      'unfinished-clone /repos/.git2db-clone-good false',
    ].sort(),
  );
  for (const { message, remedy } of findings) {
    t.false(message.includes('s3cret') || remedy.includes('s3cret'));
    t.false(`${message}${remedy}`.includes('\n'));
  }

  writeFileSync(mark, JSON.stringify({ version: 1, id: b.id }));
  const { done, left, failed } = await registry.repair();
  t.true(failed.length > 0 && failed.every((line) => /worktree.*w[12]/.test(line)), failed.join('\n'));
  t.is(new Set(failed).size, failed.length, 'each is told once');
  t.is(done.length, findings.filter(({ repairable }) => repairable).length, done.join('\n'));
  t.deepEqual(
    left.map(({ code }) => code).sort(),
    findings
      .filter(({ repairable, code }) => !repairable && code !== 'other-repository')
      .map(({ code }) => code)
      .sort(),
  );
  t.is(statSync(join(root, '.git2db')).mode & 0o777, 0o700);
  t.true(exists(root, 'repos/stray') && exists(root, 'repos/orphan/x') && exists(root, 'repos/foreign/.git'));
  t.true(exists(root, '.git2db/worktrees/w1/upper'));
  t.is(registry.get('a').id, a.id);
  const after = await snapshot();
  const again = await registry.repair();
  t.deepEqual(again.done, []);
  t.is(await snapshot(), after, 'the second time nothing is done');
});

test('a broken file is put aside and what it said one change before restored; clones enter again by themselves', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const source = await sandbox.repository('source');
  await registry.register({ path: source, metadata: { x: 'y' } });
  const { id } = registry;
  const clone = await registry.clone(source, { name: 'org/clone', trust: true });
  const file = join(sandbox.root, '.git2db/metadata.json');
  const broken = readFileSync(file, 'utf8').slice(0, 100);
  writeFileSync(file, broken);
  await t.throwsAsync(sandbox.open(), { code: 'REGISTRY_INVALID' });
  const { done, left } = await Git2DB.repair(sandbox.root, { config: sandbox.config });
  t.regex(
    done.join('\n'),
    /put the broken metadata aside[\s\S]*restored what was recorded one change before \(1 repositories\)[\s\S]*entered "org\/clone"/,
  );
  t.deepEqual(left, []);
  const aside = readdirSync(join(sandbox.root, '.git2db')).find((name) =>
    name.startsWith('metadata.json.broken-'),
  );
  t.is(readFileSync(join(sandbox.root, '.git2db', aside!), 'utf8'), broken);
  const mended = await sandbox.open();
  t.is(mended.id, id);
  t.like(mended.get('source'), { metadata: { x: 'y' }, adopted: true });
  t.like(mended.get('org/clone'), {
    id: clone.id,
    url: clone.url,
    adopted: false,
    trusted: false,
    path: 'repos/org/clone',
  });
  t.deepEqual(await mended.verify(), []);
  t.deepEqual((await Git2DB.repair(sandbox.root, { config: sandbox.config })).done, []);
});

test('with nothing left to restore, what git2db made is found again, and the rest is told', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const source = await sandbox.repository('source');
  const { id } = await registry.clone(source, { name: 'clone' });
  for (const name of ['metadata.json', 'metadata.previous.json']) {
    writeFileSync(join(sandbox.root, '.git2db', name), Buffer.alloc(100));
  }
  const { done } = await Git2DB.repair(sandbox.root, { config: sandbox.config });
  t.regex(done.join('\n'), /adopted ones are lost/);
  t.is((await sandbox.open()).get('clone').id, id);
});

test('repair leaves metadata of a newer version alone, and makes no registry where there is none', async (t) => {
  const sandbox = createRegistrySandbox(t);
  await sandbox.open();
  const file = join(sandbox.root, '.git2db/metadata.json');
  writeFileSync(file, '{"version":9}');
  await t.throwsAsync(Git2DB.repair(sandbox.root, { config: sandbox.config }), { message: /version 9/ });
  t.is(readFileSync(file, 'utf8'), '{"version":9}');
  mkdirSync(sandbox.path('empty'));
  await t.throwsAsync(Git2DB.repair(sandbox.path('empty'), { config: sandbox.config }), {
    code: 'REGISTRY_INVALID',
  });
  t.deepEqual(readdirSync(sandbox.path('empty')), []);
});

test('an entry of the wrong kind is mended, and names edited into a collision are told', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  await registry.register({ path: await sandbox.repository('bare.git', { bare: true }), name: 'bare' });
  await registry.register({ path: await sandbox.repository('other'), name: 'other' });
  const metadata = metadataOf(sandbox.root);
  metadata.repositories[0]!.bare = false;
  metadata.repositories[1]!.name = 'BARE';
  writeFileSync(join(sandbox.root, '.git2db/metadata.json'), JSON.stringify(metadata));
  t.deepEqual(
    (await registry.verify()).map(({ code }) => code),
    ['wrong-bare', 'name-collision'],
  );
  const { done, left } = await registry.repair();
  t.is(done.length, 1);
  t.deepEqual(
    left.map(({ code }) => code),
    ['name-collision'],
  );
  t.true(registry.get('bare').bare);
});
