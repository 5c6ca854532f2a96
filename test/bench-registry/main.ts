/**
 * `npm run bench:registry`: overlay worktrees beside `git worktree add` and fuse-overlayfs, the registry with
 * many repositories, and operations through handles beside the git commands, all in one run. Ours runs in
 * this process, as a program that embeds the library would have it; docs/performance.md tells the method.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { FUSE_OVERLAYFS_VERSION, machine } from '../bench-shared/machine.ts';
import { MedianReport } from '../bench-shared/median-report.ts';
import { type Folders, printResult, runProgram, withFolders } from '../bench-shared/program.ts';
import { commits } from './cases/commits.ts';
import { first } from './cases/first.ts';
import { handle } from './cases/handle.ts';
import { registry } from './cases/registry.ts';
import { worktree } from './cases/worktree.ts';
import { RegistryInputs } from './inputs.ts';
import { type Case, parseOptions, type RegistryBenchOptions, USAGE } from './options.ts';
import { Stage } from './stage.ts';
import { TARGETS } from './targets.ts';

const MEGABYTE = 1_000_000;

async function bench(options: RegistryBenchOptions): Promise<number> {
  return withFolders(options.dir, 'bench:registry', (folders) => measureAll(options, folders), unmountBelow);
}

async function measureAll(options: RegistryBenchOptions, { scratch, inputs: dir }: Folders): Promise<number> {
  const inputs = new RegistryInputs(dir);
  const report = new MedianReport(TARGETS);
  const { sizes, rounds } = options;
  const run = async (name: Case, work: () => Promise<void>) => {
    if (options.cases.has(name)) await report.attempt(name, work);
  };
  if (options.cases.size > 1 || !options.cases.has('registry')) {
    const source = await inputs.files(sizes.files, sizes.megabytes * MEGABYTE);
    await using stage = await Stage.make(scratch, source);
    // The first of these finds nothing of ours; the others begin with no worktree, and so with no layer.
    await run('first', () => first(stage, report, Math.min(rounds, 3)));
    await run('worktree', () => worktree(stage, report, rounds));
    await run('commits', () => commits(stage, report));
    await run('handle', async () =>
      handle(stage, await inputs.history(sizes.commits), sizes, report, rounds),
    );
  }
  await run('registry', () => registry(scratch, sizes.repositories, report, rounds));
  const what = `${sizes.files} files of ${sizes.megabytes} MB, ${sizes.repositories} repositories; medians`;
  printResult(options.json, machine({ 'fuse-overlayfs': FUSE_OVERLAYFS_VERSION }), {
    document: { sizes, rounds, ...report.document() },
    text: `${what}\n\n${report.text()}`,
  });
  return report.failed ? 1 : 0;
}

function unmountBelow(scratch: string): void {
  for (const merged of mountsBelow(scratch)) spawnSync('umount', ['-l', merged], { stdio: 'ignore' });
}

/** The innermost first. */
function mountsBelow(dir: string): string[] {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '');
  return points.filter((point) => point.startsWith(`${dir}/`)).reverse();
}

await runProgram('bench:registry', USAGE, parseOptions, bench);
