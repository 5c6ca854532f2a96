import test from 'ava';
import fc from 'fast-check';
import { NameError } from '../../src/registry/errors.ts';
import {
  credentialsOf,
  localPathOf,
  maskUrl,
  nameFromUrl,
  parseRemoteUrl,
} from '../../src/registry/remote-url.ts';
import { RepoId } from '../../src/registry/repo-id.ts';
import {
  checkFree,
  checkName,
  findNameFault,
  foldName,
  NameTable,
} from '../../src/registry/repository-name.ts';
import { Git2dbError } from '../../src/xet/errors.ts';

// ---- names ------------------------------------------------------------------------------------

const REFUSED_NAMES = [
  '',
  '.',
  '..',
  '../x',
  'x/..',
  './x',
  '/x',
  'x/',
  'a//b',
  'a/b/c',
  '-x',
  'a/-x',
  '--upload-pack=x',
  '.git',
  '.GIT',
  '.Git',
  'a/.git',
  '.git2db',
  '.git2db-clone-x',
  '.Git2DB',
  'git~1',
  'GIT~2',
  'x.git',
  'x.lock',
  'X.LOCK',
  'a/x.lock',
  'a\\b',
  'a:b',
  'c:x',
  'a*',
  'a?',
  'a"b',
  'a<b',
  'a>b',
  'a|b',
  'a\nb',
  'a\0b',
  'a\tb',
  'a\x7fb',
  'a\u0085b',
  'a\u200bb',
  '.g\u200cit',
  'a\u202eb',
  'a\ufeff',
  'a\ud800',
  'a\u2028b',
  'a\u00a0b',
  ' a',
  'a ',
  'a/ b',
  'a.',
  'a./b',
  'con',
  'CON',
  'nul',
  'Aux.txt',
  'com1',
  'LPT9.x',
  'a/prn',
  'conin$',
  '\uff0e\uff0e',
  'a\uff0fb',
  'a\uff3cb',
  '\uff0egit',
  'x'.repeat(129),
  `${'é'.repeat(65)}`,
  RepoId.create(),
];

const ACCEPTED_NAMES = [
  'model',
  'org/model',
  'a.b-c_d',
  '.github',
  'org/.github',
  'Qwen2.5-7B',
  'a b',
  'modèle',
  '模型',
  'gitlab',
  'com10',
  'console',
  'x'.repeat(128),
  `${'x'.repeat(128)}/${'y'.repeat(128)}`,
  '_x',
  'lock',
  'x.git.y',
];

test('a name that could be taken for something else is refused, saying why', (t) => {
  for (const name of REFUSED_NAMES) {
    const error = t.throws(() => checkName(name), { instanceOf: NameError }, JSON.stringify(name));
    t.is(error?.code, 'NAME_INVALID');
    t.false(error?.recoverable);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: there must be none.
    t.notRegex(error?.message ?? '', /[\x00-\x1f]/, 'the message shows control characters escaped');
  }
  for (const name of ACCEPTED_NAMES) t.is(findNameFault(name), undefined, name);
});

test('what is accepted stays below its directory, is one path only, and survives folding', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (name) => {
      if (findNameFault(name) !== undefined) return;
      const parts = name.split('/');
      t.true(parts.length <= 2);
      t.true(parts.every((part) => part !== '' && part !== '.' && part !== '..' && !part.startsWith('-')));
      t.false(name.includes('\0') || name.includes('\\'));
      t.is(foldName(foldName(name)), foldName(name));
      t.is(foldName(name.toUpperCase()), foldName(name.toUpperCase().toLowerCase()));
    }),
    { numRuns: 3000 },
  );
});

test('a plain name and one that is looked at closely get the same judgement', (t) => {
  const part = fc.stringMatching(/^[A-Za-z0-9_.~-]{1,8}(?:\.git|\.lock|\.)?$/);
  fc.assert(
    fc.property(part, (name) => {
      // A blank in it takes the slow way; it adds no fault of its own in the middle.
      const slow = findNameFault(`a b/${name}`);
      t.is(findNameFault(name) === undefined, slow === undefined, `${name}: ${slow}`);
    }),
    { numRuns: 3000 },
  );
});

test('names that one file system or another takes for the same collide, and directories do not nest', (t) => {
  const table = new NameTable(['Model', 'org/one', 'straße', 'ﬁle']);
  for (const name of [
    'Model',
    'model',
    'MODEL',
    'model/x',
    'Org',
    'org',
    'ORG/two',
    'ORG/ONE',
    'STRASSE',
    'file',
  ]) {
    const error = t.throws(() => checkFree(name, table), { instanceOf: NameError }, name);
    t.is(error?.code, 'NAME_TAKEN');
  }
  for (const name of ['models', 'org/two', 'one', 'organisation/one'])
    t.notThrows(() => checkFree(name, table), name);
  table.delete('org/one');
  t.notThrows(() => checkFree('org', table));
  t.notThrows(() => checkFree('ORG/two', table));
});

