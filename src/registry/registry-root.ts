/**
 * A registry that is opened at another place than the one it was last written at.
 *
 * If the old place still has the registry, or cannot be looked at, this is a copy: it gets an id of its own,
 * and touches nothing outside of itself. If the old place is another name of the same directory, nothing is
 * done. Else the registry was moved, and everything that names its old place is rewritten: git's records of
 * worktrees, `.git` files, configuration, the users of the store, records of mounts that have ended.
 * `moving.json` says from where to where, until the metadata name the new place, and the rewriting is
 * begun again after a crash. While worktrees are mounted nothing can be rewritten: reading is possible then.
 */

import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, realpathSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryAt } from '../git/repository.ts';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { StoreLayout } from '../xet/store/layout.ts';
import { forgetUser, listUsers, registerUser } from '../xet/store/users.ts';
import type { RegistryMetadata, RepositoryRecord } from './metadata.ts';
import { loadMetadata, writeDurably } from './metadata-file.ts';
import { worktreeMounts } from './mount-points.ts';
import { isInRoot, rebasePath, rebaseText } from './path-rebase.ts';
import { absolutePathOf } from './register.ts';
import { type RegistryLayout, registryLayout } from './registry-layout.ts';
import type { LockedRegistry, RegistryStore } from './registry-store.ts';
import { type Relocation, relocateRepository, relocateWorktreeRecords } from './repository-relocation.ts';

export interface SettleOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal | undefined;
}

/** Fits the registry to where it is, if need be. What was done or found, for a person. */
export async function settleRoot(store: RegistryStore, options: SettleOptions): Promise<string[]> {
  const { layout } = store;
  const { metadata } = store.snapshot();
  if (!needsSettling(layout, metadata)) return [];
  if (store.readOnly !== undefined) {
    return metadata.root === layout.root
      ? []
      : [
          `the registry was last written at ${metadata.root}; open it for writing to fit it to ${layout.root}`,
        ];
  }
  const isCopy = originalRemains(layout, metadata);
  const mounted = await findMounted(layout, metadata, isCopy, options.env);
  if (mounted.length > 0) {
    const moved = movedError(layout, metadata, mounted);
    store.setReadOnly(moved);
    return [moved.message];
  }
  return store.locked((locked) => settle(layout, locked, options), { signal: options.signal });
}

function needsSettling(layout: RegistryLayout, { root }: RegistryMetadata): boolean {
  if (existsSync(layout.moving)) return true;
  return root !== layout.root && !isSameDirectory(root, layout.root);
}

async function settle(
  layout: RegistryLayout,
  locked: LockedRegistry,
  { env }: SettleOptions,
): Promise<string[]> {
  const { metadata } = locked.snapshot;
  // Somebody else may have been faster.
  if (!needsSettling(layout, metadata)) return [];
  const begun = readMoving(layout);
  const isCopy =
    begun?.isCopy === true || (metadata.root !== layout.root && originalRemains(layout, metadata));
  const from = [...new Set([...(begun?.from ?? []), metadata.root])].filter((root) => root !== layout.root);
  const relocation: Relocation = { from, to: layout.root, isCopy };
  writeDurably(
    layout.own,
    layout.moving,
    `${JSON.stringify({ version: 1, from: [...from, layout.root], isCopy })}\n`,
  );

  const repositories = metadata.repositories.map((record) => relocateRecord(record, relocation));
  for (const record of repositories) {
    const path = absolutePathOf(layout.root, record);
    // A repository of somebody else's that lies elsewhere has nothing of ours but worktrees, and those of a
    // copy are not there.
    if (isCopy && !isInRoot(path, layout.root)) continue;
    const commonDir = repositoryAt(path)?.commonDir;
    if (commonDir === undefined) continue;
    await relocateRepository(commonDir, relocation);
    if (isInRoot(commonDir, layout.root)) moveStoreUser(layout, commonDir, relocation);
  }
  relocateWorktreeRecords(layout.worktrees, relocation, layout.trees);
  const forgotten = isCopy ? [] : await forgetMounts(from, env);
  locked.commit({
    repositories,
    root: layout.root,
    registryId:
      isCopy && begun === undefined ? randomUUID() : isCopy ? freshId(locked, layout) : metadata.registryId,
  });
  rmSync(layout.moving, { force: true });
  const last = from.at(-1) ?? layout.root;
  return [
    isCopy
      ? `this registry is a copy of the one in ${last}: it has an id of its own now, and its paths lead here`
      : `the registry was moved from ${last}: all paths lead to ${layout.root} now`,
    ...forgotten,
  ];
}

/** A copy whose fitting was interrupted after the metadata were written keeps the id it got. */
function freshId(locked: LockedRegistry, layout: RegistryLayout): string {
  const { metadata } = locked.snapshot;
  return metadata.root === layout.root ? metadata.registryId : randomUUID();
}

