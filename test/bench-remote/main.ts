/**
 * `npm run bench:remote`: large files to and from `git2db serve`, beside curl with nginx and git-lfs, on loopback
 * and one disk. docs/performance.md tells the method.
 */
import { machine } from '../bench-shared/machine.ts';
import { printResult, runProgram, withFolders } from '../bench-shared/program.ts';
import { RemoteBench } from './bench.ts';
import { bucket } from './cases/bucket.ts';
import { clients } from './cases/clients.ts';
import { large } from './cases/large.ts';
import { many } from './cases/many.ts';
import { memory } from './cases/memory.ts';
import { second } from './cases/second.ts';
import { type Case, parseOptions, type RemoteBenchOptions, USAGE } from './options.ts';

const RUN: Readonly<Record<Case, (bench: RemoteBench) => Promise<void>>> = {
  large,
  second,
  many,
  memory,
  clients,
  bucket,
};

async function run(options: RemoteBenchOptions): Promise<number> {
  return withFolders(options.dir, 'bench:remote', async ({ scratch, inputs }) => {
    const bench = new RemoteBench(options, scratch, inputs);
    const { report } = bench;
    for (const name of options.cases) await report.attempt(name, () => RUN[name](bench));
    const facts = machine({ 'git-lfs': ['git-lfs', 'version'], nginx: ['sh', '-c', 'nginx -v 2>&1'] });
    const what = `a file of ${options.sizeMb} MiB, ${options.many} of 256 KiB; medians of ${options.rounds} rounds`;
    printResult(options.json, facts, {
      document: { options: { ...options, cases: [...options.cases] }, ...report.document() },
      text: `${what}\n\n${report.text()}`,
    });
    return report.failed ? 1 : 0;
  });
}

await runProgram('bench:remote', USAGE, parseOptions, run);
