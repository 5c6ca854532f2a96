import { EXIT_OK } from '../../exit-codes.ts';
import type { StagedFile } from '../../registry/index.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type Command, type CommandContext, defineCommand } from '../command.ts';
import { count, plain, shortOid } from '../present.ts';
import { COMMON_EXIT_CODES, PATH_MANUAL, WORKTREE_MANUAL, WORKTREE_OPTIONS } from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';

const STAGED_KEYS = `JSON: {"staged":[{"path","change","from":{"path"}}]}: all that is staged then; "pathBytes"
beside a path that is not UTF-8 is base64 of it.`;
const EXIT_CODES = [[81, 'A path leads to no file, or out of the work tree'], ...COMMON_EXIT_CODES] as const;

const addCommand = defineCommand({
  path: ['add'],
  summary: 'Stage files',
  description: `Stages files, directories with what is in them, and deletions, for the next commit. A PATH is
a name, never a pattern, unless --patterns says so. ${PATH_MANUAL}

${WORKTREE_MANUAL}

${STAGED_KEYS}`,
  operands: {
    usage: 'REPO PATH...',
    min: 1,
    max: Number.POSITIVE_INFINITY,
    complete: ['repository', 'file'],
  },
  options: {
    ...WORKTREE_OPTIONS,
    all: {
      type: 'boolean',
      alias: 'A',
      describe: 'Everything; without a PATH',
      conflicts: ['update', 'intent'],
    },
    update: {
      type: 'boolean',
      alias: 'u',
      describe: 'Only files that git knows already',
      conflicts: ['intent'],
    },
    intent: { type: 'boolean', alias: 'N', describe: 'Only record that they shall be added' },
    force: { type: 'boolean', alias: 'f', describe: 'Ignored files too' },
    chmod: { type: 'string', choices: ['+x', '-x'], describe: 'The mode they are staged with' },
    patterns: { type: 'boolean', describe: "PATHs are pathspecs of git: '*.bin', ':!data'" },
  },
  examples: [
    ['git2db add org/model weights.bin README.md', 'two files'],
    ['git2db add . --all', 'here, everything'],
  ],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    const [repo, ...paths] = operands as [string, ...string[]];
    const { all, update, intent, force, chmod, patterns } = options;
    if (all && paths.length > 0) throw new Git2dbError('USAGE', `--all takes no PATH, found '${paths[0]}'`);
    if (!all && paths.length === 0)
      throw new Git2dbError('USAGE', 'expected REPO PATH..., found no PATH: name files, or give --all');
    return withRepository(repo, options, context, async ({ handle, treePath, signal }) => {
      const staging = handle.staging();
      if (all) await staging.addAll({ signal });
      else {
        const names = patterns ? paths : paths.map(treePath);
        await staging.add(names, { update, intent, force, chmod, patterns, signal });
      }
      tell(await staging.stagedFiles({ signal }), context);
      return EXIT_OK;
    });
  },
});

const unstageCommand = defineCommand({
  path: ['unstage'],
  summary: 'Take files out of the next commit',
  description: `Puts files back in the index to what HEAD has; the work tree stays as it is. With --all the
whole index. ${PATH_MANUAL}

${WORKTREE_MANUAL}

${STAGED_KEYS}`,
  operands: {
    usage: 'REPO PATH...',
    min: 1,
    max: Number.POSITIVE_INFINITY,
    complete: ['repository', 'file'],
  },
  options: {
    ...WORKTREE_OPTIONS,
    all: { type: 'boolean', alias: 'A', describe: 'Everything; without a PATH' },
  },
  examples: [
    ['git2db unstage org/model weights.bin', ''],
    ['git2db unstage . --all', 'here, everything'],
  ],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    const [repo, ...paths] = operands as [string, ...string[]];
    if (options.all === paths.length > 0) {
      throw new Git2dbError(
        'USAGE',
        options.all
          ? `--all takes no PATH, found '${paths[0]}'`
          : 'expected REPO PATH..., found no PATH: name files, or give --all',
      );
    }
    return withRepository(repo, options, context, async ({ handle, treePath, signal }) => {
      const staging = handle.staging();
      if (options.all) await staging.reset('HEAD', { signal });
      else await staging.unstage(paths.map(treePath), { signal });
      tell(await staging.stagedFiles({ signal }), context);
      return EXIT_OK;
    });
  },
});

const rmCommand = defineCommand({
  path: ['rm'],
  summary: 'Remove files from the index and the work tree',
  description: `Removes files from the next commit, and from the work tree unless --cached. Refuses files with
changes that are nowhere else, unless forced. ${PATH_MANUAL}

${WORKTREE_MANUAL}

${STAGED_KEYS}`,
  operands: {
    usage: 'REPO PATH...',
    min: 2,
    max: Number.POSITIVE_INFINITY,
    complete: ['repository', 'file'],
  },
  options: {
    ...WORKTREE_OPTIONS,
    recursive: { type: 'boolean', alias: 'r', describe: 'Directories with all that is in them' },
    cached: { type: 'boolean', describe: 'The files stay in the work tree' },
    force: { type: 'boolean', alias: 'f', describe: 'Also files with changes' },
  },
  examples: [['git2db rm org/model old.bin', '']],
  exitCodes: [[64, 'Changes would be lost'], ...EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, ...paths] = operands as [string, ...string[]];
    return withRepository(repo, options, context, async ({ handle, treePath, signal }) => {
      const { recursive, cached, force } = options;
      await handle.staging().remove(paths.map(treePath), { recursive, cached, force, signal });
      tell(await handle.staging().stagedFiles({ signal }), context);
      return EXIT_OK;
    });
  },
});

const resetCommand = defineCommand({
  path: ['reset'],
  summary: 'Move the current branch to another commit',
  description: `Moves the current branch to the commit TO, HEAD unless given, and by --mode the index and the
work tree with it:

  soft   only the branch moves
  mixed  the index too (unless given)
  hard   the work tree too: changes are lost
  merge  as hard, but keeps changes that are not staged
  keep   as hard, but refuses where changes would be lost

${WORKTREE_MANUAL}

JSON: {"oid"}.`,
  operands: { usage: '[REPO [TO]]', min: 0, max: 2, complete: ['repository', 'branch'] },
  options: {
    ...WORKTREE_OPTIONS,
    mode: {
      type: 'string',
      choices: ['soft', 'mixed', 'hard', 'merge', 'keep'],
      describe: 'What moves with it',
    },
  },
  examples: [
    ['git2db reset org/model HEAD~1 --mode soft', 'undo a commit, keep its changes staged'],
    ['git2db reset . origin/main --mode keep', 'be where the remote is, losing no change'],
  ],
  exitCodes: [[58, 'There is no such commit'], [64, 'Changes would be lost'], ...COMMON_EXIT_CODES],
  async run({ options, operands }, context) {
    const { output, json } = context;
    return withRepository(operands[0], options, context, async ({ handle, signal }) => {
      const { oid } = await handle.reset({ to: operands[1], mode: options.mode, signal });
      if (json) output.json({ oid });
      else output.note(`${(await handle.branch().current()) ?? 'HEAD'} is at ${shortOid(oid)}`);
      return EXIT_OK;
    });
  },
});

export const stagingCommands: readonly Command[] = [addCommand, unstageCommand, rmCommand, resetCommand];

function tell(staged: readonly StagedFile[], { output, json }: CommandContext): void {
  if (json) output.json({ staged: plain(staged) });
  else
    output.note(
      staged.length === 0
        ? 'nothing is staged'
        : `${count(staged.length, 'file')} ${staged.length === 1 ? 'is' : 'are'} staged`,
    );
}
