/**
 * `git2db xet migrate lfs --back`: contents that are chunks of the store become git-lfs's objects again, as far as the
 * history refers to them. The store keeps them, too.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { LocalContent } from '../lfs/local-content.ts';
import type { LfsObject } from '../lfs/objects.ts';
import { makeDirectories } from '../make-directories.ts';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { referencedPointers } from './referenced-pointers.ts';
import { type Place, requireRepository } from './work-tree.ts';

export interface RestoreLfsOptions extends Place {
  readonly dryRun: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly warn?: ((message: string) => void) | undefined;
}

export interface RestoreLfsReport {
  /** Directory of git-lfs's objects. */
  readonly directory: string;
  /** That history and index refer to. */
  readonly objects: number;
  /** Objects that were written, or in a dry run would be; and bytes of them. */
  readonly restored: number;
  readonly restoredBytes: number;
  /** Objects that are damaged in the store, and why. */
  readonly failed: readonly { readonly sha256: string; readonly reason: string }[];
}

/** What this machine does not have stays where it is. Throws NOT_A_REPOSITORY, GIT_FAILED, DISK_FULL. */
export async function restoreLfs(options: RestoreLfsOptions): Promise<RestoreLfsReport> {
  const { cwd, env, dryRun, signal, warn = () => {} } = options;
  const repository = requireRepository(options);
  const local = LocalContent.open({ cwd, env }, warn);
  const directories = local.config.lfs.objectDirs();
  const directory = directories[0] as string;
  const seen = new Set<string>();
  const failed: { sha256: string; reason: string }[] = [];
  let restored = 0;
  let restoredBytes = 0;
  try {
    for await (const { pointer } of referencedPointers(repository, { signal })) {
      if (pointer.kind !== 'lfs' || pointer.size === 0 || seen.has(pointer.sha256)) continue;
      seen.add(pointer.sha256);
      if (directories.some((dir) => isObject(dir, pointer)) || !local.has(pointer)) continue;
      try {
        if (!dryRun) await writeObject(directory, pointer, local.read(pointer), signal);
        restored++;
        restoredBytes += pointer.size;
      } catch (error) {
        // Damaged: its trouble alone.
        if (!(error instanceof Git2dbError) || !/^CONTENT_/.test(error.code)) throw error;
        failed.push({ sha256: pointer.sha256, reason: messageOf(error) });
      }
    }
  } finally {
    await local.close();
  }
  return { directory, objects: seen.size, restored, restoredBytes, failed };
}

function pathOf(directory: string, { sha256 }: LfsObject): string {
  return join(directory, sha256.slice(0, 2), sha256.slice(2, 4), sha256);
}

function isObject(directory: string, object: LfsObject): boolean {
  return statSync(pathOf(directory, object), { throwIfNoEntry: false })?.size === object.size;
}

/** The object appears whole and on stable storage, or not at all. */
async function writeObject(
  directory: string,
  object: LfsObject,
  content: Iterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const path = pathOf(directory, object);
  // Where git-lfs has its own unfinished files.
  const temporary = join(dirname(directory), 'tmp', `git2db-${randomBytes(8).toString('hex')}`);
  try {
    for (const place of [path, temporary]) makeDirectories(dirname(place));
    const fd = openSync(temporary, 'wx', 0o644);
    try {
      for (const piece of content) {
        signal?.throwIfAborted();
        for (let done = 0; done < piece.length; ) done += writeSync(fd, piece, done);
        await nextTurn();
      }
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    if (errnoOf(error) !== 'ENOSPC' && errnoOf(error) !== 'EDQUOT') throw error;
    throw new Git2dbError(
      'DISK_FULL',
      `there is no space for LFS object ${object.sha256} (${object.size} bytes) in ${directory}: make some, and run the command again to go on`,
      { cause: error },
    );
  }
}
