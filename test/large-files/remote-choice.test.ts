import { mkdtempSync, realpathSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { PathPatterns } from '../../src/git/path-patterns.ts';
import { parseGitxet } from '../../src/large-files/gitxet-file.ts';
import { parsePlaceUrl, placeKey } from '../../src/large-files/place-url.ts';
import { parseUpdates } from '../../src/large-files/pre-push.ts';
import {
  chooseRemote,
  noPlace,
  type RemoteProbe,
  type RemoteQuestion,
  type XetService,
} from '../../src/large-files/remote-choice.ts';
import { addTrusted, listTrusted, removeTrusted, trustedFile } from '../../src/large-files/trusted-places.ts';
import { Git2dbError } from '../../src/xet/errors.ts';

const GIT_URL = 'https://git.example.org/team/models.git';
const SERVICE: XetService = {
  kind: 'service',
  gitUrl: GIT_URL,
  casUrl: 'https://git.example.org/cas',
  tokenUrl: `${GIT_URL}/info/xet/token`,
};

function ask(question: Partial<RemoteQuestion>, service: XetService | string = 'its server is no git2db') {
  const asked: string[] = [];
  const probe: RemoteProbe = {
    localStore: (url) =>
      url.includes('repository') ? { path: '/srv/repository/xet', repository: '/srv' } : undefined,
    service: async (url) => {
      asked.push(url);
      return service;
    },
  };
  const whole: RemoteQuestion = {
    remote: 'origin',
    url: GIT_URL,
    xetUrl: undefined,
    xetRemote: undefined,
    remotes: new Map([['origin', GIT_URL]]),
    gitxet: undefined,
    trusted: new Set(),
    hubs: new Set(['https://huggingface.co']),
    base: '/work',
    ...question,
  };
  return { asked, choice: chooseRemote(whole, probe) };
}

const gitxet = (url: string) => parseGitxet(Buffer.from(`[xet]\n\turl = ${url}\n`), '.gitxet');

test('settings of the user win over .gitxet, and .gitxet over the URL of the remote', async (t) => {
  const own = 'https://git.example.org/xet';
  const all = { xetUrl: 's3://bucket/a', xetRemote: '/nas/store', gitxet: gitxet(own) };
  const { choice, asked } = ask(all, SERVICE);
  t.deepEqual((await choice).place, { kind: 'address', address: 's3://bucket/a' });
  t.deepEqual(
    (await choice).candidates.map(({ verdict }) => verdict),
    ['taken', 'not-needed', 'not-needed', 'not-needed'],
  );
  t.deepEqual(asked, []);
  t.deepEqual((await ask({ ...all, xetUrl: undefined }).choice).place, {
    kind: 'directory',
    path: '/nas/store',
    repository: undefined,
  });
  t.deepEqual((await ask({ gitxet: gitxet(own) }, SERVICE).choice).place, { kind: 'address', address: own });
  t.deepEqual((await ask({}, SERVICE).choice).place, SERVICE);
});

test('a place follows from the URL: a local store, the Hub, a service; from nothing else', async (t) => {
  t.deepEqual((await ask({ url: '/srv/repository' }).choice).place, {
    kind: 'directory',
    path: '/srv/repository/xet',
    repository: '/srv',
  });
  const hub = 'https://huggingface.co/org/model';
  const found = ask({ url: hub }, SERVICE);
  t.deepEqual((await found.choice).place, { kind: 'hub', url: hub });
  t.deepEqual(found.asked, []);
  for (const url of ['git@host:a.git', 'ssh://host/a', 'git://host/a', '/nowhere']) {
    const nothing = await ask({ url }, SERVICE).choice;
    t.is(nothing.place, undefined, url);
    t.is(noPlace(nothing).code, 'REMOTE_MISSING');
  }
});

test('xet.remote may name another git remote', async (t) => {
  const remotes = new Map([['store', '/srv/repository']]);
  const { place } = await ask({ xetRemote: 'store', remotes }).choice;
  t.like(place, { kind: 'directory', path: '/srv/repository/xet' });
});

test('.gitxet on another authority is used for nothing until it is trusted', async (t) => {
  for (const url of [
    'https://evil.example.org/x',
    'http://git.example.org/x',
    'https://git.example.org:8443/x',
    's3://bucket/x',
    'file:///home/user/.ssh',
    '/etc',
  ]) {
    const choice = await ask({ gitxet: gitxet(url) }).choice;
    t.is(choice.place, undefined, url);
    t.is(choice.candidates[2]?.verdict, 'untrusted', url);
    t.is(noPlace(choice).code, 'TRUST_REQUIRED');
    const trusted = await ask({ gitxet: gitxet(url), trusted: new Set([placeKey(url)]) }).choice;
    t.is(trusted.candidates[2]?.verdict, 'taken', url);
  }
  // With a place of its own, the remote is used all the same.
  t.deepEqual((await ask({ gitxet: gitxet('https://evil.example.org/x') }, SERVICE).choice).place, SERVICE);
});

test('no secret of a URL is shown', async (t) => {
  const url = 'https://user:s3cret@git.example.org/a.git?token=s3cret';
  const choice = await ask({ url }).choice;
  t.false(JSON.stringify([choice, noPlace(choice)]).includes('s3cret'));
});

test('a setting that is no address is an error, and no reason to look further', async (t) => {
  for (const xetUrl of ['ftp://x/y', 'https://u:p@h/x', 'https://h/x?token=1', 'ext::sh -c id', '-x']) {
    await t.throwsAsync(ask({ xetUrl }, SERVICE).choice, { code: 'URL_INVALID' }, xetUrl);
  }
});

test('a place is an address in one spelling, with nothing in it that misleads', (t) => {
  const keys: Record<string, string> = {
    'HTTPS://H.example.org:443/x//': 'https://h.example.org/x',
    's3://bucket/a/?region=r&endpoint=https://h': 's3://bucket/a?endpoint=https%3A%2F%2Fh&region=r',
    's3://bucket/a/../b': 's3://bucket/b',
    'file:///srv/a%20b': 'file:///srv/a b',
    '/srv/../x/': 'file:///x',
  };
  for (const [text, key] of Object.entries(keys)) t.is(placeKey(text), key, text);
  t.is(parsePlaceUrl('stores/x', '/base').address, '/base/stores/x');
  for (const text of [
    'stores/x',
    'a\nhttps://evil',
    'cas+https://h/x',
    'static+https://h/x',
    'https://h/a b',
    'https://h/a\u202eb',
    `https://h/${'a'.repeat(3000)}`,
  ]) {
    t.throws(() => parsePlaceUrl(text), { code: 'URL_INVALID' }, text);
  }
});

test('.gitxet says what it says, and no more', (t) => {
  const text =
    '# c\r\n[xet]\r\n url = https://h/x \n include=models/\n\texclude = *.tmp\n; c\nexclude = a b\n';
  t.deepEqual(parseGitxet(Buffer.from(text), '.gitxet'), {
    url: 'https://h/x',
    include: ['models/'],
    exclude: ['*.tmp', 'a b'],
  });
  const bad: [string, number][] = [
    ['url = https://h/x', 1],
    ['[xet]\nurl = a\nurl = b', 3],
    ['[xet]\ncommand = rm', 2],
    ['[xet "a"]\nurl = x', 1],
    ['[xet]\n[filter "xet"]\nprocess = evil', 2],
    ['[xet]\nurl = "x"', 2],
    ['[xet]\nurl = a \\', 2],
    ['[xet]\nurl =', 2],
    ['[xet]\nurl', 2],
    ['[xet]\nurl = a\u202eb', 2],
    ['[xet]\ninclude = !x', 2],
    ['[include]\npath = /etc/passwd', 1],
  ];
  for (const [source, line] of bad) {
    const error = t.throws(
      () => parseGitxet(Buffer.from(source), '.gitxet'),
      { code: 'INVALID_CONFIG' },
      source,
    );
    t.is((error as Git2dbError).data.line, line, source);
  }
  t.throws(() => parseGitxet(Buffer.from([0xff]), '.gitxet'), { code: 'INVALID_CONFIG' });
  t.throws(() => parseGitxet(Buffer.alloc(70_000, '#'), '.gitxet'), { code: 'INVALID_CONFIG' });
});

test('any bytes are a .gitxet or a typed error', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        parseGitxet(bytes, '.gitxet');
      } catch (error) {
        t.true(error instanceof Git2dbError);
      }
    }),
  );
  t.pass();
});

