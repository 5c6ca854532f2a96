/**
 * Reconstructions: of which chunks of which xorbs a file is made, and where these can be read (Xet protocol,
 * "CAS API", reconstruction). On the wire chunk ranges are half-open, byte ranges name their last byte.
 *
 *     version 2   "xorbs":      {xorb: [{url, ranges: [{chunks: {start, end}, bytes: {start, end}}]}]}
 *     version 1   "fetch_info": {xorb: [{url, range: {start, end}, url_range: {start, end}}]}
 */
import { formatHash } from '../hash/xet-hash.ts';
import type { Term } from '../shard/file-info.ts';
import { MAX_RAW_CHUNK } from '../xorb/chunk-record.ts';
import { MAX_XORB_BYTES, MAX_XORB_CHUNKS } from '../xorb/format.ts';
import { PlaceList } from './place-list.ts';
import { checkedHttpUrl, countOf, hashOf, invalid, isObject, type JsonObject } from './protocol.ts';

/** Chunks [start, end) are the bytes [byteStart, byteEnd) of the xorb. */
export interface FetchRange {
  readonly start: number;
  readonly end: number;
  readonly byteStart: number;
  readonly byteEnd: number;
}

/** One URL, and the ranges that it may be asked for. */
export interface FetchEntry {
  readonly url: string;
  readonly ranges: readonly FetchRange[];
}

export interface Reconstruction {
  /** Bytes to drop from the start of the first term. */
  readonly offsetIntoFirstRange: number;
  readonly terms: readonly Term[];
  /** By the string form of the xorb hash. */
  readonly xorbs: ReadonlyMap<string, readonly FetchEntry[]>;
}

export type ReconstructionVersion = 1 | 2;

/** JSON of a reconstruction, for a server. */
export function formatReconstruction(
  reconstruction: Reconstruction,
  version: ReconstructionVersion,
): unknown {
  return {
    offset_into_first_range: reconstruction.offsetIntoFirstRange,
    terms: reconstruction.terms.map(formatTerm),
    ...formatPlaces(reconstruction.xorbs, version),
  };
}

/** JSON of the answer to a question for several files: `files` by the string form of their hashes. */
export function formatBatch(
  files: ReadonlyMap<string, readonly Term[]>,
  xorbs: Reconstruction['xorbs'],
): unknown {
  const terms = Object.fromEntries([...files].map(([hash, list]) => [hash, list.map(formatTerm)]));
  return { files: terms, ...formatPlaces(xorbs, 1) };
}

function formatTerm({ xorbHash, start, end, rawBytes }: Term): unknown {
  return { hash: formatHash(xorbHash), unpacked_length: rawBytes, range: { start, end } };
}

function formatPlaces(xorbs: Reconstruction['xorbs'], version: ReconstructionVersion): JsonObject {
  const places: Record<string, unknown> = {};
  for (const [xorb, entries] of xorbs) {
    places[xorb] =
      version === 2
        ? entries.map(({ url, ranges }) => ({
            url,
            ranges: ranges.map((range) => ({ chunks: chunksOf(range), bytes: bytesOf(range) })),
          }))
        : entries.flatMap(({ url, ranges }) =>
            ranges.map((range) => ({ range: chunksOf(range), url, url_range: bytesOf(range) })),
          );
  }
  return version === 2 ? { xorbs: places } : { fetch_info: places };
}

function chunksOf({ start, end }: FetchRange): unknown {
  return { start, end };
}

function bytesOf({ byteStart, byteEnd }: FetchRange): unknown {
  return { start: byteStart, end: byteEnd - 1 };
}

