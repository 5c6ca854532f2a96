/**
 * The record of a worktree, `<home.worktrees>/<id>/state.json`: JSON, mode 0600, replaced by rename. It is
 * there before anything else of the worktree is, and goes last, so that whoever finds it can complete or
 * undo what was begun. Layers are counted from these records, never from mounts.
 *
 *     step      creating   being made; without a living maker it is undone
 *               ready      as recorded
 *               removing   being removed; whoever comes next goes on
 *
 * Paths inside the home are not recorded: they follow from its place and `id`, so that it can move.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { BackendName } from '../../mount-helper/index.ts';
import { errnoOf, Git2dbError } from '../../xet/errors.ts';
import { type BackendChoice, DRIVER_NAMES, type DriverName, type Rejected } from './driver.ts';

export type WorktreeStep = 'creating' | 'ready' | 'removing';

export interface WorktreeState {
  readonly version: 1;
  readonly id: string;
  readonly step: WorktreeStep;
  readonly driver: DriverName;
  /** Of overlay2, once mounted: what serves the files. */
  readonly backend?: BackendName | undefined;
  readonly askedBackend: BackendChoice;
  /** Drivers and backends that were not taken. */
  readonly rejected: readonly Rejected[];
  /** The repository's common git directory. */
  readonly commonDir: string;
  /** Name of the directory below `<common dir>/worktrees`; undefined until it is made. */
  readonly admin?: string | undefined;
  /** Absolute, without symbolic links. */
  readonly path: string;
  /** Directories above and at `path` that were made for it, the outermost first. */
  readonly madeDirectories: readonly string[];
  /** As it was asked for. */
  readonly ref: string;
  /** Full name of the branch at its making; undefined: detached. */
  readonly branch?: string | undefined;
  /** The branch was asked for as a new one. */
  readonly newBranch?: boolean | undefined;
  /** It has been made, at this commit: undone when the making of the worktree fails. */
  readonly madeBranch?: boolean | undefined;
  /** The commit checked out at its making; of an overlay, that of its layer. */
  readonly base: string;
  readonly tree: string;
  /** Of overlay2: the layer's name in `home.layers`. */
  readonly layer?: string | undefined;
  /** The layer with all content, where `layer` has pointers because some was missing. */
  readonly complete?: string | undefined;
  /** The user's reason for keeping it. */
  readonly lockReason?: string | undefined;
  readonly ephemeral: boolean;
  /** Boot that the mount was made in. */
  readonly bootId?: string | undefined;
  readonly createdAt: string;
}

const STEPS: readonly WorktreeStep[] = ['creating', 'ready', 'removing'];

export function stateFile(directory: string): string {
  return join(directory, 'state.json');
}

/** Undefined where there is none. Throws INVALID_RECORD, with the remedy. */
export function readState(directory: string): WorktreeState | undefined {
  const file = stateFile(directory);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
  return parseState(text, file);
}

/** `file` is for messages. */
export function parseState(text: string, file: string): WorktreeState {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalid(file, 'is not JSON', cause);
  }
  const state = value as Partial<WorktreeState> | null;
  if (typeof state !== 'object' || state === null) throw invalid(file, 'holds no object');
  if (state.version !== 1) {
    throw invalid(file, `has version ${JSON.stringify(state.version)}, and 1 is known: use a newer git2db`);
  }
  for (const key of [
    'id',
    'commonDir',
    'path',
    'ref',
    'base',
    'tree',
    'createdAt',
    'askedBackend',
  ] as const) {
    if (typeof state[key] !== 'string' || state[key] === '') throw invalid(file, `has no ${key}`);
  }
  for (const key of ['admin', 'branch', 'layer', 'complete', 'lockReason', 'backend', 'bootId'] as const) {
    if (state[key] !== undefined && typeof state[key] !== 'string')
      throw invalid(file, `has a strange ${key}`);
  }
  for (const key of ['admin', 'layer', 'complete', 'id'] as const) {
    const name = state[key];
    // These are joined to directories that are removed some day.
    if (name !== undefined && !/^[A-Za-z0-9_][A-Za-z0-9._+-]*$/.test(name)) {
      throw invalid(file, `has an ${key} that is no name of a directory: ${JSON.stringify(name)}`);
    }
  }
  if (!STEPS.includes(state.step!)) throw invalid(file, `has the unknown step ${JSON.stringify(state.step)}`);
  if (!DRIVER_NAMES.includes(state.driver!)) {
    throw invalid(file, `has the unknown driver ${JSON.stringify(state.driver)}`);
  }
  if (!/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(state.base!) || !/^[0-9a-f]{40,64}$/.test(state.tree!)) {
    throw invalid(file, 'has a base that is no object id');
  }
  if (!state.path!.startsWith('/') || !state.commonDir!.startsWith('/')) {
    throw invalid(file, 'has a path that is not absolute');
  }
  if (!Array.isArray(state.madeDirectories) || !Array.isArray(state.rejected)) {
    throw invalid(file, 'lacks a list');
  }
  if (!state.madeDirectories.every((each) => typeof each === 'string' && each.startsWith('/'))) {
    throw invalid(file, 'has made directories that are no paths');
  }
  return { ephemeral: false, ...state } as WorktreeState;
}

function invalid(file: string, what: string, cause?: unknown): Git2dbError {
  return new Git2dbError(
    'INVALID_RECORD',
    `${file} ${what}; look into the upper beside it for work that is not committed, then remove both`,
    cause === undefined ? { data: { file } } : { data: { file }, cause },
  );
}

/** Durable when it returns, unless `durable` is false. */
export function writeState(directory: string, state: WorktreeState, { durable = true } = {}): void {
  const file = stateFile(directory);
  const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`;
  const fd = openSync(temporary, 'wx', 0o600);
  try {
    writeSync(fd, `${JSON.stringify(state, null, 2)}\n`);
    if (durable) fsyncSync(fd);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, file);
  if (durable) syncDirectory(dirname(file));
}

/** Notes a step on the way: there for whoever comes after a killed process, and not waited for. */
export function noteState(
  directory: string,
  state: WorktreeState,
  change: Partial<WorktreeState>,
): WorktreeState {
  const next = { ...state, ...change };
  writeState(directory, next, { durable: false });
  return next;
}

export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
