/**
 * What exactly is wrong with a xorb, and what of it is still whole.
 *
 * A xorb tells its chunk list twice (footer, records) and a shard tells it once more; the name of the
 * xorb, being the Merkle root of the list, decides who is right. With the right list each chunk is
 * then proven by its own hash, wherever its record is found: where the footer says, or right behind
 * the record before.
 */
import { closeSync } from 'node:fs';
import { FormatError, messageOf } from '../errors.ts';
import { merkleRoot } from '../hash/merkle.ts';
import { formatHash, HASH_SIZE, hashesEqual, parseHash } from '../hash/xet-hash.ts';
import { openRegular } from '../regular-file.ts';
import type { KnownXorb } from '../shard/validate.ts';
import { CHUNK_HEADER_SIZE } from '../xorb/chunk-record.ts';
import { lengthsOf, rawBytesBetween } from '../xorb/ends.ts';
import { type DecodedFooter, encodeFooter } from '../xorb/format.ts';
import type { BrokenXorb, Damage } from './fsck-damage.ts';
import { provesXorb, RecordFile } from './fsck-records.ts';
import { recordStart, type XorbSource } from './xorb-source.ts';

/** Bytes of a version 1 footer before the first chunk hash. */
const HASHES_AT = 52;

export { provesXorb };

/** The chunk list that `source` claims. */
export function listOf(source: XorbSource): KnownXorb {
  return {
    hashes: source.hashes,
    lengths: Uint32Array.from({ length: source.count }, (_, i) => rawBytesBetween(source, i, i + 1)),
  };
}

/**
 * Reads all of a published xorb. `witness` is its chunk list as a shard tells it, already proven. Memory:
 * the lists and one chunk. Throws the errno of open.
 */
export function diagnoseXorb(name: string, path: string, witness?: KnownXorb): BrokenXorb {
  const xorbHash = parseHash(name);
  const fd = openRegular(path, 'INVALID_XORB');
  try {
    const file = new RecordFile(fd);
    const damage: Damage[] = [];
    const report = (chunk: number | undefined, offset: number | undefined, expected: string, found: string) =>
      damage.push({ object: 'xorb', name, path, chunk, offset, expected, found });
    let footer: DecodedFooter | undefined;
    try {
      footer = file.readFooter();
    } catch (error) {
      const offset = error instanceof FormatError ? error.offset : undefined;
      report(undefined, offset, 'the footer of a xorb at the end of the file', messageOf(error));
    }
    const claimed = footer && claimedList(file, footer);
    const list =
      [claimed, witness].find((l) => l !== undefined && provesXorb(l, xorbHash)) ??
      file.listRecords(xorbHash);
    if (footer !== undefined && !hashesEqual(footer.xorbHash, 0, xorbHash, 0)) {
      const offset = file.size - file.footerLength + 8;
      report(
        undefined,
        offset,
        `a footer that names xorb ${name}`,
        `it names ${formatHash(footer.xorbHash)}`,
      );
    }
    if (list === undefined) {
      const root = claimed && formatHash(merkleRoot(claimed.hashes, claimed.lengths));
      report(
        undefined,
        undefined,
        `chunks whose Merkle root is ${name}`,
        root === undefined
          ? 'neither footer nor records nor a shard tell such a list'
          : `the footer's chunks have ${root}`,
      );
      return { name, path, list: undefined, records: [], damage };
    }
    if (footer !== undefined && list !== claimed) compareFooter(file, footer, list, report);
    const records = findRecords(file, list, footer?.recordEnds, report);
    return { name, path, list, records, damage };
  } finally {
    closeSync(fd);
  }
}

/** Like `diagnoseXorb`, for a xorb whose chunk list and record places are known: a writer's journal told them. */
export function diagnoseRecords(
  object: Damage['object'],
  name: string,
  owner: string,
  source: XorbSource,
): BrokenXorb {
  const damage: Damage[] = [];
  const list = listOf(source);
  const records = findRecords(
    new RecordFile(source.fd),
    list,
    source.recordEnds,
    (chunk, offset, expected, found) => {
      damage.push({ object, name: owner, path: source.path, chunk, offset, expected, found });
    },
  );
  return { name, path: source.path, list, records, damage };
}

type Report = (
  chunk: number | undefined,
  offset: number | undefined,
  expected: string,
  found: string,
) => void;

/** Start of the record of each chunk of `list` that is whole, -1 for the others; those are reported. */
function findRecords(
  file: RecordFile,
  list: KnownXorb,
  ends: ArrayLike<number> | undefined,
  report: Report,
): number[] {
  const count = list.lengths.length;
  const records: number[] = [];
  let next = 0;
  let moved = false;
  for (let i = 0; i < count; i++) {
    const said = ends === undefined || i > ends.length ? undefined : i === 0 ? 0 : (ends[i - 1] as number);
    const hash = list.hashes.subarray(HASH_SIZE * i, HASH_SIZE * (i + 1));
    const length = list.lengths[i] as number;
    const expected = `chunk ${formatHash(hash)} of ${length} bytes`;
    let failure: { readonly offset: number; readonly found: string } | undefined;
    let start = -1;
    for (const at of said === undefined || said === next ? [next] : [said, next]) {
      const outcome = file.tryRecord(at, hash, length);
      if (typeof outcome === 'number') {
        start = at;
        next = outcome;
        break;
      }
      failure ??= { offset: at, found: outcome };
    }
    records.push(start);
    if (start >= 0) {
      if (said !== undefined && start !== said && !moved) {
        moved = true;
        report(
          i,
          undefined,
          `the footer says that the record of chunk ${i} starts at ${said}`,
          `it starts at ${start}`,
        );
      }
      continue;
    }
    if (failure !== undefined && failure.offset >= file.size) {
      report(i, file.size, `chunks ${i} to ${count - 1}`, `the file ends at ${file.size}`);
      while (records.length < count) records.push(-1);
      return records;
    }
    report(i, failure?.offset, expected, failure?.found ?? 'nothing');
    next = nextStart(file, i, failure?.offset ?? next, length, ends);
  }
  return records;
}

