/**
 * Git's index file, versions 2, 3 and 4 (gitformat-index). Numbers are big-endian; H is the size
 * of an object id: 20 for SHA-1 repositories, 32 for SHA-256.
 *
 *     0   4  'DIRC'
 *     4   4  version: 2, 3 or 4
 *     8   4  number of entries
 *    12      entries, sorted by path (as bytes), then stage
 *            extensions: 4 bytes signature, 4 bytes size, data
 *        H   hash of all before it, or zeros where index.skipHash is set
 *
 * An entry, at offsets from its start:
 *
 *     0  24  ctime, mtime, dev, ino        (stat-data.ts)
 *    24   4  mode: 0100644, 0100755, 0120000 symlink, 0160000 gitlink, 040000 sparse directory
 *    28  12  uid, gid, size                (stat-data.ts)
 *    40   H  object id
 *  40+H   2  flags: assume-valid, extended, 2 bits stage, 12 bits path length (0xfff: that or more)
 *        [2] only with the extended bit, from version 3 on: a reserved bit, skip-worktree,
 *            intent-to-add, 13 zero bits
 *            path. Versions 2 and 3: the bytes and one to eight NULs, until the entry's size is a
 *            multiple of 8. Version 4: how many bytes to drop from the end of the previous path
 *            (varint.ts), the bytes to append, one NUL
 *
 * An extension whose signature starts with A-Z may be ignored by who does not know it. Of the
 * others, `link` (split index) and `sdir` (there are sparse directories) are known here; any other
 * makes the index unreadable.
 *
 * Invalid, always with code INVALID_INDEX and the offset: everything that contradicts the above,
 * a checksum that does not fit, anything that reaches past the end. The order of entries is not
 * checked; nothing here relies on it.
 */

import { createHash } from 'node:crypto';
import { EntryCursor, type HashSize, HEADER_SIZE } from './entry.ts';
import { invalidIndex } from './invalid-index.ts';

export interface IndexExtension {
  readonly signature: string;
  /** Where the data starts; the header is the eight bytes before. */
  readonly offset: number;
  readonly size: number;
}

/** One index file, checked from end to end. Holds `bytes` and offsets into it, nothing per entry. */
export interface IndexView {
  readonly bytes: Buffer;
  readonly hashSize: HashSize;
  readonly version: number;
  readonly entryCount: number;
  /** The offset after the last entry: the first extension, or the checksum. */
  readonly entriesEnd: number;
  readonly extensions: readonly IndexExtension[];
  /** False where the checksum is zeros (`index.skipHash`). */
  readonly hasChecksum: boolean;
  /** The base of a split index, where the caller has given it. */
  readonly shared: IndexView | undefined;
}

const SIGNATURE = 0x44495243;
const KNOWN_MANDATORY: ReadonlySet<string> = new Set(['link', 'sdir']);

/**
 * Checks an index file and returns the view of it. `bytes` is not copied and must not change while
 * the view is in use, but for stat data. `shared` is the base file of a split index. Throws
 * FormatError INVALID_INDEX.
 */
export function readIndex(bytes: Buffer, hashSize: HashSize, shared?: IndexView): IndexView {
  const end = bytes.length - hashSize;
  if (end < HEADER_SIZE) {
    throw invalidIndex(
      `expected at least ${HEADER_SIZE + hashSize} bytes, found ${bytes.length}`,
      bytes.length,
    );
  }
  if (bytes.readUInt32BE(0) !== SIGNATURE) {
    throw invalidIndex(`expected the signature DIRC, found ${bytes.toString('hex', 0, 4)}`, 0);
  }
  const version = bytes.readUInt32BE(4);
  if (version < 2 || version > 4) {
    throw invalidIndex(`expected version 2, 3 or 4, found ${version}`, 4);
  }
  const hasChecksum = !bytes.subarray(end).equals(Buffer.alloc(hashSize));
  if (hasChecksum && !bytes.subarray(end).equals(checksumOf(bytes.subarray(0, end), hashSize))) {
    throw invalidIndex('the checksum does not fit the contents: the file is damaged or cut short', end);
  }
  const entryCount = bytes.readUInt32BE(8);
  const cursor = new EntryCursor(bytes, version, hashSize);
  for (let i = 0; i < entryCount; i++) {
    cursor.advance();
  }
  const entriesEnd = cursor.next;
  const extensions = readExtensions(bytes, entriesEnd, end);
  return { bytes, hashSize, version, entryCount, entriesEnd, extensions, hasChecksum, shared };
}

/** The hash git puts behind `content`. */
export function checksumOf(content: Buffer, hashSize: HashSize): Buffer {
  return createHash(hashSize === 20 ? 'sha1' : 'sha256')
    .update(content)
    .digest();
}

/** The first extension with that signature. */
export function findExtension(view: IndexView, signature: string): IndexExtension | undefined {
  return view.extensions.find((extension) => extension.signature === signature);
}

function readExtensions(bytes: Buffer, start: number, end: number): IndexExtension[] {
  const extensions: IndexExtension[] = [];
  for (let at = start; at < end; ) {
    if (at + 8 > end) {
      throw invalidIndex('expected an extension, found less than its header', at);
    }
    const signature = bytes.toString('latin1', at, at + 4);
    const size = bytes.readUInt32BE(at + 4);
    if (size > end - at - 8) {
      throw invalidIndex(`extension ${JSON.stringify(signature)} of ${size} bytes exceeds the file`, at);
    }
    if (!/^[A-Z]/.test(signature) && !KNOWN_MANDATORY.has(signature)) {
      throw invalidIndex(`it needs the extension ${JSON.stringify(signature)}, which is not known`, at);
    }
    extensions.push({ signature, offset: at + 8, size });
    at += 8 + size;
  }
  return extensions;
}
