/**
 * `npm run bench`: how much processor, time, memory and disk git2db takes, beside git-lfs, plain git,
 * cp, and a filter that does nothing. docs/performance.md tells the method.
 */
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Bench } from './bench.ts';
import { collect } from './cases/collect.ts';
import { largeFile } from './cases/large-file.ts';
import { manyFiles } from './cases/many-files.ts';
import { memory } from './cases/memory.ts';
import { million } from './cases/million.ts';
import { startup } from './cases/startup.ts';
import { type Contender, listContenders } from './contenders.ts';
import { machine } from './machine.ts';
import { type BenchOptions, parseOptions, USAGE } from './options.ts';

/** Below this, Node's start is a large part of every figure. */
const MEANINGFUL_MB = 256;

function chosen(names: readonly string[] | undefined): Contender[] {
  const all = listContenders();
  const known = all.map(({ name }) => name);
  const unknown = names?.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new Error(`--contender ${unknown}: expected one of ${known.map((name) => `'${name}'`).join(', ')}`);
  return all.filter(({ name }) => names?.includes(name) ?? true);
}

async function run(options: BenchOptions): Promise<number> {
  const dir = options.dir ?? tmpdir();
  mkdirSync(dir, { recursive: true });
  const scratch = realpathSync(mkdtempSync(join(dir, 'git2db-bench-')));
  const inputs = options.dir === undefined ? scratch : dir;
  const bench = new Bench(options, { scratch, inputs: join(inputs, 'inputs') }, chosen(options.contenders));
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
    if (bench.wants('add', 'second', 'checkout', 'reclean')) {
      await largeFile(bench, 'random');
      await largeFile(bench, 'float32');
    }
    if (bench.wants('many')) await manyFiles(bench);
    if (bench.wants('gc')) await collect(bench);
    if (bench.wants('memory')) await memory(bench);
    if (bench.wants('startup')) await startup(bench);
    if (bench.wants('million')) await million(bench);
  } finally {
    cleanUp();
  }
  const { report } = bench;
  if (options.json) {
    const { measurements, missing, facts } = report;
    const document = {
      machine: machineFacts(),
      options: { ...options, cases: [...options.cases] },
      measurements,
      missing,
      facts,
    };
    process.stdout.write(`${JSON.stringify({ ...document, targets: report.verdicts() }, null, 2)}\n`);
  } else {
    const facts = Object.entries(machineFacts()).map(([name, value]) => `${name}: ${value}`);
    process.stdout.write(`${facts.join('; ')}\n\n${report.text()}\n`);
    if (options.sizeMb < MEANINGFUL_MB) {
      process.stdout.write(
        `\nFiles of ${options.sizeMb} MiB measure the start of programs; the targets are meant for 1024 MiB.\n`,
      );
    }
  }
  return bench.failed ? 1 : 0;
}

function machineFacts(): Record<string, string> {
  return machine({ 'git-lfs': ['git-lfs', 'version'] });
}

try {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') process.stdout.write(USAGE);
  else process.exitCode = await run(options);
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : error}\n`);
  process.exitCode = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1;
}
