/**
 * `npm run bench:mount`: our FUSE mount beside Debian's fuse-overlayfs, the kernel's overlayfs and a plain
 * directory, all in one run. The inputs are read once before anything is measured: what is compared are
 * the ways to the page cache, not the disk.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { machine } from '../bench/machine.ts';
import { listSteps, type Step } from './cases.ts';
import { type Contender, listContenders, Place, run } from './contenders.ts';
import { MountInputs } from './inputs.ts';
import { type MountBenchOptions, parseOptions, USAGE } from './options.ts';
import { MountReport } from './report.ts';
import { OURS } from './targets.ts';

async function bench(options: MountBenchOptions): Promise<number> {
  const dir = options.dir ?? tmpdir();
  mkdirSync(dir, { recursive: true });
  const scratch = realpathSync(mkdtempSync(join(dir, 'git2db-bench-mount-')));
  const inputs = new MountInputs(join(options.dir === undefined ? scratch : realpathSync(dir), 'inputs'));
  const contenders = listContenders();
  const report = new MountReport();
  const cleanUp = () => {
    spawnSync('umount', ['-l', join(scratch, 'place', 'merged')], { stdio: 'ignore' });
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
  let failed = false;
  try {
    for (const step of listSteps(options.sizes).filter((one) => options.cases.has(one.case))) {
      const lower = step.lower(inputs);
      run(['sh', '-c', 'find "$1" -type f -exec cat {} + >/dev/null', 'sh', lower]);
      for (let round = 1; round <= options.rounds; round++) {
        for (const contender of contenders.filter(({ name }) => step.contenders.includes(name))) {
          failed = !(await measureStep(step, contender, join(scratch, 'place'), lower, report)) || failed;
        }
      }
    }
  } finally {
    cleanUp();
  }
  const names = contenders.map(({ name }) => name);
  if (options.json) {
    const { measurements } = report;
    const missing = Object.fromEntries(report.missing);
    const targets = report.verdicts();
    const document = {
      machine: machineFacts(),
      sizes: options.sizes,
      rounds: options.rounds,
      measurements,
      missing,
      targets,
    };
    process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
  } else {
    const facts = Object.entries(machineFacts()).map(([name, value]) => `${name}: ${value}`);
    process.stdout.write(
      `${facts.join('; ')}\nmedians of ${options.rounds} rounds; passthrough only in the rows and the column that say so\n\n${report.text(names)}\n`,
    );
  }
  return failed ? 1 : 0;
}

/** False when a step of ours failed. */
async function measureStep(
  step: Step,
  contender: Contender,
  dir: string,
  lower: string,
  report: MountReport,
): Promise<boolean> {
  if (contender.missing !== undefined) {
    for (const row of step.rows) report.skip(row, contender.name, contender.missing);
    return true;
  }
  try {
    run(['sync', '-f', lower]);
    const values = await step.run(new Place(dir, lower, contender), contender);
    for (const [i, value] of values.entries()) {
      if (value === undefined) continue;
      report.enter(step.rows[i]!, contender.name, value);
      process.stderr.write(`${step.rows[i]} ${contender.name}: ${value}\n`);
    }
    return true;
  } catch (error) {
    const reason = (error instanceof Error ? error.message : String(error)).split('\n')[0]!.slice(0, 200);
    process.stderr.write(`${step.rows[0]} ${contender.name} failed: ${reason}\n`);
    for (const row of step.rows) report.skip(row, contender.name, `failed: ${reason}`);
    spawnSync('umount', ['-l', join(dir, 'merged')], { stdio: 'ignore' });
    return !contender.name.startsWith(OURS);
  }
}

function machineFacts(): Record<string, string> {
  return machine({
    'fuse-overlayfs': ['sh', '-c', 'fuse-overlayfs --version | sed -n "s/^fuse-overlayfs: //p"'],
  });
}

try {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') process.stdout.write(USAGE);
  else process.exitCode = await bench(options);
} catch (error) {
  process.stderr.write(`bench:mount: ${error instanceof Error ? error.message : error}\n`);
  process.exitCode = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1;
}
