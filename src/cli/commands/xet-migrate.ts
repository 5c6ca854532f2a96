import { count } from '../../count.ts';
import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { quotePath } from '../../filter-process/trace.ts';
import type { PatternInfo } from '../../large-files/migrate.ts';
import type { MigrateLfsReport } from '../../large-files/migrate-lfs.ts';
import { shellWord } from '../../large-files/shell-word.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type CommandContext, defineCommand, NO_OPERANDS } from '../command.ts';
import { formatBytes, formatTable, type Progress } from '../output.ts';
import { pathDocument, pathsDocument } from '../present.ts';

const ABOVE = '1m';
/** What --estimate reads: a minute or two. */
const ESTIMATE_BYTES = 4 * 2 ** 30;
/** Patterns that the advice names. */
const ADVISED = 5;

export const xetMigrateInfo = defineCommand({
  path: ['xet', 'migrate', 'info'],
  summary: 'Show which large files git holds whole',
  description: `Looks through the history of HEAD, or of each REF, for blobs of at least --above
bytes and sums them up by kind of file: number of files and of versions, their
size, and what they take in git's object database. With --estimate, contents are
cut into chunks, the largest first and at most 4 GiB of them, to see how much of
them repeats, such as what versions of a file have in common.

Nothing is changed, and git2db never rewrites history: "git2db xet track
--renormalize PATTERN" makes pointers of the files from the next commit on; older
commits keep whole contents.

JSON: [{"pattern","files","blobs","bytes","diskBytes","tracked","estimate":
{"examinedBytes","uniqueBytes"}}]; "tracked" is true where .gitattributes says
filter=xet for some of the files, "estimate" null where nothing was examined.`,
  operands: { usage: '[REF...]', min: 0, max: Number.POSITIVE_INFINITY, complete: 'ref' },
  options: {
    above: { type: 'string', describe: `Smallest size that counts: 500k, 10m, 1g (${ABOVE})` },
    everything: { type: 'boolean', describe: 'All branches, tags and other refs' },
    estimate: { type: 'boolean', describe: 'Read contents to see how much of them repeats' },
  },
  examples: [
    ['git2db xet migrate info --everything', 'what makes this repository large?'],
    ['git2db xet migrate info --above 100k --estimate', 'and what would chunks save?'],
  ],
  exitCodes: [[4, 'Not in a repository']],
  async run({ options, operands }, context) {
    const { cwd, env, output, json } = context;
    if (options.everything && operands.length > 0)
      throw new Git2dbError('USAGE', `--everything leaves nothing for '${operands[0]}' to add`);
    let progress: Progress | undefined;
    let patterns: PatternInfo[];
    try {
      const { migrateInfo } = await import('../large-files-library.ts');
      patterns = await migrateInfo({
        cwd,
        env,
        refs: operands,
        everything: options.everything,
        above: parseSize('above', options.above ?? ABOVE),
        estimateBytes: options.estimate ? ESTIMATE_BYTES : 0,
        signal: context.interruptible(),
        onProgress: (event) => {
          if (event.kind === 'estimate') progress = output.progress('reading', 'bytes', event.totalBytes);
          else progress?.advance(event.bytes);
        },
      });
    } finally {
      progress?.finish();
    }
    if (json) output.json(patterns.map((pattern) => ({ ...pattern, estimate: pattern.estimate ?? null })));
    else describe(patterns, context);
    return EXIT_OK;
  },
});

function describe(patterns: readonly PatternInfo[], { output }: CommandContext): void {
  const columns = [
    { title: 'PATTERN' },
    { title: 'FILES', align: 'right' },
    { title: 'VERSIONS', align: 'right' },
    { title: 'SIZE', align: 'right' },
    { title: 'IN GIT', align: 'right' },
    { title: 'REPEATS' },
  ] as const;
  const rows = patterns.map(({ pattern, files, blobs, bytes, diskBytes, tracked, estimate }) => {
    const repeats = estimate && `${Math.round(100 - (100 * estimate.uniqueBytes) / estimate.examinedBytes)}%`;
    const partly =
      estimate !== undefined && estimate.examinedBytes < bytes
        ? ` of ${formatBytes(estimate.examinedBytes)}`
        : '';
    const note = `${repeats ?? ''}${partly}${tracked ? ' (tracked)' : ''}`.trim();
    return [pattern, String(files), String(blobs), formatBytes(bytes), formatBytes(diskBytes), note];
  });
  if (rows.length === 0) {
    output.note('git holds no blobs of that size');
    return;
  }
  for (const line of formatTable(columns, rows)) output.data(line);
  const advised = patterns.filter(({ tracked }) => !tracked).slice(0, ADVISED);
  if (advised.length > 0) {
    const words = advised.map(({ pattern }) => shellWord(pattern)).join(' ');
    output.note(`to keep pointers from the next commit on: git2db xet track --renormalize ${words}`);
  }
  output.note('older commits keep whole contents: git2db does not rewrite history');
}

