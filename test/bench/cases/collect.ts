/** Thousands of small additions, one git command each, and what a garbage collection makes of them. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Bench } from '../bench.ts';
import type { Repository } from '../contenders.ts';
import { bytesUnder } from '../measure.ts';
import { OURS } from '../targets.ts';

const FILE_SIZE = 20 * 1024;

/** Deletes at once what nothing refers to, whatever its age. */
const COLLECT = ['git2db', 'xet', 'gc', '--prune', '--grace', '0', '--quiet'] as const;

const LOOK_UPS = 10;

export async function collect(bench: Bench): Promise<void> {
  const contender = bench.contenders.find(({ name }) => name === OURS)!;
  if (contender.missing !== undefined) {
    bench.skip('gc', 'adds', OURS, contender.missing);
    return;
  }
  try {
    const repository = bench.arena.repository(contender);
    await separateAdds(bench, repository);
    const files = bench.inputs.files(bench.options.adds, FILE_SIZE);
    const sample = join(files, readdirSync(files)[0]!);
    const before = await lookUp(bench, repository, sample, 'before gc');
    count(bench, repository, 'before gc');
    await drop(bench, repository);
    const after = await lookUp(bench, repository, sample, 'after gc');
    bench.report.facts.push({
      case: 'gc',
      name: 'look-up before over after gc',
      value: before / after,
      unit: 'ratio',
    });
    count(bench, repository, 'after gc');
  } catch (error) {
    bench.fail('gc', 'all that follows', OURS, error);
  }
}

async function separateAdds(bench: Bench, repository: Repository): Promise<void> {
  const { adds } = bench.options;
  repository.place(bench.inputs.files(adds, FILE_SIZE), 'data');
  const names = readdirSync(join(repository.folder, 'data'));
  const script = 'for name in data/*; do git add -- "$name" || exit; done';
  await bench.step('gc', `${names.length} separate adds`, repository, ['sh', '-c', script]);
  repository.git('commit', '-q', '-m', 'small files');
}

/** CPU seconds to find that a known file is known, start of the program included. */
async function lookUp(bench: Bench, repository: Repository, sample: string, when: string): Promise<number> {
  const cost = await repository.measure(['git2db-filter', 'clean', 'sample'], {
    stdin: sample,
    repeat: LOOK_UPS,
  });
  bench.enter('gc', `look-up ${when}`, OURS, cost);
  return cost.cpuS;
}

function count(bench: Bench, repository: Repository, when: string): void {
  for (const kind of ['xorbs', 'shards', 'catalog']) {
    const value = readdirSync(join(repository.contents, kind), {
      recursive: true,
      withFileTypes: true,
    }).filter((entry) => entry.isFile()).length;
    bench.report.facts.push({ case: 'gc', name: `${kind} ${when}`, value, unit: 'count' });
  }
}

/** A large file is added and given up again; gc must give its bytes back. */
async function drop(bench: Bench, repository: Repository): Promise<void> {
  const size = Math.round(bench.options.sizeMb * 2 ** 20);
  const before = bytesUnder(repository.contents);
  repository.place(bench.inputs.file('random', size, 7), 'data/dropped.bin');
  repository.git('add', 'data/dropped.bin');
  const full = bytesUnder(repository.contents);
  repository.git('rm', '-q', '-f', 'data/dropped.bin');
  await bench.step('gc', 'gc', repository, COLLECT);
  const after = bytesUnder(repository.contents);
  const value = (100 * (full - after)) / (full - before);
  bench.report.facts.push({ case: 'gc', name: 'given back', value, unit: 'percent' });
}
