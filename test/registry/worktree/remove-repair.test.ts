import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { isRoot, rootOnly, smallFileSystem } from '../../mount-helper/helpers/scratch.ts';
import { subjectNamed } from '../../mount-helper/helpers/subjects.ts';
import type { Summary } from './helpers/agent.ts';
import {
  type AgentError,
  contentsOf,
  createWorktreeSandbox,
  mountsBelow,
  type WorktreeSandbox,
} from './helpers/worktree-sandbox.ts';

const ANY = process.getuid!() === 0 ? 'kernel' : 'fuse-user';
const OVERLAYS = ['kernel', 'fuse', 'fuse-user'] as const;

interface Report {
  readonly outcome: string;
  readonly message: string;
}

interface Reason {
  readonly kind: string;
  readonly items: readonly string[];
}

async function refusal(asking: Promise<unknown>): Promise<AgentError> {
  try {
    await asking;
  } catch (error) {
    return error as AgentError;
  }
  throw new Error('expected a refusal');
}

function kindsOf(error: AgentError): string[] {
  return (error.data.reasons as Reason[]).map(({ kind }) => kind).sort();
}

/** All that a worktree leaves anywhere. */
function traces(sandbox: WorktreeSandbox): string[] {
  const { repo, home } = sandbox;
  const found = [
    ...[home.worktrees, home.layers].flatMap((directory) =>
      (existsSync(directory) ? readdirSync(directory) : []).filter((name) => !name.startsWith('.')),
    ),
    ...[`${repo}.worktrees`, join(repo, '.git', 'worktrees')].filter((path) => existsSync(path)),
    ...mountsBelow(sandbox.dir),
  ];
  return found;
}

async function workIn(sandbox: WorktreeSandbox, { path }: Summary): Promise<void> {
  const script =
    'cd "$0" && echo committed > committed && git add committed && git commit -q -m work && ' +
    'echo staged > staged && git add staged && echo changed >> file1.txt && rm file2.txt && echo new > untracked && ' +
    'rm -r deep && mkdir deep && echo other > deep/other';
  await sandbox.as('sh', '-c', script, path);
}

for (const driver of ['overlay2', 'vfs'] as const) {
  test.serial(`${driver}: removing refuses while files, an operation or commits would be lost`, async (t) => {
    const sandbox = await createWorktreeSandbox(t, ANY);
    const before = await sandbox.gitIn(sandbox.repo, 'for-each-ref');
    const agent = sandbox.agent();
    const made = await agent.create({ ref: 'main~1', driver });
    const git = (...args: string[]) => sandbox.gitIn(made.path, ...args);
    await sandbox.as('sh', '-c', 'echo x >> "$0/file1.txt"; echo y > "$0/mine"', made.path);
    const dirty = await refusal(agent.remove(made.id));
    t.is(dirty.code, 'WORKTREE_DIRTY');
    t.deepEqual(kindsOf(dirty), ['modified', 'untracked']);
    t.regex(dirty.message, /file1\.txt.*mine/);
    await git('add', '-A');
    t.deepEqual(kindsOf(await refusal(agent.remove(made.id))), ['modified']);
    await git('commit', '-q', '-m', 'mine');
    const lost = await refusal(agent.remove(made.path));
    t.deepEqual(kindsOf(lost), ['unreachable']);
    t.deepEqual(await agent.ask<Reason[]>('plan').then((reasons) => reasons.map(({ kind }) => kind)), [
      'unreachable',
    ]);
    await git('branch', 'kept');
    await sandbox.gitIn(sandbox.repo, 'branch', 'conflicting', 'main~3');
    await sandbox.as(
      'sh',
      '-c',
      'cd "$0" && ! git merge -q --no-ff --no-commit feature/x~2 main~4 2>/dev/null; git cherry-pick --no-commit main~4 || true; touch "$(git rev-parse --git-dir)/MERGE_HEAD"',
      made.path,
    );
    t.true(kindsOf(await refusal(agent.remove(made.id))).includes('operation'));
    await sandbox.as(
      'sh',
      '-c',
      'cd "$0" && rm -f "$(git rev-parse --git-dir)/MERGE_HEAD" && git reset -q --hard',
      made.path,
    );
    for (const flag of ['assume-unchanged', 'skip-worktree']) {
      await git('update-index', `--${flag}`, 'file1.txt');
      await sandbox.as('sh', '-c', 'echo hidden >> "$0/file1.txt"', made.path);
      t.is(await git('status', '--porcelain'), '', 'git does not look');
      const [hidden] = (await refusal(agent.remove(made.id))).data.reasons as Reason[];
      t.like(hidden, { kind: 'modified', items: ['file1.txt'] }, flag);
      await git('update-index', `--no-${flag}`, 'file1.txt');
      await git('reset', '-q', '--hard');
    }
    // Ignored files are nobody's work.
    await sandbox.as(
      'sh',
      '-c',
      'cd "$0" && echo ignored > "$(git rev-parse --git-common-dir)/info/exclude" && touch ignored',
      made.path,
    );
    await agent.remove(made.id);
    await sandbox.gitIn(sandbox.repo, 'branch', '-D', 'kept', 'conflicting');
    t.deepEqual(traces(sandbox), []);
    t.is(await sandbox.gitIn(sandbox.repo, 'for-each-ref'), before);
    t.is((await refusal(agent.remove(made.id))).code, 'NOT_FOUND');
  });
}

