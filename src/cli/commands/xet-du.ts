import { count } from '../../count.ts';
import { EXIT_OK } from '../../exit-codes.ts';
import { quotePath } from '../../filter-process/trace.ts';
import type { StorePart, StoreUsage } from '../../large-files/du.ts';
import { type CommandContext, defineCommand, NO_OPERANDS } from '../command.ts';
import { formatBytes, formatTable } from '../output.ts';
import { pathDocument } from '../present.ts';

export const xetDu = defineCommand({
  path: ['xet', 'du'],
  summary: 'Show what the store takes and what it saves',
  description: `Shows the size of the files that the store knows and of those that this repository
names (its refs, reflogs, stash, indexes and worktrees), what deduplication and
compression save, what the parts of the store take, and about how much "git2db
xet gc" could free: an estimate from the shards that knows no grace period.

Sizes are apparent sizes; "total" is what "du --apparent-size" says.

JSON: {"store","totalBytes","parts":{"xorbs","shards","catalog","incoming",
"quarantine","trash","other"},"counts":{"xorbs","shards","tables","chunks"},
"known":{"files","bytes"},"referenced":{…},"missing":{…},"chunkBytes",
"storedBytes","reclaimable":{"xorbs","bytes"},"largest":[{"path","size",
"fileHash"}],"unreadable"}. "known" are all files of the store, "missing" those
that this repository names and the store does not have; "chunkBytes" is what is
left of "known" without repetitions, "storedBytes" the same compressed;
"reclaimable" is null when a repository in "unreadable" could not be looked at.`,
  operands: NO_OPERANDS,
  options: {},
  examples: [['git2db xet du', 'the store of this repository']],
  exitCodes: [[4, 'Not in a repository']],
  async run(_, context) {
    const { cwd, env, output, json } = context;
    const { diskUsage, STORE_PARTS } = await import('../large-files-library.ts');
    const usage = await diskUsage({ cwd, env, signal: context.interruptible() });
    if (json) {
      const largest = usage.largest.map((file) => ({ ...file, ...pathDocument(file.path) }));
      output.json({ ...usage, largest, reclaimable: usage.reclaimable ?? null });
    } else {
      describe(usage, STORE_PARTS, context);
    }
    return EXIT_OK;
  },
});

function describe(usage: StoreUsage, partNames: readonly StorePart[], { output }: CommandContext): void {
  const { known, referenced, missing, chunkBytes, storedBytes, counts, parts, reclaimable } = usage;
  const rows: string[][] = [
    ['known files', formatBytes(known.bytes), `${known.files}`],
    ['without repetitions', formatBytes(chunkBytes), saving(known.bytes, chunkBytes)],
    ['stored', formatBytes(storedBytes), saving(chunkBytes, storedBytes)],
    ['named by this repository', formatBytes(referenced.bytes), `${referenced.files}`],
    ['of these not in the store', formatBytes(missing.bytes), `${missing.files}`],
  ];
  const numbers: Partial<Record<StorePart, string>> = {
    xorbs: `${counts.xorbs}, with ${count(counts.chunks, 'chunk')}`,
    shards: `${counts.shards}`,
    catalog: count(counts.tables, 'table'),
  };
  for (const part of partNames) rows.push([part, formatBytes(parts[part]), numbers[part] ?? '']);
  rows.push(['total', formatBytes(usage.totalBytes), usage.store]);
  rows.push(['gc could free about', reclaimable === undefined ? '?' : formatBytes(reclaimable.bytes), '']);
  const columns = [{ title: '' }, { title: '', align: 'right' as const }, { title: '' }];
  for (const line of formatTable(columns, rows)) output.data(line);
  if (usage.largest.length > 0) {
    output.data('');
    const files = usage.largest.map(({ path, size, fileHash }) => [
      formatBytes(size),
      fileHash.slice(0, 12),
      quotePath(path),
    ]);
    for (const line of formatTable([{ title: '', align: 'right' }, { title: '' }, { title: '' }], files))
      output.data(line);
  }
  for (const commonDir of usage.unreadable)
    output.warn(`${commonDir} uses this store and could not be looked at`);
}

function saving(before: number, after: number): string {
  return before > after
    ? `${formatBytes(before - after)} saved, ${Math.round((100 * (before - after)) / before)}%`
    : '';
}
