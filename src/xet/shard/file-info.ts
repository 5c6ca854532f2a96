/**
 * The file section of a shard (Xet protocol, "Shard", file info). Per file: a header, `n` terms, then
 * `n` verification entries (flag bit 31), then one metadata entry (flag bit 30); 48 bytes each.
 *
 *     header              term                     verification entry    metadata entry
 *     0   32 file hash    0   32 xorb hash         0   32 range hash     0   32 SHA-256 (sha256.ts)
 *     32  4  flags        32  4  flags             32  16 unused         32  16 unused
 *     36  4  n            36  4  raw bytes
 *     40  8  unused       40  4  first chunk
 *                         44  4  end of chunks, exclusive
 *
 * The empty file has hash zero and no terms.
 */
import { Git2dbError } from '../errors.ts';
import { sha256FromShard, sha256ToShard } from '../hash/sha256.ts';
import { HASH_SIZE } from '../hash/xet-hash.ts';
import { invalidShard, RECORD_SIZE, viewOf } from './format.ts';

const VERIFICATION_FLAG = 0x80000000;
const METADATA_FLAG = 0x40000000;

/** Chunks [start, end) of a xorb, as a piece of a file. */
export interface Term {
  readonly xorbHash: Uint8Array;
  readonly start: number;
  readonly end: number;
  /** Raw bytes of these chunks. */
  readonly rawBytes: number;
  readonly flags?: number;
}

export interface FileRecord {
  readonly fileHash: Uint8Array;
  readonly terms: readonly Term[];
  /** Verification hash of each term. */
  readonly verification?: readonly Uint8Array[];
  /** 64 hexadecimal digits. */
  readonly sha256?: string;
}

/** What the header of a file says, without its terms. */
export interface FileHeader {
  readonly recordIndex: number;
  /** A view into the shard. */
  readonly fileHash: Uint8Array;
  readonly termCount: number;
  readonly hasVerification: boolean;
  readonly hasSha256: boolean;
  /** Records of this file, the header included. */
  readonly recordCount: number;
}

/** Number of 48-byte records that `encodeFile` writes. */
export function fileRecordCount(file: FileRecord): number {
  const perTerm = file.verification === undefined ? 1 : 2;
  return 1 + perTerm * file.terms.length + (file.sha256 === undefined ? 0 : 1);
}

/** Writes the records of `file` at `offset`; `fileRecordCount` says how many. */
export function encodeFile(target: Uint8Array, offset: number, file: FileRecord): void {
  const { terms, verification, sha256 } = file;
  if (verification !== undefined && verification.length !== terms.length) {
    throw new Git2dbError(
      'INVALID_SHARD',
      `a file of ${terms.length} terms needs as many verification hashes, not ${verification.length}`,
    );
  }
  const view = viewOf(target);
  target.set(file.fileHash, offset);
  const flags =
    (verification === undefined ? 0 : VERIFICATION_FLAG) + (sha256 === undefined ? 0 : METADATA_FLAG);
  view.setUint32(offset + 32, flags, true);
  view.setUint32(offset + 36, terms.length, true);
  let at = offset + RECORD_SIZE;
  for (const term of terms) {
    target.set(term.xorbHash, at);
    view.setUint32(at + 32, term.flags ?? 0, true);
    view.setUint32(at + 36, term.rawBytes, true);
    view.setUint32(at + 40, term.start, true);
    view.setUint32(at + 44, term.end, true);
    at += RECORD_SIZE;
  }
  for (const hash of verification ?? []) {
    target.set(hash, at);
    at += RECORD_SIZE;
  }
  if (sha256 !== undefined) target.set(sha256ToShard(sha256), at);
}

/** Number of records that the header at `offset` announces, itself included: its file ends after them. */
export function announcedFileRecords(view: DataView, offset: number): number {
  const flags = view.getUint32(offset + 32, true);
  const termCount = view.getUint32(offset + 36, true);
  return (
    1 + ((flags & VERIFICATION_FLAG) === 0 ? 1 : 2) * termCount + ((flags & METADATA_FLAG) === 0 ? 0 : 1)
  );
}

/** The header at `offset`, which is record `recordIndex`; INVALID_SHARD if its records run over the end. */
export function decodeFileHeader(bytes: Uint8Array, offset: number, recordIndex: number): FileHeader {
  const view = viewOf(bytes);
  const flags = view.getUint32(offset + 32, true);
  const termCount = view.getUint32(offset + 36, true);
  const hasVerification = (flags & VERIFICATION_FLAG) !== 0;
  const hasSha256 = (flags & METADATA_FLAG) !== 0;
  const recordCount = announcedFileRecords(view, offset);
  const available = Math.floor((bytes.length - offset) / RECORD_SIZE);
  if (recordCount > available) {
    throw invalidShard(
      `file record ${recordIndex}: ${termCount} terms need ${recordCount} records, ${available} are there`,
      offset,
    );
  }
  const fileHash = bytes.subarray(offset, offset + HASH_SIZE);
  return { recordIndex, fileHash, termCount, hasVerification, hasSha256, recordCount };
}

/** The file whose header, at `offset`, is `header`. Hashes are views into `bytes`. */
export function decodeFile(bytes: Uint8Array, offset: number, header: FileHeader): FileRecord {
  const view = viewOf(bytes);
  const { termCount } = header;
  const termsStart = offset + RECORD_SIZE;
  const verificationStart = termsStart + termCount * RECORD_SIZE;
  const terms: Term[] = [];
  const verification: Uint8Array[] = [];
  for (let i = 0; i < termCount; i++) {
    const at = termsStart + i * RECORD_SIZE;
    const flags = view.getUint32(at + 32, true);
    const start = view.getUint32(at + 40, true);
    const end = view.getUint32(at + 44, true);
    if (start >= end)
      throw invalidShard(
        `file record ${header.recordIndex}: term ${i} has chunks [${start}, ${end})`,
        at + 40,
      );
    terms.push({
      xorbHash: bytes.subarray(at, at + HASH_SIZE),
      start,
      end,
      rawBytes: view.getUint32(at + 36, true),
      ...(flags === 0 ? {} : { flags }),
    });
    if (header.hasVerification) {
      const hashAt = verificationStart + i * RECORD_SIZE;
      verification.push(bytes.subarray(hashAt, hashAt + HASH_SIZE));
    }
  }
  const metadataAt = offset + (header.recordCount - 1) * RECORD_SIZE;
  return {
    fileHash: header.fileHash,
    terms,
    ...(header.hasVerification ? { verification } : {}),
    ...(header.hasSha256 ? { sha256: sha256FromShard(bytes, metadataAt) } : {}),
  };
}
