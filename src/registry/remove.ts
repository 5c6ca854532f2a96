/**
 * Removing a repository. Refused while anything would be lost that is nowhere else: changes in a work tree,
 * an operation in progress, a commit on no remote-tracking ref, a stash. Forced, it deletes what git2db made
 * and nothing else: of an adopted repository its worktrees, whose other parts stay, force or not; and a
 * worktree that somebody else made is left (without its repository).
 *
 * Worktrees go first, each by its own journaled steps; then the directory is moved to the trash and the entry
 * taken out, at one instant; then the trash is deleted. Whatever is interrupted is completed, or taken back,
 * by the next call.
 */
import { existsSync } from 'node:fs';
import { Git2dbError } from '../xet/errors.ts';
import { StoreLayout } from '../xet/store/layout.ts';
import { forgetUser } from '../xet/store/users.ts';
import { applyDraft } from './apply-draft.ts';
import { Draft } from './draft.ts';
import type { Git2DB } from './git2db.ts';
import { hasJournals } from './journal.ts';
import type { RegistryStore } from './registry-store.ts';
import { makePlan, type RemovalReport } from './removal-plan.ts';
import { findRepoId } from './repo-id.ts';
import { notFound } from './snapshot.ts';
import { removeWorktree } from './worktree/index.ts';
import { withSpareSpace } from './worktree/spare-space.ts';

export type { RemovalReport, RepositoryRemovalReason } from './removal-plan.ts';

export interface RemoveOptions {
  /** Whatever would be lost. */
  readonly force?: boolean | undefined;
  /** Only tells what would be done, and what speaks against it. */
  readonly dryRun?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** See `Git2DB.remove`. */
export async function removeRepository(
  registry: Git2DB,
  store: RegistryStore,
  query: string,
  options: RemoveOptions = {},
): Promise<RemovalReport> {
  const remove = () => removeOnce(registry, store, query, options);
  return options.dryRun === true ? remove() : withSpareSpace(registry.home, remove);
}

async function removeOnce(
  registry: Git2DB,
  store: RegistryStore,
  query: string,
  { force = false, dryRun = false, signal }: RemoveOptions,
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
  const { place } = plan;
  const commonDir = place?.commonDir;
  try {
    if (dryRun) return report;
    if (report.reasons.length > 0 && !force) throw refusal(report);
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
