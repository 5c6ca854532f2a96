/** What can be wrong with the records of worktrees, and with the list of the store's users. */
import { existsSync, lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryAt } from '../git/repository.ts';
import { messageOf } from '../xet/errors.ts';
import { StoreLayout } from '../xet/store/layout.ts';
import { listUsers } from '../xet/store/users.ts';
import { BY_REPAIR, namesIn, type RegistryFinding } from './finding.ts';
import type { Git2DB } from './git2db.ts';
import type { RepositoryRecord } from './metadata.ts';
import type { RegistryLayout } from './registry-layout.ts';
import { strangersAt } from './worktree/guard.ts';
import { isOffMount, isUnmounted } from './worktree/overlay-mount.ts';
import type { WorktreeState } from './worktree/worktree-state.ts';

/** The records of worktrees: what they hold may be nowhere else, so an orphan is for a person. */
export function worktreeFindings(
  registry: Git2DB,
  layout: RegistryLayout,
  records: readonly RepositoryRecord[],
): RegistryFinding[] {
  const names = namesIn(layout.worktrees);
  if (names.length === 0) return [];
  const commonDirs = new Set(
    records
      .map((record) => repositoryAt(registry.absolutePath(record))?.commonDir)
      .filter((each) => each !== undefined),
  );
  const findings: RegistryFinding[] = [];
  for (const id of names) {
    const path = join(layout.worktrees, id);
    if (id.startsWith('.') || !lstatSync(path).isDirectory()) continue;
    let state: { readonly commonDir?: unknown; readonly path?: unknown; readonly step?: unknown };
    try {
      const file = join(path, 'state.json');
      if (!existsSync(file)) {
        if (existsSync(join(path, 'upper'))) findings.push(broken(path, 'has an upper and no state.json'));
        continue;
      }
      state = JSON.parse(readFileSync(file, 'utf8'));
    } catch (error) {
      findings.push(broken(path, `cannot be read: ${messageOf(error)}`));
      continue;
    }
    if (typeof state !== 'object' || state === null || typeof state.commonDir !== 'string') {
      findings.push(broken(path, 'is none that is known'));
    } else if (!commonDirs.has(state.commonDir)) {
      findings.push({
        code: 'orphan-worktree',
        path,
        message: `the worktree ${state.path} belongs to ${state.commonDir}, which is no repository of the registry`,
        remedy: `register that repository, or look into ${join(path, 'upper')} for work that is not committed and delete ${path}`,
        repairable: false,
      });
    } else if (state.step !== 'ready') {
      findings.push({
        code: 'unfinished-worktree',
        path,
        message: `the worktree ${state.path} was interrupted while ${state.step === 'removing' ? 'being removed' : 'being made'}, or still is`,
        remedy: BY_REPAIR,
        repairable: true,
      });
    } else {
      findings.push(...adminFindings(state as WorktreeState), ...mountFindings(state as WorktreeState));
    }
  }
  return findings;
}

/** Of one whose directory in the repository somebody has deleted: with it went its HEAD and index, not its files. */
function adminFindings({ commonDir, admin, path }: WorktreeState): RegistryFinding[] {
  if (typeof admin !== 'string' || existsSync(join(commonDir, 'worktrees', admin, 'HEAD'))) return [];
  const isHere = existsSync(path);
  return [
    {
      code: 'broken-worktree',
      path,
      message: `the repository ${commonDir} no longer knows the worktree ${path}${isHere ? ', whose files are there' : ''}`,
      remedy: `${isHere ? 'save what is needed from it, then ' : ''}git2db worktree remove REPO ${path} --force`,
      repairable: false,
    },
  ];
}

/** Of an overlay whose files nobody sees, as after a reboot. */
function mountFindings(state: WorktreeState): RegistryFinding[] {
  const { path } = state;
  if (typeof path !== 'string' || !isOffMount(state)) return [];
  const isDead = !isUnmounted(path);
  const strangers = isDead ? [] : strangersAt(path);
  return [
    {
      code: 'unmounted-worktree',
      path,
      message:
        strangers.length === 0
          ? `the worktree ${path} is not mounted${isDead ? ' any more: its server has ended' : ''}`
          : `the worktree ${path} is not mounted, and files stand in its place (${strangers.slice(0, 3).join(', ')})`,
      remedy: strangers.length === 0 ? BY_REPAIR : `move ${path} out of the way, then ${BY_REPAIR}`,
      repairable: strangers.length === 0,
    },
  ];
}

function broken(path: string, what: string): RegistryFinding {
  return {
    code: 'broken-worktree',
    path,
    message: `the record of a worktree, ${path}, ${what}`,
    remedy: `look into ${join(path, 'upper')} for work that is not committed, then delete ${path}`,
    repairable: false,
  };
}

/** gc refuses to work while a user of the store cannot be read. */
export function storeFindings(layout: RegistryLayout): RegistryFinding[] {
  if (!existsSync(layout.store)) return [];
  return listUsers(new StoreLayout(layout.store))
    .filter(({ commonDir }) => !existsSync(commonDir))
    .map(({ commonDir }) => {
      const isInside = commonDir.startsWith(`${layout.root}/`);
      return {
        code: 'stale-store-user' as const,
        path: commonDir,
        message: `the store counts ${commonDir} among its users, which is not there`,
        remedy: isInside ? BY_REPAIR : 'mount it again, or git2db xet gc --forget it',
        repairable: isInside,
      };
    });
}
