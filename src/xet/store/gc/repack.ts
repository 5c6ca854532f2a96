/**
 * Copying live chunks into new xorbs. All live records of one xorb are read into memory (64 MiB and some)
 * and every chunk is re-hashed before the first of them is written: a xorb with a damaged chunk
 * contributes nothing and stays as it is. Records are copied in the form in which they are stored.
 */
import {
  closeSync,
  fdatasyncSync,
  mkdirSync,
  openSync,
  rmSync,
  statSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { errnoOf, Git2dbError, messageOf } from '../../errors.ts';
import { merkleRoot } from '../../hash/merkle.ts';
import { formatHash, HASH_SIZE } from '../../hash/xet-hash.ts';
import { fitsInXorb } from '../../xorb/builder.ts';
import { MAX_XORB_CHUNKS } from '../../xorb/format.ts';
import { finishXorb } from '../finished-xorbs.ts';
import { appendChunk, dataEnd, type LocalXorb, newLocalXorb, rawBytesOf, rawLengths } from '../journal.ts';
import { type StoreLayout, syncDirectory } from '../layout.ts';
import { type Fsync, hasUsableXorb, publishFile } from '../publish.ts';
import { type LiveChunks, proveChunks, readLive } from './live-chunks.ts';
import type { XorbEntry } from './xorb-entry.ts';

/** A xorb that was made here, and published. */
export interface NewXorb {
  readonly name: string;
  readonly xorbHash: Uint8Array;
  readonly hashes: Uint8Array;
  readonly lengths: Uint32Array;
  readonly flags: Uint32Array | undefined;
  readonly storedBytes: number;
  /** Bytes of the file that this run added to the store; 0 where an earlier one had done it. */
  readonly addedBytes: number;
}

/** Where a copied chunk is now. */
export interface ChunkPlace {
  readonly xorb: NewXorb;
  readonly chunk: number;
}

export interface RepackOptions {
  readonly layout: StoreLayout;
  /** For temporary files; on the store's file system. */
  readonly directory: string;
  readonly fsync: Fsync;
  readonly onBytes: (count: number) => void;
  readonly pause: () => Promise<void>;
  readonly checkpoint: (name: string) => Promise<void>;
}

/** A xorb that was left as it is. */
export interface DamagedXorb {
  readonly name: string;
  readonly path: string;
  readonly message: string;
}

interface Output {
  readonly xorb: LocalXorb;
  readonly path: string;
  readonly fd: number;
  flags: Map<number, number>;
  isIrregular: boolean;
  mtimeMs: number;
}

export class Repacker {
  readonly created: NewXorb[] = [];
  readonly damaged: DamagedXorb[] = [];
  readonly #options: RepackOptions;
  /** For each copied xorb: number of the new one * MAX_XORB_CHUNKS + chunk there, or -1 for a dead chunk. */
  readonly #places = new Map<string, Int32Array>();
  #output: Output | undefined;
  #outputs = 0;

  constructor(options: RepackOptions) {
    this.#options = options;
  }

  /** True if all live chunks of the xorb were copied. */
  hasCopied(name: string): boolean {
    return this.#places.has(name);
  }

  get copiedCount(): number {
    return this.#places.size;
  }

  /** Where a live chunk of a copied xorb is now. */
  placeOf(name: string, chunk: number): ChunkPlace | undefined {
    const place = this.#places.get(name)?.[chunk] ?? -1;
    const xorb = place < 0 ? undefined : this.created[Math.floor(place / MAX_XORB_CHUNKS)];
    return xorb && { xorb, chunk: place % MAX_XORB_CHUNKS };
  }

  /** Copies the live chunks of `xorbs`, in order, into new xorbs, and publishes these. */
  async copy(xorbs: readonly XorbEntry[]): Promise<void> {
    try {
      for (const xorb of xorbs) {
        await this.#options.pause();
        await this.#copyOne(xorb);
      }
      if (this.#output !== undefined) await this.#finish(this.#output);
    } finally {
      if (this.#output !== undefined) closeSync(this.#output.fd);
      this.#output = undefined;
    }
  }

  async #copyOne(xorb: XorbEntry): Promise<void> {
    let live: LiveChunks;
    try {
      live = readLive(xorb);
    } catch (error) {
      // Damaged, or not to be read at all; whatever it is, the xorb stays.
      if (!(error instanceof Git2dbError) && errnoOf(error) === undefined) throw error;
      this.damaged.push({ name: xorb.name, path: xorb.object.path, message: messageOf(error) });
      return;
    }
    const places = new Int32Array(live.count).fill(-1);
    let start = 0;
    let done = 0;
    for (const { chunk, recordEnd, rawLength } of live.chunks) {
      const stored = recordEnd - start;
      let output = this.#output;
      if (output !== undefined) {
        const { count } = output.xorb;
        if (!fitsInXorb(rawBytesOf(output.xorb), dataEnd(output.xorb), count, rawLength, stored)) {
          done = this.#write(output, live.records, done, start);
          await this.#finish(output);
          output = undefined;
        }
      }
      output ??= this.#begin();
      places[chunk] = (this.#outputs - 1) * MAX_XORB_CHUNKS + output.xorb.count;
      const flags = xorb.flags?.[chunk] ?? 0;
      if (flags !== 0) output.flags.set(output.xorb.count, flags);
      if (xorb.isIrregular) output.isIrregular = true;
      output.mtimeMs = Math.max(output.mtimeMs, xorb.object.mtimeMs);
      appendChunk(output.xorb, live.hashes, HASH_SIZE * chunk, stored, rawLength);
      start = recordEnd;
    }
    if (this.#output !== undefined) this.#write(this.#output, live.records, done, start);
    this.#places.set(xorb.name, places);
    this.#options.onBytes(live.records.length);
  }

  /** Writes records [from, to) behind what the file has; their chunks have been appended to the list. */
  #write(output: Output, records: Buffer, from: number, to: number): number {
    const position = dataEnd(output.xorb) - (to - from);
    for (let at = from; at < to; ) at += writeSync(output.fd, records, at, to - at, position + (at - from));
    return to;
  }

  #begin(): Output {
    const xorb = newLocalXorb(this.#outputs++);
    const path = join(this.#options.directory, `${xorb.number}.xorb`);
    const fd = openSync(path, 'wx+', 0o666);
    this.#output = { xorb, path, fd, flags: new Map(), isIrregular: false, mtimeMs: 0 };
    return this.#output;
  }

  async #finish(output: Output): Promise<void> {
    const { layout, fsync, checkpoint } = this.#options;
    const { xorb, path, fd } = output;
    const lengths = rawLengths(xorb);
    const xorbHash = merkleRoot(xorb.hashes.slice(), lengths, xorb.count);
    finishXorb(fd, xorb);
    if (fsync !== 'none') fdatasyncSync(fd);
    closeSync(fd);
    this.#output = undefined;
    await checkpoint('xorb written');
    utimesSync(path, output.mtimeMs / 1000, output.mtimeMs / 1000);
    const name = formatHash(xorbHash);
    const target = layout.xorb(name);
    if (output.isIrregular) markIrregular(layout, name, fsync);
    mkdirSync(dirname(target), { recursive: true });
    if (!hasUsableXorb(layout, target, xorbHash)) publishFile(path, target, fsync);
    const isOurs = statSync(target).ino === statSync(path).ino;
    // Somebody else's bytes under this name, from now on the only ones, must be right.
    if (!isOurs) proveChunks(target, xorbHash);
    rmSync(path);
    if (fsync !== 'none') {
      syncDirectory(dirname(target));
      syncDirectory(layout.xorbs);
    }
    this.created.push({
      name,
      xorbHash,
      hashes: Buffer.from(xorb.hashes.slice()),
      lengths,
      flags: output.flags.size === 0 ? undefined : flagList(output),
      storedBytes: dataEnd(xorb),
      addedBytes: isOurs ? statSync(target).size : 0,
    });
    await checkpoint('xorb published');
  }
}

function flagList({ xorb, flags }: Output): Uint32Array {
  const list = new Uint32Array(xorb.count);
  for (const [chunk, value] of flags) list[chunk] = value;
  return list;
}

/** The mark comes before the xorb: nobody may ever take these chunk boundaries for checked ones. */
function markIrregular(layout: StoreLayout, name: string, fsync: Fsync): void {
  layout.markIrregular(name);
  if (fsync !== 'none') syncDirectory(layout.irregular);
}
