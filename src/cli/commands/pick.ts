import { EXIT_OK } from '../../exit-codes.ts';
import { type Command, defineCommand } from '../command.ts';
import { count, noteHooks, plain, shortOid } from '../present.ts';
import {
  COMMON_EXIT_CODES,
  CONFLICT_KEYS,
  CONFLICT_MANUAL,
  requireOperands,
  resumption,
  SIGN_OPTIONS,
  SKIP_OPTIONS,
  signOf,
  WORKTREE_MANUAL,
  WORKTREE_OPTIONS,
  wholeNumber,
} from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';

interface PickWords {
  readonly word: 'cherry-pick' | 'revert';
  readonly summary: string;
  readonly what: string;
  readonly range: string;
}

const WORDS: readonly PickWords[] = [
  {
    word: 'cherry-pick',
    summary: 'Apply the changes of other commits',
    what: 'Applies the changes of each COMMIT as a new commit on the current branch.',
    range: 'oldest first',
  },
  {
    word: 'revert',
    summary: 'Take the changes of commits back',
    what: 'Takes the changes of each COMMIT back, as a new commit on the current branch.',
    range: 'newest first',
  },
];

export const pickCommands: readonly Command[] = WORDS.map(({ word, summary, what, range }) =>
  defineCommand({
    path: [word],
    summary,
    description: `${what} A..B are all from A on (A left out) to B, ${range}.

${CONFLICT_MANUAL} --skip leaves that commit out.

${WORKTREE_MANUAL}

JSON: {"oid","commits","hooksSkipped"}; "commits" are the new ones, oldest first;
{"aborted"} with --abort. ${CONFLICT_KEYS}`,
    operands: {
      usage: 'REPO COMMIT...',
      min: 0,
      max: Number.POSITIVE_INFINITY,
      complete: ['repository', 'branch'],
    },
    options: {
      ...WORKTREE_OPTIONS,
      ...SKIP_OPTIONS,
      mainline: { type: 'number', describe: 'Which parent, from 1, a merge commit is compared with' },
      'no-commit': { type: 'boolean', alias: 'n', describe: 'Stage the changes, commit nothing' },
      ...(word === 'revert'
        ? {}
        : {
            'record-origin': { type: 'boolean', alias: 'x', describe: 'Say in the message what was picked' },
            'keep-empty': { type: 'boolean', describe: 'Keep commits that change nothing any more' },
          }),
      signoff: { type: 'boolean', describe: 'Add Signed-off-by to the message' },
      'strategy-option': {
        type: 'string',
        alias: 'X',
        repeat: true,
        describe: 'Of the merge: ours, theirs, …',
      },
      ...SIGN_OPTIONS,
      'no-hooks': { type: 'boolean', describe: 'Run no hook' },
    },
    examples: [
      [`git2db ${word} org/model 1f3a9c0`, 'one commit'],
      [`git2db ${word} . main~3..main`, 'here, the last three of main'],
      [`git2db ${word} . --skip`, 'not this one'],
    ],
    exitCodes: [
      [58, 'There is no such commit'],
      [61, 'Stopped at conflicts'],
      [64, 'Local changes are in the way'],
      [74, 'The commit would be empty'],
      [78, 'Another operation has not been finished'],
      [79, `There is no ${word} to continue, skip or abort`],
      ...COMMON_EXIT_CODES,
    ],
    async run({ options, operands }, context) {
      const { output, json } = context;
      const how = resumption(options, ['continue', 'skip', 'abort'], operands);
      if (how === undefined) requireOperands('REPO COMMIT..., or --continue, --skip or --abort', 2, operands);
      const mainline = wholeNumber('mainline', options.mainline, 1);
      return withRepository(operands[0], options, context, async ({ handle, record, signal }) => {
        const pick = word === 'revert' ? handle.revert : handle.cherryPick;
        if (how === 'abort') {
          await pick.abort();
          if (json) output.json({ aborted: true });
          else output.note(`the ${word} is aborted`);
          return EXIT_OK;
        }
        const hooks = !options['no-hooks'];
        const result =
          how === undefined
            ? await pick(operands.slice(1), {
                mainline,
                noCommit: options['no-commit'],
                recordOrigin: options['record-origin'] === true,
                keepEmpty: options['keep-empty'] === true,
                signoff: options.signoff,
                strategyOptions: options['strategy-option'],
                sign: signOf(options),
                hooks,
                signal,
              })
            : await pick[how]({ hooks, signal });
        noteHooks(result.hooksSkipped, record.trusted, output);
        if (json) output.json(plain(result));
        else if (options['no-commit']) output.note('the changes are staged');
        else output.note(`${count(result.commits.length, 'new commit')}: HEAD is at ${shortOid(result.oid)}`);
        return EXIT_OK;
      });
    },
  }),
);
