import { EXIT_OK } from '../../exit-codes.ts';
import { defineCommand, NO_OPERANDS } from '../command.ts';
import { RECORD_KEYS, recordDocument } from '../present.ts';
import { REGISTRY_OPTIONS, wholeNumber } from '../registry-options.ts';
import { withRegistry } from '../registry-session.ts';

export const watchCommand = defineCommand({
  path: ['watch'],
  summary: 'Tell changes of the registry as they happen',
  description: `Prints a line for every repository that is added, updated or removed, by whichever
process, until it is interrupted, --count events were told or --seconds have passed; all
of these are a success.

JSON: a line for each event, as it happens: {"kind","repository"}; "kind" is added,
updated or removed, "repository" ${RECORD_KEYS}.`,
  operands: NO_OPERANDS,
  options: {
    ...REGISTRY_OPTIONS,
    count: { type: 'number', describe: 'End after so many events' },
    seconds: { type: 'number', describe: 'End after so many seconds' },
  },
  examples: [
    ['git2db watch', 'until Ctrl-C'],
    ['git2db watch --count 1 --seconds 60', 'wait for a change, a minute at most'],
  ],
  exitCodes: [[55, 'There is no registry, or its metadata became unreadable']],
  async run({ options }, context) {
    const { output, json } = context;
    const limit = wholeNumber('count', options.count, 1) ?? Number.POSITIVE_INFINITY;
    const seconds = wholeNumber('seconds', options.seconds, 1);
    return withRegistry(options, context, async ({ db, signal: interrupted }) => {
      const ends = seconds === undefined ? [] : [AbortSignal.timeout(Math.min(seconds * 1000, 2 ** 31 - 1))];
      const signal = AbortSignal.any([interrupted, ...ends]);
      let told = 0;
      output.detail(`watching ${db.root}`);
      for await (const { kind, record } of db.watch({ signal })) {
        if (json) output.jsonLine({ kind, repository: recordDocument(record, db.absolutePath(record)) });
        else output.data(`${kind} ${record.name}`);
        told++;
        if (told >= limit) break;
      }
      return EXIT_OK;
    });
  },
});
