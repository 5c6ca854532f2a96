/**
 * Changes that consist of more than one replaced file. A journal says, before each step is taken, how it is
 * undone, and what is left to do once the change is made. The change is made at one instant: when
 * `metadata.json` is replaced by one that names the journal as its `transaction`.
 *
 *     journal/<id>/journal.json   {"version":1,"removes":[ids],"committed":false,"undo":[...],"finish":[...]}
 *     journal/<id>/alive, writer.json      whether whoever made it lives (xet/store/liveness.ts)
 *
 * What a dead process has left is undone (in reverse), or finished when its change was made, by the next
 * holder of the registry's lock. Every step may be taken twice. Paths are relative to the registry's root.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { removeSection, setConfig } from '../git/config.ts';
import { repositoryAt } from '../git/repository.ts';
import { makeDirectories } from '../make-directories.ts';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { LivenessMark, probeLiveness } from '../xet/store/liveness.ts';
import { deleteTree } from './delete-tree.ts';
import { syncDirectory, writeDurably } from './metadata-file.ts';
import { OWN_PREFIX, type RegistryLayout } from './registry-layout.ts';
import { readRemotes } from './remote-settings.ts';

export type JournalStep =
  /** Moves a directory, if it is there and its new place is not. */
  | { readonly do: 'rename'; readonly from: string; readonly to: string }
  /** Deletes a directory of ours. */
  | { readonly do: 'delete'; readonly path: string }
  /** Sets the URL of a remote; null: takes it away. `path` may be absolute: an adopted repository. */
  | { readonly do: 'remote'; readonly path: string; readonly remote: string; readonly url: string | null };

interface JournalState {
  /** Ids of the repositories that are removed. */
  readonly removes: readonly string[];
  readonly committed: boolean;
  readonly undo: readonly JournalStep[];
  readonly finish: readonly JournalStep[];
}

const FILE = 'journal.json';

export class Journal {
  readonly id: string;
  readonly #layout: RegistryLayout;
  readonly #directory: string;
  readonly #mark: LivenessMark;
  #state: JournalState;

  private constructor(
    layout: RegistryLayout,
    id: string,
    directory: string,
    mark: LivenessMark,
    removes: readonly string[],
  ) {
    this.#state = { removes, committed: false, undo: [], finish: [] };
    this.id = id;
    this.#layout = layout;
    this.#directory = directory;
    this.#mark = mark;
  }