test('patterns mean what they mean in .gitignore', (t) => {
  const cases: [string, string, boolean][] = [
    ['*.bin', 'a.bin', true],
    ['*.bin', 'deep/down/a.bin', true],
    ['*.bin', 'a.bin.txt', false],
    ['models/', 'models/a', true],
    ['models/', 'x/models/a', true],
    ['models/', 'models', false],
    ['/models', 'models/a/b', true],
    ['/models', 'x/models', false],
    ['a/b', 'a/b/c', true],
    ['a/*', 'a/b/c', true],
    ['a/*.bin', 'a/b/c.bin', false],
    ['a/**/z', 'a/z', true],
    ['a/**/z', 'a/b/c/z', true],
    ['a/**', 'a/b', true],
    ['a/**', 'a', false],
    ['**/z', 'z', true],
    ['**/z', 'q/z', true],
    ['[a-c]?', 'bx', true],
    ['[!a-c]?', 'bx', false],
    ['\\*', '*', true],
    ['\\*', 'a', false],
  ];
  for (const [pattern, path, expected] of cases)
    t.is(new PathPatterns([pattern], []).matches(Buffer.from(path)), expected, `${pattern} on ${path}`);
  t.true(new PathPatterns([], []).matches(Buffer.from('x')));
  t.false(new PathPatterns(['*.bin'], ['old/']).matches(Buffer.from('old/a.bin')));
  // A pattern from a stranger takes no more time than its length.
  const hostile = new PathPatterns([`${'*a'.repeat(1000)}b`], []);
  t.false(hostile.matches(Buffer.alloc(4000, 'a')));
});