export const xetMigratePointers = defineCommand({
  path: ['xet', 'migrate', 'pointers'],
  summary: 'Replace pointers of other Xet programs by our own in the index',
  description: `Pointers that other Xet programs wrote (JSON of xet-core, the old TOML) are read, and
left as they are. This stages the same pointers in the form that git2db writes,
for the paths that have filter=xet, and writes files of the work tree anew that
are such pointers. Contents are not touched, nothing is committed: look at "git
diff --cached", then commit.

JSON: {"dryRun","converted":[{"path","kind","from","to"}],"untracked"}; "kind" is
xet-json or xet-toml, "from" and "to" are blobs ("to" is null in a dry run),
"untracked" are paths of such pointers without filter=xet, which stay.`,
  operands: NO_OPERANDS,
  options: {
    'dry-run': { type: 'boolean', alias: 'n', describe: 'Change nothing, say what would be done' },
  },
  examples: [["git2db xet migrate pointers && git commit -m 'Pointers of git2db'", 'once for a repository']],
  exitCodes: [[4, 'Not in the work tree of a repository']],
  async run({ options }, { cwd, env, output, json }) {
    const dryRun = options['dry-run'];
    const { migratePointers } = await import('../large-files-library.ts');
    const { converted, untracked } = await migratePointers({ cwd, env, dryRun });
    if (json) {
      output.json({
        dryRun,
        converted: converted.map((file) => ({
          ...file,
          ...pathDocument(file.path),
          to: file.to ?? null,
        })),
        ...pathsDocument('untracked', untracked),
      });
    }
    for (const { path } of converted)
      output.note(`${quotePath(path)}: ${dryRun ? 'would be ' : ''}converted`);
    for (const path of untracked) {
      output.warn(
        `${quotePath(path)} is a pointer without filter=xet: left alone; 'git2db xet track' says which files are large`,
      );
    }
    if (converted.length === 0) output.note('no pointers of other programs to convert');
    return EXIT_OK;
  },
});

export const xetMigrateLfs = defineCommand({
  path: ['xet', 'migrate', 'lfs'],
  summary: 'Move what git-lfs keeps whole into the chunk store',
  description: `Stores the contents below .git/lfs/objects as chunks, where versions of a file
share what they have in common, and deletes each object once it was read back from
the store, every byte of it. Pointers and history stay as they are: files with
filter=lfs get their contents from the store, so "git2db xet install --lfs" comes
first. With --keep, nothing is deleted.

With --back the other way round, for a return to git-lfs: what history and index refer to,
and this machine has as chunks, is written below .git/lfs/objects again. The store keeps it,
too.

JSON: {"dryRun","directory","objects","bytes","stored","deleted","deletedBytes",
"storeGrowth","savedBytes","failed":[{"sha256","reason"}]}; "storeGrowth" and
"savedBytes" are null in a dry run. With --back: {"dryRun","directory","objects",
"restored","restoredBytes","failed"}.`,
  operands: NO_OPERANDS,
  options: {
    'dry-run': { type: 'boolean', alias: 'n', describe: 'Change nothing, say what is there' },
    keep: { type: 'boolean', describe: 'Leave the objects of git-lfs where they are' },
    back: { type: 'boolean', describe: 'Write what is chunks now to where git-lfs looks for it' },
  },
  examples: [
    ['git2db xet migrate lfs --dry-run', 'how much is there?'],
    ['git2db xet install --lfs && git2db xet migrate lfs', 'in place of git-lfs'],
    ['git2db xet migrate lfs --back && git2db xet uninstall --lfs', 'back to git-lfs'],
  ],
  exitCodes: [
    [1, 'Some objects are damaged, and stay'],
    [8, 'git-lfs, or another repository, would miss its objects'],
  ],
  async run({ options }, context) {
    const { cwd, env, output, json } = context;
    const dryRun = options['dry-run'];
    if (options.back) {
      if (options.keep) throw new Git2dbError('USAGE', '--back and --keep exclude each other');
      return migrateBack(dryRun, context);
    }
    let progress: Progress | undefined;
    const { migrateLfs } = await import('../large-files-library.ts');
    let report: MigrateLfsReport;
    try {
      report = await migrateLfs({
        cwd,
        env,
        dryRun,
        keep: options.keep,
        signal: context.interruptible(),
        warn: (message) => output.warn(message),
        onProgress: (event) => {
          if (event.kind === 'found') progress = output.progress('storing', 'bytes', event.bytes);
          else progress?.advance(event.bytes);
        },
      });
    } finally {
      progress?.finish();
    }
    const { storeGrowth, deletedBytes } = report;
    const savedBytes = storeGrowth === undefined ? null : deletedBytes - storeGrowth;
    if (json) output.json({ dryRun, ...report, storeGrowth: storeGrowth ?? null, savedBytes });
    for (const { sha256, reason } of report.failed) output.warn(`${sha256}: ${reason}; left alone`);
    if (!json) describeLfs(report, dryRun, savedBytes, context);
    return report.failed.length === 0 ? EXIT_OK : EXIT_FALSE;
  },
});

