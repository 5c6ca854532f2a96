/**
 * A name that is kept for somebody who is still at work on the repository: of several who want to clone
 * under one name, one does, and the others wait for what comes of it.
 *
 *     names/<SHA-256 of the folded name>/    name.json, and whether its owner lives (xet/store/liveness.ts)
 *
 * Entries are made and judged under the registry's lock. The owner gives one up by deleting it; that of a
 * process which has ended counts for nothing.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeDirectories } from '../make-directories.ts';
import { errnoOf } from '../xet/errors.ts';
import { LivenessMark, probeLiveness } from '../xet/store/liveness.ts';
import { abortedError } from './errors.ts';
import type { RepositoryRecord } from './metadata.ts';
import type { RegistryLayout } from './registry-layout.ts';
import { checkFree, foldName, NameTable } from './repository-name.ts';
import type { Snapshot } from './snapshot.ts';

export interface ReserveOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called once if somebody else has the name, or one that it collides with. */
  readonly onWait?: ((name: string) => void) | undefined;
}

export class NameReservation implements AsyncDisposable {
  readonly name: string;
  /** The repository that somebody else has made under this very name; then nothing is reserved. */
  readonly record: RepositoryRecord | undefined;
  #release: (() => void) | undefined;

  constructor(name: string, record: RepositoryRecord | undefined, release?: () => void) {
    this.name = name;
    this.record = record;
    this.#release = release;
  }

  /** Harmless when called again. */
  async release(): Promise<void> {
    this.#release?.();
    this.#release = undefined;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}

/**
 * Reserves `name`, unless there is a repository of that name (which is then the answer) or a live
 * reservation in the way (then the answer is its name). The caller holds the lock. Throws NAME_TAKEN.
 */
export async function tryReserve(
  layout: RegistryLayout,
  snapshot: Snapshot,
  name: string,
): Promise<NameReservation | string> {
  const record = snapshot.byName(name);
  if (record !== undefined) return new NameReservation(name, record);
  checkFree(name, snapshot.names());
  return (await findReservation(layout, name)) ?? makeReservation(layout, name);
}

const LOOK_MS = 50;

/** Resolves when nobody alive has `reserved` any more. Its end changes no file, so there is only looking again. */
export async function waitForRelease(
  layout: RegistryLayout,
  reserved: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  do {
    try {
      await sleep(LOOK_MS * (0.5 + Math.random()), undefined, { signal });
    } catch (error) {
      throw abortedError(`waiting for the name ${JSON.stringify(reserved)}`, signal?.reason ?? error);
    }
  } while ((await listReservations(layout)).some(({ name, owner }) => name === reserved && owner !== 'dead'));
}

/** The live reservation that stands in the way of `name`, if there is one. The caller holds the lock. */
export async function findReservation(layout: RegistryLayout, name: string): Promise<string | undefined> {
  for (const reserved of await listReservations(layout)) {
    if (reserved.owner === 'dead') {
      removeWhole(reserved.directory);
    } else if (new NameTable([reserved.name]).collision(name) !== undefined) {
      return reserved.name;
    }
  }
  return undefined;
}

/** Makes the entry; the caller holds the lock and has found the name free. */
function makeReservation(layout: RegistryLayout, name: string): NameReservation {
  const directory = join(
    layout.names,
    createHash('sha256').update(foldName(name)).digest('hex').slice(0, 40),
  );
  const hidden = join(layout.names, `.${randomBytes(6).toString('hex')}`);
  makeDirectories(hidden, 0o700);
  const mark = new LivenessMark(hidden);
  try {
    writeFileSync(join(hidden, 'name.json'), `${JSON.stringify({ name })}\n`, { mode: 0o600 });
    sweep(layout, hidden);
    renameSync(hidden, directory);
  } catch (error) {
    mark.close();
    rmSync(hidden, { recursive: true, force: true });
    throw error;
  }
  return new NameReservation(name, undefined, () => {
    removeWhole(directory);
    mark.close();
  });
}

/** At one instant; half of it would not tell its name. */
function removeWhole(directory: string): void {
  const hidden = join(dirname(directory), `.gone-${randomBytes(6).toString('hex')}`);
  try {
    renameSync(directory, hidden);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  rmSync(hidden, { recursive: true, force: true });
}

/** What was left hidden: the lock is held, so nobody else is making one. Giving one up needs no lock, and no hurry. */
function sweep({ names }: RegistryLayout, own: string): void {
  for (const entry of readdirSync(names)) {
    const path = join(names, entry);
    if (entry.startsWith('.') && path !== own) rmSync(path, { recursive: true, force: true });
  }
}

export interface Reserved {
  readonly name: string;
  readonly directory: string;
  readonly owner: 'alive' | 'dead' | 'unsure';
}

export async function listReservations(layout: RegistryLayout): Promise<Reserved[]> {
  const found: Reserved[] = [];
  for (const entry of entriesOf(layout.names)) {
    const directory = join(layout.names, entry);
    const owner = await probeLiveness(directory);
    try {
      const { name } = JSON.parse(readFileSync(join(directory, 'name.json'), 'utf8')) as { name: unknown };
      if (typeof name === 'string') found.push({ name, directory, owner });
    } catch (error) {
      // Given up just now, or still hidden and being made.
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }
  return found;
}

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => !name.startsWith('.'));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}
