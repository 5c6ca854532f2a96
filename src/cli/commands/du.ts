import { join } from 'node:path';
import { EXIT_OK } from '../../exit-codes.ts';
import type { RepositoryRecord, Worktree, WorktreeUsage } from '../../registry/index.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { formatBytes, formatTable } from '../output.ts';
import { plain } from '../present.ts';
import { COMMON_EXIT_CODES, REGISTRY_OPTIONS } from '../registry-options.ts';
import { type Session, withRegistry, withRepository } from '../registry-session.ts';

interface TreeUsage {
  readonly path: string;
  readonly branch: string | undefined;
  readonly driver: string;
  readonly ownBytes: number;
  readonly shared: WorktreeUsage['shared'];
}

interface RepositoryUsage {
  readonly name: string;
  readonly path: string;
  readonly gitBytes: number;
  readonly worktrees: readonly TreeUsage[];
}

export const duCommand = defineCommand({
  path: ['du'],
  summary: 'Show what takes space, what is shared, and what that saves',
  description: `Shows, as du(1) counts it, what the git directories of repositories take, what each worktree
takes by itself, and what worktrees share: trees of the registry, and the store of large
files ("git2db xet du" looks into that). Without REPO the whole registry is looked at;
"." is the repository of the current directory. The main work trees are not counted.

What is saved is told against worktrees that each have all files: of N worktrees on one
tree, each with a part d of its size of its own, 1 - (1 + N d) / N is saved.

JSON: {"repositories":[{"name","path","gitBytes","worktrees":[{"path","branch","driver",
"ownBytes","shared":[{"layer","bytes","sharers"}]}]}],"storeBytes","layerBytes",
"unusedLayerBytes","spareBytes","worktreeBytes","sharing":{"worktrees","fullBytes",
"actualBytes","ownPart","saved"}}. "worktreeBytes" is what worktrees take by themselves,
"spareBytes" what is kept for a removal on a full disk (it and "unusedLayerBytes" null for
one REPO of several); "sharing" is about overlay worktrees ("worktrees" is N, "ownPart" d),
null where there is none.`,
  operands: { usage: '[REPO]', min: 0, max: 1, complete: 'repository' },
  options: REGISTRY_OPTIONS,
  examples: [
    ['git2db du', 'the whole registry'],
    ['git2db du org/model', 'one repository and its worktrees'],
  ],
  exitCodes: COMMON_EXIT_CODES,
  async run({ options, operands }, context) {
    if (operands[0] !== undefined) {
      return withRepository(operands[0], options, context, (target) =>
        report(target, [target.record], context),
      );
    }
    return withRegistry(options, context, (session) => report(session, session.db.list(), context));
  },
});

async function report(
  session: Session,
  records: readonly RepositoryRecord[],
  context: CommandContext,
): Promise<number> {
  const { library, db, signal } = session;
  const { output, json } = context;
  const bar = output.progress('looking at repositories', 'items', records.length);
  const repositories: RepositoryUsage[] = [];
  try {
    for (const record of records) {
      signal.throwIfAborted();
      try {
        repositories.push(await usageOf(session, record));
      } catch (error) {
        if (records.length === 1) throw error;
        output.warn(`${record.name}: ${(error as Error).message}`);
      }
      bar.advance(1);
    }
  } finally {
    bar.finish();
  }
  const trees = repositories.flatMap(({ worktrees }) => worktrees);
  const layers = new Map(
    trees.flatMap(({ shared }) => shared.map(({ layer, bytes }) => [layer, bytes] as const)),
  );
  const usedBytes = sum([...layers.values()]);
  const isWhole = records.length === db.list().length;
  const unusedLayerBytes = isWhole
    ? Math.max(0, (await library.diskBytes(db.home.layers)) - usedBytes)
    : undefined;
  const document = {
    repositories,
    storeBytes: db.home.store === undefined ? 0 : await library.diskBytes(db.home.store),
    layerBytes: usedBytes,
    unusedLayerBytes,
    spareBytes: isWhole ? await library.spareBytes(db.home) : undefined,
    worktreeBytes: sum(trees.map(({ ownBytes }) => ownBytes)),
    sharing: sharingOf(trees, usedBytes),
  };
  if (json) output.json(plain(document));
  else describe(document, context);
  return EXIT_OK;
}

