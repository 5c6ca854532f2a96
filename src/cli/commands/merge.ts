import { EXIT_OK } from '../../exit-codes.ts';
import { type Command, defineCommand } from '../command.ts';
import { noteHooks, plain, shortOid } from '../present.ts';
import {
  COMMON_EXIT_CODES,
  CONFLICT_KEYS,
  CONFLICT_MANUAL,
  MESSAGE_OPTIONS,
  messageText,
  RESUME_OPTIONS,
  requireOperands,
  resumption,
  SIGN_OPTIONS,
  signOf,
  WORKTREE_MANUAL,
  WORKTREE_OPTIONS,
} from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';

const STRATEGIES = ['ort', 'recursive', 'resolve', 'octopus', 'ours', 'subtree'] as const;

export const mergeCommand: Command = defineCommand({
  path: ['merge'],
  summary: 'Merge into the current branch',
  description: `Merges the commits of REVISIONs into the current branch. Local changes that are in the way
make it refuse before anything is changed.

${CONFLICT_MANUAL}

${WORKTREE_MANUAL}

JSON: {"kind","oid","hooksSkipped"}; "kind" is up-to-date, fast-forward, merge or squash;
{"aborted"} with --abort. ${CONFLICT_KEYS}`,
  operands: {
    usage: 'REPO REVISION...',
    min: 0,
    max: Number.POSITIVE_INFINITY,
    complete: ['repository', 'branch'],
  },
  options: {
    ...WORKTREE_OPTIONS,
    ...RESUME_OPTIONS,
    ff: {
      type: 'string',
      choices: ['auto', 'only', 'never'],
      describe: 'Where a fast-forward is possible: do it, do nothing else, never (default auto)',
    },
    squash: { type: 'boolean', describe: 'Stage what it would bring, and commit nothing' },
    strategy: { type: 'string', alias: 's', choices: STRATEGIES, describe: 'How' },
    'strategy-option': {
      type: 'string',
      alias: 'X',
      repeat: true,
      describe: 'Of the strategy: ours, theirs, …',
    },
    ...MESSAGE_OPTIONS,
    ...SIGN_OPTIONS,
    'allow-unrelated': { type: 'boolean', describe: 'Also without a common ancestor' },
    'no-hooks': { type: 'boolean', describe: 'Run no hook' },
  },
  examples: [
    ['git2db merge org/model origin/main', 'in its main work tree'],
    ['git2db merge org/model topic --worktree main --ff only', 'in a worktree'],
    ['git2db merge . --continue', 'here, after conflicts'],
  ],
  exitCodes: [
    [58, 'There is no such commit'],
    [61, 'Stopped at conflicts'],
    [64, 'Local changes are in the way'],
    [72, 'No fast-forward, with --ff only'],
    [73, 'There is no common ancestor'],
    [78, 'Another operation has not been finished'],
    [79, 'There is no merge to continue or abort'],
    ...COMMON_EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const { output, json } = context;
    const how = resumption(options, ['continue', 'abort'], operands);
    if (how === undefined) requireOperands('REPO REVISION..., or --continue or --abort', 2, operands);
    const message = messageText(options, context);
    return withRepository(operands[0], options, context, async ({ handle, record, signal }) => {
      if (how === 'abort') {
        await handle.merge.abort();
        if (json) output.json({ aborted: true });
        else output.note('the merge is aborted');
        return EXIT_OK;
      }
      const common = { message, sign: signOf(options), hooks: !options['no-hooks'], signal };
      const { ff, squash, strategy } = options;
      const result =
        how === 'continue'
          ? await handle.merge.continue(common)
          : await handle.merge(operands.slice(1), {
              ...common,
              ff,
              squash,
              strategy,
              strategyOptions: options['strategy-option'],
              allowUnrelated: options['allow-unrelated'],
            });
      noteHooks(result.hooksSkipped, record.trusted, output);
      if (json) output.json(plain(result));
      else output.note(describe(result.kind, result.oid));
      return EXIT_OK;
    });
  },
});

function describe(kind: 'up-to-date' | 'fast-forward' | 'merge' | 'squash', oid: string): string {
  if (kind === 'up-to-date') return 'already up to date';
  if (kind === 'squash') return 'all of it is staged; commit it';
  return `${kind === 'merge' ? 'merged' : 'fast-forward'}: HEAD is at ${shortOid(oid)}`;
}
