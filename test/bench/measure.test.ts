import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { INSERTION_SIZE, Inputs, insertionPoint, sameContent } from './inputs.ts';
import { bytesUnder, CommandFailed, type Cost, measure } from './measure.ts';
import { parseOptions } from './options.ts';
import { Report } from './report.ts';
import { LFS, OURS } from './targets.ts';

function temporaryFolder(t: ExecutionContext): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'git2db-bench-test-')));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Uses about 300 ms of processor time and 100 MiB. */
const BUSY =
  'const b = Buffer.alloc(1e8, 1); const end = process.cpuUsage().user + 3e5; while (process.cpuUsage().user < end) b[0]++;';

test('processor time and memory of grandchildren count, and the wait of the shell does not', async (t) => {
  const cwd = temporaryFolder(t);
  const env = { ...process.env, BUSY };
  const script = '"$NODE" -e "$BUSY"; sleep 0.3';
  const cost = await measure(['sh', '-c', script], {
    cwd,
    env: { ...env, NODE: process.execPath },
    sync: cwd,
  });
  t.true(cost.cpuS >= 0.3, `cpu ${cost.cpuS}`);
  t.true(cost.wallS >= 0.6, `wall ${cost.wallS}`);
  t.true(cost.otherRss > 1e8, `memory ${cost.otherRss}`);
  t.is(cost.gitRss, 0);
  const idle = await measure(['sleep', '0.3'], { cwd, env });
  t.true(idle.cpuS < cost.cpuS && idle.wallS >= 0.3);
});

test('a command is repeated, and reads its input each time', async (t) => {
  const cwd = temporaryFolder(t);
  const stdin = join(cwd, 'input');
  writeFileSync(stdin, 'x');
  await measure(['sh', '-c', 'cat >> output'], { cwd, env: process.env, stdin, repeat: 3 });
  t.is(readFileSync(join(cwd, 'output'), 'utf8'), 'xxx');
});

test('a command that fails is an error with what it said', async (t) => {
  const cwd = temporaryFolder(t);
  const error = await t.throwsAsync(measure(['sh', '-c', 'echo no >&2; exit 3'], { cwd, env: process.env }), {
    instanceOf: CommandFailed,
  });
  t.regex(error.message, /: no$/);
});

test('inputs are the same each time, and a second version is the first with an insertion', (t) => {
  const folder = temporaryFolder(t);
  const [one, other] = [new Inputs(join(folder, 'a')), new Inputs(join(folder, 'b'))];
  const size = (3 << 20) + 5;
  for (const kind of ['random', 'float32'] as const) {
    t.true(sameContent(one.file(kind, size), other.file(kind, size)));
    const first = readFileSync(one.file(kind, size));
    const second = readFileSync(one.secondVersion(kind, size));
    const point = insertionPoint(size);
    t.is(first.length, size);
    t.is(second.length, size + INSERTION_SIZE);
    t.deepEqual(digest(second.subarray(0, point)), digest(first.subarray(0, point)));
    t.deepEqual(digest(second.subarray(point + INSERTION_SIZE)), digest(first.subarray(point)));
  }
  t.false(sameContent(one.file('random', size), one.file('random', size, 2)));
});

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

test('bytes are counted by apparent size, at any depth', (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'a/b'), { recursive: true });
  writeFileSync(join(folder, 'a/b/c'), 'four');
  writeFileSync(join(folder, 'd'), 'three');
  t.is(bytesUnder(folder), 9);
  t.is(bytesUnder(join(folder, 'none')), 0);
});

const cost = (cpuS: number): Cost => ({ wallS: cpuS, cpuS, gitRss: 1, otherRss: 1 });

test('a report takes the best round and marks targets', (t) => {
  const report = new Report();
  const enter = (contender: string, cpuS: number) =>
    report.measurements.push({ case: 'random', step: 'add', contender, cost: cost(cpuS), bytesAdded: 10 });
  enter(OURS, 3);
  enter(OURS, 2);
  enter(LFS, 4);
  report.missing.push({ case: 'random', step: 'add', contender: 'other', reason: 'not there' });
  const verdict = report.verdicts().find(({ target }) => target.name === 'random add: cpu over git-lfs');
  t.like(verdict, { value: 0.5, ok: true });
  const absent = report.verdicts().find(({ target }) => target.case === 'many');
  t.is(absent?.value, undefined);
  const text = report.text();
  t.regex(text, /\| git2db +\| 2\.00 +\| 2\.00 /);
  t.regex(text, /git2db \/ git-lfs +\| 0\.50 /);
  t.regex(text, /n\/a: random add other: not there/);
  t.regex(text, /random add: cpu over git-lfs +\| 0\.50 +\| at most 0\.50 +\| ok/);
  enter(LFS, 1);
  t.regex(report.text(), /random add: cpu over git-lfs +\| 2\.00 +\| at most 0\.50 +\| short/);
});

test('options have defaults of full size, and mistakes are errors', (t) => {
  t.like(parseOptions([]), { sizeMb: 1024, bigGb: 8, many: 2000, adds: 5000, chunks: 1_000_000, rounds: 3 });
  t.like(parseOptions(['--size-mb', '16', '--many', '50']), { bigGb: 0.125, adds: 50, chunks: 25_000 });
  t.is(parseOptions(['--help']), 'help');
  for (const wrong of [['--rounds', '0'], ['--many', '1.5'], ['--case', 'none'], ['--frobnicate']]) {
    t.throws(() => parseOptions(wrong));
  }
});
