/**
 * `npm run bench`: how much processor, time, memory and disk git2db takes, beside git-lfs, plain git,
 * cp, and a filter that does nothing. docs/performance.md tells the method.
 */

import { machine } from '../bench-shared/machine.ts';
import { known } from '../bench-shared/options.ts';
import { printResult, runProgram, withFolders } from '../bench-shared/program.ts';
import { Bench } from './bench.ts';
import { collect } from './cases/collect.ts';
import { largeFile } from './cases/large-file.ts';
import { manyFiles } from './cases/many-files.ts';
import { memory } from './cases/memory.ts';
import { million } from './cases/million.ts';
import { startup } from './cases/startup.ts';
import { type Contender, listContenders } from './contenders.ts';
import { type BenchOptions, parseOptions, USAGE } from './options.ts';

/** Below this, Node's start is a large part of every figure. */
const MEANINGFUL_MB = 256;

function chosen(names: readonly string[] | undefined): Contender[] {
  const all = listContenders();
  const wanted = names?.map((name) =>
    known(
      '--contender',
      name,
      all.map((one) => one.name),
    ),
  );
  return all.filter(({ name }) => wanted?.includes(name) ?? true);
}

async function run(options: BenchOptions): Promise<number> {
  return withFolders(options.dir, 'bench', async (folders) => {
    const bench = new Bench(options, folders, chosen(options.contenders));
    if (bench.wants('add', 'second', 'checkout', 'reclean')) {
      await largeFile(bench, 'random');
      await largeFile(bench, 'float32');
    }
    if (bench.wants('many')) await manyFiles(bench);
    if (bench.wants('gc')) await collect(bench);
    if (bench.wants('memory')) await memory(bench);
    if (bench.wants('startup')) await startup(bench);
    if (bench.wants('million')) await million(bench);
    const { report } = bench;
    const { measurements, missing, facts } = report;
    const small = `\n\nFiles of ${options.sizeMb} MiB measure the start of programs; the targets are meant for 1024 MiB.`;
    printResult(options.json, machine({ 'git-lfs': ['git-lfs', 'version'] }), {
      document: {
        options: { ...options, cases: [...options.cases] },
        measurements,
        missing,
        facts,
        targets: report.verdicts(),
      },
      text: `\n${report.text()}${options.sizeMb < MEANINGFUL_MB ? small : ''}`,
    });
    return bench.failed ? 1 : 0;
  });
}

await runProgram('bench', USAGE, parseOptions, run);
