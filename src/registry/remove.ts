/**
 * Removing a repository. Refused while anything would be lost that is nowhere else: changes in a work tree,
 * an operation in progress, a commit on no remote-tracking ref, a stash. Forced, it deletes what git2db made
 * and nothing else: an adopted repository is only forgotten, force or not, and a worktree that somebody
 * else made is left (without its repository).
 *
 * Worktrees go first, each by its own journaled steps; then the directory is moved to the trash and the entry
 * taken out, at one instant; then the trash is deleted. Whatever is interrupted is completed, or taken back,
 * by the next call.
 */
import { existsSync, lstatSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { repositoryAt } from '../git/repository.ts';
import { Git2dbError } from '../xet/errors.ts';
import { StoreLayout } from '../xet/store/layout.ts';
import { forgetUser } from '../xet/store/users.ts';
import { applyDraft } from './apply-draft.ts';
import { Draft } from './draft.ts';
import { type GitPlace, openPlace } from './git-place.ts';
import type { Git2DB } from './git2db.ts';
import { hasJournals } from './journal.ts';
import type { RepositoryRecord } from './metadata.ts';
import { worktreeMounts } from './mount-points.ts';
import { isInRoot } from './path-rebase.ts';
import type { RegistryStore } from './registry-store.ts';
import { findRepoId } from './repo-id.ts';
import { notFound } from './snapshot.ts';
import { findUnpushed, openSubmodules } from './unpushed.ts';
import { findWorkInProgress } from './work-in-progress.ts';
import { listWorktrees, planRemoval, removeWorktree } from './worktree/index.ts';
import { operationsIn, type ReasonKind } from './worktree/removal-reasons.ts';
import { listStates } from './worktree/worktree-store.ts';

export interface RemoveOptions {
  /** Whatever would be lost. */
  readonly force?: boolean | undefined;
  /** Only tells what would be done, and what speaks against it. */
  readonly dryRun?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

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

/** See `Git2DB.remove`. */
export async function removeRepository(
  registry: Git2DB,
  store: RegistryStore,
  query: string,
  { force = false, dryRun = false, signal }: RemoveOptions = {},
): Promise<RemovalReport> {
  if (!dryRun && store.readOnly !== undefined) throw store.readOnly;
  if (!dryRun && hasJournals(store.layout)) await store.locked(() => {}, { signal });
  const snapshot = store.snapshot();
  const record = snapshot.find(query);
  if (record === undefined) {
    const id = findRepoId(query);
    if (id !== undefined && store.completedRemovals.has(id)) return completedBefore(id, dryRun);
    throw notFound(query, snapshot);
  }
  const plan = await makePlan(registry, record, signal).catch((error) => {
    // Somebody else removed it while it was looked at.
    const now = store.snapshot();
    throw now.byId(record.id) === undefined ? notFound(query, now) : error;
  });
  const report: RemovalReport = { ...plan.report, dryRun };
  if (dryRun) return report;
  if (report.reasons.length > 0 && !force) throw refusal(report);

  const { place } = plan;
  const commonDir = place?.commonDir;
  try {
    if (place !== undefined) {
      for (const id of plan.worktrees) await removeWorktree(place, registry.home, id, { force, signal });
    }
  } finally {
    await place?.close();
  }
  const finish = await store.locked(
    async (locked) => {
      // Somebody else may have removed it by now.
      if (locked.snapshot.byId(record.id) === undefined) return async () => {};
      const draft = new Draft(locked.snapshot);
      draft.remove(record.id, { discard: true });
      return applyDraft(locked, store.layout, draft);
    },
    { signal },
  );
  await finish();
  if (commonDir !== undefined && !record.adopted && existsSync(store.layout.store)) {
    forgetUser(new StoreLayout(store.layout.store), commonDir);
  }
  return { ...report, removed: true };
}

interface RemovalPlan {
  readonly report: Omit<RemovalReport, 'dryRun'>;
  /** Undefined: there is no repository to look at. The caller closes it. */
  readonly place: GitPlace | undefined;
  /** Ids of the worktrees that git2db made. */
  readonly worktrees: readonly string[];
}

async function makePlan(
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
  if (record.adopted) {
    const notes = ['it was adopted: its entry goes, its directory, git data and worktrees stay as they are'];
    const commonDir = repositoryAt(path)?.commonDir;
    const trees =
      commonDir === undefined ? [] : listStates(registry.home, commonDir).map((tree) => tree.path);
    if (trees.length > 0) notes.push('to remove those worktrees later, register it again');
    return {
      report: { ...base, deletes: [], keeps: [path, ...trees], notes },
      place: undefined,
      worktrees: [],
    };
  }
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) {
    const notes = [`${path} is gone already: only the entry goes`];
    return { report: { ...base, deletes: [], keeps: [], notes }, place: undefined, worktrees: [] };
  }
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
      report: { ...base, reasons: [reason], deletes: [path], keeps: [], notes: [] },
      place: undefined,
      worktrees: [],
    };
  }
  const place = await openPlace(path, { trusted: record.trusted, env: registry.env });
  try {
    const worktrees = await listWorktrees(place, registry.home, { signal });
    const foreign = worktrees.filter((worktree) => worktree.foreign);
    const own = worktrees.filter((worktree) => !worktree.foreign);
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

function refusal(report: RemovalReport): Git2dbError {
  const lines = report.reasons.map(({ message }) => `  ${message}`).join('\n');
  return new Git2dbError(
    'REFUSED',
    `removing ${JSON.stringify(report.name)} would lose what is nowhere else (force removes it all the same):\n${lines}`,
    { data: { report, reasons: report.reasons } },
  );
}

function completedBefore(id: string, dryRun: boolean): RemovalReport {
  const notes = ['a process that has ended had begun to remove it: that was completed'];
  return {
    id,
    name: '',
    path: '',
    adopted: false,
    removed: true,
    dryRun,
    reasons: [],
    deletes: [],
    keeps: [],
    notes,
  };
}
