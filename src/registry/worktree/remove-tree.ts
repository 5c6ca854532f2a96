/** Removing a directory with all that is in it, also what its own permission bits would keep. */
import { chmodSync, type Dirent, lstatSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { errnoOf } from '../../xet/errors.ts';

/** A git that outlives its caller may still be writing. */
const REMOVING = { recursive: true, force: true, maxRetries: 5, retryDelay: 100 } as const;

/** Does nothing where there is none. Does not follow symbolic links. */
export async function removeTree(path: string | Buffer): Promise<void> {
  try {
    await rm(path, REMOVING);
  } catch (error) {
    if (!['EACCES', 'EPERM', 'ENOTEMPTY'].includes(errnoOf(error) ?? '')) throw error;
    openUp(Buffer.from(path));
    await rm(path, REMOVING);
  }
}

/** Overlays leave a directory `work` of mode 0, and a worktree may have any. */
function openUp(path: Buffer): void {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isDirectory()) return;
  if ((stat.mode & 0o700) !== 0o700) chmodSync(path, stat.mode | 0o700);
  for (const entry of readdirSync(path, { withFileTypes: true, encoding: 'buffer' }) as Dirent<Buffer>[]) {
    if (entry.isDirectory()) openUp(Buffer.concat([path, Buffer.from('/'), entry.name]));
  }
}
