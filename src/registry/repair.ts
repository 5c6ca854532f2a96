/**
 * Mends a registry. What could lose something is never done here: it is left, with what a person can do.
 * Doing it twice does nothing the second time.
 */
import { chmodSync, existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { relative, sep } from 'node:path';
import { repositoryAt } from '../git/repository.ts';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import { StoreLayout } from '../xet/store/layout.ts';
import { forgetUser, registerUser } from '../xet/store/users.ts';
import { deleteTree } from './delete-tree.ts';
import { Draft } from './draft.ts';
import { openPlace } from './git-place.ts';
import type { Git2DB } from './git2db.ts';
import { emptyMetadata } from './metadata.ts';
import { loadMetadata, replaceMetadata } from './metadata-file.ts';
import { readMark } from './register.ts';
import type { RegistryLayout } from './registry-layout.ts';
import { type LockOptions, RegistryLock } from './registry-lock.ts';
import { settleRoot } from './registry-root.ts';
import { hasLostMetadata, type LockedRegistry, missing, type RegistryStore } from './registry-store.ts';
import { readRemotes, remoteNameOf } from './remote-settings.ts';
import { storedUrl } from './remote-url.ts';
import { type RegistryFinding, verifyRegistry } from './verify.ts';

export interface RegistryRepair {
  /** What was done, a line each; empty: nothing was to be done. */
  readonly done: readonly string[];
  /** What is left for a person. */
  readonly left: readonly RegistryFinding[];
  /** What could not be done, and why. */
  readonly failed: readonly string[];
}

/** See `Git2DB.repair`. */
export async function repairRegistry(
  registry: Git2DB,
  store: RegistryStore,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): Promise<RegistryRepair> {
  const { layout } = store;
  const done: string[] = [];
  const failed: string[] = [];
  if (store.readOnly?.code === 'REGISTRY_MOVED') {
    // The worktrees may have been unmounted since.
    store.setReadOnly(undefined);
    done.push(...(await settleRoot(store, { env: registry.env, signal })));
  }
  if (store.readOnly !== undefined) throw store.readOnly;
  const before = await verifyRegistry(registry, store, { signal });
  const mendable = before.filter(({ repairable }) => repairable);
  if (mendable.length > 0) {
    await store.locked(
      async (locked) => {
        // Taking the lock has ended what dead processes had begun.
        for (const { code, message } of mendable) {
          if (code === 'unfinished-change') done.push(`ended: ${message}`);
        }
        for (const finding of mendable) {
          try {
            const what = await mend(registry, locked, layout, finding);
            if (what !== undefined) done.push(what);
          } catch (error) {
            failed.push(`${finding.path}: ${messageOf(error)}`);
          }
        }
      },
      { signal },
    );
  }
  await repairWorktreesOf(registry, layout, { done, failed, signal });
  const left = (await verifyRegistry(registry, store, { signal })).filter(({ repairable }) => !repairable);
  return { done, left, failed };
}

/** What was done; undefined: nothing was to be done any more. The lock is held. */
async function mend(
  registry: Git2DB,
  locked: LockedRegistry,
  layout: RegistryLayout,
  { code, path, id, message }: RegistryFinding,
): Promise<string | undefined> {
  if (code === 'permissions') {
    chmodSync(path, path === layout.own ? 0o700 : 0o600);
    return `only this user can read ${path} now`;
  }
  if (code === 'stray-file' || code === 'stale-reservation') {
    if (!existsSync(path)) return undefined;
    rmSync(path, { recursive: true, force: true });
    return `deleted ${path}: ${message}`;
  }
  if (code === 'trash' || code === 'unfinished-clone') {
    if (!existsSync(path)) return undefined;
    await deleteTree(path);
    return `deleted ${path}: ${message}`;
  }
  if (code === 'stale-store-user') {
    // Its content may be used under another place by now; gc takes what no user refers to.
    for (const record of locked.snapshot.metadata.repositories) {
      const commonDir = record.adopted ? undefined : repositoryAt(registry.absolutePath(record))?.commonDir;
      if (commonDir !== undefined) registerUser(new StoreLayout(layout.store), commonDir);
    }
    const isForgotten = forgetUser(new StoreLayout(layout.store), path);
    return isForgotten ? `the store does not count ${path} among its users any more` : undefined;
  }
  if (code === 'wrong-bare' && id !== undefined) return mendBare(registry, locked, id);
  if (code === 'orphan-repository') return enterAgain(locked, layout, path);
  return undefined;
}

function mendBare(registry: Git2DB, locked: LockedRegistry, id: string): string | undefined {
  const record = locked.snapshot.byId(id);
  const repository = record === undefined ? undefined : repositoryAt(registry.absolutePath(record));
  if (record === undefined || repository === undefined) return undefined;
  const bare = repository.workTree === undefined;
  if (bare === record.bare) return undefined;
  const changed = { ...record, bare };
  locked.commit({
    repositories: locked.snapshot.metadata.repositories.map((each) => (each.id === id ? changed : each)),
  });
  return `${JSON.stringify(record.name)} is recorded as ${bare ? 'bare' : 'having a work tree'} now`;
}

/** A repository that git2db made, whose entry was lost: it has its id with it. Trust has to be given anew. */
function enterAgain(locked: LockedRegistry, layout: RegistryLayout, path: string): string | undefined {
  const repository = repositoryAt(path);
  const id = repository === undefined ? undefined : readMark(repository.commonDir);
  if (repository === undefined || id === undefined || locked.snapshot.byId(id) !== undefined)
    return undefined;
  const settings = readRemotes(repository.commonDir);
  const url = settings.remotes.get(remoteNameOf(settings.trackingRef, settings))?.url;
  const draft = new Draft(locked.snapshot);
  const place = relative(layout.root, path).split(sep).join('/');
  const record = draft.add({
    id,
    name: place.slice('repos/'.length),
    path: place,
    url: url === undefined ? undefined : storedUrl(url),
    bare: repository.workTree === undefined,
    trackingRef: settings.trackingRef,
  });
  locked.commit({ repositories: draft.records() });
  return `entered ${JSON.stringify(record.name)} (${id}) again, not trusted`;
}

interface RepairNotes {
  readonly done: string[];
  readonly failed: string[];
  readonly signal: AbortSignal | undefined;
}

async function repairWorktreesOf(
  registry: Git2DB,
  layout: RegistryLayout,
  { done, failed, signal }: RepairNotes,
): Promise<void> {
  if (!existsSync(layout.worktrees) || readdirSync(layout.worktrees).length === 0) return;
  const { repairWorktrees } = await import('./worktree/index.ts');
  // A record that cannot be read is told of by every repository, as it may be of any.
  const open = new Set<string>();
  for (const record of registry.list()) {
    const path = registry.absolutePath(record);
    if (repositoryAt(path) === undefined) continue;
    const place = await openPlace(path, { trusted: record.trusted, env: registry.env });
    try {
      for (const { path: tree, outcome, message } of await repairWorktrees(place, registry.home, {
        signal,
      })) {
        if (outcome === 'repaired' || outcome === 'removed') done.push(`worktree ${tree}: ${message}`);
        else if (outcome !== 'well') open.add(`worktree ${tree}: ${message}`);
      }
    } catch (error) {
      if (!(error instanceof Git2dbError)) throw error;
      open.add(`worktrees of ${JSON.stringify(record.name)}: ${error.message}`);
    } finally {
      await place.close();
    }
  }
  failed.push(...open);
}

/**
 * Makes metadata that cannot be read, or are gone, readable again: the file is put aside, and what it said
 * one change ago restored. Metadata of a newer version are left alone (REGISTRY_INVALID). What was done.
 */
export async function repairBroken(layout: RegistryLayout, options: LockOptions): Promise<string[]> {
  if (!existsSync(layout.own)) throw missing(layout);
  using _lock = await RegistryLock.acquire(layout.lock, options);
  const fault = faultOf(layout, layout.metadata);
  if (fault === undefined) return [];
  const done: string[] = [];
  if (existsSync(layout.metadata)) {
    const aside = freeName(`${layout.metadata}.broken-${new Date().toISOString().replace(/[:.]/g, '-')}`);
    renameSync(layout.metadata, aside);
    done.push(`put the broken metadata aside, as ${aside}: ${fault.message}`);
  } else if (!hasLostMetadata(layout)) {
    throw missing(layout);
  }
  const previous =
    faultOf(layout, layout.previous) === undefined ? loadMetadata(layout, layout.previous) : undefined;
  if (previous === undefined) {
    replaceMetadata(layout, emptyMetadata(layout.root));
    done.push(
      'there is no older state that can be read: repositories in repos/ are entered again, adopted ones are lost',
    );
    return done;
  }
  const { metadata } = previous;
  // Whoever has read a later generation must see that this is another one.
  replaceMetadata(layout, { ...metadata, transaction: undefined, generation: metadata.generation + 2 });
  done.push(`restored what was recorded one change before (${metadata.repositories.length} repositories)`);
  return done;
}

/** Undefined for a file that can be read. Throws for one of a newer version, or that is not for us to read. */
function faultOf(layout: RegistryLayout, file: string): Error | undefined {
  try {
    return loadMetadata(layout, file) === undefined ? missing(layout) : undefined;
  } catch (error) {
    const isBroken =
      error instanceof Git2dbError && error.code === 'REGISTRY_INVALID' && error.data.line !== undefined;
    if (isBroken) return error;
    throw error;
  }
}

function freeName(path: string): string {
  let name = path;
  for (let number = 1; existsSync(name); number++) name = `${path}-${number}`;
  return name;
}
