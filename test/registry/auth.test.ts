import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { inspect } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { git } from '../../src/git/runner.ts';
import { openCredentialSocket } from '../../src/registry/askpass.ts';
import { type AuthOptions, type AuthSession, httpAuthority, openAuth } from '../../src/registry/auth.ts';
import { AuthError } from '../../src/registry/errors.ts';
import { configEnvironment } from '../../src/registry/trust.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';
import { type HttpGit, startHttpGit } from './http-git.ts';

isolateProcess();

const TOKEN = 'hf_SecretTokenThatNobodyMaySee12345';

async function createServed(
  t: ExecutionContext,
  config: Readonly<Record<string, string>> = {},
): Promise<Sandbox> {
  const sandbox = createSandbox(t, { config });
  await sandbox.git(['init', '-q', 'repository']);
  await sandbox.git(['commit', '-q', '--allow-empty', '-m', 'one'], { cwd: 'repository' });
  mkdirSync(sandbox.path('served'));
  await sandbox.git(['clone', '-q', '--bare', 'repository', 'served/repository.git']);
  return sandbox;
}

function lsRemote(sandbox: Sandbox, session: AuthSession, url: string) {
  const env = { ...sandbox.env, ...session.env };
  return git(['ls-remote', '--end-of-options', url], {
    cwd: sandbox.dir,
    okStatus: [0, 128],
    env: { ...env, ...configEnvironment(session.config, env) },
  });
}

/** Processes in whose command line or environment `text` stands. */
function processesThatShow(text: string): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    for (const file of ['cmdline', 'environ']) {
      try {
        const bytes = readFileSync(`/proc/${pid}/${file}`, 'latin1');
        if (bytes.includes(text)) found.push(`${pid}/${file}: ${bytes.slice(0, 200)}`);
      } catch {
        // Ended meanwhile, or another user's.
      }
    }
  }
  return found;
}

function tokenFor(server: HttpGit, more: Partial<Extract<AuthOptions, { kind: 'token' }>> = {}): AuthOptions {
  return { kind: 'token', token: TOKEN, authority: server.origin, ...more };
}

test('a token answers the 401 of its authority, and no process shows it on its command line or in its environment', async (t) => {
  const sandbox = await createServed(t, { 'credential.helper': `!touch ${'$HOME'}/asked; cat` });
  // Such a process would be seen.
  const careless = spawn('sleep', ['60'], { env: { ...process.env, CARELESS: TOKEN } });
  t.teardown(() => careless.kill());
  await once(careless, 'spawn');
  t.is(processesThatShow(TOKEN).length, 1);
  careless.kill();
  await once(careless, 'exit');
  const shown: string[] = [];
  const server = await startHttpGit(t, {
    root: sandbox.path('served'),
    login: { username: 'oauth2', password: TOKEN },
    onRequest: () => shown.push(...processesThatShow(TOKEN)),
  });
  await using session = await openAuth(tokenFor(server), `${server.origin}/repository.git`);
  const { stdout, status } = await lsRemote(sandbox, session, `${server.origin}/repository.git`);
  t.is(status, 0);
  t.regex(stdout.toString(), /refs\/heads\/main/);
  t.deepEqual(shown, []);
  t.true(server.requests.some(({ authorization }) => authorization !== undefined));
  t.false(existsSync(join(sandbox.home, 'asked')), 'a helper of the user would keep the token');
  t.false(inspect([session, session.config, session.env], { depth: 9, showHidden: true }).includes(TOKEN));
});

test('the user name is that of the options, else that of the URL', async (t) => {
  const sandbox = await createServed(t);
  const server = await startHttpGit(t, {
    root: sandbox.path('served'),
    login: { username: 'alice', password: TOKEN },
  });
  const url = `${server.origin}/repository.git`;
  const withUser = url.replace('//', '//alice@');
  await using named = await openAuth(tokenFor(server, { username: 'alice' }), url);
  t.is((await lsRemote(sandbox, named, url)).status, 0);
  await using fromUrl = await openAuth(tokenFor(server), withUser);
  t.is((await lsRemote(sandbox, fromUrl, withUser)).status, 0);
});