/** Every term lies within one of the ranges that are given for its xorb, or this throws REMOTE_INVALID. */
export function parseReconstruction(value: unknown, version: ReconstructionVersion): Reconstruction {
  if (!isObject(value) || !Array.isArray(value.terms))
    throw invalid('a reconstruction', 'an object with terms');
  const places = version === 2 ? value.xorbs : value.fetch_info;
  if (!isObject(places)) {
    throw invalid('a reconstruction', version === 2 ? 'an object "xorbs"' : 'an object "fetch_info"');
  }
  const xorbs = new Map<string, FetchEntry[]>();
  for (const [xorb, entries] of Object.entries(places)) {
    if (!Array.isArray(entries)) throw invalid('a reconstruction', 'a list of places for each xorb');
    xorbs.set(
      formatHash(hashOf(xorb)),
      entries.map((entry) => parseEntry(entry, version)),
    );
  }
  const terms = value.terms.map(parseTerm);
  const lists = new Map<string, PlaceList<FetchRange>>();
  for (const [xorb, entries] of xorbs) {
    const list = new PlaceList<FetchRange>();
    for (const { ranges } of entries) for (const range of ranges) list.add(range);
    lists.set(xorb, list);
  }
  for (const { xorbHash, start, end } of terms) {
    const isCovered = (lists.get(formatHash(xorbHash))?.find(start, end, () => false)?.end ?? 0) >= end;
    if (!isCovered) throw invalid('a reconstruction', 'a place for the chunks of each term');
  }
  return { offsetIntoFirstRange: offsetOf(value.offset_into_first_range, terms), terms, xorbs };
}

function offsetOf(value: unknown, terms: readonly Term[]): number {
  const offset = countOf(value ?? 0);
  if (offset > 0 && offset >= (terms[0]?.rawBytes ?? 0)) {
    throw invalid('a reconstruction', 'an offset within the first term');
  }
  return offset;
}

function parseTerm(value: unknown): Term {
  if (!isObject(value)) throw invalid('a term', 'an object');
  const { start, end } = parseRangeOf(value.range, 'chunks of a term');
  const rawBytes = countOf(value.unpacked_length);
  const count = end - start;
  if (end > MAX_XORB_CHUNKS || rawBytes < count || rawBytes > count * MAX_RAW_CHUNK) {
    throw invalid('a term', `chunks below ${MAX_XORB_CHUNKS} and a length that they can have`);
  }
  return { xorbHash: hashOf(value.hash), start, end, rawBytes };
}

function parseEntry(value: unknown, version: ReconstructionVersion): FetchEntry {
  if (!isObject(value)) throw invalid('a place of chunks', 'an object with a url');
  const url = checkedHttpUrl(value.url, 'the url of chunks');
  if (version === 1) return { url, ranges: [parseFetchRange(value.range, value.url_range)] };
  if (!Array.isArray(value.ranges) || value.ranges.length === 0) throw invalid('a place of chunks', 'ranges');
  const ranges = value.ranges.map((range: unknown) => {
    if (!isObject(range)) throw invalid('a range of chunks', 'an object');
    return parseFetchRange(range.chunks, range.bytes);
  });
  return { url, ranges };
}

/** No record is longer than the longest, and none shorter than a header and a byte. */
function parseFetchRange(chunks: unknown, bytes: unknown): FetchRange {
  const { start, end } = parseRangeOf(chunks, 'a range of chunks');
  if (!isObject(bytes)) throw invalid('a range of bytes', 'an object with start and end');
  const byteStart = countOf(bytes.start);
  const byteEnd = countOf(bytes.end) + 1;
  const size = byteEnd - byteStart;
  if (end > MAX_XORB_CHUNKS || byteEnd > MAX_STORED_XORB || size < (end - start) * MIN_RECORD) {
    throw invalid('a range of bytes', 'bytes of a xorb that are enough for the chunks');
  }
  return { start, end, byteStart, byteEnd };
}

const MIN_RECORD = 9;
/** Servers let a full xorb of incompressible chunks exceed the limit by its headers, and some by more. */
const MAX_STORED_XORB = 2 * MAX_XORB_BYTES;

function parseRangeOf(value: unknown, what: string): { readonly start: number; readonly end: number } {
  if (!isObject(value)) throw invalid(what, 'an object with start and end');
  const start = countOf(value.start);
  const end = countOf(value.end);
  if (start >= end) throw invalid(what, 'a start before the end');
  return { start, end };
}
