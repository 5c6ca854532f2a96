import { resolve } from 'node:path';
import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import type { Worktree, WorktreeProgress } from '../../registry/index.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type Command, type CommandContext, defineCommand } from '../command.ts';
import { formatTable } from '../output.ts';
import { count, plain, printable, shortOid } from '../present.ts';
import { COMMON_EXIT_CODES, REGISTRY_OPTIONS, REPO_MANUAL } from '../registry-options.ts';
import { withRepository, worktreeWord } from '../registry-session.ts';

const WORKTREE_KEYS = `{"id","path","branch","head","driver","backend","reachable","locked",
"foreign","rejected":[{"driver","backend","reason"}]}`;
const WORKTREE_WORD = 'WORKTREE is its branch, its path or its id.';
const EXIT_CODES = [
  [53, 'There is no such repository or worktree; near names are told'],
  COMMON_EXIT_CODES[1],
] as const;

const worktreeAdd = defineCommand({
  path: ['worktree', 'add'],
  summary: 'Make a worktree',
  description: `Makes a worktree of REF (a branch, a tag, or any commit) at PATH; without PATH below the
registry, at a place that follows from the branch. The same again gives the one that is
there. Its files come from one of these:

  overlay2  a tree that all worktrees of one commit share, read-only, and a small layer
            of its own on it: made in a blink, takes next to nothing
  reflink   a directory of its own whose files share their blocks with others
  vfs       a directory of its own, as "git worktree add" makes it

auto (unless configured otherwise) takes the first of them that really works at PATH, and
tells why it passed over the others. A worktree survives reboots: "git2db repair" mounts
it again.

${REPO_MANUAL}

JSON: ${WORKTREE_KEYS}; "branch" is null
when HEAD is on none, "rejected" what auto passed over. With "reachable" false other
programs do not see the files at "path" (backend userns).`,
  operands: { usage: 'REPO REF [PATH]', min: 2, max: 3, complete: ['repository', 'branch', 'directory'] },
  options: {
    ...REGISTRY_OPTIONS,
    branch: {
      type: 'string',
      alias: 'b',
      describe: 'Make this branch at REF, and be on it',
      conflicts: ['detach'],
    },
    detach: { type: 'boolean', alias: 'd', describe: 'Be on no branch, also where REF is one' },
    driver: {
      type: 'string',
      choices: ['auto', 'overlay2', 'reflink', 'vfs'],
      describe: 'What stores its files',
    },
    backend: {
      type: 'string',
      choices: ['auto', 'kernel', 'userns', 'fuse'],
      describe: 'Of overlay2: what mounts it',
    },
  },
  examples: [
    ['git2db worktree add org/model main', 'a worktree of main'],
    ['git2db worktree add org/model v2.0 ~/try --branch try', 'a new branch, there'],
    ['cd "$(git2db worktree path org/model try)"', 'go there'],
  ],
  exitCodes: [
    [58, 'There is no such branch or commit'],
    [62, 'The place is taken'],
    [63, 'Another worktree has the branch'],
    [66, 'The driver does not work here'],
    ...EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const [repo, ref, path] = operands as [string, string, string?];
    const { output, json, cwd } = context;
    return withRepository(repo, options, context, async ({ db, handle, signal }) => {
      const progress = new LayerNotes(context);
      const worktree = await handle.worktree().create({
        ref,
        path: path === undefined ? undefined : resolve(cwd, path),
        newBranch: options.branch,
        detach: options.detach,
        driver: options.driver ?? db.config.worktreeDriver,
        backend: options.backend ?? db.config.overlayBackend,
        onProgress: (event) => progress.show(event),
        signal,
      });
      if (json) output.json(documentOf(worktree));
      else {
        output.data(worktree.path);
        const { driver, backend, branch, head, rejected } = worktree;
        output.note(
          `${branch ?? shortOid(head)}, by ${backend === undefined ? driver : `${driver} (${backend})`}`,
        );
        for (const each of rejected)
          output.detail(printable(`not ${each.backend ?? each.driver}: ${each.reason}`));
        if (!worktree.reachable)
          output.note(`its files are seen inside 'git2db-mount exec ${worktree.path} -- …' only`);
      }
      return EXIT_OK;
    });
  },
});

