import { count } from '../../count.ts';
import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { quotePath } from '../../filter-process/trace.ts';
import type { PointerFile } from '../../large-files/pointer-files.ts';
import type { PullOptions, PullResult } from '../../large-files/pull.ts';
import type { FailedFile } from '../../large-files/pull-failure.ts';
import { type Command, type CommandContext, defineCommand } from '../command.ts';
import { completeWorktreesHere } from '../complete-worktrees.ts';
import { formatBytes, formatTable } from '../output.ts';
import { pathDocument } from '../present.ts';
import { TransferBar } from '../transfer-bar.ts';

const DESCRIPTION = `Puts content in the place of the pointers in the work tree: those of
"git clone" without the filter, of --skip-smudge, and of content that was not to
be had then. Git itself takes no part, which would hold each file in memory: here
memory stays small whatever the size of a file, and all processors work.

PATH is a pathspec of git: a file, a directory, '*.bin', ':!data'. Without it, the
whole work tree is looked at. Only files with filter=xet whose pointer is the one
in the index are touched; a file that is no pointer any more stays as it is. No
symbolic link is followed. Content that the store does not have is fetched from the
remotes first (as by "git2db xet fetch"), unless --no-fetch is given. A file that fails
is named, and the others are done. Overlay worktrees of a registry that lack content get
it in the tree that they share, as far as they can be mounted anew now. Afterwards the index is told, so that "git status" starts no filter.

Interrupted, it leaves whole files and pointers, nothing in between; run it again to
go on.

JSON: {"dryRun","written":[{"path","size"}],"failed":[{"path","size","kind",
"message"}],"index"}; paths start at the top of the work tree, "kind" is missing,
damaged, refused or failed. "index" is updated, updated-by-git (with the help of
the filter), left-alone, or null where nothing was written.`;

function pullCommand(word: 'pull' | 'checkout', summary: string, description: string): Command {
  return defineCommand({
    path: ['xet', word],
    summary,
    description,
    operands: { usage: '[PATH...]', min: 0, max: Number.POSITIVE_INFINITY, complete: 'file' },
    options: {
      'dry-run': { type: 'boolean', alias: 'n', describe: 'Write nothing, list what would be written' },
      'no-fetch': { type: 'boolean', describe: 'Only what is on this machine' },
    },
    examples: [
      [`git2db xet ${word}`, 'after "git clone" without content'],
      [`git2db xet ${word} 'models/*.safetensors' ':!*-fp32*'`, 'some of it'],
      [`git2db xet ${word} --dry-run`, 'how much that would be'],
    ],
    exitCodes: [
      [EXIT_FALSE, 'Some files are still pointers; each is named'],
      [4, 'Not in the work tree of a repository'],
      [24, 'It does not fit on the disk; nothing was written'],
      [130, 'Interrupted'],
    ],
    async run({ options, operands }, context) {
      const place = { cwd: context.cwd, env: context.env, pathspecs: operands };
      if (options['dry-run']) return await showPlan(place, context);
      return await pullNow(place, !options['no-fetch'], context);
    },
  });
}

export const xetPull = pullCommand('pull', 'Replace the pointers in the work tree by content', DESCRIPTION);

export const xetCheckout = pullCommand(
  'checkout',
  'The same as "git2db xet pull"',
  `The same as "git2db xet pull".\n\n${DESCRIPTION}`,
);

type PullPlace = Pick<PullOptions, 'cwd' | 'env' | 'pathspecs'>;

async function showPlan(place: PullPlace, context: CommandContext): Promise<number> {
  const { output, json } = context;
  const { planPull } = await import('../large-files-library.ts');
  const { available, missing } = await planPull({
    ...place,
    signal: context.interruptible(),
    warn: (line) => output.warn(line),
  });
  if (json) output.json(documentOf(true, { written: available, failed: missing, index: undefined }));
  else {
    const rows = available.map(({ path, size }) => [formatBytes(size), quotePath(path)]);
    for (const line of formatTable([{ title: '', align: 'right' }, { title: '' }], rows)) output.data(line);
    output.note(`${countFiles(available)} would be written`);
  }
  reportFailures(missing, context);
  return missing.length === 0 ? EXIT_OK : EXIT_FALSE;
}

async function pullNow(place: PullPlace, fetch: boolean, context: CommandContext): Promise<number> {
  const { output, json } = context;
  const { pull } = await import('../large-files-library.ts');
  let progress: ReturnType<typeof output.progress> | undefined;
  const fetching = new TransferBar(output, 'fetching content');
  let result: PullResult;
  const signal = context.interruptible();
  try {
    result = await pull({
      ...place,
      signal,
      onContent: () => completeWorktreesHere(context, signal),
      warn: (line) => output.warn(line),
      fetch,
      mayPrompt: context.env.GIT_TERMINAL_PROMPT !== '0',
      onProgress: (event) => {
        if (event.kind === 'fetching') return fetching.show(event.event);
        if (event.kind === 'bytes') return progress?.advance(event.count);
        fetching.finish();
        progress = output.progress(`pulling ${count(event.files, 'file')}`, 'bytes', event.bytes);
      },
    });
  } finally {
    fetching.finish();
    progress?.finish();
  }
  for (const { path } of result.written) output.detail(`${quotePath(path)}: written`);
  reportFailures(result.failed, context);
  if (json) output.json(documentOf(false, result));
  else reportDone(result, context);
  return result.failed.length === 0 ? EXIT_OK : EXIT_FALSE;
}

function reportFailures(failed: readonly FailedFile[], { output }: CommandContext): void {
  for (const { path, message } of failed) output.error(`${quotePath(path)}: ${message}`);
}

function reportDone({ written, failed, index }: PullResult, { output }: CommandContext): void {
  if (written.length === 0 && failed.length === 0) output.note('there are no pointers to replace');
  else output.note(`${countFiles(written)} written${failed.length === 0 ? '' : `, ${failed.length} not`}`);
  if (index?.kind === 'left-alone') {
    output.note(
      `the index could not be told (${index.reason}): git calls the files modified until "git2db xet pull" is run again`,
    );
  } else if (index?.kind === 'updated-by-git') {
    output.note(`git has read the files for its index, which is one for git alone (${index.reason})`);
  }
}

function countFiles(files: readonly PointerFile[]): string {
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  return `${files.length} ${files.length === 1 ? 'file' : 'files'} (${formatBytes(bytes)})`;
}

function documentOf(dryRun: boolean, { written, failed, index }: PullResult): object {
  return {
    dryRun,
    written: written.map(({ path, size }) => ({ ...pathDocument(path), size })),
    failed: failed.map(({ path, size, kind, message }) => ({
      ...pathDocument(path),
      size,
      kind,
      message,
    })),
    index: index?.kind ?? null,
  };
}
