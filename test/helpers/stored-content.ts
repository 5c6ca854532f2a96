/** Xorbs, files and shards as a pushing client makes them, of any content. */
import { fileHash } from '../../src/xet/hash/merkle.ts';
import { verificationHash } from '../../src/xet/hash/verification.ts';
import { ShardBuilder } from '../../src/xet/shard/builder.ts';
import type { FileRecord } from '../../src/xet/shard/file-info.ts';
import type { RecordRun, Store, XorbUpload } from '../../src/xet/store/store.ts';
import { type BuiltXorb, XorbBuilder } from '../../src/xet/xorb/builder.ts';
import { decodeChunks } from '../../src/xet/xorb/chunk-range.ts';
import { chunkHash, randomBytes } from './store-sandbox.ts';

/** `count` chunks of `length` bytes each, no two the same. */
export function someChunks(name: string, count: number, length = 1000): Buffer[] {
  return Array.from({ length: count }, (_, i) => randomBytes(`${name} ${i}`, length));
}

export function xorbOf(chunks: readonly Uint8Array[]): BuiltXorb {
  const builder = new XorbBuilder();
  for (const chunk of chunks) {
    if (!builder.add(chunk, undefined, 'none')) throw new Error('too many chunks for a xorb');
  }
  return builder.build({ footer: true });
}

/** `pieceSize`: bytes of the pieces in which the records come. */
export function uploadOf(xorb: BuiltXorb, pieceSize = 300_000): XorbUpload {
  const records = xorb.bytes.subarray(0, xorb.storedBytes);
  return {
    footer: xorb,
    *records() {
      for (let at = 0; at < records.length; at += pieceSize) yield records.subarray(at, at + pieceSize);
    },
  };
}

/** Chunks [start, end) of a xorb, as a piece of a file. */
export type Part = readonly [xorb: BuiltXorb, start: number, end: number];

export function fileOf(parts: readonly Part[], sha256?: string): FileRecord {
  const hashes = Buffer.concat(parts.map(([xorb, start, end]) => xorb.hashes.subarray(32 * start, 32 * end)));
  const lengths = parts.flatMap(([xorb, start, end]) => [...xorb.lengths.subarray(start, end)]);
  return {
    fileHash: fileHash(hashes, lengths),
    terms: parts.map(([xorb, start, end]) => ({
      xorbHash: xorb.xorbHash,
      start,
      end,
      rawBytes: xorb.lengths.subarray(start, end).reduce((sum, length) => sum + length, 0),
    })),
    verification: parts.map(([xorb, start, end]) => verificationHash(xorb.hashes, start, end)),
    ...(sha256 !== undefined && { sha256 }),
  };
}

/** The upload form. */
export function shardOf(xorbs: readonly BuiltXorb[], files: readonly FileRecord[]): Uint8Array {
  const builder = new ShardBuilder();
  for (const file of files) builder.addFile(file);
  for (const xorb of xorbs) builder.addXorb(xorb);
  return builder.build({ footer: false });
}

/** Stores one xorb of these chunks, and one file of all of them. */
export async function putFile(
  store: Store,
  chunks: readonly Uint8Array[],
  sha256?: string,
): Promise<{ readonly xorb: BuiltXorb; readonly file: FileRecord }> {
  const xorb = xorbOf(chunks);
  const file = fileOf([[xorb, 0, chunks.length]], sha256);
  await store.putXorb(uploadOf(xorb));
  await store.putShard(shardOf([xorb], [file]));
  return { xorb, file };
}

/** All bytes of a file, each chunk and the whole proven; undefined if the store does not know it. Throws as the store. */
export async function readWhole(store: Store, hash: Uint8Array): Promise<Buffer | undefined> {
  const [file] = await store.findFiles([hash]);
  if (file === undefined) return undefined;
  const chunks: Uint8Array[] = [];
  const have = new Map<string, Map<number, Uint8Array>>();
  const keyOf = (xorbHash: Uint8Array) => Buffer.from(xorbHash).toString('hex');
  for await (const run of store.readRecords(file.terms)) {
    const known = have.get(keyOf(run.xorbHash)) ?? new Map<number, Uint8Array>();
    have.set(keyOf(run.xorbHash), known);
    for (const [i, raw] of rawChunks(run).entries()) known.set(run.start + i, raw);
  }
  for (const { xorbHash, start, end } of file.terms) {
    for (let i = start; i < end; i++) {
      const raw = have.get(keyOf(xorbHash))?.get(i);
      if (raw === undefined) throw new Error(`chunk ${i} was asked for and did not come`);
      chunks.push(raw);
    }
  }
  const hashes = Buffer.concat(chunks.map(chunkHash));
  const lengths = chunks.map((chunk) => chunk.length);
  if (Buffer.compare(fileHash(hashes, lengths), hash) !== 0) throw new Error('the chunks make another file');
  return Buffer.concat(chunks);
}

/** The chunks of a run, decoded. */
export function rawChunks(run: RecordRun): Uint8Array[] {
  return [...decodeChunks(run.bytes, run.end - run.start)].map(({ raw }) => raw);
}

export async function collectRuns(runs: AsyncIterable<RecordRun>): Promise<RecordRun[]> {
  const all: RecordRun[] = [];
  for await (const run of runs) all.push(run);
  return all;
}
