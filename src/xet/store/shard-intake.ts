/**
 * A shard on its way into a store: it comes in the upload form, from somebody who may be wrong, and is kept with
 * a footer. What it says is compared with the footers of the xorbs that the store has; what it need not say
 * (verification hashes) is added.
 */
import { FormatError, Git2dbError } from '../errors.ts';
import { verificationHash } from '../hash/verification.ts';
import { formatHash, HASH_SIZE, isZeroHash } from '../hash/xet-hash.ts';
import { ShardBuilder } from '../shard/builder.ts';
import type { FileRecord } from '../shard/file-info.ts';
import { MAX_SHARD_UPLOAD } from '../shard/format.ts';
import { Shard, shardName } from '../shard/shard.ts';
import { type KnownXorb, validateShardForUpload } from '../shard/validate.ts';
import type { XorbRecord } from '../shard/xorb-info.ts';
import { lengthsOf } from '../xorb/ends.ts';
import type { XorbFooter } from '../xorb/format.ts';

/** Xorbs named in a CONTENT_MISSING error at most. */
const MAX_NAMED = 1000;

export interface IncomingShard {
  readonly files: readonly FileRecord[];
  readonly xorbs: readonly XorbRecord[];
  /** Every xorb that is described or needed, by its string form. */
  readonly needed: ReadonlyMap<string, Uint8Array>;
}

/** A shard in the form in which stores keep it. */
export interface StoredShard {
  /** String form, without `.mdb`. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Throws INVALID_SHARD, or LIMIT_EXCEEDED for one of more than 64 MiB. The answer does not refer to `bytes`. */
export function readIncomingShard(bytes: Uint8Array): IncomingShard {
  if (bytes.length > MAX_SHARD_UPLOAD) {
    throw new Git2dbError(
      'LIMIT_EXCEEDED',
      `a shard of ${bytes.length} bytes; at most ${MAX_SHARD_UPLOAD} are accepted: split it`,
    );
  }
  const shard = Shard.openUpload(new Uint8Array(bytes));
  const needed = new Map<string, Uint8Array>();
  const files: FileRecord[] = [];
  const xorbs: XorbRecord[] = [];
  const names = new Set<string>();
  for (const file of shard.files()) {
    const name = formatHash(file.fileHash);
    // Of two records of one file the first counts. The empty file needs no record.
    if (names.has(name) || isZeroHash(file.fileHash)) continue;
    names.add(name);
    files.push(file);
    for (const { xorbHash } of file.terms) needed.set(formatHash(xorbHash), xorbHash);
  }
  for (const xorb of shard.xorbs()) {
    const name = formatHash(xorb.xorbHash);
    if (names.has(name)) continue;
    names.add(name);
    xorbs.push(xorb);
    needed.set(name, xorb.xorbHash);
  }
  return { files, xorbs, needed };
}

/** CONTENT_MISSING for xorbs that are needed and not there; `data.xorbs` names them. */
export function xorbsMissing(names: readonly string[], place: string): Git2dbError {
  const [first = ''] = names;
  const what = names.length === 1 ? `xorb ${first} is` : `${names.length} xorbs are (the first: ${first})`;
  return new Git2dbError(
    'CONTENT_MISSING',
    `${what} not in ${place}, but the shard needs them; send xorbs before the shard`,
    { data: { xorbs: names.slice(0, MAX_NAMED) } },
  );
}

/**
 * Checks all that can be checked without contents, and gives the form that is kept. `footers` has every xorb
 * that is needed. `now` in seconds since 1970. Throws INVALID_SHARD or LIMIT_EXCEEDED.
 */
export function acceptShard(
  { files, xorbs }: IncomingShard,
  footers: ReadonlyMap<string, XorbFooter>,
  now: number,
): StoredShard {
  // Each once, however many files are made of it.
  const known = new Map<string, KnownXorb>();
  const lookup = (xorbHash: Uint8Array) => {
    const name = formatHash(xorbHash);
    const footer = footers.get(name);
    if (footer !== undefined && !known.has(name)) known.set(name, knownXorb(footer));
    return known.get(name);
  };
  const kept = new ShardBuilder();
  for (const file of files) kept.addFile(withVerification(file, footers));
  for (const xorb of xorbs) {
    const footer = footers.get(formatHash(xorb.xorbHash));
    // What writers say about stored bytes is not to be relied on.
    kept.addXorb({ ...xorb, storedBytes: footer?.recordEnds[footer.count - 1] ?? xorb.storedBytes });
  }
  const bytes = kept.build({ createdAt: now });
  validateShardForUpload(Shard.open(bytes), lookup);
  return { name: shardName(bytes), bytes };
}

/** As a validator wants it. */
export function knownXorb({ hashes, rawEnds }: XorbFooter): KnownXorb {
  return { hashes, lengths: lengthsOf(rawEnds) };
}

/** Files of some writers have none; they are proven by the file hash all the same. */
function withVerification(file: FileRecord, footers: ReadonlyMap<string, XorbFooter>): FileRecord {
  if (file.verification !== undefined) return file;
  const verification = file.terms.map(({ xorbHash, start, end }) => {
    const footer = footers.get(formatHash(xorbHash));
    if (footer === undefined || end > footer.count || footer.hashes.length < HASH_SIZE * end) {
      throw new FormatError(
        'INVALID_SHARD',
        `file ${formatHash(file.fileHash)}: chunks [${start}, ${end}) are not in xorb ${formatHash(xorbHash)}`,
        0,
      );
    }
    return verificationHash(footer.hashes, start, end);
  });
  return { ...file, verification };
}
