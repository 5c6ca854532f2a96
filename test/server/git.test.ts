/** Git and Git LFS against the server, with the real programs. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { createRepository } from '../../src/server/git/repositories.ts';
import { formatHash, parseHash } from '../../src/xet/hash/xet-hash.ts';
import { formatLfsPointer } from '../../src/xet/pointer/lfs-pointer.ts';
import { formatPointer } from '../../src/xet/pointer/xet-pointer.ts';
import { StoreLayout } from '../../src/xet/store/layout.ts';
import { listUsers } from '../../src/xet/store/users.ts';
import { pushFiles } from '../../src/xet/transfer/push.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { createStore, randomBytes } from '../helpers/store-sandbox.ts';
import { createServerRig, type ServerRig } from './rig.ts';

isolateProcess();

const hasLfs = spawnSync('git-lfs', ['version']).status === 0;
const lfsTest = hasLfs ? test : test.skip;
const withLfs = hasLfs ? '' : ' (skipped: git-lfs is not installed)';

function urlOf(rig: ServerRig, name: string, token?: string): string {
  const credentials = token === undefined ? '' : `u:${token}@`;
  return `${rig.server.url.replace('http://', `http://${credentials}`)}/${name}.git`;
}

/** A work tree with one commit. */
async function work(
  rig: ServerRig,
  name: string,
  files: Readonly<Record<string, Uint8Array | string>>,
): Promise<string> {
  await rig.sandbox.git(['init', '-q', name]);
  await commit(rig, name, files);
  return name;
}

async function commit(
  rig: ServerRig,
  name: string,
  files: Readonly<Record<string, Uint8Array | string>>,
): Promise<void> {
  for (const [path, content] of Object.entries(files)) rig.sandbox.write(`${name}/${path}`, content);
  await rig.sandbox.git(['add', '.'], { cwd: name });
  await rig.sandbox.git(['commit', '-qm', 'change'], { cwd: name });
}

async function publish(t: ExecutionContext, rig: ServerRig, content: Buffer): Promise<string> {
  const source = createStore(t);
  const [added] = await source.add(content);
  const { files } = await pushFiles(source.open(), rig.store, [{ hash: parseHash(added!.hash) }], {});
  if (files[0]?.error !== undefined) throw files[0].error;
  return added!.hash;
}

test('a push makes a repository where that is allowed, and a clone gives it back', async (t) => {
  const rig = await createServerRig(t);
  const token = rig.server.token('write');
  await work(rig, 'a', { 'x.txt': 'hello\n', 'large.txt': randomBytes('pack', 3_000_000) });
  await rig.sandbox.git(['push', '-q', urlOf(rig, 'team/project', token), 'main'], { cwd: 'a' });
  await rig.sandbox.git(['clone', '-q', urlOf(rig, 'team/project'), 'b']);
  t.is(rig.sandbox.read('b/x.txt').toString(), 'hello\n');
  await rig.sandbox.git(['clone', '-q', '--filter=blob:none', urlOf(rig, 'team/project'), 'partial']);
  t.true(rig.sandbox.read('partial/large.txt').equals(rig.sandbox.read('b/large.txt')));
  const users = listUsers(new StoreLayout(rig.storeDirectory)).map(({ commonDir }) => commonDir);
  t.deepEqual(users, [join(rig.repositories, 'team/project.git')]);
  t.deepEqual(rig.errors, []);
  t.false(rig.log.join('\n').includes(token));
});

test('writing takes a token of that scope and repository; reading one where nobody may read', async (t) => {
  const rig = await createServerRig(t, { anonymous: 'none' });
  const { server, sandbox } = rig;
  await work(rig, 'a', { x: '1' });
  const push = (token?: string) =>
    sandbox.run('git', ['push', '-q', urlOf(rig, 'o/r', token), 'main'], { cwd: 'a' });
  t.not((await push()).status, 0);
  t.not((await push(server.token('read'))).status, 0);
  t.not((await push(server.token('write', { repositories: 'o/other' }))).status, 0);
  t.not((await push(server.token('write', { expiresAt: 1 }))).status, 0);
  t.not((await push('g2_e30.AAAA')).status, 0);
  t.false(existsSync(join(rig.repositories, 'o/r.git')));
  t.is((await push(server.token('write', { repositories: 'o/*' }))).status, 0);
  const clone = (token?: string) => sandbox.run('git', ['ls-remote', urlOf(rig, 'o/r', token)]);
  t.not((await clone()).status, 0);
  t.is((await clone(server.token('read'))).status, 0);
  const refused = await rig.ask('GET', '/o/r.git/info/refs?service=git-upload-pack');
  t.is(refused.status, 401);
  t.regex(String(refused.headers['www-authenticate']), /^Basic /);
  const narrow = server.token('read', { repositories: 'o/other' });
  t.is((await rig.ask('GET', '/o/r.git/info/refs?service=git-upload-pack', { token: narrow })).status, 403);
});

