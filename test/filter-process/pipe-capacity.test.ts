import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { FilterContext } from '../../src/filter-process/filter-context.ts';
import { raisePipeCapacity } from '../../src/native/pipe-capacity.ts';

const isLinux = process.platform === 'linux';
const linux = isLinux ? test : test.skip;
const titleOf = (title: string) => (isLinux ? title : `${title} [skipped: pipes have one size but on Linux]`);

linux(titleOf('a pipe takes as much as was asked for, and never less than before'), (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'git2db-pipe-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  execFileSync('mkfifo', [join(folder, 'pipe')]);
  const fd = openSync(join(folder, 'pipe'), 'r+');
  t.teardown(() => closeSync(fd));
  t.is(raisePipeCapacity(fd, 1 << 17), 1 << 17);
  t.true(raisePipeCapacity(fd, 1 << 30) >= 1 << 17);
});

linux(titleOf('what is no pipe says so'), (t) => {
  const fd = openSync('/dev/null', 'r');
  t.teardown(() => closeSync(fd));
  t.true(raisePipeCapacity(fd, 1 << 20) < 0);
});

test('the output is made wide once, before the first of many files', (t) => {
  let times = 0;
  const context = new FilterContext(
    () => t.fail() as never,
    () => t.fail(),
    'xet',
    () => times++,
  );
  for (const [files, sofar] of [
    [3, 0],
    [99, 0],
    [100, 1],
    [2000, 1],
  ] as const) {
    context.expect(files);
    t.is(times, sofar, `${files}`);
  }
});
