/** A small overlay to try things on: made in the directory that is asked about, and gone afterwards. */
import {
  chmodSync,
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { type BackendName, DEFAULT_OPTIONS, type MountOptions } from './mount-options.ts';
import { joinPath, realPath, showPath } from './path.ts';

export interface Scratch {
  /** Of this directory everything else is made, and with it removed. */
  readonly directory: Buffer;
  readonly options: MountOptions;
}

/** What a mount can do beyond the least. */
export interface MountFeatures {
  /** A directory of a lower layer can be renamed (EXDEV otherwise). */
  readonly renameLowerDirectories: boolean;
  /** O_TMPFILE works. */
  readonly temporaryFiles: boolean;
}

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
    const prefix = joinPath(real, '.git2db-probe-') as unknown as string;
    directory = mkdtempSync(prefix, { encoding: 'buffer' }) as unknown as Buffer;
  } catch (error) {
    throw error instanceof Git2dbError ? error : explain(error, target);
  }
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
  return { directory, options };
}

/** The mount must have ended. */
export function removeScratch({ directory }: Scratch): void {
  // The kernel's own part of the work directory has no permissions at all.
  const kernels = joinPath(directory, 'work/work');
  if (statSync(kernels, { throwIfNoEntry: false }) !== undefined) chmodSync(kernels, 0o700);
  rmSync(directory, { recursive: true, force: true });
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
