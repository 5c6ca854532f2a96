/** What the removal of a repository would delete, what speaks against it, and what stays. Changes nothing. */
import { existsSync, lstatSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { repositoryAt } from '../git/repository.ts';
import { Git2dbError } from '../xet/errors.ts';
import { type GitPlace, openPlace } from './git-place.ts';
import type { Git2DB } from './git2db.ts';
import type { RepositoryRecord } from './metadata.ts';
import { worktreeMounts } from './mount-points.ts';
import { isInRoot } from './path-rebase.ts';
import { findUnpushed, openSubmodules } from './unpushed.ts';
import { findWorkInProgress } from './work-in-progress.ts';
import { listWorktrees, planRemoval } from './worktree/index.ts';
import { operationsIn, type ReasonKind } from './worktree/removal-reasons.ts';
import { listStates, worktreeDirectory } from './worktree/worktree-store.ts';

/** Why a removal would lose something. */
export interface RepositoryRemovalReason {
  readonly kind: ReasonKind | 'unpushed' | 'stash' | 'worktree';
  /** The repository or worktree. */
  readonly path: string;
  /** One line for a person. */
  readonly message: string;
  /** Files, refs, stashes, names of operations: all of them. */
  readonly items: readonly string[];
}

export interface RemovalReport {
  readonly id: string;
  readonly name: string;
  /** Absolute. */
  readonly path: string;
  readonly adopted: boolean;
  readonly removed: boolean;
  readonly dryRun: boolean;
  readonly reasons: readonly RepositoryRemovalReason[];
  /** What is (or would be) deleted, absolute. */
  readonly deletes: readonly string[];
  /** What stays, though it belongs to it: an adopted repository, worktrees of other makers. */
  readonly keeps: readonly string[];
  readonly notes: readonly string[];
}

const SHOWN = 5;

export interface RemovalPlan {
  readonly report: Omit<RemovalReport, 'dryRun'>;
  /** Undefined: there is no repository to look at. The caller closes it. */
  readonly place: GitPlace | undefined;
  /** Ids of the worktrees that git2db made. */
  readonly worktrees: readonly string[];
}

export async function makePlan(
  registry: Git2DB,
  record: RepositoryRecord,
  signal: AbortSignal | undefined,
): Promise<RemovalPlan> {
  const path = registry.absolutePath(record);
  const base = {
    id: record.id,
    name: record.name,
    path,
    adopted: record.adopted,
    removed: false,
    reasons: [],
  };
  if (record.adopted) return planAdopted(registry, record, base, signal);
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return planGone(registry, base);
  checkContained(registry.root, path);
  checkNotMounted(path);
  if (!stat.isDirectory() || repositoryAt(path) === undefined) {
    const reason = reasonOf(
      'unreadable',
      path,
      'is no git repository (any more), so what is in it cannot be judged',
      [path],
    );
    return {
      report: { ...base, reasons: [reason], deletes: [path], ...orphansOf(registry, path) },
      place: undefined,
      worktrees: [],
    };
  }
  const place = await openPlace(path, { trusted: record.trusted, env: registry.env });
  try {
    const worktrees = await listWorktrees(place, registry.home, { signal });
    const foreign = worktrees.filter((worktree) => worktree.foreign);
    // Also those that are half made or half removed, which are in no list.
    const own = listStates(registry.home, place.commonDir);
    const reasons = [
      ...(await mainReasons(place, signal)),
      ...(await planRemoval(place, registry.home, { signal })),
      ...foreign.map((worktree) =>
        reasonOf(
          'worktree',
          worktree.path,
          'is a worktree that git2db did not make, and would stop working',
          [worktree.path],
        ),
      ),
    ];
    return {
      report: {
        ...base,
        reasons,
        deletes: [path, ...own.map((worktree) => worktree.path)],
        keeps: foreign.map((worktree) => worktree.path),
        notes: [],
      },
      place,
      worktrees: own.map(({ id }) => id),
    };
  } catch (error) {
    await place.close();
    throw error;
  }
}

type PlanBase = Omit<RemovalReport, 'dryRun' | 'deletes' | 'keeps' | 'notes'>;

/** Nothing of the repository goes but its worktrees that git2db made, by the rules of all others. */
async function planAdopted(
  registry: Git2DB,
  record: RepositoryRecord,
  base: PlanBase,
  signal: AbortSignal | undefined,
): Promise<RemovalPlan> {
  const { path } = base;
  if (repositoryAt(path) === undefined) return planGone(registry, base);
  const place = await openPlace(path, { trusted: record.trusted, env: registry.env });
  try {
    const own = listStates(registry.home, place.commonDir);
    const reasons =
      own.length === 0 ? [] : await planRemoval(place, registry.home, { signal, foreign: false });
    const trees = own.length === 0 ? '' : ', and the worktrees that git2db made for it';
    const notes = [`it was adopted: its entry goes${trees}; its directory and git data stay as they are`];
    return {
      report: { ...base, reasons, deletes: own.map((tree) => tree.path), keeps: [path], notes },
      place,
      worktrees: own.map(({ id }) => id),
    };
  } catch (error) {
    await place.close();
    throw error;
  }
}

/** Without a repository nobody can tell what its worktrees hold. */
function planGone(registry: Git2DB, base: PlanBase): RemovalPlan {
  const { path, adopted } = base;
  const isHere = existsSync(path);
  const notes = [
    isHere
      ? `${path} is no repository any more: only the entry goes`
      : `${path} is gone already: only the entry goes`,
  ];
  const orphans = orphansOf(registry, path);
  const keeps = [...(isHere && adopted ? [path] : []), ...orphans.keeps];
  return {
    report: { ...base, deletes: [], keeps, notes: [...notes, ...orphans.notes] },
    place: undefined,
    worktrees: [],
  };
}

/** The worktrees of what is no repository any more: they stay, and are named. */
function orphansOf(registry: Git2DB, path: string): { keeps: string[]; notes: string[] } {
  const states = [path, join(path, '.git')].flatMap((commonDir) => listStates(registry.home, commonDir));
  return {
    keeps: states.map((tree) => tree.path),
    notes: states.map(
      ({ id, path: tree }) =>
        `its worktree ${tree} stays; what was changed in it is in ${worktreeDirectory(registry.home, id)}: ` +
        'unmount and delete both when nothing of that is needed',
    ),
  };
}

/** Of the repository itself, and of its submodules' repositories. */
async function mainReasons(
  place: GitPlace,
  signal: AbortSignal | undefined,
): Promise<RepositoryRemovalReason[]> {
  const reasons: RepositoryRemovalReason[] = [];
  const path = place.workTree ?? place.gitDir;
  function add(
    kind: RepositoryRemovalReason['kind'],
    at: string,
    what: string,
    items: readonly string[],
  ): void {
    if (items.length > 0) reasons.push(reasonOf(kind, at, what, items));
  }
  add('operation', path, 'in progress', operationsIn(place.gitDir));
  if (existsSync(join(place.gitDir, 'index.lock'))) {
    add('operation', path, 'a git command is at work, or has crashed', [join(place.gitDir, 'index.lock')]);
  }
  const { modified, untracked } = await findWorkInProgress(place, { signal });
  add('modified', path, 'modified files', modified);
  add('untracked', path, 'untracked files', untracked);
  const submodules = await openSubmodules(place);
  try {
    for (const each of [place, ...submodules]) {
      const at = each === place ? path : each.commonDir;
      const { refs, stashes } = await findUnpushed(each, { signal });
      add('unpushed', at, 'commits that no remote-tracking branch has, on', refs);
      add('stash', at, 'stashes', stashes);
    }
  } finally {
    for (const submodule of submodules) await submodule.close();
  }
  return reasons;
}

function reasonOf(
  kind: RepositoryRemovalReason['kind'],
  path: string,
  what: string,
  items: readonly string[],
): RepositoryRemovalReason {
  const more = items.length > SHOWN ? ` and ${items.length - SHOWN} more` : '';
  const list = items.length === 1 && items[0] === path ? '' : `: ${items.slice(0, SHOWN).join(', ')}${more}`;
  return { kind, path, items, message: `${path}: ${what}${list}` };
}

/** A link on the way would lead the removal to what is not ours. */
function checkContained(root: string, path: string): void {
  const parent = realpathSync(dirname(path));
  if (isInRoot(parent, join(root, 'repos'))) return;
  throw new Git2dbError('REFUSED', `${path} leads out of the registry, to ${parent}: mend that first`, {
    data: { path, parent },
  });
}

function checkNotMounted(path: string): void {
  const mounted = worktreeMounts(path);
  if (mounted.length === 0) return;
  throw new Git2dbError(
    'MOUNT_BUSY',
    `something is mounted in ${path}, on ${mounted.join(', ')}: unmount it first`,
    {
      data: { path, mounted },
    },
  );
}
