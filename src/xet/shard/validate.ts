/** What a server checks before it registers a shard (Xet protocol, "Shard" and "CAS API", shard upload). */
import { FormatError, Git2dbError } from '../errors.ts';
import { fileHash } from '../hash/merkle.ts';
import { verificationHash } from '../hash/verification.ts';
import { formatHash, HASH_SIZE, hashesEqual } from '../hash/xet-hash.ts';
import type { FileRecord, Term } from './file-info.ts';
import type { Shard } from './shard.ts';

/** The chunk list of a xorb that was uploaded and validated. */
export interface KnownXorb {
  /** 32 bytes per chunk. */
  readonly hashes: Uint8Array;
  /** Raw length of each chunk. */
  readonly lengths: Uint32Array;
}

export type XorbLookup = (xorbHash: Uint8Array) => KnownXorb | undefined;

/**
 * Chunks that all terms of one shard may name together: 2 TiB of content at the average chunk size.
 * A few kilobytes of terms can name billions, and each costs time and 36 bytes of memory.
 */
const MAX_SHARD_CHUNKS = 1 << 25;

/**
 * Throws INVALID_SHARD, naming the file and the term, unless every xorb named was uploaded, every xorb
 * record repeats what is known of it, every term lies in its xorb and has the raw length and the
 * verification hash it says, and the chunks of every file give its hash. LIMIT_EXCEEDED beyond
 * `maxChunks`. `lookup` is asked once per term that names another xorb than the one before.
 */
export function validateShardForUpload(
  shard: Shard,
  lookup: XorbLookup,
  maxChunks: number = MAX_SHARD_CHUNKS,
): void {
  const find = rememberLast(lookup);
  for (const record of shard.xorbs()) {
    const known = find(record.xorbHash);
    const name = `xorb ${formatHash(record.xorbHash)}`;
    if (known === undefined) throw rejected(`${name} was not uploaded; upload xorbs before the shard`);
    if (!sameBytes(known.hashes, record.hashes) || !sameLengths(known.lengths, record.lengths)) {
      throw rejected(`${name}: the shard's chunk list is not that of the uploaded xorb`);
    }
  }
  let chunksLeft = maxChunks;
  for (const file of shard.files()) {
    const name = `file ${formatHash(file.fileHash)}`;
    const chunkCount = file.terms.reduce((count, term) => count + (term.end - term.start), 0);
    chunksLeft -= chunkCount;
    if (chunksLeft < 0) {
      throw new Git2dbError(
        'LIMIT_EXCEEDED',
        `${name}: the shard names more than ${maxChunks} chunks; split it`,
      );
    }
    if (file.verification === undefined) throw rejected(`${name} has no verification hashes`);
    checkFile(file, file.verification, chunkCount, find, name);
  }
}

function checkFile(
  file: FileRecord,
  verification: readonly Uint8Array[],
  chunkCount: number,
  find: XorbLookup,
  name: string,
): void {
  // Bounds first: nothing is allocated for chunks that no xorb has.
  for (const [i, term] of file.terms.entries())
    checkTerm(term, verification[i] as Uint8Array, find, `${name}, term ${i}`);
  const hashes = new Uint8Array(chunkCount * HASH_SIZE);
  const lengths = new Uint32Array(chunkCount);
  let at = 0;
  for (const { xorbHash, start, end } of file.terms) {
    const xorb = find(xorbHash) as KnownXorb;
    hashes.set(xorb.hashes.subarray(start * HASH_SIZE, end * HASH_SIZE), at * HASH_SIZE);
    lengths.set(xorb.lengths.subarray(start, end), at);
    at += end - start;
  }
  const computed = fileHash(hashes, lengths, chunkCount);
  if (!hashesEqual(computed, 0, file.fileHash, 0))
    throw rejected(`${name}: its chunks give ${formatHash(computed)}`);
}

function checkTerm(term: Term, verification: Uint8Array, find: XorbLookup, name: string): void {
  const { xorbHash, start, end, rawBytes } = term;
  const xorb = find(xorbHash);
  if (xorb === undefined) throw rejected(`${name}: xorb ${formatHash(xorbHash)} was not uploaded`);
  if (end > xorb.lengths.length) {
    throw rejected(
      `${name}: chunks [${start}, ${end}) of xorb ${formatHash(xorbHash)}, which has ${xorb.lengths.length}`,
    );
  }
  const computed = xorb.lengths.subarray(start, end).reduce((sum, length) => sum + length, 0);
  if (computed !== rawBytes)
    throw rejected(`${name}: says ${rawBytes} raw bytes, its chunks have ${computed}`);
  if (!hashesEqual(verificationHash(xorb.hashes, start, end), 0, verification, 0)) {
    throw rejected(`${name}: the verification hash does not match its chunks`);
  }
}

/** Terms of one xorb stand together: the last answer is mostly the next. */
function rememberLast(lookup: XorbLookup): XorbLookup {
  let lastHash: Uint8Array | undefined;
  let last: KnownXorb | undefined;
  return (xorbHash) => {
    if (lastHash === undefined || !hashesEqual(lastHash, 0, xorbHash, 0)) {
      last = lookup(xorbHash);
      lastHash = xorbHash;
    }
    return last;
  };
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function sameLengths(a: Uint32Array, b: Uint32Array): boolean {
  return a.length === b.length && a.every((length, i) => length === b[i]);
}

function rejected(message: string): FormatError {
  return new FormatError('INVALID_SHARD', message, 0);
}