for (const name of OVERLAYS) {
  const { missing } = subjectNamed(name);
  const run = missing === undefined ? test.serial : test.skip;
  const backend = name === 'kernel' ? 'kernel' : 'fuse';
  run(
    `${name}: forced removal takes all traces of the worktree, and nothing else${missing ? ` (${missing})` : ''}`,
    async (t) => {
      const sandbox = await createWorktreeSandbox(t, name);
      const before = await contentsOf(sandbox, sandbox.repo);
      const agent = sandbox.agent();
      await sandbox.as('mkdir', '-p', sandbox.path('there'));
      const made = await agent.create({
        ref: 'main~2',
        path: sandbox.path('there'),
        driver: 'overlay2',
        backend,
      });
      const derived = await agent.create({ ref: 'feature/x', driver: 'overlay2', backend });
      await workIn(sandbox, made);
      await workIn(sandbox, derived);
      await agent.remove(made.id, true);
      await agent.remove('feature/x', true);
      t.deepEqual(traces(sandbox), []);
      t.deepEqual(readdirSync(sandbox.path('there')), [], 'the directory was there before');
      t.is(await contentsOf(sandbox, sandbox.repo), before);
      t.is(await sandbox.gitIn(sandbox.repo, 'for-each-ref', 'refs/git2db'), '');
      t.is(await sandbox.gitIn(sandbox.repo, 'log', '-1', '--format=%s', 'feature/x'), 'work');
    },
  );

  run(
    `${name}: after a reboot, git gc and git worktree prune all work is back, also without its layer${missing ? ` (${missing})` : ''}`,
    async (t) => {
      const sandbox = await createWorktreeSandbox(t, name);
      const agent = sandbox.agent();
      // The layer's commit is only on this branch, and is amended away.
      await sandbox.gitIn(sandbox.repo, 'checkout', '-q', '-b', 'amended');
      await sandbox.as(
        'sh',
        '-c',
        'cd "$0" && seq 100 > only-here && git add only-here && git commit -q -m only',
        sandbox.repo,
      );
      const made = await agent.create({ ref: 'amended', detach: true, driver: 'overlay2', backend });
      await workIn(sandbox, made);
      const [contents, status, head] = [
        await contentsOf(sandbox, made.path),
        await sandbox.gitIn(made.path, 'status', '--porcelain'),
        await sandbox.gitIn(made.path, 'rev-parse', 'HEAD'),
      ];
      const layer = join(
        sandbox.home.layers,
        readdirSync(sandbox.home.layers).find((each) => !each.startsWith('.'))!,
      );
      const before = lstatSync(join(layer, 'tree', 'only-here'));
      for (const isLayerLost of [false, true]) {
        sandbox.reboot();
        await sandbox.as(
          'sh',
          '-c',
          'cd "$0" && git -c core.editor=true commit -q --amend --allow-empty -m other && git rm -q --ignore-unmatch only-here && git commit -q --amend --allow-empty -m gone',
          sandbox.repo,
        );
        await sandbox.gitIn(
          sandbox.repo,
          'reflog',
          'expire',
          '--expire=now',
          '--expire-unreachable=now',
          '--all',
        );
        await sandbox.gitIn(sandbox.repo, 'gc', '-q', '--prune=now');
        await sandbox.gitIn(sandbox.repo, 'worktree', 'prune', '--expire=now');
        if (isLayerLost) rmSync(layer, { recursive: true });
        const outside = await sandbox.as('sh', '-c', 'git -C "$0" status 2>&1; echo "status $?"', made.path);
        t.regex(outside.stdout, /git2db-unmounted[\s\S]*status 128/);
        if (process.getuid!() !== 0 || name === 'fuse-user') {
          t.regex(
            (await sandbox.as('sh', '-c', 'touch "$0/x" 2>&1; true', made.path)).stdout,
            /Permission denied/,
          );
        }
        const [report] = await agent.ask<Report[]>('repair');
        t.is(report!.outcome, 'repaired', report!.message);
        t.is(await sandbox.gitIn(made.path, 'status', '--porcelain'), status);
        t.is(await contentsOf(sandbox, made.path), contents);
        t.is(await sandbox.gitIn(made.path, 'rev-parse', 'HEAD'), head);
        t.is((await agent.ask<Report[]>('repair'))[0]!.outcome, 'well');
      }
      const after = lstatSync(join(layer, 'tree', 'only-here'));
      t.deepEqual([after.mtimeMs, after.mode, after.size], [before.mtimeMs, before.mode, before.size]);
    },
  );
}

