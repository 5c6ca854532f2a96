import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { findEndpoint, parseSsh } from '../../src/lfs/endpoint.ts';
import { fetchLfs } from '../../src/lfs/fetch.ts';
import { readLfsConfig, safeSettings } from '../../src/lfs/lfsconfig.ts';
import { pushLfs } from '../../src/lfs/push.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { randomBytes } from '../helpers/xet-sandbox.ts';
import { createLfsSandbox, lfsRepository, objectOf, placeOf } from './lfs-sandbox.ts';
import { startLfsServer } from './lfs-server.ts';

isolateProcess();

interface Asked {
  readonly gitUrl?: string;
  readonly operation?: 'upload' | 'download';
  readonly config?: Readonly<Record<string, string>>;
  readonly lfsConfig?: Readonly<Record<string, string>>;
  readonly trusted?: readonly string[];
}

function find({ gitUrl = 'https://git.example.org/a/b', operation = 'download', ...asked }: Asked) {
  const { config = {}, lfsConfig = {}, trusted = [] } = asked;
  return findEndpoint({
    operation,
    remote: 'origin',
    gitUrl,
    config: (key) => config[key],
    lfsConfig: new Map(Object.entries(lfsConfig)),
    isTrusted: (url) => trusted.includes(url),
  });
}

test.serial('the LFS server follows from the URL of the remote', (t) => {
  const urls: [string, string][] = [
    ['https://git.example.org/a/b', 'https://git.example.org/a/b.git/info/lfs'],
    ['https://git.example.org/a/b.git', 'https://git.example.org/a/b.git/info/lfs'],
    ['https://git.example.org/a/b/', 'https://git.example.org/a/b.git/info/lfs'],
    ['http://localhost:8080/b', 'http://localhost:8080/b.git/info/lfs'],
    ['git://git.example.org/a/b', 'https://git.example.org/a/b.git/info/lfs'],
  ];
  for (const [gitUrl, url] of urls) t.like(find({ gitUrl }), { kind: 'http', url, login: undefined });
  t.deepEqual(find({ gitUrl: 'https://me:s%40cret@git.example.org/b' }), {
    kind: 'http',
    url: 'https://git.example.org/b.git/info/lfs',
    login: { username: 'me', password: 's@cret' },
  });
  t.deepEqual(find({ gitUrl: 'git@git.example.org:a/b.git' }), {
    kind: 'ssh',
    place: { destination: 'git@git.example.org', port: undefined, path: 'a/b.git' },
    fallback: 'https://git.example.org/a/b.git/info/lfs',
  });
  t.like(find({ gitUrl: 'ssh://git@git.example.org:2222/a/b' }), {
    kind: 'ssh',
    place: { destination: 'git@git.example.org', port: '2222', path: '/a/b' },
  });
  for (const gitUrl of ['/srv/git/b.git', 'file:///srv/git/b.git', '../b'])
    t.is(find({ gitUrl }).kind, 'local');
  for (const gitUrl of ['ssh://-oProxyCommand=evil/x', '-oProxyCommand=evil:x'])
    t.throws(() => parseSsh(gitUrl), { code: 'URL_INVALID' } as never, gitUrl);
  t.throws(() => find({ gitUrl: 'ext::sh -c evil' }));
});

test.serial("git's configuration comes before .lfsconfig, and uploads may go elsewhere", (t) => {
  const config = { 'lfs.url': 'https://a.example.org/x/', 'lfs.pushurl': 'https://b.example.org/y' };
  t.like(find({ config }), { url: 'https://a.example.org/x' });
  t.like(find({ config, operation: 'upload' }), { url: 'https://b.example.org/y' });
  t.like(find({ config: { 'remote.origin.lfsurl': 'https://c.example.org' } }), {
    url: 'https://c.example.org',
  });
  t.like(find({ config, lfsConfig: { 'lfs.url': 'https://git.example.org/other' } }), {
    url: 'https://a.example.org/x',
  });
  t.throws(() => find({ config: { 'lfs.url': 'gopher://x' } }), { code: 'URL_INVALID' } as never);
});

test.serial('a .lfsconfig that leads to another authority is used for nothing until it is trusted', (t) => {
  const lfsConfig = { 'lfs.url': 'https://evil.example.net/lfs' };
  for (const operation of ['upload', 'download'] as const) {
    const error = t.throws(() => find({ lfsConfig, operation }), { code: 'TRUST_REQUIRED' } as never)!;
    t.regex(error.message, /git2db xet trust https:\/\/evil\.example\.net\/lfs/);
  }
  t.like(find({ lfsConfig, trusted: ['https://evil.example.net/lfs'] }), {
    url: 'https://evil.example.net/lfs',
  });
  t.like(find({ lfsConfig: { 'lfs.url': 'https://git.example.org/elsewhere' } }), {
    url: 'https://git.example.org/elsewhere',
  });
  t.like(find({ gitUrl: 'git@git.example.org:b', lfsConfig: { 'lfs.url': 'https://git.example.org/l' } }), {
    url: 'https://git.example.org/l',
  });
  for (const url of [
    'http://git.example.org/l',
    'https://git.example.org:444/l',
    '/etc',
    'ssh://git.example.org/x',
  ]) {
    t.throws(() => find({ lfsConfig: { 'lfs.url': url } }), undefined, url);
  }
  const shown = t.throws(() =>
    find({ lfsConfig: { 'lfs.url': 'https://u:secret@evil.example.net/?t=secret' } }),
  )!;
  t.false(shown.message.includes('secret'));
});

