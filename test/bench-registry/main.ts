/**
 * `npm run bench:registry`: overlay worktrees beside `git worktree add` and fuse-overlayfs, the registry with
 * many repositories, and operations through handles beside the git commands, all in one run. Ours runs in
 * this process, as a program that embeds the library would have it; docs/performance.md tells the method.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { machine } from '../bench/machine.ts';
import { commits } from './cases/commits.ts';
import { first } from './cases/first.ts';
import { handle } from './cases/handle.ts';
import { registry } from './cases/registry.ts';
import { worktree } from './cases/worktree.ts';
import { RegistryInputs } from './inputs.ts';
import { type Case, parseOptions, type RegistryBenchOptions, USAGE } from './options.ts';
import { RegistryReport } from './report.ts';
import { Stage } from './stage.ts';

const MEGABYTE = 1_000_000;

async function bench(options: RegistryBenchOptions): Promise<number> {
  const dir = options.dir ?? tmpdir();
  mkdirSync(dir, { recursive: true });
  const scratch = realpathSync(mkdtempSync(join(dir, 'git2db-bench-registry-')));
  const inputs = new RegistryInputs(join(options.dir === undefined ? scratch : realpathSync(dir), 'inputs'));
  const report = new RegistryReport();
  const cleanUp = () => {
    for (const merged of mountsBelow(scratch)) spawnSync('umount', ['-l', merged], { stdio: 'ignore' });
    rmSync(scratch, { recursive: true, force: true });
  };
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    process.once(signal, () => {
      cleanUp();
      process.exit(code);
    });
  }
  const { sizes, rounds } = options;
  const run = async (name: Case, work: () => Promise<void>) => {
    if (!options.cases.has(name)) return;
    try {
      await work();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      process.stderr.write(`${name} failed: ${error instanceof Error ? error.stack : reason}\n`);
      report.skip(name, 'all that follows', `failed: ${reason.split('\n')[0]!.slice(0, 200)}`);
      report.failed = true;
    }
  };
  try {
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
  } finally {
    cleanUp();
  }
  if (options.json) {
    const { measurements } = report;
    const missing = Object.fromEntries(report.missing);
    const targets = report.verdicts();
    const document = { machine: facts(), sizes, rounds, measurements, missing, targets };
    process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
  } else {
    const told = Object.entries(facts()).map(([name, value]) => `${name}: ${value}`);
    const what = `${sizes.files} files of ${sizes.megabytes} MB, ${sizes.repositories} repositories; medians`;
    process.stdout.write(`${told.join('; ')}\n${what}\n\n${report.text()}\n`);
  }
  return report.failed ? 1 : 0;
}

/** The innermost first. */
function mountsBelow(dir: string): string[] {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '');
  return points.filter((point) => point.startsWith(`${dir}/`)).reverse();
}

function facts(): Record<string, string> {
  return machine({
    'fuse-overlayfs': ['sh', '-c', 'fuse-overlayfs --version | sed -n "s/^fuse-overlayfs: //p"'],
  });
}

try {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') process.stdout.write(USAGE);
  else process.exitCode = await bench(options);
} catch (error) {
  process.stderr.write(`bench:registry: ${error instanceof Error ? error.message : error}\n`);
  process.exitCode = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1;
}
