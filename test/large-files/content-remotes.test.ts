/** The remotes of a repository as they are opened: who is asked with which credentials, and what a broken service gets. */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { ContentRemotes } from '../../src/large-files/content-remotes.ts';
import { addTrusted } from '../../src/large-files/trusted-places.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';
import { type Served, serve } from '../xet/cas/http-rig.ts';

isolateProcess();

const FILE = { hash: Buffer.alloc(32, 1), size: 5 };
const basic = (login: string) => `Basic ${Buffer.from(login).toString('base64')}`;

interface Rig {
  readonly sandbox: Sandbox;
  /** Says that it is git2db, and gives tokens to who has the login. */
  readonly service: Served;
  readonly cas: Served;
  /** What the credential helper was told, line by line. */
  told(): string[];
  open(): ContentRemotes;
}

/** A repository whose origin is a service with its CAS at another authority; `login`: user:password that it takes. */
async function setUp(
  t: ExecutionContext,
  { login = 'me:right', userinfo = '', casUrl = '' } = {},
): Promise<Rig> {
  const sandbox = createSandbox(t);
  const cas = await serve(t, (_, response) => response.writeHead(404).end());
  const service = await serve(t, ({ url = '', headers }, response) => {
    if (url === '/x.git/info/xet') {
      const tokenUrl = `${service.url}/x.git/info/xet/token`;
      response.end(JSON.stringify({ server: 'git2db', protocol: 1, casUrl: cas.url, tokenUrl }));
    } else if (headers.authorization !== basic(login)) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end('who?');
    } else {
      const answer = { accessToken: 'for-the-cas', casUrl: casUrl || cas.url, exp: 4_000_000_000 };
      response.end(JSON.stringify(answer));
    }
  });
  const [password, log] = [sandbox.path('password'), sandbox.path('log')];
  writeFileSync(password, 'wrong\n');
  // A helper whose first password is wrong; once it is told so, it has another.
  sandbox.write(
    'helper',
    `case "$1" in
get) echo username=me; echo "password=$(cat '${password}')" ;;
erase) echo right >'${password}'; sed 's/^/erase /' >>'${log}' ;;
store) sed 's/^/store /' >>'${log}' ;;
esac
`,
  );
  await sandbox.git(['config', '--global', 'credential.helper', `!sh '${sandbox.path('helper')}'`]);
  await sandbox.git(['init', '-q', 'a']);
  const url = `${service.url.replace('//', `//${userinfo}`)}/x.git`;
  await sandbox.git(['remote', 'add', 'origin', url], { cwd: 'a' });
  return {
    sandbox,
    service,
    cas,
    told: () => (existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : []),
    open: () =>
      new ContentRemotes({ cwd: sandbox.path('a'), env: sandbox.env, mayPrompt: false, warn: () => {} }),
  };
}

async function until(t: ExecutionContext, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 600 && !holds(); i++) await new Promise((resolve) => setTimeout(resolve, 50));
  t.true(holds());
}

test('git’s helper is told which password was right; each authority gets its own secret only', async (t) => {
  const { sandbox, service, cas, told, open } = await setUp(t);
  {
    await using remotes = open();
    await t.throwsAsync(remotes.open('origin', 'fetch'), {
      message: /names a Xet service on another authority/,
    });
    t.deepEqual([service.asked.length, cas.asked.length, told()], [1, 0, []]);
  }
  addTrusted(cas.url, sandbox.env);
  await using remotes = open();
  const refused = await t.throwsAsync(remotes.open('origin', 'fetch'));
  t.is((refused as unknown as { code: string }).code, 'AUTH_FAILED');
  await until(t, () => told().includes('erase password=wrong'));
  const { remote } = await remotes.open('origin', 'fetch');
  t.is((await remote.missing([FILE])).length, 1);
  await until(t, () => told().some((line) => line === 'store password=right'));
  t.false(told().includes('store password=wrong') || told().includes('erase password=right'));

  // As git: first without, then what the helper says.
  const sent = service.headers.slice(1).map(({ authorization }) => authorization);
  t.deepEqual(sent.filter(Boolean), [basic('me:wrong'), basic('me:right')]);
  t.is(sent[1], undefined);
  const here = cas.headers.map(({ authorization }) => authorization);
  t.true(here.length > 0 && here.every((value) => value === 'Bearer for-the-cas'), JSON.stringify(here));
});

test('a password in the URL is sent as it stands, however it is written, and no helper is asked', async (t) => {
  const { sandbox, service, cas, told, open } = await setUp(t, {
    login: 'me:50%off',
    userinfo: 'me:50%off@',
  });
  addTrusted(cas.url, sandbox.env);
  await using remotes = open();
  const { choice } = await remotes.open('origin', 'push');
  t.false(JSON.stringify(choice).includes('50%'));
  t.is(service.headers.at(-1)?.authorization, basic('me:50%off'));
  t.deepEqual(told(), []);
});

for (const casUrl of ['nonsense', 'ftp://x/', 'http://', 'https://u:p@127.0.0.1/', '/relative']) {
  test(`a token for the CAS ${JSON.stringify(casUrl)} is an error of the server, told in one line`, async (t) => {
    const { sandbox, cas, open } = await setUp(t, { login: 'me:wrong', casUrl });
    addTrusted(cas.url, sandbox.env);
    await using remotes = open();
    const error = await t.throwsAsync(remotes.open('origin', 'fetch'));
    t.is((error as unknown as { code: string }).code, 'REMOTE_INVALID');
    t.regex(error?.message ?? '', /^the server's answer breaks the protocol: casUrl: [^\n]*$/);
    t.deepEqual(cas.asked, []);
  });
}

test('a .gitxet that cannot be used is told, and its server is asked nothing', async (t) => {
  const { sandbox, cas, service, open } = await setUp(t);
  appendFileSync(sandbox.path('a/.gitxet'), `[xet]\n\turl = ${cas.url}/evil\n`);
  await sandbox.git(['add', '.'], { cwd: 'a' });
  await sandbox.git(['remote', 'set-url', 'origin', 'ssh://git@example.invalid/x.git'], { cwd: 'a' });
  await using remotes = open();
  const error = await t.throwsAsync(remotes.open('origin', 'push'));
  t.is((error as unknown as { code: string }).code, 'TRUST_REQUIRED');
  t.deepEqual([cas.asked, service.asked], [[], []]);
});