test('a refused token is a failure at once, and nobody is asked for another', async (t) => {
  const sandbox = await createServed(t);
  const server = await startHttpGit(t, {
    root: sandbox.path('served'),
    login: { username: 'x', password: 'other' },
  });
  const url = `${server.origin}/repository.git`;
  const asking = join(sandbox.home, 'askpass');
  writeFileSync(asking, `#!/bin/sh\ntouch ${sandbox.home}/asked\n`, { mode: 0o755 });
  await using session = await openAuth(tokenFor(server), url);
  const env = { ...sandbox.env, GIT_ASKPASS: asking, SSH_ASKPASS: asking, ...session.env };
  const { status, stderr } = await git(['ls-remote', url], {
    okStatus: [128],
    env: { ...env, ...configEnvironment(session.config, env) },
  });
  t.is(status, 128);
  t.regex(stderr, /Authentication failed/);
  t.false(stderr.includes(TOKEN));
  t.false(existsSync(join(sandbox.home, 'asked')));
});

test('a redirection is not followed unless asked, and another authority never gets the token', async (t) => {
  const sandbox = await createServed(t);
  const thief = await startHttpGit(t, {
    root: sandbox.path('served'),
    login: { username: 'x', password: 'y' },
  });
  const server = await startHttpGit(t, { root: sandbox.path('served'), redirectTo: thief.origin });
  const url = `${server.origin}/repository.git`;
  {
    await using session = await openAuth(tokenFor(server), url);
    t.is((await lsRemote(sandbox, session, url)).status, 128);
    t.deepEqual(thief.requests, [], 'not followed');
  }
  await using session = await openAuth(tokenFor(server), url, { followRedirects: true });
  t.is((await lsRemote(sandbox, session, url)).status, 128);
  t.true(thief.requests.length > 0, 'followed');
  t.true(thief.requests.every(({ authorization }) => authorization === undefined));
  t.deepEqual(session.refused, [thief.origin]);
});

test('a configuration that follows redirections, or leads elsewhere, does not get the token out', async (t) => {
  const sandbox = await createServed(t);
  const thief = await startHttpGit(t, {
    root: sandbox.path('served'),
    login: { username: 'x', password: 'y' },
  });
  const server = await startHttpGit(t, { root: sandbox.path('served'), redirectTo: thief.origin });
  const url = `${server.origin}/repository.git`;
  await sandbox.git(['config', '--global', 'http.followRedirects', 'true']);
  await sandbox.git(['config', '--global', `http.${server.origin}/.followRedirects`, 'true']);
  {
    await using session = await openAuth(tokenFor(server), url);
    await lsRemote(sandbox, session, url);
    t.deepEqual(thief.requests, []);
  }
  await sandbox.git(['config', '--global', `url.${thief.origin}/.insteadOf`, `${server.origin}/`]);
  await using session = await openAuth(tokenFor(server), url);
  t.is((await lsRemote(sandbox, session, url)).status, 128);
  t.true(thief.requests.length > 0);
  t.true(thief.requests.every(({ authorization }) => authorization === undefined));
});

test('an anonymous request asks no helper of the user', async (t) => {
  const sandbox = await createServed(t, { 'credential.helper': `!touch ${'$HOME'}/asked; cat` });
  const server = await startHttpGit(t, {
    root: sandbox.path('served'),
    login: { username: 'x', password: 'y' },
  });
  const url = `${server.origin}/repository.git`;
  await using none = await openAuth({ kind: 'none' }, url);
  t.is((await lsRemote(sandbox, none, url)).status, 128);
  t.false(existsSync(join(sandbox.home, 'asked')));
  await using users = await openAuth({ kind: 'credential-helper' }, url);
  await lsRemote(sandbox, users, url);
  t.true(existsSync(join(sandbox.home, 'asked')), 'which otherwise is asked');
});