const worktreeList = defineCommand({
  path: ['worktree', 'list'],
  summary: 'List worktrees',
  description: `Lists the worktrees of a repository, those that "git worktree add" made too; not the main
one.

${REPO_MANUAL}

JSON: {"worktrees":[${WORKTREE_KEYS},…]}; "foreign" are those that git alone made.`,
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
          tree.foreign ? 'git' : (tree.backend ?? tree.driver),
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
    ...EXIT_CODES,
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

const worktreeLock = defineCommand({
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
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    return onWorktree(operands, options, context, async (tree) => {
      await tree.lock(options.reason ?? 'by hand');
      return `${tree.path} is locked`;
    });
  },
});

const worktreeUnlock = defineCommand({
  path: ['worktree', 'unlock'],
  summary: 'Let a worktree be removed again',
  description: `Takes the lock of a worktree away. ${WORKTREE_WORD}

${REPO_MANUAL}

JSON: ${WORKTREE_KEYS}.`,
  operands: { usage: 'REPO WORKTREE', min: 2, max: 2, complete: ['repository', 'worktree'] },
  options: REGISTRY_OPTIONS,
  examples: [['git2db worktree unlock org/model try', '']],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    return onWorktree(operands, options, context, async (tree) => {
      await tree.unlock();
      return `${tree.path} is not locked`;
    });
  },
});

const worktreeRepair = defineCommand({
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
  exitCodes: [[EXIT_FALSE, 'One of them is left for a person; it is told'], ...EXIT_CODES],
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

const worktreePrune = defineCommand({
  path: ['worktree', 'prune'],
  summary: 'Forget worktrees that are gone, and give back their space',
  description: `Removes what git still has of worktrees whose directory is gone, and shared trees of the
registry that no worktree reads any more. Nothing that a recorded worktree needs goes,
mounted or not.

${REPO_MANUAL}

JSON: {"dryRun","worktrees","layers"}: names of what was removed. A dry run knows no
layers.`,
  operands: { usage: '[REPO]', min: 0, max: 1, complete: 'repository' },
  options: {
    ...REGISTRY_OPTIONS,
    'dry-run': { type: 'boolean', alias: 'n', describe: 'Only tell what git would forget' },
  },
  examples: [['git2db worktree prune org/model', '']],
  exitCodes: COMMON_EXIT_CODES,
  async run({ options, operands }, context) {
    const { output, json } = context;
    const dryRun = options['dry-run'];
    return withRepository(operands[0], options, context, async ({ library, handle, signal }) => {
      const { stderr, stdout } = await handle.git(
        ['worktree', 'prune', '--verbose', ...(dryRun ? ['--dry-run'] : [])],
        {
          signal,
        },
      );
      const said = `${stdout.toString('utf8')}\n${stderr}`;
      const worktrees = [...said.matchAll(/^Removing worktrees\/(.*?): /gm)].map(([, name]) => name!);
      const layers = dryRun ? [] : await library.collectLayers(handle.home, { signal });
      if (json) output.json({ dryRun, worktrees, layers });
      else {
        for (const name of worktrees) output.data(printable(`${dryRun ? 'would forget' : 'forgot'} ${name}`));
        if (layers.length > 0) output.note(`${count(layers.length, 'shared tree')} removed`);
        if (worktrees.length + layers.length === 0) output.note('there is nothing to remove');
      }
      return EXIT_OK;
    });
  },
});

const worktreePath = defineCommand({
  path: ['worktree', 'path'],
  summary: 'Print where a worktree is',
  description: `Prints the path of a worktree. ${WORKTREE_WORD}

${REPO_MANUAL}

JSON: {"path","reachable"}; "reachable" is false where only "git2db-mount exec PATH --
COMMAND" sees the files.`,
  operands: { usage: 'REPO WORKTREE', min: 2, max: 2, complete: ['repository', 'worktree'] },
  options: REGISTRY_OPTIONS,
  examples: [['cd "$(git2db worktree path org/model main)"', 'go there']],
  exitCodes: [
    [65, "Other programs do not see the worktree's files; --json prints the path all the same"],
    ...EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const [repo, word] = operands as [string, string];
    const { output, json, cwd } = context;
    return withRepository(repo, options, context, async ({ handle }) => {
      const { path, reachable } = await handle.worktree().get(worktreeWord(word, cwd));
      if (json) output.json({ path, reachable });
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

function documentOf(worktree: Worktree): unknown {
  const { id, path, branch, head, driver, backend, reachable, locked, foreign, rejected } = worktree;
  return plain({ id, path, branch, head, driver, backend, reachable, locked, foreign, rejected });
}

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

/** The first worktree of a commit has a tree to write, which may take a while; it is said after a second. */
class LayerNotes {
  readonly #context: CommandContext;
  #bar: { finish(): void } | undefined;

  constructor(context: CommandContext) {
    this.#context = context;
  }

  show(event: WorktreeProgress): void {
    const { output } = this.#context;
    if (event.kind === 'layer' && event.state === 'making') {
      this.#bar = output.activity('writing the shared tree');
      return;
    }
    this.#bar?.finish();
    this.#bar = undefined;
    if (event.kind === 'mounted') output.detail(`mounted by ${event.backend}`);
  }
}
