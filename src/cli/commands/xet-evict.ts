import { count } from '../../count.ts';
import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { quotePath } from '../../filter-process/trace.ts';
import type { EvictResult } from '../../large-files/evict.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { formatBytes } from '../output.ts';
import { pathDocument } from '../present.ts';

const WAIT_MS = 60_000;

export const xetEvict = defineCommand({
  path: ['xet', 'evict'],
  summary: 'Drop local content that a remote provably holds',
  description: `Gives back the space that content takes in the store of this machine, where a remote holds
it: that the remote says so is not enough, every chunk must be in what it shows. Content
that was not pushed stays, and so does what another repository that uses the store needs.

PATH is a pathspec of git: the content of these files of the index. Without it, that of the
whole history. Files of the work tree stay as they are. A later checkout, or "git2db xet
pull", fetches what it needs again.

Only whole storage files, and those that are largely of such content, are given back at
once; the rest goes with a later "git2db xet gc". Content of LFS pointers stays.

JSON: {"dryRun","files":[{"path","hash","size","outcome","place","reason"}],"freedBytes"};
"outcome" is held (at "place", dropped here) or kept (for "reason").`,
  operands: { usage: '[PATH...]', min: 0, max: Number.POSITIVE_INFINITY, complete: 'file' },
  options: {
    'dry-run': { type: 'boolean', alias: 'n', describe: 'Drop nothing, list what would be dropped' },
  },
  examples: [
    ['git2db xet evict --dry-run', 'what a remote holds'],
    ["git2db xet evict 'old/*.bin'", 'the content of some files'],
  ],
  exitCodes: [
    [EXIT_FALSE, 'Some content stays; with --verbose, or where PATH was given, each is named'],
    [4, 'Not in a repository'],
    [8, 'A repository or shard cannot be read, or a gc is at work'],
    [130, 'Interrupted; nothing is lost'],
  ],
  async run({ options, operands }, context) {
    const { cwd, env, output, json } = context;
    const { evict } = await import('../large-files-library.ts');
    const dryRun = options['dry-run'];
    const activity = output.activity('evicting content');
    let result: EvictResult;
    try {
      result = await evict({
        cwd,
        env,
        pathspecs: operands,
        dryRun,
        mayPrompt: env.GIT_TERMINAL_PROMPT !== '0',
        waitMs: WAIT_MS,
        warn: (line) => output.warn(line),
        signal: context.interruptible(),
      });
    } finally {
      activity.finish();
    }
    const kept = result.files.filter(({ outcome }) => outcome === 'kept');
    for (const { path, hash, reason } of kept) {
      const line = `${path.length === 0 ? hash : quotePath(path)} stays: ${reason}`;
      if (operands.length > 0) output.error(line);
      else output.detail(line);
    }
    if (json) output.json(documentOf(result, dryRun));
    else describe(result, dryRun, context);
    return kept.length === 0 ? EXIT_OK : EXIT_FALSE;
  },
});

function freedBytes({ report }: EvictResult): number {
  return report === undefined ? 0 : report.bytes.deleted - report.bytes.added;
}

function describe(result: EvictResult, dryRun: boolean, { output }: CommandContext): void {
  const held = result.files.filter(({ outcome }) => outcome === 'held');
  for (const { path, size, place } of held) {
    const line = `${formatBytes(size)}  ${quotePath(path)}  (${place})`;
    if (dryRun) output.data(line);
    else output.detail(line);
  }
  const kept = result.files.length - held.length;
  const bytes = formatBytes(held.reduce((sum, { size }) => sum + size, 0));
  const freed = formatBytes(Math.max(0, freedBytes(result)));
  output.note(
    `${count(held.length, 'file')} (${bytes}) ${dryRun ? 'would be dropped' : 'dropped'}, ` +
      `${freed} ${dryRun ? 'would be freed' : 'freed'}${kept === 0 ? '' : `; ${count(kept, 'stays', 'stay')}`}`,
  );
}

function documentOf(result: EvictResult, dryRun: boolean): object {
  return {
    dryRun,
    files: result.files.map(({ path, hash, size, outcome, place, reason }) => ({
      ...pathDocument(path),
      hash,
      size,
      outcome,
      place: place ?? null,
      reason: reason ?? null,
    })),
    freedBytes: Math.max(0, freedBytes(result)),
  };
}
