/** The same bytes by cp: what they cost at least, once for each step that is compared with it. */
import { rmSync, statSync } from 'node:fs';
import type { Bench } from '../bench.ts';
import { COPY_COMMAND, copyMissing } from '../contenders.ts';
import { measure } from '../measure.ts';
import { COPY } from '../targets.ts';

export async function copies(
  bench: Bench,
  name: string,
  steps: Iterable<string>,
  source: string,
): Promise<void> {
  const missing = copyMissing();
  const { arena, memoryAtHand } = bench;
  const options = { cwd: arena.dir, env: process.env, sync: arena.dir, memoryAtHand };
  for (const step of steps) {
    if (missing !== undefined) {
      bench.skip(name, step, COPY, missing);
      continue;
    }
    const target = arena.folder('copy');
    bench.enter(name, step, COPY, await measure([...COPY_COMMAND, source, target], options));
    if (statSync(source).isFile()) rmSync(target);
  }
}