function relocateRecord(record: RepositoryRecord, relocation: Relocation): RepositoryRecord {
  let path = record.path;
  if (record.adopted) {
    const inside = rebasePath(path, relocation);
    // An adopted repository inside the root came along, unless it is only the original that has it.
    if (inside !== path && existsSync(inside)) path = inside;
  }
  const url = record.url === undefined || relocation.isCopy ? record.url : rebaseText(record.url, relocation);
  return path === record.path && url === record.url ? record : { ...record, path, url };
}

function moveStoreUser(layout: RegistryLayout, commonDir: string, { from, to }: Relocation): void {
  if (!existsSync(layout.store)) return;
  const store = new StoreLayout(layout.store);
  const former = from.map((root) => root + commonDir.slice(to.length));
  const users = new Set(listUsers(store).map((user) => user.commonDir));
  if (!former.some((path) => users.has(path))) return;
  // Its new place first: gc takes what no user refers to.
  registerUser(store, commonDir);
  for (const path of former) forgetUser(store, path);
}

/** Whether the registry is still at the place its metadata name, or may be. */
function originalRemains(layout: RegistryLayout, { root, registryId }: RegistryMetadata): boolean {
  if (root === layout.root) return false;
  const original = registryLayout(root);
  try {
    return loadMetadata(original)?.metadata.registryId === registryId;
  } catch (error) {
    const errno = errnoOf((error as Error).cause ?? error);
    // Broken, or not for us to see: to take it for gone could take its mounts away.
    return errno !== 'ENOENT' && errno !== 'ENOTDIR';
  }
}

/** One directory under two names: a symbolic link, a bind mount. */
function isSameDirectory(a: string, b: string): boolean {
  try {
    const [one, other] = [
      statSync(join(a, '.git2db'), { bigint: true }),
      statSync(join(b, '.git2db'), { bigint: true }),
    ];
    return one.dev === other.dev && one.ino === other.ino;
  } catch {
    return realpathOrSelf(a) === realpathOrSelf(b);
  }
}

function realpathOrSelf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

async function findMounted(
  layout: RegistryLayout,
  { root }: RegistryMetadata,
  isCopy: boolean,
  env: NodeJS.ProcessEnv,
): Promise<string[]> {
  const mounted = new Set(worktreeMounts(layout.root));
  if (!isCopy && existsSync(layout.worktrees)) {
    for (const { merged, record, state } of await mountsWith(root, env)) {
      if (state !== 'lost' && state !== 'ended')
        mounted.add(record?.options.merged.toString() ?? merged.toString());
    }
  }
  return [...mounted];
}

/** Mounts, ended ones too, whose upper or place lies in `root`. */
async function mountsWith(root: string, env: NodeJS.ProcessEnv) {
  const { list } = await import('../mount-helper/index.ts');
  return list({ env }).filter(({ merged, record }) =>
    [merged, record?.options.upper].some((path) => path !== undefined && isInRoot(path.toString(), root)),
  );
}

/** Takes away the records of mounts that a reboot has ended: `git2db-mount repair` would make them again at the old place. */
async function forgetMounts(from: readonly string[], env: NodeJS.ProcessEnv): Promise<string[]> {
  const notes: string[] = [];
  for (const root of from) {
    const mounts = await mountsWith(root, env);
    if (mounts.length === 0) continue;
    const { umount } = await import('../mount-helper/index.ts');
    for (const { merged } of mounts) {
      try {
        await umount(merged, { env, force: true });
      } catch (error) {
        notes.push(`the record of the mount on ${merged} could not be cleared: ${messageOf(error)}`);
      }
    }
  }
  return notes;
}

function readMoving(
  layout: RegistryLayout,
): { readonly from: readonly string[]; readonly isCopy: boolean } | undefined {
  let text: string;
  try {
    text = readFileSync(layout.moving, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const { from, isCopy } = JSON.parse(text) as { from?: unknown; isCopy?: unknown };
    if (Array.isArray(from) && from.every((root) => typeof root === 'string' && root.startsWith('/'))) {
      return { from, isCopy: isCopy === true };
    }
  } catch {
    // Said below.
  }
  throw new Git2dbError(
    'REGISTRY_INVALID',
    `${layout.moving} should say where the registry was, and cannot be read: remove it if the registry was not moved`,
    { data: { file: layout.moving } },
  );
}

function movedError(
  layout: RegistryLayout,
  { root }: RegistryMetadata,
  mounted: readonly string[],
): Git2dbError {
  const shown =
    mounted.slice(0, 5).join(', ') + (mounted.length > 5 ? `, and ${mounted.length - 5} more` : '');
  return new Git2dbError(
    'REGISTRY_MOVED',
    `the registry was moved from ${root} to ${layout.root} while worktrees are mounted (${shown}): ` +
      'it can be read, but not changed; unmount, then repair: git2db-mount umount <worktree>, then git2db repair',
    { data: { from: root, to: layout.root, mounted } },
  );
}