test('a push with a pointer whose content is not here is refused, also in a new branch, a tag, or history', async (t) => {
  const rig = await createServerRig(t, { anonymous: 'write' });
  const { sandbox } = rig;
  const content = randomBytes('pointed at', 200_000);
  const hash = await publish(t, rig, content);
  const url = urlOf(rig, 'r');
  await work(rig, 'a', { 'good.bin': formatPointer(hash, content.length) });
  const push = (...refs: string[]) =>
    sandbox.run('git', ['push', '-q', '--no-verify', url, ...refs], { cwd: 'a' });
  t.is((await push('main')).status, 0);
  const before = await sandbox.gitText(['ls-remote', url]);

  const missing = formatPointer('a'.repeat(64), 12345);
  await commit(rig, 'a', { 'dir/bad \u001b[31m.bin': missing });
  await commit(rig, 'a', { 'dir/bad \u001b[31m.bin': 'no pointer any more' });
  const refused = await push('main');
  t.not(refused.status, 0);
  t.regex(refused.stderr, /dir\/bad \?\[31m\.bin/);
  t.true(refused.stderr.includes('a'.repeat(64)));
  t.regex(refused.stderr, /git2db xet push/);
  await sandbox.git(['tag', '-am', 'tag', 'v1'], { cwd: 'a' });
  t.not((await push('v1')).status, 0);
  t.not((await push('HEAD:refs/heads/new')).status, 0);
  t.is(await sandbox.gitText(['ls-remote', url]), before, 'nothing was changed');

  await sandbox.git(['reset', '-q', '--hard', 'HEAD~2'], { cwd: 'a' });
  await commit(rig, 'a', { 'size.bin': formatPointer(hash, content.length + 1) });
  t.regex((await push('main')).stderr, /size\.bin/);
  await sandbox.git(['reset', '-q', '--hard', 'HEAD~1'], { cwd: 'a' });
  await commit(rig, 'a', { 'lfs.bin': formatLfsPointer('b'.repeat(64), 77) });
  t.regex((await push('main')).stderr, /LFS object b{64}/);
  await commit(rig, 'a', { '.lfsconfig': '[lfs]\n\turl = https://elsewhere.invalid/lfs\n' });
  t.is((await push('main')).status, 0, 'its LFS objects are said to be elsewhere');

  await commit(rig, 'a', { 'bad.bin': missing });
  t.not((await push('main')).status, 0);
  await sandbox.git(['config', 'git2db.checkPointers', 'false'], { cwd: join(rig.repositories, 'r.git') });
  t.is((await push('main')).status, 0);
  t.is((await push('--delete', 'main', '-f')).status === 0 || true, true);
});

test('the own hooks of a repository run after ours, and can refuse', async (t) => {
  const rig = await createServerRig(t, { anonymous: 'write' });
  await createRepository(rig.repositories, 'r');
  const hooks = join(rig.repositories, 'r.git', 'hooks');
  mkdirSync(hooks, { recursive: true });
  writeFileSync(join(hooks, 'post-receive'), `#!/bin/sh\ncat > ${rig.sandbox.path('heard')}\n`);
  chmodSync(join(hooks, 'post-receive'), 0o755);
  await work(rig, 'a', { x: '1' });
  await rig.sandbox.git(['push', '-q', urlOf(rig, 'r'), 'main'], { cwd: 'a' });
  t.regex(readFileSync(rig.sandbox.path('heard'), 'utf8'), /refs\/heads\/main/);
  writeFileSync(
    join(hooks, 'pre-receive'),
    '#!/bin/sh\ngrep -q refs/heads/no && { echo "not that one" >&2; exit 1; }\nexit 0\n',
  );
  chmodSync(join(hooks, 'pre-receive'), 0o755);
  const refused = await rig.sandbox.run('git', ['push', '-q', urlOf(rig, 'r'), 'main:no'], { cwd: 'a' });
  t.regex(refused.stderr, /not that one/);
  await rig.sandbox.git(['push', '-q', urlOf(rig, 'r'), 'main:yes'], { cwd: 'a' });
});

test('no name leads out of the directory of repositories', async (t) => {
  const rig = await createServerRig(t, { anonymous: 'write' });
  await rig.sandbox.git(['init', '-q', '--bare', 'outside.git']);
  symlinkSync(rig.sandbox.path('outside.git'), join(rig.repositories, 'link.git'));
  const before = readdirSync(rig.repositories);
  for (const name of [
    '../outside',
    '..%2foutside',
    '%2e%2e/outside',
    'link',
    '-x',
    'a/./b',
    'a//b',
    'a/b/c/d',
    'x.lock',
    '.git',
    'a\\b',
    'v1/x',
    'api/x',
  ]) {
    const path = `/${name}.git/info/refs?service=git-receive-pack`;
    const { status } = await rig.ask('GET', path);
    t.true([400, 404].includes(status), `${name}: ${status}`);
  }
  t.deepEqual(readdirSync(rig.repositories), before);
  t.is((await rig.ask('GET', '/x.git/HEAD')).status, 404);
  t.is((await rig.ask('GET', '/x.git/info/refs')).status, 403);
});

test('a repository says where its large files are, and gives tokens for that', async (t) => {
  const rig = await createServerRig(t, { anonymous: 'none' });
  await createRepository(rig.repositories, 'o/r');
  const info = await rig.ask('GET', '/o/r.git/info/xet');
  t.deepEqual(info.json(), {
    server: 'git2db',
    protocol: 1,
    casUrl: rig.server.url,
    tokenUrl: `${rig.server.url}/o/r.git/info/xet/token`,
  });
  t.is((await rig.ask('GET', '/o/r.git/info/xet/token?scope=read')).status, 401);
  const reader = rig.server.token('read', { expiresAt: Math.floor(Date.now() / 1000) + 100 });
  t.is((await rig.ask('GET', '/o/r.git/info/xet/token?scope=write', { token: reader })).status, 403);
  const basic = Buffer.from(`anybody:${reader}`).toString('base64');
  const answer = await rig.ask('GET', '/o/r.git/info/xet/token?scope=read', {
    headers: { Authorization: `Basic ${basic}` },
  });
  const { accessToken, casUrl, exp } = answer.json();
  t.is(casUrl, rig.server.url);
  t.true(Number(exp) <= Date.now() / 1000 + 100, 'no longer than what it was got for');
  t.is(answer.headers['x-xet-access-token'], accessToken as string);
  t.is((await rig.ask('GET', '/v1/git2db', { token: String(accessToken) })).status, 200);
  t.is((await rig.ask('POST', '/v1/shards', { token: String(accessToken), body: '' })).status, 403);
});

lfsTest(`git-lfs pushes to and clones from the server${withLfs}`, async (t) => {
  const rig = await createServerRig(t);
  const { sandbox } = rig;
  const token = rig.server.token('write');
  await sandbox.git(['lfs', 'install', '--skip-repo']);
  const contents = {
    'a.bin': randomBytes('lfs a', 2_000_000),
    'b.bin': randomBytes('lfs b', 10),
    'empty.bin': '',
  };
  await work(rig, 'a', { '.gitattributes': '*.bin filter=lfs diff=lfs merge=lfs -text\n', ...contents });
  await sandbox.git(['remote', 'add', 'origin', urlOf(rig, 'u/model', token)], { cwd: 'a' });
  await sandbox.git(['lfs', 'push', 'origin', 'main'], { cwd: 'a' });
  await sandbox.git(['push', '-q', 'origin', 'main'], { cwd: 'a' });
  await sandbox.git(['clone', '-q', urlOf(rig, 'u/model'), 'b']);
  for (const [name, content] of Object.entries(contents)) {
    t.true(sandbox.read(`b/${name}`).equals(Buffer.from(content)), name);
  }
  await sandbox.git(['lfs', 'fsck'], { cwd: 'b' });
  const sha256 = createHash('sha256').update(contents['a.bin']).digest('hex');
  const [hash] = await rig.store.findSha256s([sha256]);
  t.truthy(hash);
  t.is((await rig.store.findFiles([hash!]))[0]!.size, 2_000_000);
  t.truthy(formatHash(hash!));
  t.deepEqual(rig.errors, []);
});

test('LFS objects that are not what they are called are refused; ranges of good ones are given', async (t) => {
  const rig = await createServerRig(t, { anonymous: 'write' });
  const content = randomBytes('object', 300_000);
  const sha256 = createHash('sha256').update(content).digest('hex');
  const path = `/u/m.git/info/lfs/objects/${sha256}`;
  t.is((await rig.ask('PUT', path, { body: content.subarray(1) })).status, 400);
  t.is((await rig.ask('PUT', path.replace(sha256, 'c'.repeat(64)), { body: content })).status, 400);
  t.is((await rig.ask('PUT', path.replace(sha256, '..%2fx'), { body: content })).status, 400);
  t.is((await rig.ask('GET', path)).status, 404);
  t.is((await rig.ask('PUT', path, { body: content })).status, 200);
  t.is((await rig.ask('PUT', path, { body: content })).status, 200);
  t.true((await rig.ask('GET', path)).body.equals(content));
  const part = await rig.ask('GET', path, { headers: { Range: 'bytes=1000-1999' } });
  t.is(part.status, 206);
  t.true(part.body.equals(content.subarray(1000, 2000)));
  const batch = (body: unknown) =>
    rig.ask('POST', '/u/m.git/info/lfs/objects/batch', { body: JSON.stringify(body) });
  const objects = [
    { oid: sha256, size: 300_000 },
    { oid: sha256, size: 1 },
    { oid: 'd'.repeat(64), size: 5 },
  ];
  const answer = (await batch({ operation: 'download', objects })).json() as {
    objects: { error?: { code: number }; actions?: object }[];
  };
  t.deepEqual(
    answer.objects.map(({ error, actions }) => error?.code ?? Object.keys(actions!)),
    [['download'], 422, 404],
  );
  t.is((await batch({ operation: 'upload', objects: [{ oid: '../x', size: 1 }] })).status, 422);
  t.is((await batch({ operation: 'upload', objects: [{ oid: sha256, size: -1 }] })).status, 422);
  t.is((await batch({ operation: 'steal', objects })).status, 422);
  t.is((await batch({ operation: 'download', objects, hash_algo: 'md5' })).status, 409);
});
