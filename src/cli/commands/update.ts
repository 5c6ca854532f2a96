import { EXIT_OK } from '../../exit-codes.ts';
import type { RecordPatch } from '../../registry/index.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { defineCommand } from '../command.ts';
import { RECORD_KEYS, recordDocument } from '../present.ts';
import { COMMON_EXIT_CODES, parsePairs, REGISTRY_OPTIONS, REPO_MANUAL } from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';

export const updateCommand = defineCommand({
  path: ['update'],
  summary: 'Change what is recorded of a repository',
  description: `Changes the name, the URL, the trust, the followed branch or the notes of a repository.
A new URL becomes that of git's remote too; a new name leaves the files where they are.

${REPO_MANUAL}

JSON: ${RECORD_KEYS}, as it is then.`,
  operands: { usage: '[REPO]', min: 0, max: 1, complete: 'repository' },
  options: {
    ...REGISTRY_OPTIONS,
    name: { type: 'string', describe: 'Its new name' },
    url: { type: 'string', describe: 'Its new URL', conflicts: ['no-url'] },
    'no-url': { type: 'boolean', describe: "Record no URL; git's remote stays" },
    trust: {
      type: 'boolean',
      describe: 'Let its hooks and the programs of its configuration run',
      conflicts: ['no-trust'],
    },
    'no-trust': { type: 'boolean', describe: 'Let none of them run' },
    'tracking-ref': {
      type: 'string',
      describe: 'The branch of a remote that is followed, such as origin/main',
      conflicts: ['no-tracking-ref'],
    },
    'no-tracking-ref': { type: 'boolean', describe: 'Follow none' },
    set: { type: 'string', repeat: true, describe: 'KEY=VALUE: a note of your own on it' },
    unset: { type: 'string', repeat: true, describe: 'KEY: take this note away' },
  },
  examples: [
    ['git2db update model --name org/model', 'another name'],
    ['git2db update org/model --url https://new-host/org/model', 'it has moved'],
    ['git2db update org/model --trust', 'its hooks run from now on'],
    ['git2db update org/model --set owner=ann --unset draft', 'notes'],
  ],
  exitCodes: [
    [51, 'The name is taken'],
    [52, 'The URL is not understood, or not allowed'],
    ...COMMON_EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const { output, json } = context;
    const patch: RecordPatch = {
      name: options.name,
      url: options['no-url'] ? null : options.url,
      trusted: options.trust ? true : options['no-trust'] ? false : undefined,
      trackingRef: options['no-tracking-ref'] ? null : options['tracking-ref'],
      metadata:
        options.set.length + options.unset.length === 0
          ? undefined
          : {
              ...parsePairs('set', options.set),
              ...Object.fromEntries(options.unset.map((key) => [key, null])),
            },
    };
    if (Object.values(patch).every((value) => value === undefined)) {
      throw new Git2dbError(
        'USAGE',
        "expected something to change; 'git2db update --help' lists the options",
      );
    }
    return withRepository(operands[0], options, context, async ({ db, record, signal }) => {
      const changed = await db.update(record.id, patch, { signal });
      if (json) output.json(recordDocument(changed, db.absolutePath(changed)));
      else
        output.note(
          changed.updatedAt === record.updatedAt ? 'that is recorded already' : `${changed.name} is changed`,
        );
      return EXIT_OK;
    });
  },
});
