/**
 * Peak memory of the filter with a very large file, in and out. In: through git, which streams for a
 * required filter. Out: `git2db-filter smudge`, the same code without git, which would hold the whole
 * output in memory whatever the filter does.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bench } from '../bench.ts';
import { OURS } from '../targets.ts';

export async function memory(bench: Bench): Promise<void> {
  const contender = bench.contenders.find(({ name }) => name === OURS)!;
  if (contender.missing !== undefined) {
    bench.skip('memory', 'clean', OURS, contender.missing);
    return;
  }
  const size = Math.round(bench.options.bigGb * 2 ** 30);
  const input = bench.inputs.file('random', size, 8);
  try {
    const repository = bench.arena.repository(contender);
    repository.place(input, 'data/big.bin');
    await bench.step('memory', 'clean', repository, ['git', 'add', 'data']);
    const pointer = join(bench.arena.dir, 'pointer');
    writeFileSync(pointer, repository.git('show', ':data/big.bin'));
    const cost = await repository.measure(['git2db-filter', 'smudge', 'data/big.bin'], { stdin: pointer });
    bench.enter('memory', 'smudge', OURS, cost);
  } catch (error) {
    bench.fail('memory', 'all that follows', OURS, error);
  }
}