const AUTHORITIES: readonly (readonly [string, string | undefined])[] = [
  ['https://example.org/x', 'https://example.org'],
  ['HTTPS://Example.ORG:443/x', 'https://example.org'],
  ['https://u:p@example.org:8443/x', 'https://example.org:8443'],
  ['http://[::1]:80/x', 'http://[::1]'],
  ['ssh://example.org/x', undefined],
  ['/srv/x', undefined],
];

test('the authority of a URL is its scheme, host and port', (t) => {
  for (const [url, authority] of AUTHORITIES) t.is(httpAuthority(url), authority, url);
});

for (const url of [
  'https://good.example\\@evil.example/x',
  'https://good.example@evil.example@third.example/x',
  'https://good.example%2f@evil.example\t/x',
  'https://exa mple.org/x',
  'https:///x',
  'https://example.org:99999999/x',
]) {
  test(`a URL that two parsers may read differently gets no token: ${JSON.stringify(url)}`, async (t) => {
    const error = await t.throwsAsync(openAuth({ kind: 'token', token: TOKEN }, url), {
      instanceOf: AuthError,
    });
    t.is(error.code, 'AUTH_FAILED');
    t.false(error.message.includes(TOKEN));
  });
}

const REFUSED: readonly (readonly [title: string, auth: AuthOptions, url: string, message: RegExp])[] = [
  [
    'a token for another authority',
    { kind: 'token', token: TOKEN, authority: 'other.example' },
    'https://example.org/x',
    /for https:\/\/other\.example/,
  ],
  [
    'a token for another port',
    { kind: 'token', token: TOKEN, authority: 'example.org:444' },
    'https://example.org/x',
    /example\.org:444/,
  ],
  [
    'a token over plain http',
    { kind: 'token', token: TOKEN },
    'http://example.org/x',
    /readable for everybody/,
  ],
  [
    'a token of https over http',
    { kind: 'token', token: TOKEN, authority: 'https://example.org' },
    'http://example.org/x',
    /https/,
  ],
  [
    'an authority with a user',
    { kind: 'token', token: TOKEN, authority: 'a@example.org' },
    'https://example.org/x',
    /expected an authority/,
  ],
  [
    'an authority with a path',
    { kind: 'token', token: TOKEN, authority: 'https://example.org/x' },
    'https://example.org/x',
    /expected an authority/,
  ],
  [
    'a token with a line break',
    { kind: 'token', token: `${TOKEN}\nhost=evil` },
    'https://example.org/x',
    /in one line/,
  ],
  ['an empty token', { kind: 'token', token: '' }, 'https://example.org/x', /in one line/],
  [
    'a user name with a line break',
    { kind: 'token', token: TOKEN, username: 'a\nb' },
    'https://example.org/x',
    /in one line/,
  ],
  ['a token for ssh', { kind: 'token', token: TOKEN }, 'git@example.org:x', /for http or https/],
  ['a token for a path', { kind: 'token', token: TOKEN }, '/srv/x', /for http or https/],
  ['an ssh key for https', { kind: 'ssh-key', path: '/etc/hostname' }, 'https://example.org/x', /for ssh/],
  [
    'an ssh key that is not there',
    { kind: 'ssh-key', path: '/nowhere/key' },
    'git@example.org:x',
    /found nothing/,
  ],
  ['an anonymous ssh', { kind: 'none' }, 'ssh://example.org/x', /for http/],
  ['another kind', { kind: 'other' } as unknown as AuthOptions, 'https://example.org/x', /of the kind/],
];

for (const [title, auth, url, message] of REFUSED) {
  test(`${title} is refused before anything is sent, and no error shows a secret`, async (t) => {
    const error = await t.throwsAsync(openAuth(auth, url), { instanceOf: AuthError });
    t.regex(error.message, message);
    t.false(inspect(error, { depth: 9 }).includes(TOKEN));
  });
}

