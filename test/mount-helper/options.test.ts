import test from 'ava';
import fc from 'fast-check';
import { parseCommandLine, splitWords } from '../../src/mount-helper/command-line.ts';
import { COMMANDS, MOUNT } from '../../src/mount-helper/commands.ts';
import { completionScript } from '../../src/mount-helper/completion.ts';
import { manual, OPTION_MANUAL } from '../../src/mount-helper/help.ts';
import { escapePath, splitOptions, splitPaths, unescapePath } from '../../src/mount-helper/option-text.ts';
import {
  IGNORED_OPTION_NAMES,
  type MountWords,
  OPTION_NAMES,
  parseMountOptions,
} from '../../src/mount-helper/options.ts';
import { joinPath, lastName, parentPath, resolvePath, showPath } from '../../src/mount-helper/path.ts';
import { Git2dbError } from '../../src/xet/errors.ts';

const CWD = Buffer.from('/here');
const bytes = (text: string) => Buffer.from(text);

function parse(
  options: string | Buffer | readonly string[],
  operands: readonly string[] = ['/m'],
  more = {},
) {
  const texts = Array.isArray(options) ? options : [options];
  const words: MountWords = {
    options: texts.map((text: string | Buffer) => Buffer.from(text as string)),
    operands: operands.map(bytes),
    foreground: false,
    debug: false,
    ...more,
  };
  return parseMountOptions(words, CWD);
}

const path = fc.uint8Array({ minLength: 1, maxLength: 12 }).map((array) => Buffer.from(array));

test('a list of paths comes back from its escaped text, whatever bytes they have', (t) => {
  fc.assert(
    fc.property(fc.array(path, { minLength: 1, maxLength: 5 }), (paths) => {
      const joined = Buffer.concat(paths.flatMap((each, i) => [bytes(i === 0 ? '' : ':'), escapePath(each)]));
      const options = splitOptions(Buffer.concat([bytes('ro,lowerdir='), joined, bytes(',volatile')]));
      t.deepEqual(
        options.map(({ name }) => name),
        ['ro', 'lowerdir', 'volatile'],
      );
      t.deepEqual(splitPaths(options[1]!.value!), paths);
      t.deepEqual(unescapePath(escapePath(paths[0]!)), paths[0]!);
    }),
  );
});

const splits = test.macro({
  exec(t, text: string, expected: readonly (readonly [string, string | undefined])[]) {
    t.deepEqual(
      splitOptions(bytes(text)).map(({ name, value }) => [name, value?.toString()] as const),
      expected,
    );
  },
  title: (_, text) => `the option text ${JSON.stringify(text)} is split as mount(8) does`,
});

test(splits, '', []);
test(splits, 'a,b=c', [
  ['a', undefined],
  ['b', 'c'],
]);
test(splits, ',a,,b,', [
  ['a', undefined],
  ['b', undefined],
]);
test(splits, 'a=b=c', [['a', 'b=c']]);
test(splits, 'a=x\\,y,b', [
  ['a', 'x\\,y'],
  ['b', undefined],
]);
test(splits, 'a=x\\\\,b', [
  ['a', 'x\\\\'],
  ['b', undefined],
]);
test(splits, 'context="s:c1,c2",ro', [
  ['context', '"s:c1,c2"'],
  ['ro', undefined],
]);
test(splits, 'upperdir="a,b"', [
  ['upperdir', '"a'],
  ['b"', undefined],
]);

test('paths are made absolute, keep their bytes, and keep ".."', (t) => {
  const options = parse(
    Buffer.concat([
      bytes('lowerdir=a//b/.:/c\\:d/:../e:'),
      Buffer.from([0xff]),
      bytes(',upperdir=u,workdir=/w'),
    ]),
    ['m/'],
  );
  t.deepEqual(
    options.lowers.map((each) => each.toString('latin1')),
    ['/here/a/b', '/c:d', '/here/../e', '/here/\xff'],
  );
  t.is(options.upper?.toString(), '/here/u');
  t.is(options.work?.toString(), '/w');
  t.is(options.merged.toString(), '/here/m');
});

