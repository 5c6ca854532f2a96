import { EXIT_OK } from '../../exit-codes.ts';
import type { CommitInfo } from '../../registry/index.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { plain, printable, shortOid, showDate } from '../present.ts';
import {
  COMMON_EXIT_CODES,
  PATH_MANUAL,
  WORKTREE_MANUAL,
  WORKTREE_OPTIONS,
  wholeNumber,
} from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';

const DEFAULT_LIMIT = 100;

export const logCommand = defineCommand({
  path: ['log'],
  summary: 'Show commits',
  description: `Shows the commits that REVISIONs lead to (HEAD unless given), newest first: the last
${DEFAULT_LIMIT}, or as many as --limit says. A revision may be a range: A..B, A...B, ^A.
${PATH_MANUAL}

${WORKTREE_MANUAL}

JSON: {"commits":[{"oid","tree","parents","author":{"name","email","date",
"offsetMinutes"},"committer":{…},"subject","message"}]}; dates are seconds since 1970.`,
  operands: {
    usage: '[REPO [REVISION...]]',
    min: 0,
    max: Number.POSITIVE_INFINITY,
    complete: ['repository', 'branch'],
  },
  options: {
    ...WORKTREE_OPTIONS,
    limit: { type: 'number', alias: 'n', describe: `At most so many; 0 for all (default ${DEFAULT_LIMIT})` },
    skip: { type: 'number', describe: 'Leave the first ones out' },
    all: { type: 'boolean', describe: 'From all refs' },
    path: { type: 'string', repeat: true, describe: 'That change this path', complete: 'file' },
    follow: { type: 'boolean', describe: 'Go on past renames; with one --path' },
    since: { type: 'string', describe: 'Newer than this date' },
    until: { type: 'string', describe: 'Older than this date' },
    author: { type: 'string', describe: 'By somebody who matches this regular expression' },
    committer: { type: 'string', describe: 'Committed by somebody who matches' },
    grep: { type: 'string', describe: 'With a message that matches' },
    pickaxe: { type: 'string', alias: 'S', describe: 'That change how often this text occurs' },
    'first-parent': { type: 'boolean', describe: 'Follow the first parent only' },
    merges: { type: 'string', choices: ['only', 'none'], describe: 'Merge commits alone, or none' },
    reverse: { type: 'boolean', describe: 'Oldest first' },
    order: { type: 'string', choices: ['date', 'author-date', 'topological'], describe: 'The order' },
    oneline: { type: 'boolean', describe: 'A line for each' },
  },
  examples: [
    ['git2db log org/model --oneline', 'what happened'],
    ['git2db log . main..topic --path weights.bin', 'here, what topic has of a file'],
  ],
  exitCodes: [[58, 'There is no such commit'], ...COMMON_EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, ...revisions] = operands;
    const { output, json } = context;
    const limit = wholeNumber('limit', options.limit) ?? DEFAULT_LIMIT;
    const skip = wholeNumber('skip', options.skip);
    return withRepository(repo, options, context, async ({ handle, treePath, signal }) => {
      const { all, path, follow, since, until, author, committer, grep, pickaxe, merges, reverse, order } =
        options;
      const found = handle.log({
        revisions: revisions.length === 0 ? undefined : revisions,
        limit: limit === 0 ? undefined : limit,
        skip,
        all,
        paths: path.length === 0 ? undefined : path.map(treePath),
        follow,
        since,
        until,
        author,
        committer,
        message: grep,
        pickaxe,
        firstParent: options['first-parent'],
        merges,
        reverse,
        order,
        signal,
      });
      if (!json) {
        for await (const commit of found) show(commit, options.oneline, output);
        return EXIT_OK;
      }
      const commits: CommitInfo[] = [];
      for await (const commit of found) commits.push(commit);
      output.json({ commits: plain(commits) });
      return EXIT_OK;
    });
  },
});

function show(commit: CommitInfo, oneline: boolean, output: CommandContext['output']): void {
  const { oid, author, message, parents } = commit;
  if (oneline) {
    output.data(`${output.style('yellow', shortOid(oid))} ${printable(commit.subject)}`);
    return;
  }
  output.data(output.style('yellow', `commit ${oid}`));
  if (parents.length > 1) output.data(`Merge:  ${parents.map(shortOid).join(' ')}`);
  output.data(printable(`Author: ${author.name} <${author.email}>`));
  output.data(`Date:   ${showDate(author.date, author.offsetMinutes)}`);
  output.data('');
  for (const line of message.trimEnd().split('\n')) output.data(`    ${printable(line)}`.trimEnd());
  output.data('');
}
