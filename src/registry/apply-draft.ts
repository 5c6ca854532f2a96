/**
 * Makes a draft true, under the registry's lock: directories and remotes first, each with a note in a
 * journal of how it is undone, then the metadata, by one rename. That rename is the moment of the change;
 * a failure or crash before it takes everything back, after it everything is completed.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { repositoryAt } from '../git/repository.ts';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import { StoreLayout } from '../xet/store/layout.ts';
import { registerUser } from '../xet/store/users.ts';
import type { Draft, Effect } from './draft.ts';
import { NameError } from './errors.ts';
import { Journal, setRemoteUrl } from './journal.ts';
import { loadMetadata, syncDirectory } from './metadata-file.ts';
import { findReservation } from './name-reservation.ts';
import type { RegistryLayout } from './registry-layout.ts';
import type { LockedRegistry } from './registry-store.ts';
import { type RemoteSettings, readRemotes, remoteNameOf } from './remote-settings.ts';

/** What is left to do when the lock has been given up: it may take long. */
export type Finish = () => Promise<void>;

export async function applyDraft(
  registry: LockedRegistry,
  layout: RegistryLayout,
  draft: Draft,
): Promise<Finish> {
  if (draft.isEmpty) return async () => {};
  for (const name of draft.claimed) await checkNotReserved(layout, name);
  if (draft.effects.length === 0) {
    registry.commit({ repositories: draft.records() });
    return async () => {};
  }
  const discarded = draft.effects.filter(({ kind }) => kind === 'discard').map(({ record }) => record);
  const journal = Journal.begin(
    layout,
    discarded.map(({ id }) => id),
  );
  try {
    for (const [index, effect] of draft.effects.entries()) await carryOut(layout, journal, effect, index);
    registry.commit({ repositories: draft.records() }, journal.id);
  } catch (error) {
    // The rename may have been done, and only its way to stable storage failed.
    if (!isMade(layout, journal)) throw withFailures(error, await journal.undo());
  }
  journal.committed();
  for (const { path } of discarded) removeEmptyParent(layout, path);
  return async () => {
    // The change is made. What is left of it, somebody's open file perhaps, is ended later; verify tells of it.
    await journal.finish();
  };
}

function isMade(layout: RegistryLayout, { id }: Journal): boolean {
  try {
    return loadMetadata(layout)?.metadata.transaction === id;
  } catch {
    return false;
  }
}

async function checkNotReserved(layout: RegistryLayout, name: string): Promise<void> {
  const reserved = await findReservation(layout, name);
  if (reserved === undefined) return;
  throw new NameError(
    'NAME_TAKEN',
    `the name ${JSON.stringify(name)} collides with ${JSON.stringify(reserved)}, which is being cloned: wait for that, or choose another`,
    { data: { name, taken: reserved } },
  );
}

/** `error`, and what else went wrong while everything was taken back. */
export function withFailures(error: unknown, failures: readonly unknown[]): unknown {
  if (failures.length === 0) return error;
  return new AggregateError(
    [error, ...failures],
    `${messageOf(error)}; and not all of it could be taken back: ${failures.map(messageOf).join('; ')}`,
  );
}

async function carryOut(
  layout: RegistryLayout,
  journal: Journal,
  effect: Effect,
  index: number,
): Promise<void> {
  const { record } = effect;
  const place = record.adopted ? record.path : join(layout.root, record.path);
  if (effect.kind === 'place') {
    const from = relative(layout.root, effect.from).split(sep).join('/');
    if (existsSync(place) && readdirSync(place).length > 0) throw placeTaken(place);
    markRepository(effect.from, record.id);
    enterInStore(layout, effect.from, place);
    journal.willDo({ do: 'rename', from: record.path, to: from });
    mkdirSync(dirname(place), { recursive: true });
    move(effect.from, place);
  } else if (effect.kind === 'discard') {
    if (!existsSync(place)) return;
    const trash = join(layout.trash, `${journal.id}-${index}`);
    const trashed = relative(layout.root, trash).split(sep).join('/');
    mkdirSync(layout.trash, { recursive: true, mode: 0o700 });
    journal.willFinish({ do: 'delete', path: trashed });
    journal.willDo({ do: 'rename', from: trashed, to: record.path });
    move(place, trash);
  } else {
    const repository = repositoryAt(place);
    if (repository === undefined) return;
    const settings = readRemotes(repository.commonDir);
    const remote = remoteNameOf(record.trackingRef, settings);
    const old = urlOf(settings, remote);
    if (old === effect.url) return;
    // A remote without a URL that has other settings keeps the new one, whatever comes: nothing of it is lost.
    if (old !== undefined || !settings.remotes.has(remote)) {
      journal.willDo({ do: 'remote', path: record.path, remote, url: old ?? null });
    }
    await setRemoteUrl(repository.commonDir, remote, effect.url);
  }
}

function urlOf(settings: RemoteSettings, remote: string): string | undefined {
  return settings.remotes.get(remote)?.url;
}

function move(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    throw new Git2dbError('STORE_UNWRITABLE', `cannot move ${from} to ${to}: ${messageOf(error)}`, {
      cause: error,
      data: { from, to },
    });
  }
  syncDirectory(dirname(from));
  if (dirname(to) !== dirname(from)) syncDirectory(dirname(to));
}

/** The file in a repository's git directory that says it was git2db who made it, and its id. */
export const MARK = join('git2db', 'repository.json');

/** Does nothing where there is no repository: a clone in the making may be given to the registry in any form. */
function markRepository(directory: string, id: string): void {
  const commonDir = repositoryAt(directory)?.commonDir;
  if (commonDir === undefined) return;
  mkdirSync(join(commonDir, 'git2db'), { recursive: true });
  writeFileSync(join(commonDir, MARK), `${JSON.stringify({ version: 1, id })}\n`, {
    mode: 0o600,
    flush: true,
  });
}

/** The store counts it among its users under its new place before it is there: gc takes what no user refers to. */
function enterInStore(layout: RegistryLayout, from: string, place: string): void {
  const commonDir = repositoryAt(from)?.commonDir;
  if (commonDir === undefined || !existsSync(layout.store)) return;
  registerUser(new StoreLayout(layout.store), join(place, relative(from, commonDir)));
}

/** `repos/org`, once the last repository of `org` has gone. */
function removeEmptyParent(layout: RegistryLayout, path: string): void {
  const parent = dirname(join(layout.root, path));
  if (parent === layout.repos) return;
  try {
    rmdirSync(parent);
  } catch {
    // Not empty, or gone.
  }
}

function placeTaken(place: string): Git2dbError {
  return new Git2dbError(
    'REFUSED',
    `${place} exists, and is no repository of the registry: register it, move it away, or let \`git2db repair\` look at it`,
    { data: { path: place } },
  );
}