test('what is not said has its default, and no upper means read-only', (t) => {
  const writable = parse('lowerdir=/a,upperdir=/u,workdir=/w');
  t.false(writable.readOnly);
  t.is(writable.whiteouts, 'auto');
  t.is(writable.allowOther, undefined);
  t.is(writable.source, 'git2db-mount');
  t.true(parse('lowerdir=/a').readOnly);
  t.true(parse('lowerdir=/a,upperdir=/u,workdir=/w,ro').readOnly);
});

test('of two options that contradict each other the later one counts, over several -o too', (t) => {
  const base = 'lowerdir=/a,upperdir=/u,workdir=/w';
  t.false(parse(`${base},ro,rw`).readOnly);
  t.deepEqual(parse([`${base},nosuid,nodev`, 'suid,noatime']).flags, ['nodev', 'noatime']);
  t.true(parse(`${base},fsync=0`).volatile);
});

test('every option with a meaning arrives', (t) => {
  const options = parse(
    'lowerdir=/a,upperdir=/u,workdir=/w,volatile,nonempty,allow_other,default_permissions,noacl,whiteouts=all,passthrough=off,' +
      'timeout=1.5,squash_to_uid=7,squash_to_gid=8,uidmapping=0:100:10:10:500:1,gidmapping=0:5:6,xattr_permissions=2,' +
      'userxattr,redirect_dir=follow,index=on,metacopy=off,xino=on,context="a,b",nodev',
    ['SRC', '/m'],
    { backend: 'fuse', debug: true },
  );
  t.like(options, {
    volatile: true,
    nonempty: true,
    allowOther: true,
    defaultPermissions: true,
    noacl: true,
    whiteouts: 'all',
    passthrough: 'off',
    timeoutMs: 1500,
    squashToUid: 7,
    squashToGid: 8,
    xattrPermissions: 2,
    namespace: 'user',
    redirectDir: 'follow',
    index: true,
    metacopy: false,
    xino: 'on',
    source: 'SRC',
    backend: 'fuse',
    foreground: true,
  });
  t.deepEqual(options.uidMapping, [
    { inside: 0, outside: 100, count: 10 },
    { inside: 10, outside: 500, count: 1 },
  ]);
  t.deepEqual(options.gidMapping, [{ inside: 0, outside: 5, count: 6 }]);
  t.deepEqual(options.securityContexts.map(String), ['context="a,b"']);
});

test('the backend may be named after -o, and --backend outweighs it', (t) => {
  t.is(parse('lowerdir=/a').backend, 'auto');
  t.is(parse('lowerdir=/a,backend=fuse').backend, 'fuse');
  t.is(parse('lowerdir=/a,backend=fuse', ['/m'], { backend: 'kernel' }).backend, 'kernel');
});

test('what mount(8) and fuse-overlayfs add for reasons of their own is accepted', (t) => {
  const names = IGNORED_OPTION_NAMES.map((name) => (name === 'x-*' ? 'x-systemd.automount=1' : name));
  t.notThrows(() => parse(`lowerdir=/a,${names.join(',')},threaded=0,comment=x`));
});

const refuses = test.macro({
  exec(t, options: string, operands: readonly string[], code: string, message: RegExp) {
    const error = t.throws(() => parse(options, operands), { instanceOf: Git2dbError, message });
    t.is(error?.code, code as never);
    t.false(error?.message.includes('\n'));
  },
  title: (_, options, operands) => `-o '${options}' with [${operands}] is refused`,
});

