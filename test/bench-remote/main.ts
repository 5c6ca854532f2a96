/**
 * `npm run bench:remote`: large files to and from `git2db serve`, beside curl with nginx and git-lfs, on loopback
 * and one disk. docs/performance.md tells the method.
 */
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { machine } from '../bench/machine.ts';
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
  const dir = options.dir ?? tmpdir();
  mkdirSync(dir, { recursive: true });
  const scratch = realpathSync(mkdtempSync(join(dir, 'git2db-bench-remote-')));
  const inputs = join(options.dir === undefined ? scratch : realpathSync(dir), 'inputs');
  const bench = new RemoteBench(options, scratch, inputs);
  const { report } = bench;
  const cleanUp = () => rmSync(scratch, { recursive: true, force: true });
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    process.once(signal, () => {
      cleanUp();
      process.exit(code);
    });
  }
  try {
    for (const name of options.cases) {
      try {
        await RUN[name](bench);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        process.stderr.write(`${name} failed: ${reason}\n`);
        report.skip(name, 'all that follows', `failed: ${reason.split('\n')[0]!.slice(0, 200)}`);
        report.failed = true;
      }
    }
  } finally {
    cleanUp();
  }
  const facts = machine({ 'git-lfs': ['git-lfs', 'version'], nginx: ['sh', '-c', 'nginx -v 2>&1'] });
  if (options.json) {
    const { measurements } = report;
    const missing = Object.fromEntries(report.missing);
    const document = {
      machine: facts,
      options: { ...options, cases: [...options.cases] },
      measurements,
      missing,
    };
    process.stdout.write(`${JSON.stringify({ ...document, targets: report.verdicts() }, null, 2)}\n`);
  } else {
    const told = Object.entries(facts).map(([name, value]) => `${name}: ${value}`);
    const what = `a file of ${options.sizeMb} MiB, ${options.many} of 256 KiB; medians of ${options.rounds} rounds`;
    process.stdout.write(`${told.join('; ')}\n${what}\n\n${report.text()}\n`);
  }
  return report.failed ? 1 : 0;
}

try {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') process.stdout.write(USAGE);
  else process.exitCode = await run(options);
} catch (error) {
  process.stderr.write(`bench:remote: ${error instanceof Error ? error.message : error}\n`);
  process.exitCode = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1;
}