export const xetMigrateToLfs = defineCommand({
  path: ['xet', 'migrate', 'to-lfs'],
  summary: 'Stage Git LFS pointers in place of our own',
  description: `For remotes that read Git LFS pointers only, such as the Hugging Face Hub. Stages, for
every pointer of git2db in the index, the Git LFS pointer of the same content, and
filter=lfs in place of filter=xet in .gitattributes. All or nothing; contents are
neither moved nor stored again, nothing is committed: look at "git diff --cached",
then commit. "git2db xet install --lfs" comes first.

Commits that exist stay as they are. Where some that are not pushed yet hold the
old pointers, make one commit of them: git reset --soft @{upstream}, and commit.

JSON: {"dryRun","converted":[{"path","from","to"}],"attributes":["path"]}; "from"
and "to" are blobs, "to" is null in a dry run.`,
  operands: NO_OPERANDS,
  options: {
    'dry-run': { type: 'boolean', alias: 'n', describe: 'Change nothing, say what would be done' },
  },
  examples: [["git2db xet migrate to-lfs && git commit -m 'Git LFS pointers'", 'before a push to the Hub']],
  exitCodes: [
    [4, 'Not in the work tree of a repository'],
    [8, 'filter=lfs is not served by git2db'],
    [9, 'The content of a file is not here, so its SHA-256 is not known'],
  ],
  async run({ options }, context) {
    const { cwd, env, output, json } = context;
    const dryRun = options['dry-run'];
    const { migrateToLfs } = await import('../large-files-library.ts');
    const { converted, attributes } = await migrateToLfs({
      cwd,
      env,
      dryRun,
      signal: context.interruptible(),
      warn: (message) => output.warn(message),
    });
    if (json) {
      output.json({
        dryRun,
        converted: converted.map(({ path, from, to }) => ({
          ...pathDocument(path),
          from,
          to: to ?? null,
        })),
        attributes,
      });
    }
    const would = dryRun ? 'would be ' : '';
    for (const path of attributes) output.note(`${path}: ${would}changed to filter=lfs`);
    for (const { path } of converted) output.note(`${quotePath(path)}: ${would}converted`);
    if (converted.length === 0) output.note('no pointers of git2db to convert');
    return EXIT_OK;
  },
});

async function migrateBack(dryRun: boolean, context: CommandContext): Promise<number> {
  const { cwd, env, output, json } = context;
  const { restoreLfs } = await import('../large-files-library.ts');
  const signal = context.interruptible();
  const warn = (message: string) => output.warn(message);
  const report = await restoreLfs({ cwd, env, dryRun, signal, warn });
  const { directory, objects, restored, restoredBytes, failed } = report;
  for (const { sha256, reason } of failed) output.warn(`${sha256}: ${reason}`);
  if (json) output.json({ dryRun, ...report });
  else {
    const would = dryRun ? 'would be written' : 'written';
    output.note(
      `${restored} of ${count(objects, 'object')} (${formatBytes(restoredBytes)}) ${would} to ${directory}`,
    );
  }
  return failed.length === 0 ? EXIT_OK : EXIT_FALSE;
}

function describeLfs(
  { directory, objects, bytes, stored, deleted, deletedBytes, storeGrowth }: MigrateLfsReport,
  dryRun: boolean,
  savedBytes: number | null,
  { output }: CommandContext,
): void {
  const all = `${count(objects, 'object')} (${formatBytes(bytes)})`;
  if (dryRun) {
    output.note(`${all} in ${directory}`);
    return;
  }
  output.note(`${stored} of ${all} are in the store, which has grown by ${formatBytes(storeGrowth ?? 0)}`);
  if (deleted > 0) {
    const gain = savedBytes ?? 0;
    output.note(
      `${deleted} deleted (${formatBytes(deletedBytes)}): ${formatBytes(Math.abs(gain))} ${gain < 0 ? 'more' : 'less'} on the disk`,
    );
  }
}

function parseSize(name: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?$/i.exec(text);
  const unit = { k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }[match?.[2]?.toLowerCase() ?? ''] ?? 1;
  if (match === null)
    throw new Git2dbError('USAGE', `--${name} needs a size such as 500k or 10m, found '${text}'`);
  return Math.floor(Number(match[1]) * unit);
}
