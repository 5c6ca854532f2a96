/** Reading an index from disk, with the shared file of a split index. */

import type { BigIntStats } from 'node:fs';
import { constants } from 'node:fs';
import { open, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf, Git2dbError } from '../../xet/errors.ts';
import type { HashSize } from './entry.ts';
import { findExtension, type IndexView, readIndex } from './format.ts';
import { invalidIndex } from './invalid-index.ts';
import { sharedIndexHash } from './split-index.ts';

/** An index read from disk, and what the file was like when it was read. */
export interface IndexOnDisk {
  readonly view: IndexView;
  readonly stat: BigIntStats;
}

/** Some 20 million entries; offsets stay below what every reader of the file can hold. */
const LARGEST_INDEX = 0x7fff_ffff;

/**
 * Reads and checks the index at `indexPath`; for a split index also the shared file beside it, so
 * that `indexEntries` gives the whole list. Undefined where there is no index: nothing is staged.
 * Throws FormatError INVALID_INDEX, LIMIT_EXCEEDED above 2 GiB, and the system's errors.
 */
export async function readIndexFile(indexPath: string, hashSize: HashSize): Promise<IndexView | undefined> {
  return (await loadIndex(indexPath, hashSize))?.view;
}

/** {@link readIndexFile}, with the stat of the file that was read. */
export async function loadIndex(indexPath: string, hashSize: HashSize): Promise<IndexOnDisk | undefined> {
  const file = await readWhole(indexPath);
  if (file === undefined) {
    return undefined;
  }
  const own = readIndex(file.bytes, hashSize);
  const hash = sharedIndexHash(own);
  if (hash === undefined) {
    return { view: own, stat: file.stat };
  }
  const linkOffset = findExtension(own, 'link')!.offset;
  const sharedPath = sharedIndexPath(indexPath, hash);
  const sharedFile = await readWhole(sharedPath);
  if (sharedFile === undefined) {
    throw invalidIndex(`it is split and its shared file ${sharedPath} does not exist`, linkOffset);
  }
  const shared = readIndex(sharedFile.bytes, hashSize);
  if (sharedFile.bytes.toString('hex', sharedFile.bytes.length - hashSize) !== hash) {
    throw invalidIndex(`it is split and its shared file ${sharedPath} is not the one it names`, linkOffset);
  }
  return { view: { ...own, shared }, stat: file.stat };
}

/**
 * Renews the time of the shared file that `view` needs, as git does whenever it writes a split
 * index: git removes shared files that nothing has used for two weeks.
 */
export async function freshenSharedIndex(indexPath: string, view: IndexView): Promise<void> {
  const hash = sharedIndexHash(view);
  if (hash !== undefined) {
    const now = Date.now() / 1000;
    await utimes(sharedIndexPath(indexPath, hash), now, now).catch(() => {});
  }
}

/** Where git keeps the shared file of a split index: in the directory of the index. */
function sharedIndexPath(indexPath: string, hash: string): string {
  return join(dirname(indexPath), `sharedindex.${hash}`);
}

async function readWhole(path: string): Promise<{ bytes: Buffer; stat: BigIntStats } | undefined> {
  // Non-blocking, so that a FIFO in place of the file cannot hang us.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  });
  if (handle === undefined) {
    return undefined;
  }
  try {
    const stat = await handle.stat({ bigint: true });
    if (!stat.isFile()) {
      throw invalidIndex(`expected ${path} to be a regular file`, 0);
    }
    if (stat.size > LARGEST_INDEX) {
      throw new Git2dbError(
        'LIMIT_EXCEEDED',
        `git index ${path} has ${stat.size} bytes, at most ${LARGEST_INDEX} are read`,
      );
    }
    const bytes = Buffer.allocUnsafeSlow(Number(stat.size));
    for (let filled = 0; filled < bytes.length; ) {
      const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, filled);
      if (bytesRead === 0) {
        throw invalidIndex(`${path} became shorter while it was read`, filled);
      }
      filled += bytesRead;
    }
    return { bytes, stat };
  } finally {
    await handle.close();
  }
}
