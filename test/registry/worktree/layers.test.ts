import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { Sandbox } from '../../helpers/git-sandbox.ts';
import { subjectNamed } from '../../mount-helper/helpers/subjects.ts';
import {
  type AgentError,
  contentsOf,
  createWorktreeSandbox,
  type WorktreeSandbox,
} from './helpers/worktree-sandbox.ts';

const ANY = process.getuid!() === 0 ? 'kernel' : 'fuse-user';

function layersOf({ home }: WorktreeSandbox): string[] {
  return readdirSync(home.layers).filter((name) => !name.startsWith('.'));
}

function litterOf({ home }: WorktreeSandbox): string[] {
  if (!existsSync(home.layers)) return [];
  return readdirSync(home.layers).filter((name) => name.startsWith('.') && name !== '.locks');
}

function duOf(path: string): number {
  return Number(execFileSync('du', ['-s', '-B1', path], { encoding: 'utf8' }).split('\t')[0]);
}

/** Ten commits that differ in one file of a hundred. */
async function fillSimilar(sandbox: Sandbox, repo: string): Promise<void> {
  const git = (...args: string[]) => sandbox.git(['-C', repo, ...args]);
  for (let i = 0; i < 100; i++)
    sandbox.write(`repo/d${i % 7}/f${i}`, Buffer.alloc(150_000, `${i} is the content\n`));
  for (let i = 0; i < 10; i++) {
    sandbox.write(`repo/d${i % 7}/f${i}`, Buffer.alloc(150_000, `changed in commit ${i}\n`));
    if (i === 5) await git('rm', '-q', '-r', 'd3');
    if (i === 7) sandbox.write('repo/d3', 'a file where a directory was\n');
    if (i === 9) {
      await git('rm', '-q', 'd3');
      sandbox.write('repo/d3/again', 'and a directory again\n');
    }
    await git('add', '-A');
    await git('commit', '-q', '-m', `${i}`);
  }
}

for (const name of ['kernel', 'fuse', 'fuse-user'] as const) {
  const { missing } = subjectNamed(name);
  const run = missing === undefined ? test.serial : test.skip;
  const backend = name === 'kernel' ? 'kernel' : 'fuse';
  run(
    `${name}: worktrees of commits that differ a little take little more than one checkout${missing ? ` (${missing})` : ''}`,
    async (t) => {
      const sandbox = await createWorktreeSandbox(t, name, fillSimilar);
      const agent = sandbox.agent();
      const plain = sandbox.path('plain');
      let checkout = 0;
      for (let i = 9; i >= 0; i--) {
        const made = await agent.create({ ref: `main~${i}`, driver: 'overlay2', backend });
        await sandbox.gitIn(sandbox.repo, 'worktree', 'add', '-q', '--detach', plain, `main~${i}`);
        t.is(await contentsOf(sandbox, made.path), await contentsOf(sandbox, plain), `main~${i}`);
        t.is(await sandbox.gitIn(made.path, 'diff-files', '--name-only'), '');
        t.is(await sandbox.gitIn(made.path, 'status', '--porcelain'), '');
        checkout = Math.max(checkout, duOf(plain));
        await sandbox.gitIn(sandbox.repo, 'worktree', 'remove', '--force', plain);
      }
      const taken = duOf(sandbox.home.layers) + duOf(sandbox.home.worktrees);
      t.true(taken < 1.25 * checkout, `${taken} bytes for 10 worktrees, ${checkout} for one checkout`);
      const depths = layersOf(sandbox).map(
        (layer) =>
          JSON.parse(readFileSync(join(sandbox.home.layers, layer, 'layer.json'), 'utf8')).depth as number,
      );
      t.is(depths.length, 10);
      t.true(Math.max(...depths) <= 8);
      t.true(depths.filter((depth) => depth === 1).length <= 2);
    },
  );
}

test.serial('no two paths of a layer are one inode, and its files are older than any index', async (t) => {
  const sandbox = await createWorktreeSandbox(t, ANY, async (plain, repo) => {
    for (const path of ['a', 'b', 'c/d']) plain.write(`repo/${path}`, 'the same\n');
    await plain.git(['-C', repo, 'add', '-A']);
    await plain.git(['-C', repo, 'commit', '-q', '-m', 'same']);
    await plain.git(['-C', repo, 'checkout', '-q', '--detach']);
  });
  await sandbox.agent().create({ ref: 'main', driver: 'overlay2' });
  const tree = join(sandbox.home.layers, layersOf(sandbox)[0]!, 'tree');
  const stats = ['a', 'b', 'c/d'].map((path) => statSync(join(tree, path)));
  t.is(new Set(stats.map(({ ino }) => ino)).size, 3);
  t.is(new Set(stats.map(({ mtimeMs }) => mtimeMs)).size, 1, 'the same content has the same time');
  t.true(stats[0]!.mtimeMs < Date.now() - 24 * 3600 * 1000);
});

