/** The records of all worktrees of a home, and the locks they are changed under. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectories } from '../../make-directories.ts';
import { Git2dbError } from '../../xet/errors.ts';
import type { WorktreeHome } from './driver.ts';
import { withLock } from './home-lock.ts';
import { entriesOf } from './layer-store.ts';
import { keepSpareSpace } from './spare-space.ts';
import { readState, stateFile, type WorktreeState, writeState } from './worktree-state.ts';

/** Throws the reason why nothing of this home may be changed, if there is one. */
export function checkWritable({ readOnly }: Pick<WorktreeHome, 'readOnly'>): void {
  if (readOnly !== undefined) throw readOnly;
}

/** Held while records come and go, and while layers are collected: for moments only. */
export function homeLock(home: WorktreeHome): string {
  return join(home.worktrees, '.lock');
}

/** Held by whoever makes, removes or repairs the worktree. */
export function worktreeLock(home: WorktreeHome, id: string): string {
  return join(home.worktrees, '.locks', id);
}

export function worktreeDirectory(home: Pick<WorktreeHome, 'worktrees'>, id: string): string {
  return join(home.worktrees, id);
}

/** Upper and work of an overlay. */
export function upperOf(home: WorktreeHome, id: string): { readonly upper: string; readonly work: string } {
  const directory = worktreeDirectory(home, id);
  return { upper: join(directory, 'upper'), work: join(directory, 'work') };
}

/** Names of directories, and so of some letters and digits: for a person the branch can be seen in it. */
export function newId(ref: string): string {
  const shown = ref
    .replace(/^refs\/(heads|tags|remotes)\//, '')
    .replace(/[^A-Za-z0-9_]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 40);
  const unique = createHash('sha256').update(randomBytes(16)).digest('hex').slice(0, 12);
  return shown === '' ? unique : `${shown}-${unique}`;
}

export interface BrokenRecord {
  readonly id: string;
  readonly file: string;
  /** Of what can be read of it; undefined: it may belong to any repository. */
  readonly commonDir: string | undefined;
  readonly error: Git2dbError;
}

/** All records there are, and those that cannot be read. */
export function readStates(home: Pick<WorktreeHome, 'worktrees'>): {
  states: WorktreeState[];
  broken: BrokenRecord[];
} {
  const states: WorktreeState[] = [];
  const broken: BrokenRecord[] = [];
  for (const name of entriesOf(home.worktrees)) {
    if (name.startsWith('.')) continue;
    const directory = worktreeDirectory(home, name);
    try {
      const state = readState(directory);
      if (state === undefined) continue;
      if (state.id !== name) throw misplaced(directory, state.id);
      states.push(state);
    } catch (error) {
      if (!(error instanceof Git2dbError)) throw error;
      const file = stateFile(directory);
      broken.push({ id: name, file, commonDir: commonDirIn(file), error });
    }
  }
  return { states, broken };
}

/** Those of one repository. One broken record keeps nobody from the others: see `readStates`. */
export function listStates(home: Pick<WorktreeHome, 'worktrees'>, commonDir: string): WorktreeState[] {
  return readStates(home).states.filter((state) => state.commonDir === commonDir);
}

/** Those that are, or may be, of the repository. */
export function brokenStates(home: WorktreeHome, commonDir: string): BrokenRecord[] {
  return readStates(home).broken.filter(
    (each) => each.commonDir === undefined || each.commonDir === commonDir,
  );
}

function misplaced(directory: string, id: string): Git2dbError {
  return new Git2dbError(
    'INVALID_RECORD',
    `${directory} holds the record of ${id}: put the directory back under that name`,
    { data: { directory, id } },
  );
}

/** Also where all the rest of the record makes no sense. */
function commonDirIn(file: string): string | undefined {
  try {
    const text = /"commonDir"\s*:\s*("(?:[^"\\]|\\.)*")/.exec(readFileSync(file, 'utf8'))?.[1];
    return text === undefined ? undefined : (JSON.parse(text) as string);
  } catch {
    return undefined;
  }
}

/** A new record, and the directory for it. Durable. */
export function reserve(home: WorktreeHome, state: WorktreeState): void {
  const directory = worktreeDirectory(home, state.id);
  makeDirectories(directory, 0o700);
  writeState(directory, state);
  keepSpareSpace(home);
}

/** The record as it is now, changed. Throws NOT_FOUND for one that is gone. */
export async function updateState(
  home: WorktreeHome,
  id: string,
  change: Partial<WorktreeState>,
): Promise<WorktreeState> {
  checkWritable(home);
  return withLock(homeLock(home), {}, async () => {
    const directory = worktreeDirectory(home, id);
    const state = readState(directory);
    if (state === undefined) {
      throw new Git2dbError('NOT_FOUND', `the worktree ${id} is gone: somebody has removed it`, {
        data: { id },
      });
    }
    const next = { ...state, ...change };
    writeState(directory, next);
    return next;
  });
}

/** The last thing of a worktree that goes. */
export function forget(home: WorktreeHome, id: string): void {
  rmSync(worktreeDirectory(home, id), { recursive: true, force: true });
  rmSync(worktreeLock(home, id), { recursive: true, force: true });
}