test.serial(
  'where the lost layer would come out otherwise, nothing is mounted and the upper is kept',
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, ANY);
    const agent = sandbox.agent();
    const made = await agent.create({ ref: 'main~1', driver: 'overlay2' });
    await workIn(sandbox, made);
    sandbox.reboot();
    rmSync(sandbox.home.layers, { recursive: true });
    await sandbox.gitIn(sandbox.repo, 'config', 'core.autocrlf', 'true');
    const [report] = await agent.ask<Report[]>('repair');
    t.is(report!.outcome, 'open');
    t.deepEqual(mountsBelow(sandbox.dir), []);
    t.is(readFileSync(join(sandbox.home.worktrees, made.id, 'upper', 'untracked'), 'latin1'), 'new\n');
    t.deepEqual(kindsOf(await refusal(agent.remove(made.id))), ['unreadable']);
    await sandbox.gitIn(sandbox.repo, 'config', '--unset', 'core.autocrlf');
    t.is((await agent.ask<Report[]>('repair'))[0]!.outcome, 'repaired');
    t.is(readFileSync(join(made.path, 'untracked'), 'latin1'), 'new\n');
  },
);

test.serial('a mount in use is an error that names who, and the worktree stays what it was', async (t) => {
  const sandbox = await createWorktreeSandbox(t, ANY);
  const agent = sandbox.agent();
  const made = await agent.create({ ref: 'main~1', driver: 'overlay2' });
  const [file, ...words] = [...sandbox.subject.prefix, 'sleep', '600'];
  const user: ChildProcess = spawn(file!, words, {
    cwd: sandbox.subject.prefix.length > 0 ? '/' : made.path,
    stdio: 'ignore',
  });
  t.teardown(() => user.kill('SIGKILL'));
  if (sandbox.subject.prefix.length === 0) {
    const error = await refusal(agent.remove(made.id, true));
    t.is(error.code, 'MOUNT_BUSY');
    t.true(error.message.includes(String(user.pid)));
    t.is(await sandbox.gitIn(made.path, 'status', '--porcelain'), '');
    t.is((await agent.ask<Summary[]>('list')).length, 1);
  }
  user.kill('SIGKILL');
  await once(user, 'exit');
  await agent.remove(made.id);
  t.deepEqual(traces(sandbox), []);
});

test.serial(
  'a removal that was interrupted at any step is completed by the next one, or by repair',
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, ANY);
    const agent = sandbox.agent();
    const steps: readonly ((made: Summary, record: string) => void)[] = [
      () => {},
      () => sandbox.reboot(),
      (made) => {
        sandbox.reboot();
        execFileSync('chmod', ['0700', made.path]);
        rmSync(made.path, { recursive: true });
      },
      (made) => {
        sandbox.reboot();
        rmSync(join(sandbox.repo, '.git', 'worktrees'), { recursive: true });
        rmSync(join(sandbox.home.worktrees, made.id, 'work'), { recursive: true });
      },
    ];
    for (const [i, interrupt] of steps.entries()) {
      for (const by of ['remove', 'repair'] as const) {
        const made = await agent.create({ ref: 'main', newBranch: `b${i}-${by}`, driver: 'overlay2' });
        const record = join(sandbox.home.worktrees, made.id, 'state.json');
        writeFileSync(record, readFileSync(record, 'utf8').replace('"step": "ready"', '"step": "removing"'));
        interrupt(made, record);
        if (by === 'remove') await agent.remove(made.branch ?? '');
        else t.is((await agent.ask<Report[]>('repair'))[0]!.outcome, 'removed');
        t.deepEqual(traces(sandbox), [], `step ${i} by ${by}`);
      }
    }
  },
);