/** Where to look for the record after a bad one: a guess, since what is found there is proven anyway. */
function nextStart(
  file: RecordFile,
  i: number,
  at: number,
  length: number,
  ends: ArrayLike<number> | undefined,
): number {
  if (ends !== undefined && i < ends.length) return ends[i] as number;
  try {
    return at + CHUNK_HEADER_SIZE + file.readHeader(at).storedLength;
  } catch {
    return at + CHUNK_HEADER_SIZE + length;
  }
}

function claimedList(file: RecordFile, footer: DecodedFooter): KnownXorb | undefined {
  const { count, hashes, rawEnds } = footer;
  if (rawEnds !== undefined) return { hashes, lengths: lengthsOf(rawEnds) };
  try {
    const starts = Array.from({ length: count }, (_, i) =>
      i === 0 ? 0 : (footer.recordEnds[i - 1] as number),
    );
    return { hashes, lengths: Uint32Array.from(starts, (start) => file.readHeader(start).rawLength) };
  } catch {
    return undefined;
  }
}

/** Names the first entry of a readable footer that is not what the proven list says. */
function compareFooter(file: RecordFile, footer: DecodedFooter, list: KnownXorb, report: Report): void {
  const count = list.lengths.length;
  const start = file.size - file.footerLength;
  if (footer.count !== count) {
    report(undefined, start, `a footer of ${count} chunks`, `one of ${footer.count}`);
    return;
  }
  let rawEnd = 0;
  for (let i = 0; i < count; i++) {
    if (!hashesEqual(footer.hashes, HASH_SIZE * i, list.hashes, HASH_SIZE * i)) {
      const offset = footer.version === 1 ? start + HASHES_AT + HASH_SIZE * i : start;
      report(
        i,
        offset,
        `chunk hash ${formatHash(list.hashes, HASH_SIZE * i)} in the footer`,
        formatHash(footer.hashes, HASH_SIZE * i),
      );
      return;
    }
    rawEnd += list.lengths[i] as number;
    if (footer.rawEnds !== undefined && footer.rawEnds[i] !== rawEnd) {
      const offset = start + HASHES_AT + HASH_SIZE * count + 12 + 4 * count + 4 * i;
      report(i, offset, `raw end ${rawEnd} in the footer`, String(footer.rawEnds[i]));
      return;
    }
  }
}

/** Raw bytes of a chunk of a broken xorb, proven again; undefined when it is not to be had. */
export function readBrokenChunk(xorb: BrokenXorb, chunk: number): Uint8Array | undefined {
  const start = xorb.records[chunk] ?? -1;
  if (xorb.path === undefined || xorb.list === undefined || start < 0) return undefined;
  const fd = openRegular(xorb.path, 'INVALID_XORB');
  try {
    const hash = xorb.list.hashes.subarray(HASH_SIZE * chunk, HASH_SIZE * (chunk + 1));
    return new RecordFile(fd).provenChunk(start, hash);
  } finally {
    closeSync(fd);
  }
}

/** A chunk of an open xorb, if it is what the xorb says it is. */
export function readProvenChunk(source: XorbSource, chunk: number): Uint8Array | undefined {
  const hash = source.hashes.subarray(HASH_SIZE * chunk, HASH_SIZE * (chunk + 1));
  return new RecordFile(source.fd).provenChunk(recordStart(source, chunk), hash);
}

/** The bytes of a xorb that has all its chunks, with a right footer, piece by piece. */
export function* rebuiltXorb(xorb: BrokenXorb): Generator<Uint8Array> {
  const { path, list } = xorb;
  if (path === undefined || list === undefined) throw new Error(`${xorb.name} cannot be rebuilt`);
  const fd = openRegular(path, 'INVALID_XORB');
  try {
    const file = new RecordFile(fd);
    const count = list.lengths.length;
    const recordEnds = new Uint32Array(count);
    const rawEnds = new Uint32Array(count);
    let end = 0;
    let rawEnd = 0;
    for (const [i, start] of xorb.records.entries()) {
      const record = file.readRecord(start);
      end += record.length;
      rawEnd += list.lengths[i] as number;
      recordEnds[i] = end;
      rawEnds[i] = rawEnd;
      yield record;
    }
    yield encodeFooter({ xorbHash: parseHash(xorb.name), count, hashes: list.hashes, recordEnds, rawEnds });
  } finally {
    closeSync(fd);
  }
}
