/**
 * Reading a part of a file that is elsewhere, without keeping it. Little more than the part is fetched where
 * the other store shows the chunk lists of its xorbs, or finds the chunks of a part by itself; elsewhere the
 * terms that overlap it.
 *
 * Every chunk is proved by its hash where the chunk list of its xorb is known. That these chunks make this file
 * is what the other store says: proving it takes the whole list, as a fetch of the file does.
 */
import { decompressChunk } from '../compress/scheme.ts';
import { Git2dbError } from '../errors.ts';
import { blake3Keyed } from '../hash/blake3.ts';
import { DATA_KEY } from '../hash/keys.ts';
import { formatHash, hashesEqual, isZeroHash } from '../hash/xet-hash.ts';
import type { Term } from '../shard/file-info.ts';
import type { CallOptions, Store, StoreFile } from '../store/store.ts';
import { rawBytesBetween } from '../xorb/ends.ts';
import type { XorbFooter } from '../xorb/format.ts';
import { throwIfAborted } from './abort.ts';
import { RecordCursor } from './record-cursor.ts';

/** A store that cuts a file's terms to a range of bytes itself. */
interface RangeStore extends Store {
  /** Terms of the chunks that overlap [start, end), and the byte of the file where the first of them begins. */
  findRange(
    hash: Uint8Array,
    start: number,
    end: number,
    options?: CallOptions,
  ): Promise<{ readonly file: StoreFile; readonly offset: number } | undefined>;
}

/** Chunks [start, end) of a term's xorb, the first of which begins at `offset` of the file. */
interface RangePart {
  readonly term: Term;
  readonly start: number;
  readonly end: number;
  readonly offset: number;
  readonly footer: XorbFooter | undefined;
}

/** Terms asked for at once; their footers are held meanwhile. */
const PARTS_AT_ONCE = 16;

/**
 * Bytes [start, end) of a file, in pieces of a chunk at most, the caller's to keep. An end behind the file's is
 * the file's. Throws CONTENT_MISSING for an unknown file, CONTENT_DAMAGED, and what the store throws.
 */
export async function* readRange(
  remote: Store,
  hash: Uint8Array,
  start: number,
  end: number,
  options: CallOptions = {},
): AsyncGenerator<Uint8Array> {
  if (!(start >= 0 && end >= start)) throw new RangeError(`[${start}, ${end}) is no range of bytes`);
  throwIfAborted(options.signal);
  if (isZeroHash(hash) || start === end) return;
  const { terms, offset } = await findPart(remote, hash, start, end, options);
  let termStart = offset;
  const parts: RangePart[] = [];
  for (const term of terms) {
    const termEnd = termStart + term.rawBytes;
    if (termEnd > start && termStart < end) {
      const footer = await remote.readFooter(term.xorbHash, options);
      parts.push(cutTerm(remote, term, footer, termStart, start, end));
      if (parts.length === PARTS_AT_ONCE) yield* readParts(remote, parts.splice(0), start, end, options);
    }
    if (termEnd >= end) break;
    termStart = termEnd;
  }
  yield* readParts(remote, parts, start, end, options);
}

async function findPart(
  remote: Store,
  hash: Uint8Array,
  start: number,
  end: number,
  options: CallOptions,
): Promise<{ readonly terms: readonly Term[]; readonly offset: number }> {
  if ('findRange' in remote) {
    const found = await (remote as RangeStore).findRange(hash, start, end, options);
    if (found !== undefined) return { terms: found.file.terms, offset: found.offset };
  } else {
    const [file] = await remote.findFiles([hash], options);
    if (file !== undefined) return { terms: file.terms, offset: 0 };
  }
  throw new Git2dbError('CONTENT_MISSING', `file ${formatHash(hash)} is not in ${remote.place}`, {
    data: { file: formatHash(hash) },
  });
}

/** The chunks of a term, which begins at `termStart` of the file, that overlap bytes [start, end). */
function cutTerm(
  remote: Store,
  term: Term,
  footer: XorbFooter | undefined,
  termStart: number,
  start: number,
  end: number,
): RangePart {
  if (footer === undefined) return { term, start: term.start, end: term.end, offset: termStart, footer };
  if (term.end > footer.count || rawBytesBetween(footer, term.start, term.end) !== term.rawBytes) {
    throw new Git2dbError(
      'REMOTE_INVALID',
      `${remote.place} says that chunks [${term.start}, ${term.end}) of xorb ${formatHash(term.xorbHash)} have ${term.rawBytes} bytes, which they have not`,
    );
  }
  const endOf = (chunk: number) => termStart + rawBytesBetween(footer, term.start, chunk + 1);
  let first = term.start;
  while (endOf(first) <= start) first++;
  let last = first;
  while (last < term.end - 1 && endOf(last) < end) last++;
  const offset = first === term.start ? termStart : endOf(first - 1);
  return { term, start: first, end: last + 1, offset, footer };
}

async function* readParts(
  remote: Store,
  parts: readonly RangePart[],
  start: number,
  end: number,
  options: CallOptions,
): AsyncGenerator<Uint8Array> {
  if (parts.length === 0) return;
  const ranges = parts.map((part) => ({ xorbHash: part.term.xorbHash, start: part.start, end: part.end }));
  const cursor = new RecordCursor(remote.readRecords(ranges, options), remote.place, () => {});
  try {
    for (const part of parts) {
      const { xorbHash, rawBytes } = part.term;
      let { offset } = part;
      for (let chunk = part.start; chunk < part.end && offset < end; chunk++) {
        if (!cursor.holds(xorbHash, chunk)) await cursor.await(xorbHash, chunk);
        throwIfAborted(options.signal);
        const raw = decode(cursor, xorbHash, chunk, part.footer, remote.place);
        const from = Math.max(0, start - offset);
        const to = Math.min(raw.length, end - offset);
        offset += raw.length;
        if (from < to) yield new Uint8Array(raw.subarray(from, to));
      }
      // Where no chunk list says how long they are.
      if (part.footer === undefined && offset < end && offset !== part.offset + rawBytes) {
        throw new Git2dbError(
          'REMOTE_INVALID',
          `${remote.place} sent ${offset - part.offset} bytes for a term of ${rawBytes} in xorb ${formatHash(xorbHash)}`,
        );
      }
    }
  } finally {
    await cursor.close();
  }
}

function decode(
  cursor: RecordCursor,
  xorbHash: Uint8Array,
  chunk: number,
  footer: XorbFooter | undefined,
  place: string,
): Uint8Array {
  const { scheme, payload, rawLength } = cursor.take(chunk);
  const raw = decompressChunk(scheme, payload, rawLength);
  if (footer === undefined || hashesEqual(blake3Keyed(DATA_KEY, raw), 0, footer.hashes, 32 * chunk))
    return raw;
  throw new Git2dbError(
    'CONTENT_DAMAGED',
    `chunk ${chunk} of xorb ${formatHash(xorbHash)} is damaged in ${place}, or was on its way`,
    { data: { xorb: formatHash(xorbHash), chunk } },
  );
}
