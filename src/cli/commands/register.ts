import { resolve } from 'node:path';
import { EXIT_OK } from '../../exit-codes.ts';
import { defineCommand } from '../command.ts';
import { RECORD_KEYS, recordDocument } from '../present.ts';
import { parsePairs, REGISTRY_OPTIONS } from '../registry-options.ts';
import { withRegistry } from '../registry-session.ts';

export const registerCommand = defineCommand({
  path: ['register'],
  summary: 'Enter a repository that is there already',
  description: `Enters the repository at PATH into the registry, where it is: nothing in it is moved or
changed, and removing it from the registry leaves it alone. Its name is the last part of
PATH unless --name gives another, its URL that of its remote.

Programs that the repository itself brings (hooks, filters and pagers of its own
configuration) do not run in commands of git2db unless --trust says so.

JSON: ${RECORD_KEYS}; "path" is absolute.`,
  operands: { usage: 'PATH', min: 1, max: 1, complete: 'directory' },
  options: {
    ...REGISTRY_OPTIONS,
    name: { type: 'string', describe: 'Its name in the registry' },
    url: { type: 'string', describe: 'Its URL, if not that of its remote' },
    id: { type: 'string', describe: 'The UUID it shall have' },
    trust: { type: 'boolean', describe: 'Let its hooks and the programs of its configuration run' },
    'tracking-ref': {
      type: 'string',
      describe: 'The branch of a remote that is followed, such as origin/main',
    },
    set: { type: 'string', repeat: true, describe: 'KEY=VALUE: a note of your own on it' },
  },
  examples: [
    ['git2db register ~/src/model', 'as "model"'],
    ['git2db register . --name org/model --trust', 'this one, with its hooks'],
  ],
  exitCodes: [
    [4, 'There is no repository at PATH'],
    [50, 'The name is not allowed'],
    [51, 'The name is taken'],
  ],
  async run({ options, operands }, context) {
    const { output, json, cwd } = context;
    const metadata = options.set.length === 0 ? undefined : parsePairs('set', options.set);
    return withRegistry(options, context, async ({ db, signal }) => {
      const { name, url, id, trust } = options;
      const record = await db.register({
        path: resolve(cwd, operands[0]!),
        name,
        url,
        id,
        trust: trust ? true : undefined,
        trackingRef: options['tracking-ref'],
        metadata,
        signal,
      });
      const path = db.absolutePath(record);
      if (json) output.json(recordDocument(record, path));
      else
        output.note(
          `${path} is ${record.name} in ${db.root}${record.trusted ? '' : '; its hooks do not run'}`,
        );
      return EXIT_OK;
    });
  },
});
