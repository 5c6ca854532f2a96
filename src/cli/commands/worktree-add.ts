import { resolve } from 'node:path';
import { EXIT_OK } from '../../exit-codes.ts';
import type { WorktreeProgress } from '../../registry/index.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { printable, shortOid } from '../present.ts';
import { REGISTRY_OPTIONS, REPO_MANUAL } from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';
import { documentOf, WORKTREE_EXIT_CODES, WORKTREE_KEYS } from '../worktree-document.ts';

export const worktreeAdd = defineCommand({
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

A plain "git push" in it sends the content of large files, by the pre-push hook of the
repository, which is installed if the registry has made the repository (and it was not
cloned with --no-hooks). In one that it has adopted "git2db xet install" does that.

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
    'no-hooks': {
      type: 'boolean',
      describe: 'Do not see to it that the repository has the pre-push hook',
    },
    backend: {
      type: 'string',
      choices: ['auto', 'kernel', 'userns', 'fuse'],
      describe: 'Of overlay2: what mounts it',
    },
  },
  examples: [
    ['git2db worktree add org/model topic', 'a worktree of topic'],
    ['git2db worktree add org/model main --branch mine', 'a new branch at main'],
    ['git2db worktree add org/model v2.0 ~/try --branch try', 'a new branch, there'],
    ['cd "$(git2db worktree path org/model try)"', 'go there'],
  ],
  exitCodes: [
    [58, 'There is no such branch or commit'],
    [62, 'The place is taken'],
    [63, 'Another worktree has the branch'],
    [66, 'The driver does not work here'],
    ...WORKTREE_EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const [repo, ref, path] = operands as [string, string, string?];
    const { output, json, cwd } = context;
    return withRepository(repo, options, context, async ({ handle, signal }) => {
      const progress = new LayerNotes(context);
      const worktree = await handle.worktree().create({
        ref,
        path: path === undefined ? undefined : resolve(cwd, path),
        newBranch: options.branch,
        detach: options.detach,
        driver: options.driver,
        backend: options.backend,
        ...(options['no-hooks'] ? { hooks: false } : {}),
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