test.serial(
  'cp -p of another file of the same size, from worktree to worktree, shows in git status',
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, ANY, async (plain, repo) => {
      for (const content of ['one\n', 'two\n']) {
        plain.write('repo/file', content);
        await plain.git(['-C', repo, 'add', '-A']);
        await plain.git(['-C', repo, 'commit', '-q', '-m', content]);
      }
    });
    const agent = sandbox.agent();
    const old = await agent.create({ ref: 'main~1', driver: 'overlay2' });
    const now = await agent.create({ ref: 'main', detach: true, driver: 'overlay2' });
    await sandbox.as('cp', '-p', join(old.path, 'file'), join(now.path, 'file'));
    t.is(await sandbox.gitIn(now.path, 'status', '--porcelain'), ' M file');
  },
);

test.serial('ten processes that make worktrees of one tree make one layer', async (t) => {
  const sandbox = await createWorktreeSandbox(t, ANY, fillSimilar);
  const agents = Array.from({ length: 10 }, () => sandbox.agent());
  const made = await Promise.all(
    agents.map((agent, i) => agent.create({ ref: 'main', newBranch: `branch-${i}`, driver: 'overlay2' })),
  );
  t.is(new Set(made.map(({ path }) => path)).size, 10);
  t.is(layersOf(sandbox).length, 1);
  t.deepEqual(litterOf(sandbox), []);
  for (const { path } of made) t.is(await sandbox.gitIn(path, 'status', '--porcelain'), '');
});

test.serial('processes that make the same worktree make one', async (t) => {
  const sandbox = await createWorktreeSandbox(t, ANY);
  const agents = Array.from({ length: 4 }, () => sandbox.agent());
  const spec = { ref: 'main', newBranch: 'together', driver: 'overlay2' } as const;
  const made = await Promise.all(agents.map((agent) => agent.create(spec)));
  for (const each of made) t.deepEqual(each, made[0]);
  t.is((await agents[0]!.ask<unknown[]>('list')).length, 1);
});

test.serial(
  'a kill while a layer is made publishes nothing, and what it left goes with the next one',
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, ANY, async (plain, repo) => {
      const git = (...args: string[]) => plain.git(['-C', repo, ...args]);
      plain.write('repo/.gitattributes', '*.slow filter=slow\n');
      for (let i = 0; i < 20; i++) plain.write(`repo/f${i}.slow`, `${i}\n`);
      await git('config', 'filter.slow.clean', 'cat');
      await git('config', 'filter.slow.smudge', 'cat');
      await git('add', '-A');
      await git('commit', '-q', '-m', 'slow');
      await git(
        'config',
        'filter.slow.smudge',
        `: > ${plain.path('begun')}; while test -e ${plain.path('wait')}; do sleep 0.1; done; cat`,
      );
      plain.write('wait', '');
    });
    const victim = sandbox.agent();
    const doomed = victim.create({ ref: 'main', newBranch: 'doomed', driver: 'overlay2' });
    doomed.catch(() => {});
    const isWriting = () => existsSync(sandbox.path('begun')) && litterOf(sandbox).length > 0;
    const limit = Date.now() + 60_000;
    while (!isWriting() && Date.now() < limit) await sleep(20);
    t.true(isWriting());
    victim.process.kill('SIGKILL');
    if (victim.process.exitCode === null && victim.process.signalCode === null)
      await once(victim.process, 'exit');
    await t.throwsAsync(doomed);
    t.deepEqual(layersOf(sandbox), []);
    rmSync(sandbox.path('wait'));
    const agent = sandbox.agent();
    const [report] = await agent.ask<{ outcome: string; message: string }[]>('repair');
    t.is(report!.outcome, 'removed');
    t.is(await sandbox.gitIn(sandbox.repo, 'branch', '--list', 'doomed'), '');
    t.deepEqual(litterOf(sandbox), []);
    const made = await agent.create({ ref: 'main', newBranch: 'doomed', driver: 'overlay2' });
    t.is(readFileSync(join(made.path, 'f3.slow'), 'latin1'), '3\n');
    t.is(await sandbox.gitIn(made.path, 'status', '--porcelain'), '');
  },
);

