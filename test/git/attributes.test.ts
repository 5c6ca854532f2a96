import { mkdirSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import {
  addLine,
  checkAttributes,
  listPatterns,
  quotePattern,
  removePattern,
  trackingOf,
} from '../../src/git/attributes.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';

isolateProcess();

const OURS = ['filter=xet', 'diff=xet', 'merge=binary', '-text'];

async function attributesOf(
  sandbox: Sandbox,
  paths: readonly Buffer[],
  attrs: readonly string[],
  options: { cwd?: string; source?: string } = {},
): Promise<Record<string, string>[]> {
  const found: Record<string, string>[] = [];
  const seen: Buffer[] = [];
  const { dir, env } = sandbox;
  for await (const { path, attributes } of checkAttributes(paths, attrs, { cwd: dir, env, ...options })) {
    seen.push(path);
    found.push(Object.fromEntries(attributes));
  }
  if (!Buffer.concat(seen).equals(Buffer.concat(paths))) throw new Error('paths were not given back');
  return found;
}

test('attributes of odd paths come back in order, set, unset, unspecified or with a value', async (t) => {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '--quiet', '.']);
  sandbox.write('.gitattributes', '*.bin filter=xet -text merge\n');
  const paths = [Buffer.from('a.bin'), Buffer.from([0x78, 0x0a, 0xff, 0x22]), Buffer.from('d/ü b.bin')];
  const set = { filter: 'xet', text: 'unset', merge: 'set', diff: 'unspecified' };
  const none = { filter: 'unspecified', text: 'unspecified', merge: 'unspecified', diff: 'unspecified' };
  t.deepEqual(await attributesOf(sandbox, paths, ['filter', 'text', 'merge', 'diff']), [set, none, set]);
  t.deepEqual(await attributesOf(sandbox, [], ['filter']), []);
});

test('ten thousand paths take one git, and bounded memory', async (t) => {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '--quiet', '.']);
  sandbox.write('.gitattributes', '*7 filter=xet\n');
  const paths = Array.from({ length: 10_000 }, (_, number) => Buffer.from(`directory/${number}`));
  const found = await attributesOf(sandbox, paths, ['filter']);
  t.is(found.filter(({ filter }) => filter === 'xet').length, 1000);
});

test('attributes can be taken from a tree, also in a bare repository, and leave nothing behind', async (t) => {
  const sandbox = createSandbox(t, { config: { 'core.splitIndex': 'true' } });
  const { git, write, run } = sandbox;
  await git(['init', '--quiet', '.']);
  write('.gitattributes', '*.bin filter=xet\n');
  write('d/.gitattributes', '*.bin -filter\n');
  await git(['add', '.']);
  await git(['commit', '--quiet', '-m', 'one']);
  write('.gitattributes', '*.bin filter=other\n');
  await git(['clone', '--quiet', '--bare', '.', 'b.git']);
  const before = (await run('find', ['.git', 'b.git'])).stdout;
  const paths = [Buffer.from('x.bin'), Buffer.from('d/x.bin')];
  const expected = [{ filter: 'xet' }, { filter: 'unset' }];
  t.deepEqual(await attributesOf(sandbox, paths, ['filter'], { source: 'HEAD' }), expected);
  const bare = { source: 'main', cwd: sandbox.path('b.git') };
  t.deepEqual(await attributesOf(sandbox, paths, ['filter'], bare), expected);
  t.is((await run('find', ['.git', 'b.git'])).stdout, before);
  t.is((await attributesOf(sandbox, paths, ['filter']))[0]?.filter, 'other');
  await t.throwsAsync(attributesOf(sandbox, paths, ['filter'], { source: 'nope' }), { code: 'GIT_FAILED' });
});

