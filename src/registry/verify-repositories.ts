/** What can be wrong with the repositories of a registry, and with what lies beside them. */
import { existsSync, lstatSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryAt } from '../git/repository.ts';
import { BY_REPAIR, type FindingCode, namesIn, type RegistryFinding } from './finding.ts';
import type { Git2DB } from './git2db.ts';
import type { RepositoryRecord } from './metadata.ts';
import { listReservations } from './name-reservation.ts';
import { readMark } from './register.ts';
import { OWN_PREFIX, type RegistryLayout } from './registry-layout.ts';
import { readRemotes, remoteNameOf } from './remote-settings.ts';
import { maskUrl, parseRemoteUrl } from './remote-url.ts';
import { findNameFault, foldName } from './repository-name.ts';
import { canonicalUrl } from './snapshot.ts';

export function recordFindings(registry: Git2DB, record: RepositoryRecord): RegistryFinding[] {
  const path = registry.absolutePath(record);
  const { id } = record;
  const shown = JSON.stringify(record.name);
  if (!existsSync(path)) {
    const remedy = `put it back, or git2db remove ${record.name}${record.url === undefined ? '' : ', and clone it again'}`;
    return [
      {
        code: 'missing-directory',
        path,
        id,
        message: `${shown}: ${path} is not there`,
        remedy,
        repairable: false,
      },
    ];
  }
  const repository = repositoryAt(path);
  if (repository === undefined) {
    return [
      {
        code: 'not-a-repository',
        path,
        id,
        message: `${shown}: ${path} is no git repository`,
        remedy: 'restore its git directory (git fsck tells what is damaged), or remove it with force',
        repairable: false,
      },
    ];
  }
  const findings: RegistryFinding[] = [];
  const isBare = repository.workTree === undefined;
  if (isBare !== record.bare) {
    findings.push({
      code: 'wrong-bare',
      path,
      id,
      message: `${shown} is recorded as ${record.bare ? 'bare' : 'having a work tree'}, and is ${isBare ? 'bare' : 'not'}`,
      remedy: BY_REPAIR,
      repairable: true,
    });
  }
  const mark = record.adopted ? undefined : readMark(repository.commonDir);
  if (mark !== undefined && mark !== id) {
    findings.push({
      code: 'other-repository',
      path,
      id,
      message: `${shown}: ${path} holds another repository, that with the id ${mark}`,
      remedy: 'move the right one back',
      repairable: false,
    });
  }
  findings.push(...urlFindings(record, path, repository.commonDir));
  return findings;
}

function urlFindings(record: RepositoryRecord, path: string, commonDir: string): RegistryFinding[] {
  const settings = readRemotes(commonDir);
  const remote = remoteNameOf(record.trackingRef, settings);
  const url = settings.remotes.get(remote)?.url;
  const shown = JSON.stringify(record.name);
  const findings: RegistryFinding[] = [];
  for (const [name, each] of settings.remotes) {
    if (each.url === undefined || !hasSecret(each.url)) continue;
    findings.push({
      code: 'secret-in-url',
      path: join(commonDir, 'config'),
      id: record.id,
      message: `${shown}: git's remote ${name} has a user or password in its URL, ${maskUrl(each.url)}`,
      remedy: `git -C ${path} remote set-url ${name} <the URL without it>, and a credential helper`,
      repairable: false,
    });
  }
  if (record.url !== undefined && url !== undefined && canonicalOf(url, path) !== canonicalUrl(record.url)) {
    findings.push({
      code: 'stale-remote-url',
      path,
      id: record.id,
      message: `${shown}: recorded is the URL ${record.url}, git's remote ${remote} has ${maskUrl(url)}`,
      remedy: `git2db update ${record.name} --url <the right one>`,
      repairable: false,
    });
  }
  return findings;
}

function hasSecret(url: string): boolean {
  try {
    return parseRemoteUrl(url).hadSecret;
  } catch {
    return false;
  }
}

function canonicalOf(url: string, cwd: string): string | undefined {
  try {
    return parseRemoteUrl(url, { cwd }).canonical;
  } catch {
    return undefined;
  }
}

/** Only a file edited by hand has such names. */
export function collisionFindings(
  layout: RegistryLayout,
  records: readonly RepositoryRecord[],
): RegistryFinding[] {
  const seen = new Map<string, RepositoryRecord>();
  const findings: RegistryFinding[] = [];
  for (const record of records) {
    const folded = foldName(record.name);
    const other = seen.get(folded);
    seen.set(folded, record);
    if (other === undefined) continue;
    findings.push({
      code: 'name-collision',
      path: layout.metadata,
      id: record.id,
      message: `the names ${JSON.stringify(other.name)} and ${JSON.stringify(record.name)} are one on some file systems`,
      remedy: `git2db update ${record.id} --name <another>`,
      repairable: false,
    });
  }
  return findings;
}

/** What lies in `repos/` and belongs to no entry. */
export async function reposFindings(
  layout: RegistryLayout,
  records: readonly RepositoryRecord[],
): Promise<RegistryFinding[]> {
  const places = new Set(records.map(({ path }) => (path.startsWith('/') ? path : join(layout.root, path))));
  const parents = new Set([...places].map((place) => place.slice(0, place.lastIndexOf('/'))));
  const isReserved = (await listReservations(layout)).some(({ owner }) => owner !== 'dead');
  const findings: RegistryFinding[] = [];

  function look(directory: string, prefix: string): void {
    for (const name of namesIn(directory)) {
      const path = join(directory, name);
      if (places.has(path)) continue;
      if (prefix === '' && name.startsWith(OWN_PREFIX)) {
        // Of those that are at work, each has its name reserved; whose is whose the names do not tell.
        if (!isReserved) findings.push(unfinishedClone(path));
      } else if (!lstatSync(path).isDirectory()) {
        findings.push(orphan('stray-file', path, 'is no directory', 'move it away', false));
      } else if (repositoryAt(path) !== undefined) {
        findings.push(orphanRepository(path, prefix + name));
      } else if (parents.has(path)) {
        look(path, `${name}/`);
      } else if (prefix === '' && holdsRepositories(path)) {
        look(path, `${name}/`);
      } else if (prefix !== '' || namesIn(path).length > 0) {
        // An empty one is what the last repository of an organisation leaves.
        findings.push(orphan('orphan-directory', path, 'belongs to no repository', 'move it away', false));
      }
    }
  }
  look(layout.repos, '');
  return findings;
}

function holdsRepositories(directory: string): boolean {
  return namesIn(directory).some((name) => repositoryAt(join(directory, name)) !== undefined);
}

function unfinishedClone(path: string): RegistryFinding {
  const isEmpty = !existsSync(join(path, 'repository'));
  return {
    code: 'unfinished-clone',
    path,
    message: `${path} is ${isEmpty ? 'what is left of a clone' : 'a clone that was interrupted'}`,
    remedy: isEmpty ? BY_REPAIR : 'clone again under the same name to go on with it, or delete it',
    repairable: isEmpty,
  };
}

function orphanRepository(path: string, name: string): RegistryFinding {
  const repository = repositoryAt(path);
  const isOurs = repository !== undefined && readMark(repository.commonDir) !== undefined;
  const isUsable = findNameFault(name) === undefined;
  const remedy = isOurs && isUsable ? BY_REPAIR : 'register it, or move it away';
  return orphan('orphan-repository', path, 'is a repository without an entry', remedy, isOurs && isUsable);
}

function orphan(
  code: FindingCode,
  path: string,
  what: string,
  remedy: string,
  repairable: boolean,
): RegistryFinding {
  return { code, path, message: `${path} ${what}`, remedy, repairable };
}
