import { count } from '../../count.ts';
import { EXIT_CODES, EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { quotePath } from '../../filter-process/trace.ts';
import { withoutSecrets } from '../../git/failure.ts';
import type { PushContentOptions, PushContentResult, PushedFile } from '../../large-files/push.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { formatBytes } from '../output.ts';
import { pathDocument } from '../present.ts';
import { TransferBar } from '../transfer-bar.ts';

const REMOTE_MANUAL = `Where a remote's content is kept: remote.NAME.xeturl, else xet.remote, else .gitxet (if
it is on the authority of the remote, or trusted), else what follows from the URL of the
remote: the store of a repository on this machine, the service of a "git2db serve", the
Hugging Face Hub. "git2db xet doctor" shows the choice.`;

export const xetPush = defineCommand({
  path: ['xet', 'push'],
  summary: 'Send the content that pushed commits need',
  description: `Sends the content of every pointer that is reachable from REF (HEAD unless given) to
the place that belongs to the git remote REMOTE (that of "git push" unless given), as
far as it is missing there; where git pushes to several URLs, to the place of each. The
pre-push hook does the same before each "git push"; this command moves no refs.

What the remote-tracking branches of REMOTE have is not looked at again; --all looks at
the whole history of all branches and tags, or of all refs where REMOTE is a mirror (as in
"git clone --mirror"). Content that is neither here nor there is
named, with a path and a commit, and the command fails.

${REMOTE_MANUAL}

JSON: {"dryRun","place","wireBytes","files":[{"path","kind","hash","size","outcome",
"commit","message"}]}; "kind" is xet or lfs, "outcome" present (it was there), sent,
missing (in a dry run) or failed; "place" is null where no pointer was found.`,
  operands: {
    usage: '[REMOTE [REF...]]',
    min: 0,
    max: Number.POSITIVE_INFINITY,
    complete: ['remote', 'ref'],
  },
  options: {
    all: {
      type: 'boolean',
      describe: 'All branches and tags (of a mirror: all refs) with all of their history',
    },
    'dry-run': { type: 'boolean', alias: 'n', describe: 'Send nothing, list what is missing there' },
  },
  examples: [
    ['git2db xet push', 'what HEAD needs, to the remote of "git push"'],
    ['git2db xet push backup main v1.0', 'what a branch and a tag need'],
    ['git2db xet push --all --dry-run nas', 'is anything missing there?'],
  ],
  exitCodes: [
    [EXIT_FALSE, 'Some content could not be sent; all is named'],
    [4, 'Not in a repository'],
    [8, 'The remote reads no pointers of this kind'],
    [59, 'The remote wants other credentials'],
    [60, 'The remote cannot be reached'],
    [67, 'The remote names a place that is not trusted'],
    [83, 'The remote can only be read'],
    [84, 'There is no place for content'],
    [130, 'Interrupted; run it again to go on'],
  ],
  async run({ options, operands }, context) {
    const { cwd, env, output } = context;
    const { all } = options;
    const [named, ...refs] = operands;
    if (all && refs.length > 0) throw new Git2dbError('USAGE', '--all and REF exclude each other');
    const { GitRemotes, pushSelected } = await import('../large-files-library.ts');
    const git = GitRemotes.load({ cwd, env });
    const remote = named ?? (await git.forPush());
    if (remote === undefined) {
      throw new Git2dbError('REMOTE_MISSING', 'there is no git remote to push to: git remote add origin URL');
    }
    const dryRun = options['dry-run'];
    const result = await withBar('sending content', context, (bar, signal) =>
      pushSelected(
        { refs, all },
        {
          ...pushOptions(context, bar),
          git,
          remote,
          dryRun,
          mayPrompt: env.GIT_TERMINAL_PROMPT !== '0',
          refresh: true,
          signal,
        },
      ),
    );
    if (context.json) output.json(documentOf(result, dryRun));
    else if (result.place === undefined && !all) {
      output.note(
        `no content to send: there are no pointers in what ${withoutSecrets(remote)} is not known to have already (--all looks at all)`,
      );
    } else describe(result, dryRun, context);
    return reportFailures(result, context);
  },
});

/** Runs `work` with a bar that goes when it ends. */
export async function withBar<T>(
  label: string,
  context: CommandContext,
  work: (bar: TransferBar, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const bar = new TransferBar(context.output, label);
  try {
    return await work(bar, context.interruptible());
  } finally {
    bar.finish();
  }
}

export function pushOptions(
  { cwd, env, output }: CommandContext,
  bar: TransferBar,
): Pick<PushContentOptions, 'cwd' | 'env' | 'warn' | 'onProgress' | 'onLfsBytes'> {
  return {
    cwd,
    env,
    warn: (line) => output.warn(line),
    onProgress: (event) => bar.show(event),
    onLfsBytes: (bytes) => bar.add(bytes),
  };
}

/** Names each file that failed. One class of error for all of them is that of the command. */
export function reportFailures({ files }: PushContentResult, { output }: CommandContext): number {
  const failed = files.filter(({ outcome }) => outcome === 'failed');
  for (const file of failed) output.error(failureOf(file));
  if (failed.length === 0) return EXIT_OK;
  const codes = new Set(failed.map(({ error }) => error?.code));
  const [only] = codes;
  const isOfAll = codes.size === 1 && only !== undefined && !PER_FILE.has(only);
  return isOfAll ? EXIT_CODES[only] : EXIT_FALSE;
}

const PER_FILE: ReadonlySet<string> = new Set(['CONTENT_MISSING', 'CONTENT_DAMAGED', 'INVALID_POINTER']);

function failureOf({ path, hash, commit, error }: PushedFile): string {
  const where = commit === undefined ? '' : ` (in commit ${commit.slice(0, 12)})`;
  const name = path.length === 0 ? `content ${hash}` : quotePath(path);
  const why = error === undefined ? 'it could not be sent' : error.message;
  const remedy =
    error?.code === 'CONTENT_MISSING'
      ? '; get it from a remote that has it (git2db xet fetch REMOTE), then push again'
      : '';
  return `${name}${where}, ${hash}: ${why}${remedy}`;
}

/** What was sent, or would be. */
export function describe(
  { place, files, wireBytes }: PushContentResult,
  dryRun: boolean,
  { output }: CommandContext,
) {
  if (place === undefined) {
    output.note('no content to send: there are no pointers');
    return;
  }
  const wanted = files.filter(({ outcome }) => outcome === (dryRun ? 'missing' : 'sent'));
  for (const { path, size } of wanted) {
    const line = `${formatBytes(size)}  ${quotePath(path)}`;
    if (dryRun) output.data(line);
    else output.detail(line);
  }
  const present = files.filter(({ outcome }) => outcome === 'present').length;
  const there = present === 0 ? '' : `, ${present} there already`;
  const bytes = formatBytes(wanted.reduce((sum, { size }) => sum + size, 0));
  output.note(
    dryRun
      ? `${wanted.length} of ${count(files.length, 'file')} (${bytes}) would be sent to ${place}`
      : `${count(wanted.length, 'file')} (${bytes}) sent to ${place}${there}; ${formatBytes(wireBytes)} moved`,
  );
}

function documentOf(result: PushContentResult, dryRun: boolean): object {
  return { dryRun, ...contentDocument(result) };
}

/** Also a part of what `git2db push` tells. */
export function contentDocument({ place, files, wireBytes }: PushContentResult): object {
  return {
    place: place ?? null,
    wireBytes,
    files: files.map(({ path, kind, hash, size, outcome, commit, error }) => ({
      ...pathDocument(path),
      kind,
      hash,
      size,
      outcome,
      commit: commit ?? null,
      message: error?.message ?? null,
    })),
  };
}