test(refuses, 'upperdir=/u,workdir=/w', ['/m'], 'USAGE', /no lowerdir/);
test(refuses, 'lowerdir', ['/m'], 'USAGE', /needs a value/);
test(refuses, 'lowerdir=', ['/m'], 'USAGE', /needs a value/);
test(refuses, 'lowerdir=/a::/b', ['/m'], 'USAGE', /found nothing/);
test(refuses, 'lowerdir=/a\\', ['/m'], 'USAGE', /backslash/);
test(refuses, 'lowerdir=/a,upperdir=/u', ['/m'], 'USAGE', /needs workdir/);
test(refuses, 'lowerdir=/a,workdir=/u', ['/m'], 'USAGE', /needs upperdir/);
test(refuses, 'lowerdir=/a,volatile', ['/m'], 'USAGE', /needs upperdir/);
test(refuses, 'lowerdir=/a', [], 'USAGE', /expected MERGED/);
test(refuses, 'lowerdir=/a', ['s', '/m', 'x'], 'USAGE', /unexpected argument 'x'/);
test(refuses, 'lowerdir=/a,squid', ['/m'], 'USAGE', /unknown option 'squid'.*lowerdir, upperdir.*_netdev/);
test(refuses, 'lowerdir=/a,toString', ['/m'], 'USAGE', /unknown option/);
test(refuses, 'lowerdir=/a,ro=1', ['/m'], 'USAGE', /takes no value/);
test(refuses, 'lowerdir=/a,index=maybe', ['/m'], 'USAGE', /expected on, off, found 'maybe'/);
test(refuses, 'lowerdir=/a,timeout=-1', ['/m'], 'USAGE', /seconds/);
test(refuses, 'lowerdir=/a,squash_to_uid=root', ['/m'], 'USAGE', /number of a user/);
test(refuses, 'lowerdir=/a,uidmapping=0:1', ['/m'], 'USAGE', /INSIDE:OUTSIDE:COUNT/);
test(refuses, 'lowerdir=/a\0b', ['/m'], 'PATH_UNSUITABLE', /NUL/);
test(refuses, `lowerdir=/${'a'.repeat(4095)}`, ['/m'], 'PATH_UNSUITABLE', /4095/);

// ---- command lines ---------------------------------------------------------------------------

function line(...words: readonly string[]) {
  const { command, flags, values, operands } = parseCommandLine(words.map(bytes));
  return {
    command: command.name,
    flags: [...flags],
    options: (values.get('option') ?? []).map(String),
    backend: values.get('backend')?.map(String).at(-1),
    operands: operands.map(String),
  };
}

test('options of a mount stand before or after the operands, joined or apart', (t) => {
  const expected = {
    command: '',
    flags: [],
    options: ['a,b', 'c'],
    backend: undefined,
    operands: ['S', 'M'],
  };
  t.deepEqual(line('-o', 'a,b', '-oc', 'S', 'M'), expected);
  t.deepEqual(line('S', 'M', '-o', 'a,b', '-o', 'c'), expected);
  t.deepEqual(line('S', '-oa,b', 'M', '-oc'), expected);
  t.deepEqual(line('-o', 'a,b', '-o', 'c', '--', 'S', 'M'), expected);
  t.deepEqual(line('-oc', '--', '-M').operands, ['-M']);
  t.deepEqual(line('-fo', 'c', '--backend=fuse', '-d', 'M'), {
    command: '',
    flags: ['foreground', 'debug'],
    options: ['c'],
    backend: 'fuse',
    operands: ['M'],
  });
});

test('a SOURCE may have the name of a command, as -o tells them apart', (t) => {
  t.is(line('list').command, 'list');
  t.is(line('list', '/m', '-o', 'lowerdir=/a').command, '');
  t.is(line('exec', '/m', '--', 'sort', '-o', 'x').command, 'exec');
});

test('all after the mount of exec belongs to the command', (t) => {
  t.deepEqual(line('exec', '/m', '--', 'ls', '-l', '--json').operands, ['/m', 'ls', '-l', '--json']);
  t.deepEqual(line('exec', '/m', 'ls', '-l', '--', 'x').operands, ['/m', 'ls', '-l', '--', 'x']);
});