const NO_USER = subjectNamed('fuse-user').missing;
(NO_USER === undefined ? test.serial : test.skip)(
  `where no mount can be had, the layer that was begun beside the trial is given up${NO_USER ? ` (${NO_USER})` : ''}`,
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, 'fuse-user');
    const agent = sandbox.agent();
    const wanted = { ref: 'main', newBranch: 'none', driver: 'overlay2', backend: 'kernel' } as const;
    const error = await t.throwsAsync<AgentError>(agent.create(wanted));
    t.is(error?.code, 'DRIVER_UNAVAILABLE');
    t.deepEqual([layersOf(sandbox), litterOf(sandbox)], [[], []]);
    t.is(await sandbox.gitIn(sandbox.repo, 'branch', '--list', 'none'), '');
  },
);

test.serial('git writes a layer with more than one process, unless the user has said how many', async (t) => {
  const sandbox = await createWorktreeSandbox(t, ANY, async (plain, repo) => {
    for (let i = 0; i < 200; i++) plain.write(`repo/f${i}`, `${i}\n`);
    await plain.git(['-C', repo, 'add', '-A']);
    await plain.git(['-C', repo, 'commit', '-q', '-m', 'many']);
  });
  const trace = sandbox.path('trace');
  await sandbox.gitIn(sandbox.repo, 'config', '--global', 'trace2.normalTarget', trace);
  const writersOf = async (newBranch: string): Promise<number> => {
    rmSync(trace, { force: true });
    const agent = sandbox.agent();
    const made = await agent.create({ ref: 'main', newBranch, driver: 'overlay2' });
    t.is(readFileSync(join(made.path, 'f7'), 'latin1'), '7\n');
    await agent.remove(newBranch);
    return readFileSync(trace, 'latin1').match(/ start .*checkout--worker/g)?.length ?? 0;
  };
  t.is(await writersOf('first'), availableParallelism() < 2 ? 0 : Math.min(8, availableParallelism()));
  await sandbox.gitIn(sandbox.repo, 'config', 'checkout.workers', '1');
  t.is(await writersOf('second'), 0);
});

test.serial(
  'layers go with the last worktree that uses them, and those below a used delta stay',
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, ANY, fillSimilar);
    const agent = sandbox.agent();
    const first = await agent.create({ ref: 'main~1', driver: 'overlay2' });
    const second = await agent.create({ ref: 'main', detach: true, driver: 'overlay2' });
    const third = await agent.create({ ref: 'main', newBranch: 'third', driver: 'overlay2' });
    t.is(layersOf(sandbox).length, 2);
    const usage = await agent.ask<{
      ownBytes: number;
      shared: { layer: string; bytes: number; sharers: number }[];
    }>('usage', { name: third.id });
    t.is(usage.ownBytes, duOf(join(sandbox.home.worktrees, third.id)));
    t.true(usage.ownBytes <= 100 * 1024);
    t.deepEqual(
      usage.shared.map(({ sharers }) => sharers),
      [2, 3],
    );
    for (const { layer, bytes } of usage.shared) t.is(bytes, duOf(join(sandbox.home.layers, layer)));
    await agent.remove(first.id);
    t.is(layersOf(sandbox).length, 2, 'the second lies over it');
    await agent.remove(second.id);
    t.is(layersOf(sandbox).length, 2);
    sandbox.reboot();
    t.deepEqual(await agent.ask('collect'), [], 'not mounted is no reason');
    await agent.remove(third.id);
    t.is(layersOf(sandbox).length, 0);
    t.is(lstatSync(third.path, { throwIfNoEntry: false }), undefined);
  },
);

test.serial('a layer that may have been cut short by a crash is made again', async (t) => {
  const sandbox = await createWorktreeSandbox(t, ANY);
  const agent = sandbox.agent();
  const made = await agent.create({ ref: 'main', newBranch: 'x', driver: 'overlay2' });
  const layer = join(sandbox.home.layers, layersOf(sandbox)[0]!);
  const before = statSync(join(layer, 'tree', 'file1.txt'));
  sandbox.reboot();
  // As after a reboot, without all of it having reached the disk, and a file that was cut short.
  const record = JSON.parse(readFileSync(join(layer, 'layer.json'), 'utf8'));
  writeFileSync(join(layer, 'layer.json'), JSON.stringify({ ...record, bootId: 'before' }));
  rmSync(join(layer, 'synced'), { force: true });
  writeFileSync(join(layer, 'tree', 'file1.txt'), '');
  const [report] = await agent.ask<{ outcome: string; message: string }[]>('repair');
  t.is(report!.outcome, 'repaired');
  t.regex(report!.message, /made again/);
  const after = statSync(join(layer, 'tree', 'file1.txt'));
  t.is(after.mtimeMs, before.mtimeMs);
  t.is(after.mode, before.mode);
  t.is(await sandbox.gitIn(made.path, 'diff-files', '--name-only'), '');
  t.is(await sandbox.gitIn(made.path, 'status', '--porcelain'), '');
  await agent.remove(made.id);
  t.is(layersOf(sandbox).length, 0);
});