test('ssh gets the key file as one word, whatever its name, and no other key', async (t) => {
  const sandbox = createSandbox(t);
  const bin = join(sandbox.home, 'bin');
  mkdirSync(bin);
  writeFileSync(
    join(bin, 'ssh'),
    `#!/bin/sh\nfor word; do printf '%s\\n' "$word"; done >${sandbox.home}/words\nexit 1\n`,
    { mode: 0o755 },
  );
  for (const name of ['key', 'it\'s a $(touch x) `key` "100%"; true', '-o ProxyCommand=x']) {
    const key = sandbox.path(name);
    writeFileSync(key, 'key');
    await using session = await openAuth({ kind: 'ssh-key', path: key }, 'git@example.org:x');
    const env = { ...sandbox.env, PATH: `${bin}:${sandbox.env.PATH}`, ...session.env };
    await git(['ls-remote', 'git@example.org:x'], { okStatus: [128], env });
    const words = readFileSync(join(sandbox.home, 'words'), 'utf8').split('\n');
    t.is(words[words.indexOf('-i') + 1], key.replaceAll('%', '%%'));
    t.true(words.includes('IdentitiesOnly=yes'));
    t.true(words.includes('BatchMode=yes'), 'nobody is there to be asked');
  }
  const expanding = sandbox.path('$'.concat('{HOME}'));
  writeFileSync(expanding, 'key');
  const odd = openAuth({ kind: 'ssh-key', path: expanding }, 'git@example.org:x');
  await t.throwsAsync(odd, { instanceOf: AuthError, message: /rename it/ });
});

test.serial(
  'the socket lies in a private directory, survives nonsense, and is gone afterwards',
  async (t) => {
    const sandbox = createSandbox(t);
    const before = process.env.TMPDIR;
    process.env.TMPDIR = sandbox.tmp;
    t.teardown(() => {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
    });
    const socket = await openCredentialSocket(({ operation, fields }) =>
      operation === 'get' && fields.get('host') === 'h' ? { password: 'p' } : {},
    );
    const path = /'?(\/[^' ]*\/s)'?$/.exec(socket.helper)?.[1] ?? '';
    t.is(path.startsWith(sandbox.tmp), true, socket.helper);
    t.is(await talk(path, 'get\nprotocol=https\nhost=h\n\n'), 'password=p\n');
    t.is(await talk(path, 'erase\nhost=h\npassword=p\n'), '');
    t.is(await talk(path, 'get\nno equals sign\n=\n'), '');
    t.is(await talk(path, 'x'.repeat(100_000)), '');
    t.is(await talk(path, ''), '');
    await socket[Symbol.asyncDispose]();
    t.deepEqual(readdirSync(sandbox.tmp), []);
  },
);

test.serial('a temporary directory whose path is too long for a socket is passed over', async (t) => {
  const sandbox = createSandbox(t);
  const long = join(sandbox.tmp, 'x'.repeat(120));
  mkdirSync(long);
  const before = process.env.TMPDIR;
  process.env.TMPDIR = long;
  t.teardown(() => {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  });
  await using socket = await openCredentialSocket(() => ({}));
  t.false(socket.helper.includes(long));
});

test('a process that ends without a word leaves no socket, and is not kept alive by one', async (t) => {
  const sandbox = createSandbox(t);
  const module = new URL('../../src/registry/askpass.js', import.meta.url).href;
  const code = `const { openCredentialSocket } = await import(${JSON.stringify(module)}); await openCredentialSocket(() => ({}));`;
  const { status, stderr } = await sandbox.run(process.execPath, ['--input-type=module', '-e', code]);
  t.is(status, 0, stderr);
  t.deepEqual(readdirSync(sandbox.tmp), []);
});

function talk(path: string, text: string): Promise<string> {
  return new Promise((resolve) => {
    const client = connect(path);
    let answer = '';
    client.on('data', (piece) => {
      answer += piece.toString();
    });
    client.on('error', () => {});
    client.once('close', () => resolve(answer));
    client.end(text);
  });
}
