/**
 * All that can be refused before anything is mounted, and without leaving a trace: the directories of a
 * mount and how they lie to each other. What a backend needs beyond that it checks itself; the kernel
 * would refuse most of it too, but with EINVAL for everything, and FUSE not at all.
 */
import {
  accessSync,
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
} from 'node:fs';
import { type ErrorCode, errnoOf, Git2dbError } from '../xet/errors.ts';
import type { MountOptions } from './mount-options.ts';
import { STAMP_NAME } from './overlay/stamp.ts';
import { refuseVolatileMark } from './overlay/volatile-mark.ts';
import { joinPath, lastName, parentPath, realPath, showPath } from './path.ts';

/** A directory of the mount that was looked at. */
export interface CheckedDirectory {
  /** What the user calls it: `lowerdir`, `upperdir`, `workdir`, `MERGED`. */
  readonly role: string;
  /** Without symbolic links. */
  readonly path: Buffer;
  readonly identity: string;
  /** `device:inode` of all directories above, the nearest first. */
  readonly above: readonly string[];
}

export interface PreparedMount {
  /** As asked for; `merged` without symbolic links, as the table of mounts will show it. */
  readonly options: MountOptions;
  readonly lowers: readonly CheckedDirectory[];
  readonly upper: CheckedDirectory | undefined;
  readonly work: CheckedDirectory | undefined;
  readonly merged: CheckedDirectory;
  /** Nothing at all lies in the place to mount on. */
  readonly isMergedEmpty: boolean;
}

/** What a `.git` file says that keeps git out of a worktree while its mount is not there. */
export const GUARD_TEXT = 'git2db-unmounted';

const { R_OK, W_OK, X_OK, O_DIRECTORY, O_RDONLY } = constants;
const O_PATH = 0o10000000;
/** Names that overlays make in a work directory: the kernel and fuse-overlayfs, and we. */
const WORK_NAMES = ['work', 'index', 'git2db', STAMP_NAME];
const GUARD_SIZE_MAX = 4096;

/** Throws the first thing that is wrong. Changes nothing. */
export function prepareMount(options: MountOptions): PreparedMount {
  const lowers = options.lowers.map((path) => checkDirectory(path, 'lowerdir', R_OK | X_OK));
  const mode = options.readOnly ? R_OK | X_OK : R_OK | W_OK | X_OK;
  const upper = options.upper === undefined ? undefined : checkDirectory(options.upper, 'upperdir', mode);
  const work = options.work === undefined ? undefined : checkDirectory(options.work, 'workdir', mode);
  const merged = checkDirectory(options.merged, 'MERGED', 0);
  checkOverlap([...lowers, ...[upper, work].filter((directory) => directory !== undefined)]);
  if (upper !== undefined && work !== undefined) {
    checkSameMount(upper, work);
    checkWork(work);
    refuseVolatileMark(work.path);
  }
  for (const layer of [upper, work]) {
    if (layer !== undefined && isInside(merged, layer)) throw mergedInside(merged, layer);
  }
  const isMergedEmpty = checkMerged(merged, options.nonempty);
  return { options: { ...options, merged: merged.path }, lowers, upper, work, merged, isMergedEmpty };
}

/** For FUSE: its server would wait for itself when it meets its own mount in a lower. */
export function checkMergedOutsideLowers({ merged, lowers }: PreparedMount): void {
  for (const lower of lowers) {
    if (merged.identity !== lower.identity && isInside(merged, lower)) throw mergedInside(merged, lower);
  }
}

function mergedInside(merged: CheckedDirectory, layer: CheckedDirectory): Git2dbError {
  return refuse(
    'MERGED_IN_LAYER',
    `MERGED ${showPath(merged.path)} lies inside ${layer.role} ${showPath(layer.path)}, so the mount would ` +
      'contain itself; mount somewhere else',
  );
}

// ---- one directory ---------------------------------------------------------------------------

function checkDirectory(path: Buffer, role: string, access: number): CheckedDirectory {
  try {
    const real = realPath(path);
    const stat = statSync(real, { bigint: true });
    if (!stat.isDirectory()) {
      throw refuse('DIRECTORY_MISSING', `${role} ${showPath(path)} is not a directory; name one`);
    }
    accessSync(real, access);
    return { role, path: real, identity: `${stat.dev}:${stat.ino}`, above: identitiesAbove(real) };
  } catch (error) {
    throw error instanceof Git2dbError ? error : explain(error, path, role);
  }
}

function explain(error: unknown, path: Buffer, role: string): Git2dbError {
  const shown = `${role} ${showPath(path)}`;
  const errno = errnoOf(error);
  if (errno === 'ENOENT' || errno === 'ENOTDIR') {
    return refuse('DIRECTORY_MISSING', `${shown} does not exist; make the directory first`, error);
  }
  if (errno === 'ENOTCONN') {
    const remedy = `'git2db-mount umount ${showPath(path)}' or 'git2db-mount repair' clears it`;
    return refuse('MERGED_DEAD', `${shown} is a FUSE mount whose server is gone; ${remedy}`, error);
  }
  if (errno === 'EACCES' || errno === 'EPERM') {
    return refuse('DIRECTORY_FORBIDDEN', `${shown} may not be used by this user; give it the rights`, error);
  }
  if (errno === 'EROFS') {
    const remedy = 'take a place that can be written, or leave out upperdir and workdir to mount read-only';
    return refuse('DIRECTORY_FORBIDDEN', `${shown} is on a read-only file system; ${remedy}`, error);
  }
  if (errno === 'ENAMETOOLONG' || errno === 'ELOOP') {
    return refuse('PATH_UNSUITABLE', `${shown} cannot be followed to a directory (${errno})`, error);
  }
  return refuse('DIRECTORY_FORBIDDEN', `${shown} cannot be looked at: ${(error as Error).message}`, error);
}