  /** `removes`: ids of the repositories that the change removes. */
  static begin(layout: RegistryLayout, removes: readonly string[] = []): Journal {
    const id = randomBytes(12).toString('hex');
    const hidden = join(layout.journal, `.${id}`);
    const directory = join(layout.journal, id);
    makeDirectories(hidden, 0o700);
    const mark = new LivenessMark(hidden);
    const journal = new Journal(layout, id, directory, mark, removes);
    writeDurably(hidden, join(hidden, FILE), encodeState(journal.#state));
    renameSync(hidden, directory);
    syncDirectory(layout.journal);
    return journal;
  }

  /** Notes how the step that the caller is about to take is undone. On stable storage when this returns. */
  willDo(undo: JournalStep): void {
    this.#write({ ...this.#state, undo: [...this.#state.undo, undo] });
  }

  /** Notes what is to be done once the change is made. */
  willFinish(step: JournalStep): void {
    this.#write({ ...this.#state, finish: [...this.#state.finish, step] });
  }

  /** The change is made. Called with the lock held, before it is given up. */
  committed(): void {
    this.#write({ ...this.#state, committed: true });
  }

  /** Takes the steps that are left, and ends. What could not be done is in the answer, and tried again later. */
  async finish(): Promise<readonly unknown[]> {
    return this.#end(this.#state.finish, (finish) => ({ finish }));
  }

  /** Takes everything back, and ends. The answer is as that of `finish`. */
  async undo(): Promise<readonly unknown[]> {
    return this.#end(this.#state.undo.toReversed(), (undo) => ({ undo: undo.toReversed() }));
  }

  async #end(
    steps: readonly JournalStep[],
    remaining: (steps: readonly JournalStep[]) => Partial<JournalState>,
  ): Promise<readonly unknown[]> {
    try {
      const { left, failures } = await takeAll(this.#layout, steps);
      if (left.length > 0) this.#write({ ...this.#state, ...remaining(left) });
      else removeWhole(this.#layout, this.id);
      return failures;
    } finally {
      // What is left is found, as that of a dead process, by the next who holds the lock.
      this.#mark.close();
    }
  }

  #write(state: JournalState): void {
    writeDurably(this.#directory, join(this.#directory, FILE), encodeState(state));
    this.#state = state;
  }
}

export interface LeftJournal {
  readonly id: string;
  readonly directory: string;
  readonly owner: 'alive' | 'dead' | 'unsure';
  /** Why it cannot be read. */
  readonly fault: string | undefined;
}

/** The journals there are; `transaction` of the metadata tells which of them was committed last. */
export async function listJournals(layout: RegistryLayout): Promise<LeftJournal[]> {
  const journals: LeftJournal[] = [];
  for (const id of namesIn(layout.journal)) {
    if (id.startsWith('.')) continue;
    const directory = join(layout.journal, id);
    const owner = await probeLiveness(directory);
    let fault: string | undefined;
    try {
      readState(directory);
    } catch (error) {
      // It may have ended between the listing and now.
      if (!existsSync(directory)) continue;
      fault = messageOf(error);
    }
    journals.push({ id, directory, owner, fault });
  }
  return journals;
}

/** True if there may be something for `recoverJournals`. */
export function hasJournals(layout: RegistryLayout): boolean {
  return namesIn(layout.journal).length > 0;
}

/**
 * Ends what dead processes have left. The caller holds the lock; `transaction` is that of the metadata as
 * they are. `insideOnly`: the registry was moved or copied, and what lies outside of it may belong to its
 * original. One that cannot be read, or whose steps fail, is left in place, and `verify` tells of it.
 */
export async function recoverJournals(
  layout: RegistryLayout,
  transaction: string | undefined,
  { insideOnly = false } = {},
): Promise<Recovery> {
  const done: string[] = [];
  const removed: string[] = [];
  const failed: string[] = [];
  for (const { id, directory, owner, fault } of await listJournals(layout)) {
    if (owner !== 'dead' || fault !== undefined) continue;
    const state = readState(directory);
    const isMade = state.committed || transaction === id;
    const steps = (isMade ? state.finish : state.undo.toReversed()).filter(
      (step) => !(insideOnly && step.do === 'remote' && isAbsolute(step.path)),
    );
    const { left, failures } = await takeAll(layout, steps);
    if (left.length === 0) {
      removeWhole(layout, id);
      if (isMade) removed.push(...state.removes);
      done.push(
        `${isMade ? 'completed' : 'took back'} a change that a process which has ended had begun (${id})`,
      );
    } else {
      const rest = isMade ? { committed: true, finish: left } : { undo: left.toReversed() };
      writeDurably(directory, join(directory, FILE), encodeState({ ...state, ...rest }));
      failed.push(
        `cannot ${isMade ? 'complete' : 'take back'} the change of ${directory}: ${failures.map(messageOf).join('; ')}`,
      );
    }
  }
  for (const name of namesIn(layout.journal)) {
    // Killed before its journal was complete, and had done nothing yet, or when all was done.
    if (!name.startsWith('.')) continue;
    const hidden = join(layout.journal, name);
    if ((await probeLiveness(hidden)) === 'dead' || isOld(hidden))
      rmSync(hidden, { recursive: true, force: true });
  }
  return { done, failed, removed };
}

/** For a person. */
export interface Recovery {
  readonly done: readonly string[];
  readonly failed: readonly string[];
  /** Ids of repositories whose removal was completed. */
  readonly removed: readonly string[];
}

/** At one instant: half of a journal would be one that cannot be read. */
function removeWhole(layout: RegistryLayout, id: string): void {
  const hidden = join(layout.journal, `.${id}`);
  renameSync(join(layout.journal, id), hidden);
  rmSync(hidden, { recursive: true, force: true });
}

const HIDDEN_MS = 60_000;

function isOld(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat !== undefined && Date.now() - stat.mtimeMs > HIDDEN_MS;
}

/** Takes each step, whatever becomes of the others. */
async function takeAll(
  layout: RegistryLayout,
  steps: readonly JournalStep[],
): Promise<{ readonly left: readonly JournalStep[]; readonly failures: readonly unknown[] }> {
  const left: JournalStep[] = [];
  const failures: unknown[] = [];
  for (const step of steps) {
    try {
      await take(layout, step);
    } catch (error) {
      left.push(step);
      failures.push(error);
    }
  }
  return { left, failures };
}

async function take(layout: RegistryLayout, step: JournalStep): Promise<void> {
  if (step.do === 'rename') {
    const [from, to] = [join(layout.root, step.from), join(layout.root, step.to)];
    if (!existsSync(from) || existsSync(to)) return;
    makeDirectories(dirname(to));
    renameSync(from, to);
    syncDirectory(dirname(from));
    syncDirectory(dirname(to));
  } else if (step.do === 'delete') {
    await deleteTree(join(layout.root, step.path));
  } else {
    const path = isAbsolute(step.path) ? step.path : join(layout.root, step.path);
    const repository = repositoryAt(path);
    if (repository === undefined) return;
    await setRemoteUrl(repository.commonDir, step.remote, step.url);
  }
}

/** In the repository's own configuration, making the remote if need be; null takes such a new one away again. */
export async function setRemoteUrl(commonDir: string, remote: string, url: string | null): Promise<void> {
  const run = { cwd: commonDir, env: { GIT_DIR: commonDir } };
  const fetch = `+refs/heads/*:refs/remotes/${remote}/*`;
  const { remotes } = readRemotes(commonDir);
  if ((remotes.get(remote)?.url ?? null) === url) return;
  if (url === null) {
    await removeSection('--local', `remote.${remote}`, run);
    return;
  }
  await setConfig('--local', `remote.${remote}.url`, url, run);
  if (!remotes.has(remote)) await setConfig('--local', `remote.${remote}.fetch`, fetch, run);
}

function encodeState(state: JournalState): string {
  return `${JSON.stringify({ version: 1, ...state })}\n`;
}

function readState(directory: string): JournalState {
  const file = join(directory, FILE);
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new Git2dbError('INVALID_JOURNAL', `cannot read the journal ${file}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const state = value as Partial<JournalState> & { version?: unknown };
  const isSound =
    state.version === 1 &&
    typeof state.committed === 'boolean' &&
    Array.isArray(state.removes) &&
    [state.undo, state.finish].every((steps) => Array.isArray(steps) && steps.every(isStep));
  if (isSound) return state as JournalState;
  throw new Git2dbError('INVALID_JOURNAL', `the journal ${file} is none that this git2db knows`, {
    data: { file },
  });
}

function isStep(value: unknown): value is JournalStep {
  const step = value as Record<string, unknown> | null;
  if (step?.do === 'rename') return isInside(step.from) && isInside(step.to);
  if (step?.do === 'delete') return isInside(step.path);
  return (
    step?.do === 'remote' &&
    typeof step.path === 'string' &&
    typeof step.remote === 'string' &&
    (step.url === null || typeof step.url === 'string')
  );
}

/** A place of a repository, or of what is being made or deleted: nothing else is moved or deleted by a journal. */
function isInside(path: unknown): boolean {
  if (typeof path !== 'string' || path.includes('\0')) return false;
  const parts = path.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..')) return false;
  return (parts[0] === 'repos' || (parts[0] === OWN_PREFIX && parts[1] === 'trash')) && parts.length >= 2;
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}