async function usageOf({ library, db }: Session, record: RepositoryRecord): Promise<RepositoryUsage> {
  await using handle = await db.repo(record.id);
  const { commonDir } = handle.place;
  const worktrees: TreeUsage[] = [];
  for (const tree of await handle.worktree().list())
    worktrees.push({ ...named(tree), ...(await tree.diskUsage()) });
  // A repository that is in no registry keeps worktrees inside; those are counted by themselves.
  const gitBytes =
    (await library.diskBytes(commonDir)) - (await library.diskBytes(join(commonDir, 'git2db')));
  return { name: record.name, path: db.absolutePath(record), gitBytes, worktrees };
}

function named({ path, branch, backend, driver }: Worktree): Pick<TreeUsage, 'path' | 'branch' | 'driver'> {
  return { path, branch, driver: backend === undefined ? driver : `${driver} (${backend})` };
}

export interface Sharing {
  /** N. */
  readonly worktrees: number;
  /** Had each its own copy of what it shares. */
  readonly fullBytes: number;
  readonly actualBytes: number;
  /** d: what each has of its own, as a part of what it shares. */
  readonly ownPart: number;
  readonly saved: number;
}

/** Undefined where nothing is shared. `layerBytes`: every layer once. */
export function sharingOf(
  trees: readonly Pick<TreeUsage, 'ownBytes' | 'shared'>[],
  layerBytes: number,
): Sharing | undefined {
  const sharing = trees.filter(({ shared }) => shared.length > 0);
  const fullBytes = sum(sharing.map(({ shared }) => sum(shared.map(({ bytes }) => bytes))));
  if (fullBytes === 0) return undefined;
  const own = sum(sharing.map(({ ownBytes }) => ownBytes));
  const actualBytes = layerBytes + own;
  return {
    worktrees: sharing.length,
    fullBytes,
    actualBytes,
    ownPart: own / fullBytes,
    saved: 1 - actualBytes / fullBytes,
  };
}

function describe(
  document: {
    readonly repositories: readonly RepositoryUsage[];
    readonly storeBytes: number;
    readonly layerBytes: number;
    readonly unusedLayerBytes: number | undefined;
    readonly spareBytes: number | undefined;
    readonly worktreeBytes: number;
    readonly sharing: Sharing | undefined;
  },
  { output }: CommandContext,
): void {
  const rows: string[][] = [];
  for (const { name, gitBytes, worktrees } of document.repositories) {
    rows.push([formatBytes(gitBytes), '', output.style('bold', name), 'git directory']);
    for (const { path, branch, driver, ownBytes, shared } of worktrees) {
      const sharedBytes = sum(shared.map(({ bytes }) => bytes));
      const sharers = Math.max(0, ...shared.map((layer) => layer.sharers));
      const with_ = sharedBytes === 0 ? '' : `+ ${formatBytes(sharedBytes)} shared by ${sharers}`;
      rows.push([formatBytes(ownBytes), with_, `  ${branch ?? path}`, driver]);
    }
  }
  const columns = [
    { title: 'own', align: 'right' as const },
    { title: 'shared' },
    { title: '' },
    { title: '' },
  ];
  for (const line of formatTable(columns, rows)) output.data(line);
  const totals: string[][] = [
    ['git directories', formatBytes(sum(document.repositories.map(({ gitBytes }) => gitBytes)))],
    ['worktrees themselves', formatBytes(document.worktreeBytes)],
    ['trees that they share', formatBytes(document.layerBytes)],
    ['store of large files', formatBytes(document.storeBytes)],
  ];
  const { unusedLayerBytes, spareBytes, sharing } = document;
  if (spareBytes !== undefined && spareBytes > 0)
    totals.push(['kept for removals on a full disk', formatBytes(spareBytes)]);
  if (unusedLayerBytes !== undefined && unusedLayerBytes > 1 << 20) {
    totals.push([
      'trees nobody uses',
      `${formatBytes(unusedLayerBytes)} ('git2db worktree prune' gives them back)`,
    ]);
  }
  if (sharing !== undefined && sharing.saved > 0) {
    const { worktrees, saved, fullBytes, actualBytes } = sharing;
    const percent = (100 * saved).toFixed(1);
    totals.push([
      'saved by sharing',
      `${percent}% (${worktrees} worktrees: ${formatBytes(actualBytes)} instead of ${formatBytes(fullBytes)})`,
    ]);
  }
  output.data('');
  for (const line of formatTable([{ title: '' }, { title: '' }], totals)) output.data(line);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
