/** Looks a registry over and says what is wrong. Changes nothing, takes no lock, runs no git. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { checkAborted } from './errors.ts';
import { BY_REPAIR, namesIn, type RegistryFinding } from './finding.ts';
import type { Git2DB } from './git2db.ts';
import { listJournals } from './journal.ts';
import { listReservations } from './name-reservation.ts';
import type { RegistryLayout } from './registry-layout.ts';
import type { RegistryStore } from './registry-store.ts';
import { collisionFindings, recordFindings, reposFindings } from './verify-repositories.ts';
import { storeFindings, worktreeFindings } from './verify-worktrees.ts';

export type { FindingCode, RegistryFinding } from './finding.ts';

export async function verifyRegistry(
  registry: Git2DB,
  store: RegistryStore,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): Promise<RegistryFinding[]> {
  const { layout } = store;
  const { metadata } = store.snapshot();
  const findings: RegistryFinding[] = [];
  const isMoved = store.readOnly?.code === 'REGISTRY_MOVED';
  if (isMoved) {
    findings.push({
      code: 'moved',
      path: layout.root,
      message: store.readOnly!.message,
      remedy: 'unmount the worktrees, then git2db repair',
      repairable: false,
    });
  }
  findings.push(...permissionFindings(layout));
  findings.push(...(await ownFindings(layout)));
  // Until it is fitted to its new place, entries and records name the old one: no work is to be taken for an orphan's.
  if (isMoved) return findings;
  for (const record of metadata.repositories) {
    checkAborted(signal, 'verify');
    findings.push(...recordFindings(registry, record));
  }
  findings.push(...collisionFindings(layout, metadata.repositories));
  findings.push(...(await reposFindings(layout, metadata.repositories)));
  findings.push(...worktreeFindings(registry, layout, metadata.repositories));
  findings.push(...storeFindings(layout));
  return findings;
}

function permissionFindings(layout: RegistryLayout): RegistryFinding[] {
  const findings: RegistryFinding[] = [];
  for (const [path, wanted] of [
    [layout.own, 0o700],
    [layout.metadata, 0o600],
    [layout.previous, 0o600],
  ] as const) {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined || (stat.mode & 0o777 & ~wanted) === 0) continue;
    findings.push({
      code: 'permissions',
      path,
      message: `${path} has mode ${(stat.mode & 0o777).toString(8)}, expected ${wanted.toString(8)}`,
      remedy: BY_REPAIR,
      repairable: true,
    });
  }
  return findings;
}

/** Of what lies in `.git2db` for a while only. */
async function ownFindings(layout: RegistryLayout): Promise<RegistryFinding[]> {
  const findings: RegistryFinding[] = [];
  for (const name of namesIn(layout.own)) {
    if (!name.endsWith('.new')) continue;
    const path = join(layout.own, name);
    findings.push({
      code: 'stray-file',
      path,
      message: `${path} was left by a process that was killed while writing it`,
      remedy: BY_REPAIR,
      repairable: true,
    });
  }
  let isAtWork = false;
  for (const { directory, owner, fault } of await listJournals(layout)) {
    isAtWork ||= owner !== 'dead';
    if (owner !== 'dead' && fault === undefined) continue;
    findings.push({
      code: 'unfinished-change',
      path: directory,
      message: fault ?? `${directory} is a change that a process which has ended had begun`,
      remedy: fault === undefined ? BY_REPAIR : 'look at it, then remove it',
      repairable: fault === undefined,
    });
  }
  for (const { name, directory, owner } of await listReservations(layout)) {
    if (owner !== 'dead') continue;
    findings.push({
      code: 'stale-reservation',
      path: directory,
      message: `the name ${JSON.stringify(name)} was kept for a process that has ended`,
      remedy: BY_REPAIR,
      repairable: true,
    });
  }
  // What is being deleted by somebody alive is no trash yet.
  for (const name of isAtWork ? [] : namesIn(layout.trash)) {
    const path = join(layout.trash, name);
    findings.push({
      code: 'trash',
      path,
      message: `${path} is what is left of a repository that was removed`,
      remedy: BY_REPAIR,
      repairable: true,
    });
  }
  return findings;
}
