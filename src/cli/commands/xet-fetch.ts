import { count } from '../../count.ts';
import { EXIT_CODES, EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { quotePath } from '../../filter-process/trace.ts';
import type { FetchedFile, FetchResult } from '../../large-files/fetch.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { completeWorktreesHere } from '../complete-worktrees.ts';
import { formatBytes } from '../output.ts';
import { pathDocument } from '../present.ts';
import { withBar } from './xet-push.ts';

export const xetFetch = defineCommand({
  path: ['xet', 'fetch'],
  summary: 'Get content from remotes into the store',
  description: `Fetches the content of pointers that the store does not have yet. The work tree is left
alone: "git2db xet pull" fetches what that lacks and writes it. (Overlay worktrees of a
registry that lack content get it in the tree that they share.)

Without REF it is the content of the index, without what a sparse checkout leaves out;
with REF that of these branches, tags or commits; with --all that of the whole history.
REMOTE is asked, or else the remotes of the repository one after the other, for what the
one before did not have. What is here already costs nothing, and what was interrupted goes
on where it stopped.

With --recent also that of recent branches and tags, those of REMOTE (of all remotes
without it) among them: those whose last commit is of the last xet.fetchRecentRefsDays
days (7; 0: none). xet.fetchRecentCommitsDays (0) adds, for each of these, for REF and for
HEAD, what their commits of so many days before the last one had or replaced.
xet.fetchRecentRemoteRefs=false leaves the branches of remotes out. Where these are not
set, lfs.fetchRecentRefsDays and its like count.

PATTERN is as in .gitignore. Without --include and --exclude those of .gitxet count.

JSON: {"dryRun","wireBytes","files":[{"path","kind","hash","size","outcome","message"}]};
"outcome" is present (it was here), moved, missing (in a dry run) or failed.`,
  operands: {
    usage: '[REMOTE [REF...]]',
    min: 0,
    max: Number.POSITIVE_INFINITY,
    complete: ['remote', 'ref'],
  },
  options: {
    include: { type: 'string', alias: 'I', repeat: true, describe: 'Only files that match PATTERN' },
    exclude: { type: 'string', alias: 'X', repeat: true, describe: 'No files that match PATTERN' },
    recent: { type: 'boolean', describe: 'Also recent branches and tags, and recent commits on them' },
    'recent-days': { type: 'number', describe: 'As --recent, with so many days for branches and tags' },
    all: { type: 'boolean', describe: 'The whole history', conflicts: ['recent', 'recent-days'] },
    'dry-run': { type: 'boolean', alias: 'n', describe: 'Fetch nothing, list what is not here' },
  },
  examples: [
    ['git2db xet fetch', 'what the current checkout needs'],
    ["git2db xet fetch origin main --include 'models/*.safetensors'", 'some of a branch'],
    ['git2db xet fetch --all backup', 'everything, from one remote'],
  ],
  exitCodes: [
    [EXIT_FALSE, 'Some content could not be had; all is named'],
    [4, 'Not in a repository'],
    [24, 'The disk is full; what was fetched is kept'],
    [59, 'A remote wants other credentials'],
    [60, 'A remote cannot be reached'],
    [67, 'A remote names a place that is not trusted'],
    [130, 'Interrupted; run it again to go on'],
  ],
  async run({ options, operands }, context) {
    const { cwd, env, output } = context;
    const [remote, ...refs] = operands;
    const recentDays = options['recent-days'];
    if (recentDays !== undefined && !(recentDays > 0))
      throw new Git2dbError('USAGE', `--recent-days is ${recentDays}; expected a number of days`);
    const { fetch } = await import('../large-files-library.ts');
    const dryRun = options['dry-run'];
    const result = await withBar('fetching content', context, (bar, signal) =>
      fetch({
        cwd,
        env,
        remote,
        refs,
        all: options.all,
        recent: options.recent,
        recentDays,
        include: options.include,
        exclude: options.exclude,
        dryRun,
        mayPrompt: env.GIT_TERMINAL_PROMPT !== '0',
        refresh: true,
        warn: (line) => output.warn(line),
        signal,
        onProgress: (event) => bar.show(event),
      }),
    );
    if (result.files.some(({ outcome }) => outcome === 'moved'))
      await completeWorktreesHere(context, context.interruptible());
    if (context.json) output.json(documentOf(result, dryRun));
    else describe(result, dryRun, context);
    return reportFailures(result, context);
  },
});

function describe({ files, wireBytes }: FetchResult, dryRun: boolean, { output }: CommandContext): void {
  const moved = files.filter(({ outcome }) => outcome === (dryRun ? 'missing' : 'moved'));
  for (const { path, size } of moved) {
    const line = `${size === undefined ? '?' : formatBytes(size)}  ${quotePath(path)}`;
    if (dryRun) output.data(line);
    else output.detail(line);
  }
  const bytes = formatBytes(moved.reduce((sum, { size = 0 }) => sum + size, 0));
  const present = files.filter(({ outcome }) => outcome === 'present').length;
  output.note(
    dryRun
      ? `${moved.length} of ${count(files.length, 'file')} (${bytes}) ${moved.length === 1 ? 'is' : 'are'} not here`
      : `${count(moved.length, 'file')} (${bytes}) fetched, ${present} here already; ${formatBytes(wireBytes)} moved`,
  );
}

function reportFailures({ files }: FetchResult, { output }: CommandContext): number {
  const failed = files.filter(({ outcome }) => outcome === 'failed');
  for (const file of failed) output.error(`${nameOf(file)}: ${file.error?.message ?? 'it could not be had'}`);
  if (failed.length === 0) return EXIT_OK;
  const [only, another] = new Set(failed.map(({ error }) => error?.code));
  const isOfAll = another === undefined && only !== undefined && !PER_FILE.has(only);
  return isOfAll ? EXIT_CODES[only] : EXIT_FALSE;
}

const PER_FILE: ReadonlySet<string> = new Set(['CONTENT_MISSING', 'CONTENT_DAMAGED', 'INVALID_POINTER']);

function nameOf({ path, hash }: FetchedFile): string {
  return path.length === 0 ? `content ${hash}` : quotePath(path);
}

function documentOf({ files, wireBytes }: FetchResult, dryRun: boolean): object {
  return {
    dryRun,
    wireBytes,
    files: files.map(({ path, kind, hash, size, outcome, error }) => ({
      ...pathDocument(path),
      kind,
      hash,
      size: size ?? null,
      outcome,
      message: error?.message ?? null,
    })),
  };
}