test('an id is a UUID, in lower case', (t) => {
  const id = RepoId.create();
  t.is(RepoId.parse(id.toUpperCase()), id);
  for (const text of [
    '',
    'x',
    id.slice(1),
    `${id}0`,
    id.replaceAll('-', ''),
    '00000000-0000-0000-0000-000000000000',
  ]) {
    t.is((t.throws(() => RepoId.parse(text)) as Git2dbError).code, 'USAGE');
  }
});

// ---- URLs -------------------------------------------------------------------------------------

test('two spellings of one URL are the same, and two URLs are not', (t) => {
  const same = [
    [
      'https://example.com/Org/model',
      'HTTPS://Example.COM/Org/model.git',
      'https://example.com:443/Org/model/',
      'https://example.com./Org/model.git/',
      'https://user:secret@example.com/Org/model',
      'https://example.com:/Org/model',
      'https://example.com/Org/./x/../model',
      'https://example.com/Org/%6dodel',
      'https://example.com/Org/model//',
    ],
    [
      'git@example.com:org/model.git',
      'git@EXAMPLE.com:org/model',
      'ssh://git@example.com/org/model.git',
      'ssh://git@example.com:22/org/model/',
      'ssh://git:secret@example.com/org/model',
      'git@example.com:/org/model',
      '[git@example.com]:org/model'.replace('[git@example.com]', 'git@[example.com]'),
    ],
    ['ssh://example.com:2222/x', 'ssh://EXAMPLE.com:2222/x.git'],
    ['git://example.com/x', 'git://example.com:9418/x.git'],
    [
      '/srv/model',
      'file:///srv/model',
      '/srv/model.git',
      '/srv/model/',
      'file://localhost/srv/model/.git',
      '/srv/x/../model',
    ],
    ['https://[::1]/x', 'https://[0:0:0:0:0:0:0:1]:443/x'],
    ['http://127.0.0.1/x', 'http://0x7f.1:80/x'],
    ['https://xn--bcher-kva.example/x', 'https://Bücher.example/x'],
  ];
  const canonical = same.map((group) => new Set(group.map((url) => parseRemoteUrl(url).canonical)));
  for (const [index, forms] of canonical.entries()) t.is(forms.size, 1, [...forms].join(' ') + same[index]);
  t.is(new Set(canonical.flatMap((forms) => [...forms])).size, same.length, 'no group equals another');

  const different = [
    'https://example.com/org/model',
    'https://example.com/Org/model',
    'http://example.com/org/model',
    'https://example.com:8443/org/model',
    'ssh://example.com/org/model',
    'alice@example.com:org/model',
    'https://example.com/org/model2',
    'https://example.com/org%2Fmodel',
  ];
  t.is(new Set(different.map((url) => parseRemoteUrl(url).canonical)).size, different.length);
});

const REFUSED_URLS = [
  '',
  ' ',
  'ext::sh -c touch% /tmp/x',
  'EXT::x',
  'fd::17',
  'ext::https://example.com/x',
  'hg::https://example.com/x',
  '-u',
  '--upload-pack=touch /tmp/x',
  '-oProxyCommand=x:y',
  'ssh://-oProxyCommand=x/y',
  'ssh://user@-oProxyCommand=x/y',
  'ssh://%2doProxyCommand=x/y',
  'ssh://-x@host/y',
  '-x@host:y',
  'user@-host:y',
  'https://a\\@b/x',
  'https://example.com\\@evil.example/x',
  'https://a\\b/x',
  'https://a@b@c/x',
  'https://example.com/x?access_token=s3cret',
  'https://example.com/x#s3cret',
  'https://example.com',
  'https://example.com/',
  'https:///x',
  'https://',
  'https:/example.com/x',
  'https:example.com/x',
  'https://user:pa/ss@example.com/x',
  'https://example.com:0/x',
  'https://example.com:99999/x',
  'https://example.com:x/x',
  'https://exa mple.com/x',
  'https://example.com/x y',
  'https://example.com/%0ax',
  'https://example.com/%00',
  'https://example.com/%zz',
  'https://example.com/%ff',
  'https://example.com/x\n',
  'https://example.com/x\0y',
  'https://example.com/\u202ex',
  'ftp://example.com/x',
  'rsync://example.com/x',
  'javascript://x/y',
  'git+ssh://example.com/x',
  'file://host/x',
  'file://x',
  'user:s3cret@host:path',
  'name:s3cret@host/path',
  'user@host:',
  'host:a/../b',
  'ssh://host/../x',
  'x'.repeat(5000),
];

test('a URL that runs a program, hides a host or cannot be kept is refused, and no message shows a secret', (t) => {
  for (const url of REFUSED_URLS) {
    const error = t.throws(() => parseRemoteUrl(url), { instanceOf: NameError }, JSON.stringify(url));
    t.is(error?.code, 'URL_INVALID');
    const shown = `${error?.message} ${JSON.stringify(error?.data)}`;
    for (const secret of ['s3cret', 'pa/ss', 'user:pa']) t.false(shown.includes(secret), shown);
    t.true(shown.length < 2500);
  }
  t.regex((t.throws(() => parseRemoteUrl('ftp://x/y')) as Error).message, /https, http, ssh, git, file/);
});

