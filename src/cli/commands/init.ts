import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { EXIT_OK } from '../../exit-codes.ts';
import { defineCommand } from '../command.ts';
import { withRegistry } from '../registry-session.ts';

export const initCommand = defineCommand({
  path: ['init'],
  summary: 'Make a registry',
  description: `Makes a registry in DIR, the current directory unless given: a directory that holds
many repositories, found by name, id or URL, which share one store for large files and
the trees of their worktrees. DIR may hold other things; they are left alone. Where
there is a registry already, nothing is changed.

Commands find the registry by --registry, else by the environment variable
GIT2DB_REGISTRY, else in the nearest directory above the current one.

JSON: {"root","id","created","repositories"}; "repositories" is how many it has.`,
  operands: { usage: '[DIR]', min: 0, max: 1, complete: 'directory' },
  options: {},
  examples: [
    ['git2db init ~/models', 'a registry in ~/models'],
    ['export GIT2DB_REGISTRY=~/models', 'that every command finds'],
  ],
  exitCodes: [[12, 'The directory cannot be made or written']],
  async run({ operands }, context) {
    const { output, json, cwd } = context;
    const directory = operands[0] ?? '.';
    const created = !existsSync(join(resolve(cwd, directory), '.git2db', 'metadata.json'));
    return withRegistry(
      { registry: directory },
      context,
      async ({ db }) => {
        if (json) output.json({ root: db.root, id: db.id, created, repositories: db.list().length });
        else output.note(`${created ? 'made a registry in' : 'there is a registry already in'} ${db.root}`);
        return EXIT_OK;
      },
      { create: true },
    );
  },
});
