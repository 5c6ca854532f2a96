/** What the configuration says of remotes, beside what git itself makes of it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { GitRemotes } from '../../src/large-files/git-remotes.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';

isolateProcess();

/** Each is laid upon a fresh repository: keys and values, those of one key in their order. */
const CONFIGURATIONS: Record<string, readonly (readonly [string, string])[]> = {
  'one URL': [['remote.origin.url', 'https://host/a.git']],
  'two URLs': [
    ['remote.origin.url', 'https://host/a.git'],
    ['remote.origin.url', '../b'],
  ],
  'a push URL': [
    ['remote.origin.url', 'https://host/a.git'],
    ['remote.origin.pushurl', 'ssh://git@host/a'],
  ],
  'push URLs, one of them twice': [
    ['remote.origin.url', 'https://host/a.git'],
    ['remote.origin.pushurl', 'ssh://git@host/a'],
    ['remote.origin.pushurl', 'b c/ü'],
    ['remote.origin.pushurl', 'ssh://git@host/a'],
  ],
  insteadOf: [
    ['remote.origin.url', 'short:a.git'],
    ['url.https://long/.insteadOf', 'short:'],
  ],
  'insteadOf of a push URL': [
    ['remote.origin.url', 'short:a.git'],
    ['remote.origin.pushurl', 'short:b.git'],
    ['url.https://long/.insteadOf', 'short:'],
    ['url.ssh://longer/.pushInsteadOf', 'short:'],
  ],
  pushInsteadOf: [
    ['remote.origin.url', 'https://host/a.git'],
    ['url.ssh://git@host/.pushInsteadOf', 'https://host/'],
  ],
  'a push URL alone': [['remote.origin.pushurl', 'https://host/a.git']],
  'another name': [['remote.Ori.Gin.url', 'https://host/a.git']],
};

for (const [what, entries] of Object.entries(CONFIGURATIONS)) {
  test(`${what}: URLs are what git says they are`, async (t) => {
    const sandbox = createSandbox(t);
    await sandbox.git(['init', '-q', 'a']);
    for (const [key, value] of entries) await sandbox.git(['config', '--add', key, value], { cwd: 'a' });
    await sameUrls(t, sandbox, what === 'another name' ? 'Ori.Gin' : 'origin');
    await sameUrls(t, sandbox, 'short:of/no/remote');
    await sameUrls(t, sandbox, 'https://host/of-no-remote');
  });
}

test('a remote of the old kind, a file in the git directory, has the URLs that git says', async (t) => {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '-q', 'a']);
  mkdirSync(sandbox.path('a/.git/remotes'), { recursive: true });
  writeFileSync(sandbox.path('a/.git/remotes/old'), 'URL: https://host/old.git\n');
  await sameUrls(t, sandbox, 'old');
});

async function sameUrls(t: ExecutionContext, sandbox: Sandbox, remote: string): Promise<void> {
  const cwd = sandbox.path('a');
  const remotes = GitRemotes.load({ cwd, env: sandbox.env });
  const fetched = await sandbox.gitText(['ls-remote', '--get-url', remote], { cwd });
  t.is(await remotes.url(remote, 'fetch'), fetched);
  const asked = await sandbox.git(['remote', 'get-url', '--push', '--all', '--', remote], {
    cwd,
    okStatus: [0, 2, 128],
  });
  const urls = asked.status === 0 ? asked.stdout.trimEnd().split('\n') : [fetched];
  t.is(await remotes.url(remote, 'push'), urls[0] ?? '');
  t.deepEqual(await remotes.pushUrls(remote), [...new Set(urls)]);
}