test('user and password are cut off what is kept; ssh keeps the user', (t) => {
  const cases = [
    ['https://alice:s3cret@example.com/x.git', 'https://example.com/x.git', true],
    ['https://s3cret@example.com/x', 'https://example.com/x', true],
    ['https://:s3cret@example.com/x', 'https://example.com/x', true],
    ['http://s3%40cret:x@example.com/x', 'http://example.com/x', true],
    ['ssh://git:s3cret@example.com/x', 'ssh://git@example.com/x', true],
    ['ssh://git@example.com/x', 'ssh://git@example.com/x', false],
    ['git://s3cret@example.com/x', 'git://example.com/x', true],
    ['git@example.com:x', 'git@example.com:x', false],
    ['https://example.com/x', 'https://example.com/x', false],
  ] as const;
  for (const [given, kept, hadSecret] of cases) {
    const parsed = parseRemoteUrl(given);
    t.is(parsed.url, kept);
    t.is(parsed.hadSecret, hadSecret, given);
    t.false(JSON.stringify(parsed).includes('s3cret'));
    t.is(parseRemoteUrl(parsed.url).canonical, parsed.canonical);
  }
  t.deepEqual(credentialsOf('https://al%40ice:s3%3Acret@example.com/x'), {
    username: 'al@ice',
    password: 's3:cret',
  });
  t.is(credentialsOf('https://example.com/x'), undefined);
});

test('whatever secret is put into a URL, neither what is kept nor any message shows it', (t) => {
  const secret = fc
    .stringMatching(/^[A-Za-z0-9!$&'()*+,;=.~_/?#@:\\ %-]{4,20}$/)
    .map((text) => `q7${text}7q`);
  const prefix = fc.constantFrom(
    'https://',
    'http://',
    'ssh://',
    'git://',
    'HTTPS://',
    'ftp://',
    'https:/',
    'https:',
    '',
  );
  fc.assert(
    fc.property(prefix, secret, fc.constantFrom('', 'alice:', ':'), (start, hidden, user) => {
      const text = `${start}${user}${hidden}@example.com/org/model`;
      try {
        const parsed = parseRemoteUrl(text, { cwd: '/nowhere' });
        // A user of ssh, and a path, are no secrets.
        if (parsed.scheme === 'ssh' && parsed.user !== undefined && !parsed.hadSecret) return;
        if (parsed.scheme === 'file' && parsed.url.startsWith('/nowhere')) return;
        t.false(parsed.url.includes(hidden), text);
      } catch (error) {
        if (!(error instanceof Git2dbError)) throw error;
        t.false(error.message.includes(hidden), `${text} -> ${error.message}`);
        t.false(JSON.stringify(error.data).includes(hidden), text);
      }
    }),
    { numRuns: 4000 },
  );
});

test('any text gives a URL or one typed error; what is kept is taken again, and means the same', (t) => {
  const pieces = fc.constantFrom(
    'https://',
    'ssh://',
    'file://',
    'git@',
    'host',
    ':',
    '/',
    '.git',
    '%41',
    '..',
    '@',
    '\\',
    '::',
    '[::1]',
    '-',
    'é',
    '443',
    '~',
    '?',
    '#',
    ' ',
  );
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 60 }),
    fc.array(pieces, { maxLength: 10 }).map((all) => all.join('')),
  );
  fc.assert(
    fc.property(text, (url) => {
      try {
        const parsed = parseRemoteUrl(url, { cwd: '/here' });
        const again = parseRemoteUrl(parsed.url, { cwd: '/elsewhere' });
        t.is(again.canonical, parsed.canonical);
        t.is(again.url, parsed.url);
        t.false(again.hadSecret);
        t.false(parsed.url.startsWith('-'));
      } catch (error) {
        if (!(error instanceof NameError)) throw error;
        t.is(error.code, 'URL_INVALID');
      }
    }),
    { numRuns: 5000 },
  );
});

test('a name comes from the end of a URL, and a path from a file URL', (t) => {
  t.is(nameFromUrl(parseRemoteUrl('https://example.com/org/model.git/')), 'model');
  t.is(nameFromUrl(parseRemoteUrl('git@example.com:model')), 'model');
  t.is(nameFromUrl(parseRemoteUrl('https://example.com/a%20b')), 'a b');
  t.is(localPathOf(parseRemoteUrl('file:///srv/a%20b')), '/srv/a b');
  t.is(localPathOf(parseRemoteUrl('./x', { cwd: '/srv' })), '/srv/x');
  t.is(localPathOf(parseRemoteUrl('https://example.com/x')), undefined);
});

test('a masked URL shows where it leads and no more', (t) => {
  t.is(maskUrl('https://alice:s3cret@example.com/x'), 'https://***@example.com/x');
  t.is(maskUrl('https://example.com/x?token=s3cret'), 'https://example.com/x?***');
  t.is(maskUrl('git@example.com:x'), 'git@example.com:x');
  t.is(maskUrl('alice:s3cret@example.com:x'), '***@example.com:x');
});
