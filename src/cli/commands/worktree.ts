import { EXIT_OK } from '../../exit-codes.ts';
import { notMounted } from '../../git/repository.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type Command, defineCommand } from '../command.ts';
import { formatTable } from '../output.ts';
import { plain, printable, shortOid } from '../present.ts';
import { COMMON_EXIT_CODES, REGISTRY_OPTIONS, REPO_MANUAL } from '../registry-options.ts';
import { withRepository, worktreeWord } from '../registry-session.ts';
import { documentOf, WORKTREE_EXIT_CODES, WORKTREE_KEYS, WORKTREE_WORD } from '../worktree-document.ts';
import { worktreeAdd } from './worktree-add.ts';
import { worktreeLock, worktreePrune, worktreeRepair, worktreeUnlock } from './worktree-upkeep.ts';

const worktreeList = defineCommand({
  path: ['worktree', 'list'],
  summary: 'List worktrees',
  description: `Lists the worktrees of a repository, those that "git worktree add" made too; not the main
one.

${REPO_MANUAL}

JSON: {"worktrees":[${WORKTREE_KEYS},…]}; "foreign" are those that git alone made.
"mounted" is false where "git2db repair" is needed, as after a reboot; null where nothing
is mounted, or only a user namespace knows.`,
  operands: { usage: '[REPO]', min: 0, max: 1, complete: 'repository' },
  options: { ...REGISTRY_OPTIONS, names: { type: 'boolean', describe: 'Print branches (or paths) alone' } },
  examples: [['git2db worktree list org/model', '']],
  exitCodes: COMMON_EXIT_CODES,
  async run({ options, operands }, context) {
    const { output, json } = context;
    return withRepository(operands[0], options, context, async ({ handle }) => {
      const worktrees = await handle.worktree().list();
      if (json) output.json({ worktrees: worktrees.map(documentOf) });
      else if (options.names) for (const { branch, path } of worktrees) output.data(branch ?? path);
      else {
        const rows = worktrees.map((tree) => [
          tree.path,
          tree.branch === undefined ? '(no branch)' : output.style('green', tree.branch),
          shortOid(tree.head),
          tree.foreign
            ? 'git'
            : `${tree.backend ?? tree.driver}${tree.mounted === false ? ', not mounted' : ''}`,
          tree.locked === undefined ? '' : printable(`locked: ${tree.locked}`),
        ]);
        if (rows.length > 0)
          for (const line of formatTable(
            ['', '', '', '', ''].map((title) => ({ title })),
            rows,
          ))
            output.data(line);
        else output.note('there is no worktree but the main one');
      }
      return EXIT_OK;
    });
  },
});

const worktreeRemove = defineCommand({
  path: ['worktree', 'remove'],
  summary: 'Remove a worktree',
  description: `Removes a worktree: unmounts it, and deletes what was made for it. Its branch stays. It
refuses when something would be lost: modified or untracked files, an operation that has
stopped, commits that no branch or tag has; --force removes all the same, though not a
mount that is in use. ${WORKTREE_WORD}

${REPO_MANUAL}

JSON: {"removed","path"}, its id and place. Refused: {"reasons":[{"kind","path","message",
"items"}]}.`,
  operands: { usage: 'REPO WORKTREE', min: 2, max: 2, complete: ['repository', 'worktree'] },
  options: {
    ...REGISTRY_OPTIONS,
    force: { type: 'boolean', alias: 'f', describe: 'Whatever would be lost' },
  },
  examples: [['git2db worktree remove org/model try', '']],
  exitCodes: [
    [49, 'Its mount is in use'],
    [64, 'Refused: something would be lost; nothing was changed'],
    ...WORKTREE_EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const [repo, word] = operands as [string, string];
    const { output, json, cwd } = context;
    return withRepository(repo, options, context, async ({ handle, signal }) => {
      const wanted = worktreeWord(word, cwd);
      // One whose removal was interrupted is not listed any more, and can be removed all the same.
      const tree = await handle.worktree().find(wanted);
      try {
        await handle.worktree().remove(wanted, { force: options.force, signal });
      } catch (error) {
        const reasons = (error as { data?: { reasons?: unknown } }).data?.reasons;
        if (json && reasons !== undefined) output.json({ reasons: plain(reasons) });
        throw error;
      }
      if (json) output.json({ removed: tree?.id ?? word, path: tree?.path ?? null });
      else output.note(`${tree?.path ?? word} is removed`);
      return EXIT_OK;
    });
  },
});

const worktreePath = defineCommand({
  path: ['worktree', 'path'],
  summary: 'Print where a worktree is',
  description: `Prints the path of a worktree. ${WORKTREE_WORD}

${REPO_MANUAL}

JSON: {"path","reachable","mounted"}; "reachable" is false where only "git2db-mount exec
PATH -- COMMAND" sees the files, "mounted" where "git2db repair" is needed; null where
nothing is mounted.`,
  operands: { usage: 'REPO WORKTREE', min: 2, max: 2, complete: ['repository', 'worktree'] },
  options: REGISTRY_OPTIONS,
  examples: [['cd "$(git2db worktree path org/model main)"', 'go there']],
  exitCodes: [
    [48, 'It is not mounted; --json prints the path all the same'],
    [65, "Other programs do not see the worktree's files; --json prints the path all the same"],
    ...WORKTREE_EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const [repo, word] = operands as [string, string];
    const { output, json, cwd } = context;
    return withRepository(repo, options, context, async ({ handle }) => {
      const { path, reachable, mounted } = await handle.worktree().get(worktreeWord(word, cwd));
      if (json) output.json({ path, reachable, mounted: mounted ?? null });
      else if (mounted === false) throw notMounted(path);
      else if (reachable) output.data(path);
      else {
        throw new Git2dbError(
          'NOT_REACHABLE',
          `the files of ${path} are in a user namespace of their own: 'git2db-mount exec ${path} -- COMMAND' runs a command there`,
        );
      }
      return EXIT_OK;
    });
  },
});

export const worktreeCommands: readonly Command[] = [
  worktreeAdd,
  worktreeList,
  worktreeRemove,
  worktreeLock,
  worktreeUnlock,
  worktreeRepair,
  worktreePrune,
  worktreePath,
];
