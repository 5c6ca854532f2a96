import { EXIT_OK } from '../../exit-codes.ts';
import type { BlameLine } from '../../registry/index.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { formatTable } from '../output.ts';
import { plain, printable, shortOid, showDate } from '../present.ts';
import { COMMON_EXIT_CODES, PATH_MANUAL, WORKTREE_MANUAL, WORKTREE_OPTIONS } from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';

export const blameCommand = defineCommand({
  path: ['blame'],
  summary: 'Show who wrote each line of a file',
  description: `Shows for each line of the file PATH the commit that wrote it, its author and date: of the
file in the work tree, or as it is at --revision. ${PATH_MANUAL}

${WORKTREE_MANUAL}

JSON: {"commits":[{"oid","author":{"name","email","date","offsetMinutes"},"committer":{…},
"subject","isBoundary"}],"lines":[{"line","originalLine","oid","path","content"}]}; an
"oid" of zeros is not committed yet.`,
  operands: { usage: 'REPO PATH', min: 2, max: 2, complete: ['repository', 'file'] },
  options: {
    ...WORKTREE_OPTIONS,
    revision: { type: 'string', alias: 'r', describe: 'The file as it is there', complete: 'branch' },
    lines: { type: 'string', alias: 'L', describe: 'FIRST-LAST: only these lines' },
    'ignore-revision': { type: 'string', repeat: true, describe: 'A commit to look past' },
    'ignore-whitespace': { type: 'boolean', alias: 'w', describe: 'Look past changes of white space' },
    moves: { type: 'boolean', alias: 'M', describe: 'Find lines that were moved within the file' },
    copies: { type: 'boolean', alias: 'C', describe: 'Find lines that came from other files of the commit' },
  },
  examples: [
    ['git2db blame org/model README.md', ''],
    ['git2db blame . src/main.ts -L 10-20 -r v1.0', 'here, ten lines of an old version'],
  ],
  exitCodes: [[58, 'There is no such commit'], [81, 'There is no such file'], ...COMMON_EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, path] = operands as [string, string];
    const { output, json } = context;
    const range = parseLines(options.lines);
    return withRepository(repo, options, context, async ({ handle, treePath, signal }) => {
      const { revision, moves, copies } = options;
      const lines = await handle.blame(treePath(path), {
        revision,
        lines: range,
        ignoreRevisions: options['ignore-revision'],
        ignoreWhitespace: options['ignore-whitespace'],
        moves,
        copies,
        signal,
      });
      if (json) output.json(documentOf(lines));
      else show(lines, output);
      return EXIT_OK;
    });
  },
});

function parseLines(text: string | undefined): readonly [number, number] | undefined {
  if (text === undefined) return undefined;
  const [, first, last] = /^(\d{1,9})(?:[-,](\d{1,9}))?$/.exec(text) ?? [];
  const range = [Number(first), Number(last ?? first) + 1] as const;
  if (first === undefined || range[0] < 1 || range[1] <= range[0]) {
    throw new Git2dbError('USAGE', `--lines: expected FIRST-LAST, such as 10-20, found '${text}'`);
  }
  return range;
}

function documentOf(lines: readonly BlameLine[]): object {
  const commits = [...new Map(lines.map(({ commit }) => [commit.oid, commit])).values()];
  return {
    commits: plain(commits),
    lines: lines.map(({ line, originalLine, commit, file, content }) => {
      return { line, originalLine, oid: commit.oid, path: file.path, content: content.toString('utf8') };
    }),
  };
}

function show(lines: readonly BlameLine[], output: CommandContext['output']): void {
  const rows = lines.map(({ line, commit, content }) => [
    output.style('yellow', /^0+$/.test(commit.oid) ? 'not yet' : shortOid(commit.oid)),
    printable(commit.author.name),
    showDate(commit.author.date, commit.author.offsetMinutes).slice(0, 10),
    String(line),
    printable(content.toString('utf8')),
  ]);
  const columns = [
    { title: '' },
    { title: '' },
    { title: '' },
    { title: '', align: 'right' as const },
    { title: '' },
  ];
  if (rows.length > 0) for (const text of formatTable(columns, rows)) output.data(text);
}
