/**
 * Notes of content that takes its pointer's place, to find it by afterwards; in a file, for a next run:
 *
 *     { path NUL oid NUL identity NUL }
 *
 * oid: the pointer's blob, in hexadecimal. identity: dev, ino, size and mtime (nanoseconds since the epoch), decimal, one space
 * between. A record that does not end was being written in a crash, and ends the list.
 *
 * The ctime is not among it: taking the place changes it, and so does another run that tries to at the same time. Who
 * changes the content changes the mtime.
 */
import { type BigIntStats, lstatSync } from 'node:fs';
import type { FileStat } from '../git/index-file/stat-data.ts';
import type { WrittenFile } from '../git/index-file/work-tree.ts';
import { errnoOf } from '../xet/errors.ts';

type Identity = Pick<BigIntStats, 'dev' | 'ino' | 'size' | 'mtimeNs'>;

export interface ContentNote {
  /** From the top of the work tree. */
  readonly path: Buffer;
  readonly oid: string;
  readonly identity: Identity;
}

const NUL = Buffer.of(0);
const IDENTITY = /^(\d+) (\d+) (\d+) (-?\d+)$/;

export function encodeContentNote({ path, oid, identity }: ContentNote): Buffer {
  const { dev, ino, size, mtimeNs } = identity;
  return Buffer.concat([path, Buffer.from(`\0${oid}\0${dev} ${ino} ${size} ${mtimeNs}\0`)]);
}

export function* decodeContentNotes(bytes: Buffer): Generator<ContentNote> {
  for (let at = 0; ; ) {
    const pathEnd = bytes.indexOf(NUL, at);
    const oidEnd = pathEnd < 0 ? -1 : bytes.indexOf(NUL, pathEnd + 1);
    const end = oidEnd < 0 ? -1 : bytes.indexOf(NUL, oidEnd + 1);
    if (end < 0) return;
    const numbers = IDENTITY.exec(bytes.toString('latin1', oidEnd + 1, end))
      ?.slice(1)
      .map(BigInt);
    if (numbers === undefined) return;
    const [dev, ino, size, mtimeNs] = numbers as [bigint, bigint, bigint, bigint];
    const oid = bytes.toString('latin1', pathEnd + 1, oidEnd);
    yield { path: bytes.subarray(at, pathEnd), oid, identity: { dev, ino, size, mtimeNs } };
    at = end + 1;
  }
}

/** The file of a note, below the work tree `root`, if it is there and was not changed since. */
export function findNotedFile(root: string, { path, oid, identity }: ContentNote): WrittenFile | undefined {
  try {
    const stat = lstatSync(Buffer.concat([Buffer.from(`${root}/`), path]), { bigint: true });
    const isSame =
      stat.dev === identity.dev &&
      stat.ino === identity.ino &&
      stat.size === identity.size &&
      stat.mtimeNs === identity.mtimeNs;
    return isSame ? { path, oid, stat: withoutRest(stat) } : undefined;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** There may be very many, and a Stats object has twice as much. */
function withoutRest({ dev, ino, uid, gid, size, mtimeNs, ctimeNs, mode }: BigIntStats): FileStat {
  return { dev, ino, uid, gid, size, mtimeNs, ctimeNs, mode };
}
