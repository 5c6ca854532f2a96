/**
 * The usual faults of an installation, a repository and a store, each with the command that mends it.
 * Looking changes nothing, and needs neither a repository nor a working installation.
 *
 *     doctor-setup.ts        programs, git configuration, settings
 *     doctor-attributes.ts   .gitattributes, the index, the work tree
 *     doctor-store.ts        the store
 */
import { statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { loadFilterConfig, storeDirectory } from '../filter-process/config.ts';
import { GitConfig } from '../git/config.ts';
import { findRepository, type RepositoryPaths } from '../git/repository.ts';
import { lz4Engine } from '../xet/compress/lz4.ts';
import { Git2dbError } from '../xet/errors.ts';
import { nativeBlake3 } from '../xet/hash/blake3-native.ts';
import { ZERO_HASH } from '../xet/hash/xet-hash.ts';
import { type AttributeCheck, checkAttributeFaults } from './doctor-attributes.ts';
import { type DoctorHost, type Fault, fault, type Patient } from './doctor-fault.ts';
import { checkPrograms, checkSettings } from './doctor-setup.ts';
import { checkStoreFaults } from './doctor-store.ts';
import { type RemotesReport, reportRemotes } from './remote-report.ts';
import { isInside, type Place } from './work-tree.ts';

export type { DoctorHost, Fault, Severity } from './doctor-fault.ts';

/** Every fault that was found; one that others follow from comes before them. */
export async function examine({ cwd, env }: Place, host: DoctorHost = thisMachine): Promise<Fault[]> {
  const { faults, usable } = await checkPrograms({ env, host });
  if (!usable) return faults;
  let repository: RepositoryPaths | undefined;
  try {
    repository = findRepository(cwd, env);
  } catch (error) {
    if (!(error instanceof Git2dbError)) throw error;
    faults.push(fault('error', 'repository-broken', error.message, ['git status']));
  }
  const config = GitConfig.load(cwd, undefined, { env });
  const workTree = repository === undefined ? undefined : innerWorkTree(repository, cwd);
  const patient: Patient = { cwd, env, host, config, repository, workTree };
  const attributes: AttributeCheck =
    workTree === undefined
      ? { faults: [], isUsed: false, pointers: [] }
      : await checkAttributeFaults(patient, workTree);
  faults.push(...(await checkSettings(patient, attributes.isUsed)), ...attributes.faults);
  if (repository === undefined) return faults;
  const { commonDir } = repository;
  const storeDir = storeDirectory(config, commonDir, env);
  const question = { storeDir, repository, pointers: attributes.pointers, sourceDirs: sourcesOf(cwd, env) };
  faults.push(...(await checkStoreFaults(patient, question)));
  if (attributes.isUsed) faults.push(...(await checkRemotes({ cwd, env })));
  return [...faults, ...notes(config, commonDir)];
}

/** Where content goes when this repository is pushed, if it does. No server is asked. */
async function checkRemotes(place: Place): Promise<Fault[]> {
  let report: RemotesReport;
  try {
    report = await reportRemotes(place, { ask: false });
  } catch (error) {
    if (error instanceof Git2dbError) return [fault('error', 'remotes-unreadable', error.message)];
    throw error;
  }
  const { remotes, hook } = report;
  const found: Fault[] = [];
  if (remotes.length > 0 && hook !== 'ours') {
    const what = {
      missing: 'no pre-push hook',
      'git-lfs': "git-lfs's pre-push hook only",
      foreign: "a pre-push hook that is not git2db's",
    }[hook];
    const message = `there is ${what}: "git push" moves pointers without their content, which others cannot read then`;
    const remedy = {
      missing: 'git2db xet install',
      'git-lfs': 'git2db xet install --lfs',
      foreign: 'git2db xet install --chain-hooks',
    }[hook];
    found.push(fault('warning', 'remote-without-hook', message, [remedy]));
  }
  const gitxet = new Map<string, Fault>();
  for (const { name, candidates, error } of remotes) {
    if (error !== undefined)
      found.push(fault('error', 'remote-place-invalid', `the remote ${name}: ${error.message}`));
    for (const { verdict, reason, place: url } of candidates) {
      if (verdict === 'invalid') gitxet.set(reason, fault('error', 'gitxet-invalid', `.gitxet: ${reason}`));
      if (verdict === 'untrusted' && url !== undefined)
        gitxet.set(
          reason,
          fault('warning', 'gitxet-untrusted', `.gitxet: ${reason}`, [`git2db xet trust ${url}`]),
        );
    }
  }
  return [...found, ...gitxet.values()];
}

function innerWorkTree({ workTree, gitDir }: RepositoryPaths, cwd: string): string | undefined {
  return workTree !== undefined && isInside(workTree, cwd) && !isInside(gitDir, cwd) ? workTree : undefined;
}

function sourcesOf(cwd: string, env: NodeJS.ProcessEnv): readonly string[] {
  try {
    return loadFilterConfig(cwd, env).sourceDirs();
  } catch (error) {
    // A bad setting, which is told as a fault of its own.
    if (error instanceof Git2dbError) return [];
    throw error;
  }
}

/** What is no fault, but explains much. */
function notes(config: GitConfig, commonDir: string): Fault[] {
  const found: Fault[] = [];
  if (statSync(join(commonDir, 'shallow'), { throwIfNoEntry: false }) !== undefined) {
    const message = 'a shallow clone: fsck, gc and migrate see only the history that is here';
    found.push(fault('note', 'shallow-clone', message, ['git fetch --unshallow']));
  }
  if (
    config
      .entries()
      .some(({ key }) => key === 'extensions.partialclone' || /^remote\..*\.promisor$/.test(key))
  ) {
    const message = 'a partial clone: pointers in objects that are not here are not seen';
    found.push(fault('note', 'partial-clone', message, ['git fetch --refetch --no-filter']));
  }
  return found;
}

const thisMachine: DoctorHost = {
  nodeVersion: process.versions.node,
  uid: process.getuid?.(),
  freeBytes(path) {
    try {
      const { bavail, bsize } = statfsSync(path);
      return bavail * bsize;
    } catch {
      return undefined;
    }
  },
  hasNativeBlake3: () => nativeBlake3(ZERO_HASH) !== undefined,
  hasWebAssembly: () => lz4Engine() !== 'typescript',
};