/** Also through bind mounts, as far as the directories above are the same ones. */
function identitiesAbove(path: Buffer): string[] {
  const above: string[] = [];
  for (let at = path; at.length > 1; ) {
    at = parentPath(at);
    const { dev, ino } = statSync(at, { bigint: true });
    above.push(`${dev}:${ino}`);
  }
  return above;
}

// ---- how they lie to each other --------------------------------------------------------------

/** The same directory, or somewhere below it. */
function isInside(inner: CheckedDirectory, outer: CheckedDirectory): boolean {
  return inner.identity === outer.identity || inner.above.includes(outer.identity);
}

function checkOverlap(layers: readonly CheckedDirectory[]): void {
  const seen = new Map<string, CheckedDirectory>();
  for (const layer of layers) {
    const same = seen.get(layer.identity);
    if (same !== undefined) {
      const both = same.role === layer.role ? `${layer.role} twice` : `both ${same.role} and ${layer.role}`;
      throw refuse('LAYERS_OVERLAP', `${showPath(layer.path)} is ${both}; each needs a directory of its own`);
    }
    seen.set(layer.identity, layer);
  }
  for (const inner of layers) {
    const identity = inner.above.find((each) => seen.has(each));
    if (identity === undefined) continue;
    const outer = seen.get(identity)!;
    throw refuse(
      'LAYERS_OVERLAP',
      `${inner.role} ${showPath(inner.path)} lies inside ${outer.role} ${showPath(outer.path)}; ` +
        'layers must be separate trees',
    );
  }
}

/** Renames between upper and work must be possible: the same file system, seen through the same mount. */
function checkSameMount(upper: CheckedDirectory, work: CheckedDirectory): void {
  const sameDevice = deviceOf(upper.identity) === deviceOf(work.identity);
  if (sameDevice && mountId(upper.path) === mountId(work.path)) return;
  const what = sameDevice ? 'on another mount of the file system' : 'on another file system';
  throw refuse(
    'WORK_ELSEWHERE',
    `workdir ${showPath(work.path)} is ${what} than upperdir ${showPath(upper.path)}; make it beside the upper`,
  );
}

function mountId(path: Buffer): string | undefined {
  const fd = openSync(path, O_PATH | O_DIRECTORY | O_RDONLY);
  try {
    return /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
  } finally {
    closeSync(fd);
  }
}

// ---- what lies in them -----------------------------------------------------------------------

function checkWork(work: CheckedDirectory): void {
  const strange = namesIn(work, (name) => !WORK_NAMES.includes(name));
  if (strange === undefined) return;
  throw refuse(
    'WORK_NOT_EMPTY',
    `workdir ${showPath(work.path)} holds ${showPath(Buffer.from(strange, 'latin1'))}, which no overlay made; ` +
      'name an empty directory',
  );
}

function namesIn(directory: CheckedDirectory, isWanted: (name: string) => boolean): string | undefined {
  try {
    return readdirSync(directory.path, { encoding: 'latin1' }).find(isWanted);
  } catch (error) {
    throw explain(error, directory.path, directory.role);
  }
}

/** True: nothing is there. A worktree's guard may be: it is what the mount is to replace. */
function checkMerged(merged: CheckedDirectory, nonempty: boolean): boolean {
  const names = namesOrNone(merged);
  if (names.length === 0) return true;
  if (nonempty || (names.length === 1 && names[0] === '.git' && isGuard(joinPath(merged.path, '.git')))) {
    return false;
  }
  const place = showPath(merged.path);
  if (isMountPoint(merged)) {
    throw refuse(
      'MERGED_NOT_EMPTY',
      `MERGED ${place} has something mounted on it already; end that (git2db-mount umount ${place}), or ` +
        'mount on top of it with -o nonempty',
    );
  }
  throw refuse(
    'MERGED_NOT_EMPTY',
    `MERGED ${place} is not empty (${showPath(Buffer.from(names[0]!, 'latin1'))} is there); ` +
      'the mount would hide it: name an empty directory, or insist with -o nonempty',
  );
}

function isMountPoint({ identity, above }: CheckedDirectory): boolean {
  return above[0] !== undefined && deviceOf(above[0]) !== deviceOf(identity);
}

function deviceOf(identity: string): string {
  return identity.slice(0, identity.indexOf(':'));
}

function namesOrNone(directory: CheckedDirectory): string[] {
  try {
    return readdirSync(directory.path, { encoding: 'latin1' });
  } catch (error) {
    // A place that may be searched and not listed: what cannot be seen is not hidden by the mount.
    if (errnoOf(error) === 'EACCES') return [];
    throw explain(error, directory.path, directory.role);
  }
}

function isGuard(path: Buffer): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isFile() || stat.size > GUARD_SIZE_MAX) return false;
  return readFileSync(path, 'latin1').includes(GUARD_TEXT);
}

/** Where a mount on `merged` will show in the table of mounts, also when its server is gone. */
export function mountPointOf(merged: Buffer): Buffer {
  try {
    return realPath(merged);
  } catch {
    return joinPath(realPath(parentPath(merged)), lastName(merged));
  }
}

function refuse(code: ErrorCode, message: string, cause?: unknown): Git2dbError {
  return new Git2dbError(code, message, cause === undefined ? {} : { cause });
}
