/**
 * Thousands of middling files in one commit, checked out in a directory of their own: nothing is deleted
 * before the end, see Arena.repository.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Bench } from '../bench.ts';
import { sameContent } from '../inputs.ts';
import { copies } from './copies.ts';

const FILE_SIZE = 256 * 1024;

export async function manyFiles(bench: Bench): Promise<void> {
  const source = bench.inputs.files(bench.options.many, FILE_SIZE);
  await bench.interleaved(
    'many',
    ['add', 'checkout'],
    async (contender) => {
      const repository = bench.arena.repository(contender, { keep: true });
      repository.place(source, 'data');
      await bench.step('many', 'add', repository, ['git', 'add', 'data']);
      repository.git('commit', '-q', '-m', 'first');
      const tree = bench.arena.folder('worktree');
      repository.git('worktree', 'add', '-q', '--detach', tree, 'empty');
      await bench.step('many', 'checkout', repository, ['git', 'checkout', '-q', '--detach', 'main'], tree);
      if (contender.faithful) {
        const wrong = readdirSync(source).find(
          (name) => !sameContent(join(source, name), join(tree, 'data', name)),
        );
        if (wrong !== undefined) throw new Error(`checkout left other bytes than were added in ${wrong}`);
      }
    },
    () => copies(bench, 'many', ['add', 'checkout'], source),
  );
  bench.arena.clear();
}
