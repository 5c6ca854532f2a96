/** Commands that keep worktrees in order: lock, unlock, repair, prune. */
import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import type { Worktree } from '../../registry/index.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { count, printable } from '../present.ts';
import { COMMON_EXIT_CODES, REGISTRY_OPTIONS, REPO_MANUAL } from '../registry-options.ts';
import { withRepository, worktreeWord } from '../registry-session.ts';
import { documentOf, WORKTREE_EXIT_CODES, WORKTREE_KEYS, WORKTREE_WORD } from '../worktree-document.ts';

export const worktreeLock = defineCommand({
  path: ['worktree', 'lock'],
  summary: 'Keep a worktree from being removed',
  description: `Locks a worktree: neither git2db nor git removes it until it is unlocked. ${WORKTREE_WORD}

${REPO_MANUAL}

JSON: ${WORKTREE_KEYS}.`,
  operands: { usage: 'REPO WORKTREE', min: 2, max: 2, complete: ['repository', 'worktree'] },
  options: {
    ...REGISTRY_OPTIONS,
    reason: { type: 'string', describe: 'Why, in one line (default: by hand)' },
  },
  examples: [["git2db worktree lock org/model try --reason 'training runs'", '']],
  exitCodes: WORKTREE_EXIT_CODES,
  async run({ options, operands }, context) {
    return onWorktree(operands, options, context, async (tree) => {
      await tree.lock(options.reason ?? 'by hand');
      return `${tree.path} is locked`;
    });
  },
});

export const worktreeUnlock = defineCommand({
  path: ['worktree', 'unlock'],
  summary: 'Let a worktree be removed again',
  description: `Takes the lock of a worktree away. ${WORKTREE_WORD}

${REPO_MANUAL}

JSON: ${WORKTREE_KEYS}.`,
  operands: { usage: 'REPO WORKTREE', min: 2, max: 2, complete: ['repository', 'worktree'] },
  options: REGISTRY_OPTIONS,
  examples: [['git2db worktree unlock org/model try', '']],
  exitCodes: WORKTREE_EXIT_CODES,
  async run({ options, operands }, context) {
    return onWorktree(operands, options, context, async (tree) => {
      await tree.unlock();
      return `${tree.path} is not locked`;
    });
  },
});

export const worktreeRepair = defineCommand({
  path: ['worktree', 'repair'],
  summary: 'Bring worktrees back after a crash or a reboot',
  description: `Completes or undoes what was interrupted, and mounts worktrees again: all of a repository, or
one. ${WORKTREE_WORD} Doing it again does nothing more.

${REPO_MANUAL}

JSON: {"ok","worktrees":[{"id","path","outcome","message"}]}; "outcome" is well, repaired,
removed, busy (another process is at work) or open (a person has to see to it).`,
  operands: { usage: '[REPO [WORKTREE]]', min: 0, max: 2, complete: ['repository', 'worktree'] },
  options: REGISTRY_OPTIONS,
  examples: [['git2db worktree repair org/model', 'after a reboot']],
  exitCodes: [[EXIT_FALSE, 'One of them is left for a person; it is told'], ...WORKTREE_EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, word] = operands;
    const { output, json, cwd } = context;
    return withRepository(repo, options, context, async ({ handle }) => {
      const manager = handle.worktree();
      const reports =
        word === undefined
          ? await manager.repair()
          : [await (await manager.get(worktreeWord(word, cwd))).repair()];
      const ok = reports.every(({ outcome }) => outcome !== 'open');
      if (json) {
        const worktrees = reports.map(({ id, path, outcome, message }) => ({ id, path, outcome, message }));
        output.json({ ok, worktrees });
      } else {
        for (const { path, outcome, message } of reports) {
          const line = printable(`${path}: ${message}`);
          if (outcome === 'open') output.error(line);
          else if (outcome === 'well') output.detail(line);
          else output.data(line);
        }
        if (reports.every(({ outcome }) => outcome === 'well')) output.note('there was nothing to mend');
      }
      return ok ? EXIT_OK : EXIT_FALSE;
    });
  },
});

export const worktreePrune = defineCommand({
  path: ['worktree', 'prune'],
  summary: 'Forget worktrees that are gone, and give back their space',
  description: `Removes what git still has of worktrees whose directory is gone, and shared trees of the
registry that no worktree reads any more. Nothing that a recorded worktree needs goes,
mounted or not.

${REPO_MANUAL}

JSON: {"dryRun","worktrees","layers"}: names of what was removed, or would be.`,
  operands: { usage: '[REPO]', min: 0, max: 1, complete: 'repository' },
  options: {
    ...REGISTRY_OPTIONS,
    'dry-run': { type: 'boolean', alias: 'n', describe: 'Only tell what would be removed' },
  },
  examples: [['git2db worktree prune org/model', '']],
  exitCodes: COMMON_EXIT_CODES,
  async run({ options, operands }, context) {
    const { output, json } = context;
    const dryRun = options['dry-run'];
    return withRepository(operands[0], options, context, async ({ library, handle, signal }) => {
      // Git takes the worktrees of a registry that was moved for gone.
      if (!dryRun && handle.home.readOnly !== undefined) throw handle.home.readOnly;
      const { stderr, stdout } = await handle.git(
        ['worktree', 'prune', '--verbose', ...(dryRun ? ['--dry-run'] : [])],
        {
          signal,
        },
      );
      const said = `${stdout.toString('utf8')}\n${stderr}`;
      const worktrees = [...said.matchAll(/^Removing worktrees\/(.*?): /gm)].map(([, name]) => name!);
      const layers = await library.collectLayers(handle.home, { signal, dryRun });
      if (json) output.json({ dryRun, worktrees, layers });
      else {
        for (const name of worktrees) output.data(printable(`${dryRun ? 'would forget' : 'forgot'} ${name}`));
        if (layers.length > 0)
          output.note(`${count(layers.length, 'shared tree')} ${dryRun ? 'would be removed' : 'removed'}`);
        if (worktrees.length + layers.length === 0) output.note('there is nothing to remove');
      }
      return EXIT_OK;
    });
  },
});

/** Does something to one worktree and shows it as it is then. */
async function onWorktree(
  operands: readonly string[],
  options: { readonly registry?: string | undefined },
  context: CommandContext,
  change: (tree: Worktree) => Promise<string>,
): Promise<number> {
  const [repo, word] = operands as [string, string];
  return withRepository(repo, options, context, async ({ handle }) => {
    const tree = await handle.worktree().get(worktreeWord(word, context.cwd));
    const line = await change(tree);
    if (context.json) context.output.json(documentOf(await handle.worktree().get(tree.id)));
    else context.output.note(line);
    return EXIT_OK;
  });
}