test.serial('only harmless settings of .lfsconfig are read, and only from a file', async (t) => {
  const text = `
[lfs]
  url = https://a.example.org
  fetchexclude = *.tmp
  storage = /etc
  concurrenttransfers = 1000000
[lfs "customtransfer.evil"]
  path = /bin/sh
[lfs "extension.evil"]
  clean = /bin/sh
[remote "origin"]
  lfsurl = https://b.example.org
  url = https://c.example.org
[core]
  sshCommand = evil
[filter "lfs"]
  process = evil
[include]
  path = /etc/passwd
`;
  t.deepEqual([...safeSettings(text).keys()].sort(), ['lfs.fetchexclude', 'lfs.url', 'remote.origin.lfsurl']);
  const sandbox = createLfsSandbox(t);
  const repository = await lfsRepository(sandbox);
  const { repository: paths, cwd, env } = placeOf(sandbox, repository);
  t.is((await readLfsConfig(paths, cwd, env)).size, 0);
  repository.write('.lfsconfig', '[lfs]\n\turl = https://a.example.org\n');
  await repository.commit('lfsconfig');
  t.is((await readLfsConfig(paths, cwd, env)).get('lfs.url'), 'https://a.example.org');
  await repository.git(['rm', '-q', '.lfsconfig']);
  t.is((await readLfsConfig(paths, cwd, env)).get('lfs.url'), 'https://a.example.org', 'that of HEAD');
  writeFileSync(sandbox.path('outside'), '[lfs]\n\turl = https://b.example.org\n');
  symlinkSync(sandbox.path('outside'), repository.path('.lfsconfig'));
  t.is((await readLfsConfig(paths, cwd, env)).get('lfs.url'), 'https://a.example.org');
});

test.serial('a hostile .lfsconfig makes neither push nor fetch ask its server', async (t) => {
  const server = await startLfsServer(t);
  const sandbox = createLfsSandbox(t);
  const repository = await lfsRepository(sandbox);
  repository.write('.lfsconfig', `[lfs]\n\turl = ${server.url}\n`);
  await repository.git(['remote', 'add', 'origin', 'https://127.0.0.1:1/repo']);
  const content = randomBytes(1, 100);
  server.objects.set(objectOf(content).sha256, content);
  const place = placeOf(sandbox, repository);
  const outcomes = [
    ...(await fetchLfs(place, [objectOf(content)])),
    ...(await pushLfs(place, [objectOf(content)], { remote: 'origin' })),
  ];
  t.deepEqual(
    outcomes.map(({ error }) => error?.code),
    ['TRUST_REQUIRED', 'TRUST_REQUIRED'],
  );
  t.is(server.requests.length, 0);
  const trusting = { ...place, isTrusted: (url: string) => url === server.url };
  t.is((await fetchLfs(trusting, [objectOf(content)]))[0]!.outcome, 'moved');
});

test.serial('an ssh remote is asked for its LFS server, by the program that git would start', async (t) => {
  const server = await startLfsServer(t);
  const sandbox = createLfsSandbox(t);
  const repository = await lfsRepository(sandbox);
  const content = randomBytes(2, 100);
  server.objects.set(objectOf(content).sha256, content);
  server.login = 'ssh:token';
  const authorization = `Basic ${Buffer.from(server.login).toString('base64')}`;
  const bin = join(sandbox.tmp, 'bin');
  mkdirSync(bin);
  const log = join(sandbox.tmp, 'ssh.log');
  const answer = JSON.stringify({ href: server.url, header: { authorization }, expires_in: 60 });
  writeFileSync(join(bin, 'my-ssh'), `#!/bin/sh\nprintf '%s\\n' "$@" > ${log}\necho '${answer}'\n`);
  chmodSync(join(bin, 'my-ssh'), 0o755);
  await repository.git(['remote', 'add', 'origin', "ssh://git@git.example.org:2222/it's here.git"]);
  const env = { ...sandbox.env, GIT_SSH: join(bin, 'my-ssh') };
  const [outcome] = await fetchLfs(placeOf(sandbox, repository, { env }), [objectOf(content)]);
  t.is(outcome!.outcome, 'moved', outcome!.error?.message);
  t.deepEqual(readFileSync(log, 'utf8').split('\n'), [
    '-p',
    '2222',
    '--',
    'git@git.example.org',
    "git-lfs-authenticate '/it'\\''s here.git' download",
    '',
  ]);
  const command = { ...sandbox.env, GIT_SSH_COMMAND: `${join(bin, 'my-ssh')} -v` };
  const again = randomBytes(3, 100);
  server.objects.set(objectOf(again).sha256, again);
  const [second] = await fetchLfs(placeOf(sandbox, repository, { env: command }), [objectOf(again)]);
  t.is(second!.outcome, 'moved', second!.error?.message);
  t.is(readFileSync(log, 'utf8').split('\n')[0], '-v');

  writeFileSync(join(bin, 'my-ssh'), '#!/bin/sh\necho "Permission denied" >&2\nexit 255\n');
  const [refused] = await fetchLfs(placeOf(sandbox, repository, { env }), [objectOf(randomBytes(4, 10))]);
  t.is(refused!.error?.code, 'AUTH_FAILED');
});
