/** Deleting a directory that git2db made, whatever modes its own directories have. */
import { chmod, lstat, readdir, rm, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { syncDirectory } from './metadata-file.ts';
import { readMountPoints } from './mount-points.ts';

/**
 * Deletes `path` and all below it, following no symbolic link; nothing there is fine. Throws MOUNT_BUSY,
 * and has deleted nothing, while something is mounted there.
 */
export async function deleteTree(path: string): Promise<void> {
  const stat = await lstat(path).catch((error) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (stat === undefined) return;
  const mounted = readMountPoints().find(({ path: at }) => at === path || at.startsWith(`${path}/`));
  if (mounted !== undefined) {
    throw new Git2dbError(
      'MOUNT_BUSY',
      `cannot delete ${path}: something is mounted on ${mounted.path}; unmount it`,
      {
        data: { path, mounted: mounted.path },
      },
    );
  }
  if (stat.isDirectory()) await deleteDirectory(path);
  else await unlink(path);
  syncDirectory(dirname(path));
}

const ATTEMPTS = 3;

async function deleteDirectory(path: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await rm(path, { recursive: true, force: true, maxRetries: 2 });
      return;
    } catch (error) {
      const errno = errnoOf(error);
      const isMode = errno === 'EACCES' || errno === 'EPERM';
      // A failed rm() still has deletions on their way, which meet those of the next one.
      if (attempt === ATTEMPTS || !(isMode || errno === 'ENOTEMPTY')) throw cannotDelete(path, error);
      // A directory without write permission for its owner: git itself makes none, a work tree may have them.
      await makeDeletable(path);
    }
  }
}

async function makeDeletable(directory: string): Promise<void> {
  try {
    await chmod(directory, 0o700);
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      if (entry.isDirectory()) await makeDeletable(join(directory, entry.name));
    }
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

function cannotDelete(path: string, error: unknown): Git2dbError {
  return new Git2dbError(
    'STORE_UNWRITABLE',
    `cannot delete ${path}: ${messageOf(error)}; see who owns it, then try again`,
    {
      cause: error,
      data: { path },
    },
  );
}