const added = test.macro({
  exec(t, before: string, pattern: string, after: string) {
    const once = addLine(Buffer.from(before), pattern, OURS);
    t.is(once.text.toString(), after);
    t.is(once.changed, before !== after);
    const twice = addLine(once.text, pattern, OURS);
    t.is(twice.text.toString(), after);
    t.false(twice.changed);
    t.is(twice.before.state, 'same');
  },
  title: (what) => `addLine ${what}`,
});
const LINE = 'filter=xet diff=xet merge=binary -text';
test('writes the first line of a new file', added, '', '*.bin', `*.bin ${LINE}\n`);
test(
  'goes after the last line, and ends that one',
  added,
  '# c\n*.a x',
  '*.bin',
  `# c\n*.a x\n*.bin ${LINE}\n`,
);
test('keeps CRLF', added, '# c\r\n*.a x\r\n', '*.b', `# c\r\n*.a x\r\n*.b ${LINE}\r\n`);
test('keeps a byte order mark', added, '\uFEFF', '*.b', `\uFEFF*.b ${LINE}\n`);
test('reads past a byte order mark', added, `\uFEFF*.b ${LINE}\n`, '*.b', `\uFEFF*.b ${LINE}\n`);
test('knows its own line in another order', added, `*.b  -text ${LINE}\n`, '*.b', `*.b  -text ${LINE}\n`);
test(
  'takes over a line of git-lfs',
  added,
  '*.b filter=lfs diff=lfs merge=lfs -text\n',
  '*.b',
  `*.b ${LINE}\n`,
);
test(
  'keeps attributes of other names, before ours',
  added,
  '*.b binary lockable text\n*.c x\n',
  '*.b',
  `*.b binary lockable ${LINE}\n*.c x\n`,
);
test('quotes a blank', added, '', 'a b.bin', `"a b.bin" ${LINE}\n`);
test('knows a blank that git-lfs wrote', added, `a[[:space:]]b ${LINE}\n`, 'a b', `a[[:space:]]b ${LINE}\n`);
test('leaves the way a pattern was written', added, 'a[[:space:]]b x\n', 'a b', `a[[:space:]]b x ${LINE}\n`);
test('knows octal escapes', added, `"\\303\\274 x" ${LINE}\n`, 'ü x', `"\\303\\274 x" ${LINE}\n`);
test(
  'does not take a comment or a macro for the pattern',
  added,
  '#*.b\n[attr]x\n',
  '*.b',
  `#*.b\n[attr]x\n*.b ${LINE}\n`,
);
test(
  'counts only the last line of a pattern',
  added,
  `*.b ${LINE}\n*.b -filter\n`,
  '*.b',
  `*.b ${LINE}\n*.b ${LINE}\n`,
);

test('bytes that are no UTF-8 stay as they are', (t) => {
  const odd = Buffer.from([0x23, 0xff, 0x0a, 0xfe, 0x20, 0x78, 0x3d, 0xfd, 0x0a]);
  const { text } = addLine(odd, '*.b', OURS);
  t.deepEqual(text.subarray(0, odd.length), odd);
  t.deepEqual(removePattern(text, '*.b', OURS).text, odd);
});

test('what a pattern had before is told', (t) => {
  const text = Buffer.from('# comment\n*.b filter=lfs lockable\n');
  t.deepEqual(trackingOf(text, '*.c', OURS), { state: 'absent' });
  t.deepEqual(trackingOf(text, '*.b', OURS), {
    state: 'other',
    line: 2,
    attributes: ['filter=lfs', 'lockable'],
  });
  t.deepEqual(trackingOf(text, '*.b', ['filter=lfs']), { state: 'same', line: 2 });
  t.deepEqual(listPatterns(text), [{ pattern: '*.b', attributes: ['filter=lfs', 'lockable'], line: 2 }]);
  t.deepEqual(listPatterns(Buffer.from('"a \\"\\t\\101" x\n"open y\n')), [
    { pattern: 'a "\tA', attributes: ['x'], line: 1 },
    { pattern: '"open', attributes: ['y'], line: 2 },
  ]);
});

