/** Whether what is to be written can fit, as far as the file system tells beforehand. */
import { statfsSync } from 'node:fs';
import { errnoOf, Git2dbError } from '../xet/errors.ts';

/** Bytes that a file system has for us, or undefined where it does not say. */
export function freeBytes(path: Buffer | string): number | undefined {
  try {
    const { bavail, bsize, blocks } = statfsSync(path);
    // Some file systems of networks and of programs have no idea, and say zero of zero.
    return blocks === 0 ? undefined : bavail * bsize;
  } catch {
    return undefined;
  }
}

/** True for a write that failed because there is no room: the disk or a quota is used up. */
export function isOutOfSpace(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === 'ENOSPC' || errno === 'EDQUOT';
}

/** `needed` bytes do not fit into a file system with `free`; `what` begins the message. */
export function diskFull(
  what: string,
  needed: number,
  free: number | undefined,
  cause?: unknown,
): Git2dbError {
  const left = free === undefined ? '' : `, ${free} are free`;
  return new Git2dbError(
    'DISK_FULL',
    `${what} needs ${needed} bytes${left}: make room, or name the files you need most`,
    {
      cause,
      data: { needed, free },
    },
  );
}

/** A file that is to be written. */
export interface PlannedFile {
  readonly path: Buffer;
  readonly hash: string;
  readonly size: number;
  /** The file system it goes to. */
  readonly dev: number;
}

/**
 * Throws DISK_FULL where `files`, below the directory `root`, obviously do not fit. `findSize` gives the
 * size of content that is to be had: a pointer can claim anything.
 */
export function requireSpace(
  root: string,
  files: readonly PlannedFile[],
  findSize: (hash: string) => number | undefined,
): void {
  for (const group of byFileSystem(files)) {
    const first = group[0] as PlannedFile;
    const directory = Buffer.concat([
      Buffer.from(`${root}/`),
      first.path.subarray(0, first.path.lastIndexOf('/') + 1),
    ]);
    const free = freeBytes(directory);
    if (free === undefined || totalSize(group) <= free) continue;
    const needed = totalSize(group.filter(({ hash, size }) => findSize(hash) === size));
    if (needed > free) throw diskFull(`writing ${group.length} files below ${root}`, needed, free);
  }
}

function byFileSystem(files: readonly PlannedFile[]): Iterable<readonly PlannedFile[]> {
  const groups = new Map<number, PlannedFile[]>();
  for (const file of files) {
    const group = groups.get(file.dev);
    if (group === undefined) groups.set(file.dev, [file]);
    else group.push(file);
  }
  return groups.values();
}

function totalSize(files: readonly PlannedFile[]): number {
  return files.reduce((sum, { size }) => sum + size, 0);
}
