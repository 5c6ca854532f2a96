/** Reading chunks to copy them: as they are stored, and proven one by one. */
import { decompressChunk } from '../../compress/scheme.ts';
import { FormatError } from '../../errors.ts';
import { blake3Keyed } from '../../hash/blake3.ts';
import { DATA_KEY } from '../../hash/keys.ts';
import { HASH_SIZE, hashesEqual, parseHash } from '../../hash/xet-hash.ts';
import { CHUNK_HEADER_SIZE, decodeChunkHeader } from '../../xorb/chunk-record.ts';
import { rawBytesBetween } from '../../xorb/ends.ts';
import { listOf, provesXorb } from '../fsck-xorb.ts';
import { readAt, readInto } from '../read-at.ts';
import { closeSource, openXorbFile, recordStart, type XorbSource } from '../xorb-source.ts';
import type { XorbEntry } from './xorb-entry.ts';

/** Live chunks of a xorb, proven. */
export interface LiveChunks {
  /** Chunks of the xorb, dead ones included. */
  readonly count: number;
  /** 32 bytes for each of them. */
  readonly hashes: Uint8Array;
  /** Records of the live chunks, one after the other. */
  readonly records: Buffer;
  readonly chunks: readonly LiveChunk[];
}

export interface LiveChunk {
  /** Its number in the xorb. */
  readonly chunk: number;
  /** Where its record ends in `records`. */
  readonly recordEnd: number;
  readonly rawLength: number;
}

/** Throws the errno of reading, or FormatError that names the first chunk that is wrong. */
export function readLive(xorb: XorbEntry): LiveChunks {
  const { path, name } = xorb.object;
  const xorbHash = parseHash(name);
  const source = openXorbFile(path, xorbHash);
  try {
    if (!provesXorb(listOf(source), xorbHash)) {
      throw new FormatError('INVALID_XORB', `${path}: the footer's chunks have another Merkle root`, 0);
    }
    const chunks: LiveChunk[] = [];
    let size = 0;
    for (let chunk = 0; chunk < source.count; chunk++) {
      if (!xorb.isLive(chunk)) continue;
      size += (source.recordEnds[chunk] as number) - recordStart(source, chunk);
      chunks.push({ chunk, recordEnd: size, rawLength: rawBytesBetween(source, chunk, chunk + 1) });
    }
    const records = Buffer.allocUnsafe(size);
    let at = 0;
    for (let i = 0; i < chunks.length; ) {
      // One read for live chunks that are neighbours.
      let end = i + 1;
      while (end < chunks.length && chunks[end]?.chunk === (chunks[end - 1] as LiveChunk).chunk + 1) end++;
      const to = (chunks[end - 1] as LiveChunk).recordEnd;
      const first = recordStart(source, (chunks[i] as LiveChunk).chunk);
      readInto(records.subarray(at, to), source.fd, source.path, first, 'INVALID_XORB');
      at = to;
      i = end;
    }
    let start = 0;
    for (const { chunk, recordEnd, rawLength } of chunks) {
      proveChunk(source, chunk, records.subarray(start, recordEnd), rawLength);
      start = recordEnd;
    }
    return { count: source.count, hashes: source.hashes, records, chunks };
  } finally {
    closeSource(source);
  }
}

/** Throws the errno of reading, or FormatError, unless every chunk of the xorb is whole. */
export function proveChunks(path: string, xorbHash: Uint8Array): void {
  const source = openXorbFile(path, xorbHash);
  try {
    if (!provesXorb(listOf(source), xorbHash)) {
      throw new FormatError('INVALID_XORB', `${path}: the footer's chunks have another Merkle root`, 0);
    }
    for (let chunk = 0; chunk < source.count; chunk++) {
      const start = recordStart(source, chunk);
      const length = (source.recordEnds[chunk] as number) - start;
      const record = readAt(source.fd, path, start, length, 'INVALID_XORB');
      proveChunk(source, chunk, record, rawBytesBetween(source, chunk, chunk + 1));
    }
  } finally {
    closeSource(source);
  }
}

function proveChunk(source: XorbSource, chunk: number, record: Buffer, rawLength: number): void {
  const at = recordStart(source, chunk);
  const { scheme, storedLength, rawLength: said } = decodeChunkHeader(record, 0, at);
  if (CHUNK_HEADER_SIZE + storedLength !== record.length || said !== rawLength) {
    throw new FormatError(
      'INVALID_XORB',
      `${source.path}: the record of chunk ${chunk} disagrees with the footer`,
      at,
    );
  }
  const raw = decompressChunk(scheme, record.subarray(CHUNK_HEADER_SIZE), rawLength);
  if (!hashesEqual(blake3Keyed(DATA_KEY, raw), 0, source.hashes, HASH_SIZE * chunk)) {
    throw new FormatError(
      'CONTENT_DAMAGED',
      `${source.path}: chunk ${chunk} at offset ${at} does not have its hash`,
      at,
    );
  }
}