const refusesLine = test.macro({
  exec(t, words: readonly string[], message: RegExp) {
    t.is(t.throws(() => line(...words), { instanceOf: Git2dbError, message })?.code, 'USAGE');
  },
  title: (_, words: readonly string[]) => `git2db-mount ${words.join(' ')} is wrong usage`,
});

test(refusesLine, [], /expected MERGED or a command \(probe, list/);
test(refusesLine, ['--fuse', '/m'], /unknown option '--fuse'.*-o.*--backend/);
test(refusesLine, ['-x', '/m'], /unknown option '-x'/);
test(refusesLine, ['/m', '-o'], /-o needs a value/);
test(refusesLine, ['--backend', 'magic', '/m'], /expected one of auto, kernel, userns, fuse, found 'magic'/);
test(refusesLine, ['--json=yes', '/m'], /takes no value/);
test(refusesLine, ['list', 'x'], /unexpected argument 'x'/);
test(refusesLine, ['exec', '/m'], /COMMAND/);
test(refusesLine, ['list', '--foreground'], /unknown option '--foreground'/);

test('words are split at NULs and keep their bytes', (t) => {
  t.deepEqual(splitWords(Buffer.from('a\0\0\xff b\0', 'latin1')), [
    bytes('a'),
    Buffer.alloc(0),
    Buffer.from('\xff b', 'latin1'),
  ]);
});

// ---- manuals ---------------------------------------------------------------------------------

test('the manual of a mount names every option the parser knows', (t) => {
  const named = OPTION_MANUAL.flatMap(([names]) => names.split(', ').map((name) => name.split(/[=[]/)[0]!));
  t.deepEqual([...named].sort(), [...OPTION_NAMES].sort());
});

test('every command has a manual with its flags and exit codes, in lines of a terminal', (t) => {
  for (const command of [MOUNT, ...COMMANDS]) {
    const text = manual(command);
    t.regex(text, /^Usage: git2db-mount/);
    t.regex(text, /Exit codes:\n {2}0 {3}Done/);
    for (const { name, short } of command.flags) {
      t.true(text.includes(name === 'option' ? `-${short}` : `--${name}`), `${command.name} --${name}`);
    }
    t.deepEqual(
      text.split('\n').filter((each) => each.length > 100 || / $/.test(each)),
      [],
    );
  }
});

test('completion scripts name every command and option', (t) => {
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    const script = completionScript(shell);
    for (const word of [...COMMANDS.map(({ name }) => name), 'lowerdir', 'userns']) {
      t.true(script.includes(word), `${shell}: ${word}`);
    }
  }
});

// ---- paths -----------------------------------------------------------------------------------

test('paths are joined and taken apart as bytes', (t) => {
  t.is(resolvePath(bytes('/'), bytes('a/./b//')).toString(), '/a/b');
  t.is(resolvePath(CWD, bytes('/')).toString(), '/');
  t.is(parentPath(bytes('/a/b')).toString(), '/a');
  t.is(parentPath(bytes('/a')).toString(), '/');
  t.is(parentPath(bytes('/')).toString(), '/');
  t.is(lastName(bytes('/a/b')).toString(), 'b');
  t.is(joinPath(bytes('/'), 'a').toString(), '/a');
});

test('a path is shown in one line that a shell takes back', (t) => {
  t.is(showPath(bytes('/plain/päth')), '/plain/päth');
  t.is(showPath(bytes('/with space')), "'/with space'");
  t.is(showPath(bytes('/gpj.\u202eexe')), "$'/gpj.\\u202eexe'");
  t.is(showPath(bytes("/it's")), "$'/it\\'s'");
  t.is(showPath(bytes('/a\nb')), "$'/a\\x0ab'");
  t.is(showPath(Buffer.from([0x2f, 0xff])), "$'/\\xff'");
});