const removed = test.macro({
  exec(t, before: string, pattern: string, after: string) {
    const { text, changed } = removePattern(Buffer.from(before), pattern, OURS);
    t.is(text.toString(), after);
    t.is(changed, before !== after);
  },
  title: (what) => `removePattern ${what}`,
});
test('drops the line', removed, `# c\n*.b ${LINE}\n*.c x\n`, '*.b', '# c\n*.c x\n');
test('drops every line of the pattern', removed, `*.b ${LINE}\r\n*.b filter=xet\r\n`, '*.b', '');
test('keeps other attributes', removed, `*.b ${LINE} lockable\n`, '*.b', '*.b lockable\n');
test('leaves a line that is not ours', removed, '*.b filter=lfs -text\n', '*.b', '*.b filter=lfs -text\n');
test('leaves other patterns', removed, `*.c ${LINE}\n`, '*.b', `*.c ${LINE}\n`);
test('finds a quoted pattern', removed, `"a b" ${LINE}\nx y\n`, 'a b', 'x y\n');
test(
  'keeps a byte order mark before what is left',
  removed,
  `\uFEFF*.b ${LINE}\nx y\n`,
  '*.b',
  '\uFEFFx y\n',
);

test('a pattern that git would not use is refused', (t) => {
  const dead = ['./a', '../a', 'a/../b', 'a/./b', '.', 'a/..', 'a//b', '//a'];
  for (const pattern of ['', 'dir/', '[attr]x', 'a\0b', 'x'.repeat(2040), ...dead]) {
    t.throws(() => addLine(Buffer.alloc(0), pattern, OURS), { code: 'USAGE' }, pattern);
  }
  t.throws(() => addLine(Buffer.alloc(0), 'dir/', OURS), { message: /write dir\/\*\*/ });
  t.throws(() => addLine(Buffer.alloc(0), './*.bin', OURS), { message: /write \/\*\.bin$/ });
  for (const pattern of ['.hidden', 'a/..b', 'a/...', '..a/b'])
    t.true(addLine(Buffer.alloc(0), pattern, OURS).changed);
});

test('a written pattern matches in git exactly the name it was made of', async (t) => {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '--quiet', '.']);
  mkdirSync(sandbox.path('.git/info'), { recursive: true });
  const special = [
    '#',
    '!',
    '"',
    '\\',
    ' ',
    '\t',
    '\n',
    '\r',
    '\x7f',
    '\x01',
    'ü',
    '\u0085',
    '\u00a0',
    '[',
    '*',
    '=',
    '-',
  ];
  const name = fc
    .array(fc.oneof(fc.constantFrom(...special), fc.constantFrom('a', 'b', '7')), {
      minLength: 1,
      maxLength: 6,
    })
    .map((chars) => chars.join(''))
    .filter((text) => !/^\.+$/.test(text));
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(name, { minLength: 1, maxLength: 40 }), async (names) => {
      let text: Buffer = Buffer.alloc(0);
      for (const [number, file] of names.entries()) {
        // A name as a pattern: what is special to globs is escaped.
        const pattern = `/${file.replace(/[\\*?[]/g, '\\$&')}`;
        text = addLine(text, pattern, [`filter=${number}`]).text;
        text = addLine(text, pattern, [`filter=${number}`]).text;
      }
      sandbox.write('.git/info/attributes', text);
      const found = await attributesOf(
        sandbox,
        names.map((file) => Buffer.from(file)),
        ['filter'],
      );
      t.deepEqual(
        found.map(({ filter }) => filter),
        names.map((_, number) => String(number)),
      );
      t.is(listPatterns(text).length, names.length);
    }),
    { numRuns: 30 },
  );
});

test('a pattern that begins with a comment sign, a quote or a "not" is taken for a name', async (t) => {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '--quiet', '.']);
  const names = ['#a', '!b', '"c', ' d'];
  let text: Buffer = Buffer.alloc(0);
  for (const name of names) text = addLine(text, name, ['filter=xet']).text;
  t.is(text.toString(), '"#a" filter=xet\n\\!b filter=xet\n"\\"c" filter=xet\n" d" filter=xet\n');
  sandbox.write('.gitattributes', text);
  const found = await attributesOf(
    sandbox,
    names.map((name) => Buffer.from(name)),
    ['filter'],
  );
  t.deepEqual(
    found,
    names.map(() => ({ filter: 'xet' })),
  );
  for (const name of names) text = removePattern(text, name, ['filter=xet']).text;
  t.is(text.length, 0);
  t.is(quotePattern('*.bin'), '*.bin');
});
