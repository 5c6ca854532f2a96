/** A small overlay to try things on: made in the directory that is asked about, and gone afterwards. */
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { type BackendName, DEFAULT_OPTIONS, type MountOptions } from './mount-options.ts';
import { joinPath, realPath, showPath } from './path.ts';
import { flock, LOCK_EX, LOCK_NB } from './system/libc.ts';

export interface Scratch {
  /** In this directory everything else is made, and with it removed. */
  readonly directory: Buffer;
  readonly options: MountOptions;
  /** Keeps the directory locked: its prober lives. */
  readonly fd: number;
}

/** What a mount can do beyond the least. */
export interface MountFeatures {
  /** A directory of a lower layer can be renamed (EXDEV otherwise). */
  readonly renameLowerDirectories: boolean;
  /** O_TMPFILE works. */
  readonly temporaryFiles: boolean;
}

const PREFIX = '.git2db-probe-';
/** It is made, and locked, in less. */
const LITTER_AFTER_MS = 60_000;
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;
const CONTENT = 'from below\n';

/** In `target`, an existing directory. Throws DIRECTORY_MISSING, DIRECTORY_FORBIDDEN. */
export function makeScratch(target: Buffer, backend: BackendName): Scratch {
  let directory: Buffer;
  try {
    const real = realPath(target);
    if (!statSync(real).isDirectory())
      throw new Git2dbError('DIRECTORY_MISSING', `${showPath(real)} is no directory`);
    // mkdtemp of Node takes bytes, and its types say text only.
    const prefix = joinPath(real, PREFIX) as unknown as string;
    directory = mkdtempSync(prefix, { encoding: 'buffer' }) as unknown as Buffer;
  } catch (error) {
    throw error instanceof Git2dbError ? error : explain(error, target);
  }
  const fd = openSync(directory, 'r');
  flock(fd, LOCK_EX | LOCK_NB);
  const at = (name: string) => joinPath(directory, name);
  for (const name of ['lower', 'lower/directory', 'upper', 'work', 'merged']) mkdirSync(at(name), 0o700);
  writeFileSync(at('lower/file'), CONTENT);
  writeFileSync(at('lower/directory/file'), CONTENT);
  const options: MountOptions = {
    lowers: [at('lower')],
    upper: at('upper'),
    work: at('work'),
    merged: at('merged'),
    ...DEFAULT_OPTIONS,
    backend,
  };
  return { directory, options, fd };
}

/** The mount must have ended. */
export function removeScratch({ directory, fd }: Scratch): void {
  removeTree(directory, fd);
  closeSync(fd);
}

/** By the descriptor: whoever may write to the directory around it could put another one in its place. */
function removeTree(directory: Buffer, fd: number): void {
  const pinned = Buffer.from(`/proc/self/fd/${fd}`);
  // The kernel's own part of the work directory has no permissions at all.
  const kernels = joinPath(pinned, 'work/work');
  if (statSync(kernels, { throwIfNoEntry: false }) !== undefined) chmodSync(kernels, 0o700);
  for (const name of readdirSync(pinned)) rmSync(joinPath(pinned, name), { recursive: true, force: true });
  rmdirSync(directory);
}

/**
 * Removes what probes of this user that were killed have left in `target`; their mounts are ended by `unmount`.
 * What cannot be removed stays.
 */
export async function clearScratches(
  target: Buffer,
  unmount: (merged: Buffer) => Promise<void>,
): Promise<void> {
  for (const name of namesIn(target)) {
    const directory = joinPath(target, name);
    let fd: number;
    try {
      fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    } catch {
      continue;
    }
    try {
      const { uid, mtimeMs } = fstatSync(fd);
      const isOld = Date.now() - mtimeMs > LITTER_AFTER_MS;
      if (uid !== process.geteuid?.() || !isOld || flock(fd, LOCK_EX | LOCK_NB) < 0) continue;
      const place = readlinkSync(`/proc/self/fd/${fd}`, { encoding: 'buffer' });
      await unmount(joinPath(place, 'merged'));
      removeTree(directory, fd);
    } catch {
      // In use after all, or somebody else has changed it: it is no reason not to probe.
    } finally {
      closeSync(fd);
    }
  }
}

function namesIn(target: Buffer): string[] {
  try {
    return readdirSync(target, { encoding: 'latin1' }).filter((name) => /^\.git2db-probe-\w{6}$/.test(name));
  } catch {
    return [];
  }
}

function explain(error: unknown, target: Buffer): Git2dbError {
  const isMissing = ['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '');
  return new Git2dbError(
    isMissing ? 'DIRECTORY_MISSING' : 'DIRECTORY_FORBIDDEN',
    `cannot try mounts in ${showPath(target)}: ${messageOf(error)}; name a directory that this user may write to`,
    { cause: error },
  );
}

/**
 * Uses the mount of a scratch, seen at `merged`: throws MOUNT_FAILED when what must work does not, and tells
 * what else does. Changes it.
 */
export function tryMount(merged: Buffer, { options }: Scratch): MountFeatures {
  const at = (name: string) => joinPath(merged, name);
  expectContent(at('file'), CONTENT);
  writeFileSync(at('file'), 'changed\n');
  expectContent(at('file'), 'changed\n');
  expectContent(joinPath(options.lowers[0]!, 'file'), CONTENT);
  expectContent(joinPath(options.upper!, 'file'), 'changed\n');
  rmSync(at('file'));
  if (statSync(at('file'), { throwIfNoEntry: false }) !== undefined)
    throw broken('a removed file is still there');
  return {
    renameLowerDirectories: works('EXDEV', () => renameSync(at('directory'), at('renamed'))),
    temporaryFiles: works('EOPNOTSUPP', () =>
      closeSync(openSync(merged, O_TMPFILE | constants.O_RDWR, 0o600)),
    ),
  };
}

function expectContent(path: Buffer, expected: string): void {
  const found = readFileSync(path, 'latin1');
  if (found !== expected) {
    throw broken(
      `${showPath(path)} should hold ${JSON.stringify(expected)}, and holds ${JSON.stringify(found)}`,
    );
  }
}

function broken(what: string): Git2dbError {
  return new Git2dbError('MOUNT_FAILED', `the mount was made and does not work: ${what}`);
}

/** False when it fails with `errno`, which says that it is not supported. */
function works(errno: string, action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (errnoOf(error) === errno || errnoOf(error) === 'ENOTSUP') return false;
    throw error;
  }
}
