/**
 * `npm run bench:mount`: our FUSE mount beside Debian's fuse-overlayfs, the kernel's overlayfs and a plain
 * directory, all in one run. The inputs are read once before anything is measured: what is compared are
 * the ways to the page cache, not the disk.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FUSE_OVERLAYFS_VERSION, machine } from '../bench-shared/machine.ts';
import { touchMemory } from '../bench-shared/memory.ts';
import { type Folders, printResult, runProgram, withFolders } from '../bench-shared/program.ts';
import { run } from '../bench-shared/run.ts';
import { listSteps, type Step } from './cases.ts';
import { type Contender, listContenders, Place } from './contenders.ts';
import { MountInputs } from './inputs.ts';
import { type MountBenchOptions, parseOptions, USAGE } from './options.ts';
import { MountReport } from './report.ts';
import { OURS } from './targets.ts';

async function bench(options: MountBenchOptions): Promise<number> {
  return withFolders(options.dir, 'bench:mount', (folders) => measureAll(options, folders), unmount);
}

async function measureAll(options: MountBenchOptions, { scratch, inputs: dir }: Folders): Promise<number> {
  const { sizes, rounds } = options;
  const inputs = new MountInputs(dir);
  const contenders = listContenders();
  const report = new MountReport();
  let failed = false;
  for (const step of listSteps(sizes).filter((one) => options.cases.has(one.case))) {
    const lower = step.lower(inputs);
    run(['sh', '-c', 'find "$1" -type f -exec cat {} + >/dev/null', 'sh', lower]);
    const those = contenders.filter(({ name }) => step.contenders.includes(name));
    for (let round = 1; round <= rounds; round++) {
      // Who comes next finds the memory that the one before gave back: every second round runs backwards.
      for (const contender of round % 2 === 1 ? those : those.toReversed()) {
        failed = !(await measureStep(step, contender, join(scratch, 'place'), lower, report)) || failed;
      }
    }
  }
  const missing = Object.fromEntries(report.missing);
  const what = `medians of ${rounds} rounds; passthrough only in the rows and the column that say so`;
  printResult(options.json, machine({ 'fuse-overlayfs': FUSE_OVERLAYFS_VERSION }), {
    document: { sizes, rounds, measurements: report.measurements, missing, targets: report.verdicts() },
    text: `${what}\n\n${report.text(contenders.map(({ name }) => name))}`,
  });
  return failed ? 1 : 0;
}

function unmount(scratch: string): void {
  spawnSync('umount', ['-l', join(scratch, 'place', 'merged')], { stdio: 'ignore' });
}

/**
 * What the measurement before left to do is done: its files are removed on the disk, and their memory is
 * handed back. A virtual machine that gives free pages to its host does so some seconds later, and while
 * it does, all its processors crawl (a plain program's `stat` takes 50 ms).
 */
async function settle(path: string, { restS = 0, memoryAtHand = 0 }: Step): Promise<void> {
  run(['sync', '-f', path]);
  await sleep(1000 * restS);
  touchMemory(memoryAtHand);
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
    const place = new Place(dir, lower, contender);
    await settle(lower, step);
    const values = await step.run(place, contender);
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

await runProgram('bench:mount', USAGE, parseOptions, bench);