test.serial(
  'a lock keeps a worktree from removal, and an overlay from git worktree prune all its life',
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, ANY);
    const agent = sandbox.agent();
    const made = await agent.create({ ref: 'main', newBranch: 'locked', driver: 'overlay2' });
    t.regex(await sandbox.gitIn(sandbox.repo, 'worktree', 'list', '--porcelain'), /^locked .*overlay mount/m);
    t.is(made.locked, undefined);
    const admin = (await sandbox.gitIn(made.path, 'rev-parse', '--git-dir')).trim();
    t.is(statSync(join(admin, 'refs', 'worktree', 'git2db', 'base')).isFile(), true);
    t.is(await sandbox.gitIn(made.path, 'rev-parse', 'refs/worktree/git2db/base'), made.head ?? '');
    t.is(await sandbox.gitIn(sandbox.repo, 'fsck', '--no-dangling'), '');
  },
);

test.serial('worktrees that git made are listed, and removed by git under the same rules', async (t) => {
  const sandbox = await createWorktreeSandbox(t, ANY);
  const agent = sandbox.agent();
  const path = sandbox.path('plain');
  await sandbox.gitIn(sandbox.repo, 'worktree', 'add', '-q', '--detach', path, 'main~1');
  const [listed] = await agent.ask<Summary[]>('list');
  t.like(listed, { path, driver: 'vfs', foreign: true });
  await sandbox.as('sh', '-c', 'echo x > "$0/mine"', path);
  t.deepEqual(kindsOf(await refusal(agent.remove(path))), ['untracked']);
  await sandbox.as('rm', join(path, 'mine'));
  await agent.remove(path);
  t.false(existsSync(path));
});

test.serial(
  'a record that cannot be read keeps nobody from the other worktrees, and no layer is collected',
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, ANY);
    const agent = sandbox.agent();
    const broken = await agent.create({ ref: 'main~1', driver: 'overlay2' });
    const other = await agent.create({ ref: 'feature/x', driver: 'overlay2' });
    await agent.create({ ref: 'v1', driver: 'overlay2' });
    const record = join(sandbox.home.worktrees, broken.id, 'state.json');
    const text = readFileSync(record, 'utf8');
    writeFileSync(record, text.replace('"version": 1', '"version": 99'));
    await agent.remove(other.id);
    const layers = readdirSync(sandbox.home.layers).filter((name) => !name.startsWith('.')).length;
    t.deepEqual(await agent.ask('collect'), []);
    t.deepEqual(
      (await agent.ask<Reason[]>('plan')).map(({ kind }) => kind),
      ['unreadable'],
    );
    t.is((await refusal(agent.remove(broken.path, true))).code, 'REFUSED');
    const reports = await agent.ask<Report[]>('repair');
    t.deepEqual(reports.map(({ outcome }) => outcome).sort(), ['open', 'well']);
    t.regex(reports.map(({ message }) => message).join(), /version 99.*newer git2db/);
    writeFileSync(record, text);
    t.is((await agent.ask<string[]>('collect')).length, layers - 2);
  },
);

(isRoot ? test.serial : test.serial.skip)(
  `worktrees can be removed from a full disk, as often as it is filled${rootOnly}`,
  async (t) => {
    const sandbox = await createWorktreeSandbox(t, 'kernel');
    const disk = smallFileSystem(t, 4 << 20);
    const home = { ...sandbox.home, worktrees: join(disk, 'worktrees'), layers: join(disk, 'layers') };
    t.teardown(() => sandbox.reboot());
    const agent = sandbox.agent(home);
    const made: Summary[] = [];
    for (const [name, driver] of [
      ['a', 'overlay2'],
      ['b', 'vfs'],
    ] as const) {
      made.push(await agent.create({ ref: 'main', newBranch: name, driver, path: join(disk, name) }));
    }
    for (const { id, path } of made) {
      fill(disk);
      await agent.remove(id);
      t.false(existsSync(path));
    }
    t.deepEqual(
      readdirSync(home.worktrees).filter((name) => !name.startsWith('.')),
      [],
    );
    rmSync(join(home.worktrees, '.spare'));
    rmSync(join(disk, 'fill'), { recursive: true });
    const { id } = await agent.create({ ref: 'a', driver: 'vfs', path: join(disk, 'c') });
    rmSync(join(home.worktrees, '.spare'));
    fill(disk);
    const refused = await refusal(agent.remove(id));
    t.is(refused.code, 'DISK_FULL');
    t.regex(refused.message, /make space there/);
  },
);

/** To its last byte. */
function fill(disk: string): void {
  const script =
    'mkdir -p "$0" && d=$(mktemp -p "$0") && (dd if=/dev/zero of="$d" bs=64k || dd if=/dev/zero of="$d" oflag=append conv=notrunc bs=1) 2>/dev/null; exit 0';
  execFileSync('sh', ['-c', script, join(disk, 'fill')]);
}
