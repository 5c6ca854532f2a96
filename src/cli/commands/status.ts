import { EXIT_OK } from '../../exit-codes.ts';
import type { RepositoryStatus, StatusEntry } from '../../registry/index.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { count, plain, shortOid, showPath } from '../present.ts';
import { COMMON_EXIT_CODES, PATH_MANUAL, WORKTREE_MANUAL, WORKTREE_OPTIONS } from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';

export const statusCommand = defineCommand({
  path: ['status'],
  summary: 'Show what is changed in a work tree',
  description: `Shows the branch, how far it is from its upstream, an operation that has stopped, and the
files that are changed: two letters, for HEAD to index and index to work tree, as "git
status --short" writes them. With PATHs, only those. ${PATH_MANUAL}

${WORKTREE_MANUAL}

JSON: {"path","branch","head","upstream","ahead","behind","stashes","operation":{"kind",
"commit","branch","onto","step","steps"},"isClean","entries":[{"path","kind","index",
"workTree","from","similarity","modes","oids","submodule"}]}; "kind" of an entry is
changed, renamed, unmerged (with "code" instead of "index" and "workTree"), untracked or
ignored; these two have a path only.`,
  operands: {
    usage: '[REPO [PATH...]]',
    min: 0,
    max: Number.POSITIVE_INFINITY,
    complete: ['repository', 'file'],
  },
  options: {
    ...WORKTREE_OPTIONS,
    untracked: {
      type: 'string',
      choices: ['normal', 'all', 'no'],
      describe: 'A directory as one entry, all files in it, or no untracked files',
    },
    ignored: { type: 'boolean', describe: 'Ignored files too' },
    'no-renames': { type: 'boolean', describe: 'Look for no renames' },
  },
  examples: [
    ['git2db status', 'here'],
    ['git2db status org/model --worktree topic', 'of a worktree'],
    ['git2db status org/model --json | jq .isClean', 'for a script'],
  ],
  exitCodes: [[68, 'It is bare, and no worktree is named'], ...COMMON_EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, ...paths] = operands;
    return withRepository(repo, options, context, async ({ handle, treePath, signal }) => {
      const { untracked, ignored } = options;
      const status = await handle.status({
        paths: paths.length === 0 ? undefined : paths.map(treePath),
        untracked,
        ignored,
        renames: !options['no-renames'],
        signal,
      });
      if (context.json) context.output.json(plain({ path: handle.path, ...status }));
      else describe(status, context);
      return EXIT_OK;
    });
  },
});

const LETTERS = {
  unmodified: ' ',
  modified: 'M',
  'type-changed': 'T',
  added: 'A',
  deleted: 'D',
  renamed: 'R',
  copied: 'C',
  unmerged: 'U',
} as const;

function describe(status: RepositoryStatus, { output }: CommandContext): void {
  const { branch, head, upstream, ahead, behind, operation, stashes } = status;
  const on =
    branch === undefined ? `on no branch, at ${shortOid(head)}` : `on ${output.style('green', branch)}`;
  const distance =
    ahead === undefined || behind === undefined
      ? ', which is not there'
      : ahead + behind === 0
        ? ''
        : `, ${[ahead > 0 ? `${ahead} ahead` : '', behind > 0 ? `${behind} behind` : ''].filter(Boolean).join(', ')}`;
  output.data(
    `${on}${head === undefined ? ', no commit yet' : ''}${upstream === undefined ? '' : `, follows ${upstream}${distance}`}`,
  );
  if (operation !== undefined) {
    const step = operation.step === undefined ? '' : ` (${operation.step} of ${operation.steps})`;
    output.data(`a ${operation.kind} has stopped${step}: --continue or --abort it`);
  }
  if (stashes > 0) output.data(`${count(stashes, 'entry', 'entries')} in the stash`);
  for (const entry of status.entries) output.data(lineOf(entry, output));
  if (status.isClean) output.note('nothing is changed');
}

function lineOf(entry: StatusEntry, output: CommandContext['output']): string {
  const path = showPath(entry);
  switch (entry.kind) {
    case 'untracked':
      return `${output.style('red', '??')} ${path}`;
    case 'ignored':
      return `${output.style('dim', '!!')} ${path}`;
    case 'unmerged':
      return `${output.style('red', entry.code)} ${path}`;
    default: {
      const letters =
        output.style('green', LETTERS[entry.index]) + output.style('red', LETTERS[entry.workTree]);
      return `${letters} ${entry.from === undefined ? path : `${showPath(entry.from)} -> ${path}`}`;
    }
  }
}