test('what is trusted is kept outside of repositories, for its owner alone', (t) => {
  const state = realpathSync(mkdtempSync(join(tmpdir(), 'git2db-state-')));
  t.teardown(() => rmSync(state, { recursive: true, force: true }));
  const env = { XDG_STATE_HOME: state };
  t.deepEqual(listTrusted(env), []);
  t.true(addTrusted('https://H.example.org/x/', env));
  t.false(addTrusted('https://h.example.org:443/x', env));
  t.deepEqual(listTrusted(env), ['https://h.example.org/x']);
  t.is(trustedFile(env), join(state, 'git2db/trusted'));
  t.is(statSync(trustedFile(env)).mode & 0o777, 0o600);
  t.true(removeTrusted('https://h.example.org/x', env));
  t.false(removeTrusted('https://h.example.org/x', env));
  t.throws(() => addTrusted('https://u:p@h/x', env), { code: 'URL_INVALID' });
});

test('the lines of a pre-push hook: updates, new refs, deletions, and nothing else', (t) => {
  const [a, b, zero] = ['a', 'b', '0'].map((digit) => digit.repeat(40));
  t.deepEqual(parseUpdates(`refs/heads/x ${a} refs/heads/x ${b}\n(delete) ${zero} refs/heads/y ${b}\n`), [
    { localRef: 'refs/heads/x', localOid: a, remoteRef: 'refs/heads/x', remoteOid: b },
    { localRef: '(delete)', localOid: undefined, remoteRef: 'refs/heads/y', remoteOid: b },
  ]);
  t.is(parseUpdates(`HEAD ${a} refs/heads/x ${zero}\n`)[0]?.remoteOid, undefined);
  t.throws(() => parseUpdates('refs/heads/x --all refs/heads/x x\n'), { code: 'PROTOCOL' });
});
