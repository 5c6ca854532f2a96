import { EXIT_OK } from '../../exit-codes.ts';
import { type Command, defineCommand } from '../command.ts';
import { noteHooks, plain, shortOid } from '../present.ts';
import {
  COMMON_EXIT_CODES,
  CONFLICT_KEYS,
  CONFLICT_MANUAL,
  resumption,
  SIGN_OPTIONS,
  SKIP_OPTIONS,
  signOf,
  WORKTREE_MANUAL,
  WORKTREE_OPTIONS,
} from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';

export const rebaseCommand: Command = defineCommand({
  path: ['rebase'],
  summary: 'Put the commits of the current branch onto another commit',
  description: `Replays the commits of the current branch that UPSTREAM has not (the configured upstream
unless given) onto it, or onto another commit with --onto.

${CONFLICT_MANUAL} --skip leaves that commit out.

${WORKTREE_MANUAL}

JSON: {"kind","oid","autostashApplied","hooksSkipped"}; "kind" is up-to-date, fast-forward
or rebased; {"aborted"} with --abort. ${CONFLICT_KEYS}`,
  operands: { usage: '[REPO [UPSTREAM]]', min: 0, max: 2, complete: ['repository', 'branch'] },
  options: {
    ...WORKTREE_OPTIONS,
    ...SKIP_OPTIONS,
    onto: { type: 'string', describe: 'Where the commits go', complete: 'branch' },
    branch: { type: 'string', describe: 'Check this branch out first', complete: 'branch' },
    autostash: { type: 'boolean', describe: 'Put local changes aside, and apply them again afterwards' },
    exec: { type: 'string', alias: 'x', repeat: true, describe: 'A command for sh, run after each commit' },
    'rebase-merges': { type: 'boolean', alias: 'r', describe: 'Keep merge commits' },
    autosquash: { type: 'boolean', describe: 'Move fixup! and squash! commits to those they are for' },
    force: { type: 'boolean', alias: 'f', describe: 'Also where it is up to date already' },
    'strategy-option': {
      type: 'string',
      alias: 'X',
      repeat: true,
      describe: 'Of the merges: ours, theirs, …',
    },
    ...SIGN_OPTIONS,
    'no-hooks': { type: 'boolean', describe: 'Run no hook' },
  },
  examples: [
    ['git2db rebase org/model origin/main --autostash', 'in its main work tree'],
    ['git2db rebase . --continue', 'here, after conflicts'],
  ],
  exitCodes: [
    [58, 'There is no such commit, or no upstream'],
    [61, 'Stopped at conflicts'],
    [64, 'Local changes are in the way'],
    [78, 'Another operation has not been finished, or a command of --exec failed'],
    [79, 'There is no rebase to continue, skip or abort'],
    ...COMMON_EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const { output, json } = context;
    const how = resumption(options, ['continue', 'skip', 'abort'], operands);
    return withRepository(operands[0], options, context, async ({ handle, record, signal }) => {
      if (how === 'abort') {
        await handle.rebase.abort();
        if (json) output.json({ aborted: true });
        else output.note('the rebase is aborted');
        return EXIT_OK;
      }
      const hooks = !options['no-hooks'];
      const { onto, branch, autostash, exec, autosquash, force } = options;
      const result =
        how === undefined
          ? await handle.rebase({
              upstream: operands[1],
              onto,
              branch,
              autostash,
              exec,
              autosquash,
              force,
              rebaseMerges: options['rebase-merges'],
              strategyOptions: options['strategy-option'],
              sign: signOf(options),
              hooks,
              signal,
            })
          : await handle.rebase[how]({ hooks, signal });
      noteHooks(result.hooksSkipped, record.trusted, output);
      if (!result.autostashApplied) output.warn('the changes put aside conflict: they are in the stash');
      if (json) output.json(plain(result));
      else
        output.note(
          result.kind === 'up-to-date'
            ? 'already up to date'
            : `${result.kind}: HEAD is at ${shortOid(result.oid)}`,
        );
      return EXIT_OK;
    });
  },
});
