/** Files for tests: their chunks in xorbs, as a clean would have made them. */

import { chunkStream } from '../../../src/xet/chunk/chunk-stream.ts';
import { fileHash } from '../../../src/xet/hash/merkle.ts';
import { verificationHash } from '../../../src/xet/hash/verification.ts';
import { formatHash } from '../../../src/xet/hash/xet-hash.ts';
import type { FileRecord, Term } from '../../../src/xet/shard/file-info.ts';
import type { ChunkRange, RecordRun, Store, StoreFile } from '../../../src/xet/store/store.ts';
import { type BuiltXorb, XorbBuilder } from '../../../src/xet/xorb/builder.ts';
import { decodeChunks } from '../../../src/xet/xorb/chunk-range.ts';
import { randomBytes } from '../../helpers/xet-sandbox.ts';

export interface Content {
  readonly bytes: Buffer;
  readonly file: FileRecord;
  readonly xorbs: readonly BuiltXorb[];
  /** Of all chunks, 32 bytes each. */
  readonly hashes: Uint8Array;
}

/** `size` bytes; a xorb is closed after `chunksPerXorb` chunks. */
export async function makeContent(seed: number, size: number, chunksPerXorb = 1000): Promise<Content> {
  const bytes = randomBytes(seed, size);
  const xorbs: BuiltXorb[] = [];
  const hashes: Uint8Array[] = [];
  const lengths: number[] = [];
  let builder = new XorbBuilder();
  for await (const chunk of chunkStream(
    (async function* () {
      yield bytes;
    })(),
  )) {
    if (builder.count === chunksPerXorb) {
      xorbs.push(builder.build({ footer: false }));
      builder = new XorbBuilder();
    }
    builder.add(chunk.bytes, chunk.hash);
    hashes.push(chunk.hash);
    lengths.push(chunk.bytes.length);
  }
  if (builder.count > 0) xorbs.push(builder.build({ footer: false }));
  const list = Buffer.concat(hashes);
  const terms: Term[] = xorbs.map(({ xorbHash, count, rawBytes }) => ({
    xorbHash,
    start: 0,
    end: count,
    rawBytes,
  }));
  const verification = xorbs.map(({ hashes: own, count }) => verificationHash(own, 0, count));
  const file = { fileHash: fileHash(list, lengths), terms, verification };
  return { bytes, file, xorbs, hashes: list };
}

/** A file made of pieces of the terms of another one: `[term, start, end]`. */
export function rearrange({ xorbs, bytes }: Content, pieces: readonly (readonly [number, number, number])[]) {
  const hashes: Uint8Array[] = [];
  const lengths: number[] = [];
  const parts: Buffer[] = [];
  const verification: Uint8Array[] = [];
  const terms = pieces.map(([number, start, end]): Term => {
    const xorb = xorbs[number] as BuiltXorb;
    const before = xorbs.slice(0, number).reduce((sum, { rawBytes }) => sum + rawBytes, 0);
    const rawStart = start === 0 ? 0 : (xorb.rawEnds[start - 1] as number);
    const rawEnd = xorb.rawEnds[end - 1] as number;
    parts.push(bytes.subarray(before + rawStart, before + rawEnd));
    verification.push(verificationHash(xorb.hashes, start, end));
    for (let i = start; i < end; i++) {
      hashes.push(xorb.hashes.subarray(32 * i, 32 * i + 32));
      lengths.push(xorb.lengths[i] as number);
    }
    return { xorbHash: xorb.xorbHash, start, end, rawBytes: rawEnd - rawStart };
  });
  const file: FileRecord = { fileHash: fileHash(Buffer.concat(hashes), lengths), terms, verification };
  return { bytes: Buffer.concat(parts), file };
}

export function serve(
  server: { addXorb(footer: BuiltXorb, records: Uint8Array): void; addFile(file: FileRecord): void },
  content: Content,
): void {
  for (const xorb of content.xorbs) server.addXorb(xorb, xorb.bytes);
  server.addFile(content.file);
}

export function rangesOf(terms: readonly Term[]): ChunkRange[] {
  return terms.map(({ xorbHash, start, end }) => ({ xorbHash, start, end }));
}

/** Reads a file by its terms; every chunk must come, in order. */
export async function readFile(store: Store, file: StoreFile, signal?: AbortSignal): Promise<Buffer> {
  return joinRuns(file.terms, await collect(store.readRecords(rangesOf(file.terms), { signal })));
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** The raw bytes of the chunks of `ranges`, taken from runs that must come in their order. */
export function joinRuns(ranges: readonly ChunkRange[], runs: readonly RecordRun[]): Buffer {
  const pieces: Uint8Array[] = [];
  const wanted = ranges.flatMap(({ xorbHash, start, end }) =>
    Array.from({ length: end - start }, (_, i) => `${formatHash(xorbHash)} ${start + i}`),
  );
  let next = 0;
  for (const { xorbHash, start, end, bytes } of runs) {
    let chunk = start;
    for (const { raw } of decodeChunks(bytes, end - start)) {
      if (`${formatHash(xorbHash)} ${chunk}` === wanted[next]) {
        pieces.push(raw);
        next++;
      }
      chunk++;
    }
  }
  if (next !== wanted.length) throw new Error(`chunk ${wanted[next]} did not come`);
  return Buffer.concat(pieces);
}
