/**
 * Chunk lists of xorbs that another store does not show, as far as they were learned by reading them. With them a
 * fetch leaves out what this store has, whatever xorbs it is in: the rest of a fetch that was killed, the old parts
 * of a file's next version.
 *
 * Kept in `<store>/learned/ab/<xorb hash>`: entries of 36 bytes, chunk number (u32, little-endian) and chunk hash,
 * in the order of reading; of two for one chunk the last counts, a piece of one at the end does not. A cache, and
 * not believed: the chunk list of the file must give its hash in the end.
 */
import { mkdirSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { errnoOf } from '../errors.ts';
import { formatHash, isZeroHash } from '../hash/xet-hash.ts';
import { appendRegular, readRegular } from '../regular-file.ts';
import { MAX_XORB_CHUNKS } from '../xorb/format.ts';

const ENTRY = 36;
/** What a xorb's file may hold: each chunk twice. */
const MAX_FILE = 2 * ENTRY * MAX_XORB_CHUNKS;
/** Xorbs whose lists are in memory. */
const MAX_XORBS = 64;
/** Entries that wait for being written. */
const MAX_UNSAVED = 1024;

interface Learned {
  /** 32 bytes for each chunk; zeros for what is not known. */
  readonly hashes: Uint8Array;
  /** One bit for each chunk that was asked for in this session. */
  readonly coming: Uint8Array;
  unsaved: Buffer[];
}

export class LearnedChunks {
  readonly #root: string | undefined;
  readonly #xorbs = new Map<string, Learned>();
  #unsaved = 0;

  /** `root`: the directory `learned` of the store; undefined: nothing is read or kept there. */
  constructor(root: string | undefined) {
    this.#root = root;
  }

  /** True if the chunk was asked for in this session. */
  isComing(xorbHash: Uint8Array, chunk: number): boolean {
    const { coming } = this.#get(xorbHash);
    return ((coming[chunk >> 3] as number) & (1 << (chunk & 7))) !== 0;
  }

  /** The chunk is asked for. */
  expect(xorbHash: Uint8Array, chunk: number): void {
    const { coming } = this.#get(xorbHash);
    coming[chunk >> 3] = (coming[chunk >> 3] as number) | (1 << (chunk & 7));
  }

  /** 32 bytes for each chunk of the xorb, zeros where its hash is not known. A view that later learning changes. */
  hashesOf(xorbHash: Uint8Array): Uint8Array {
    return this.#get(xorbHash).hashes;
  }

  /** Hash of a chunk, 32 bytes; undefined while nobody has read it. */
  find(xorbHash: Uint8Array, chunk: number): Uint8Array | undefined {
    const { hashes } = this.#get(xorbHash);
    return isZeroHash(hashes, 32 * chunk) ? undefined : hashes.subarray(32 * chunk, 32 * chunk + 32);
  }

  /** The chunk was read, and has this hash. */
  learn(xorbHash: Uint8Array, chunk: number, hash: Uint8Array): void {
    const known = this.#get(xorbHash);
    known.hashes.set(hash, 32 * chunk);
    if (this.#root === undefined) return;
    const entry = Buffer.alloc(ENTRY);
    entry.writeUInt32LE(chunk);
    entry.set(hash, 4);
    known.unsaved.push(entry);
    if (++this.#unsaved >= MAX_UNSAVED) this.save();
  }

  /** Keeps what was learned since the last time. Never fails: what is not kept is fetched again. */
  save(): void {
    this.#unsaved = 0;
    for (const [name, known] of this.#xorbs) {
      if (known.unsaved.length === 0 || this.#root === undefined) continue;
      const path = this.#path(this.#root, name);
      const entries = Buffer.concat(known.unsaved);
      known.unsaved = [];
      try {
        // One that has grown beyond all use is begun again.
        if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) + entries.length > MAX_FILE) rmSync(path);
        mkdirSync(dirname(path), { recursive: true });
        appendRegular(path, 'INVALID_CATALOG', entries);
      } catch (error) {
        if (errnoOf(error) === undefined) throw error;
      }
    }
  }

  /** What is kept of these xorbs was wrong. */
  forget(xorbHashes: Iterable<Uint8Array>): void {
    for (const hash of xorbHashes) {
      const name = formatHash(hash);
      this.#xorbs.delete(name);
      try {
        if (this.#root !== undefined) rmSync(this.#path(this.#root, name), { force: true });
      } catch (error) {
        if (errnoOf(error) === undefined) throw error;
      }
    }
  }

  #get(xorbHash: Uint8Array): Learned {
    const name = formatHash(xorbHash);
    const known = this.#xorbs.get(name);
    if (known !== undefined) {
      this.#xorbs.delete(name);
      this.#xorbs.set(name, known);
      return known;
    }
    if (this.#xorbs.size >= MAX_XORBS) {
      this.save();
      // Without a directory it is all there is.
      if (this.#root !== undefined) this.#xorbs.delete(this.#xorbs.keys().next().value as string);
    }
    const learned = {
      hashes: this.#load(name),
      coming: new Uint8Array(MAX_XORB_CHUNKS / 8),
      unsaved: [],
    };
    this.#xorbs.set(name, learned);
    return learned;
  }

  #load(name: string): Uint8Array {
    const hashes = new Uint8Array(32 * MAX_XORB_CHUNKS);
    if (this.#root === undefined) return hashes;
    let bytes: Buffer;
    try {
      bytes = readRegular(this.#path(this.#root, name), 'INVALID_CATALOG');
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      return hashes;
    }
    for (let at = 0; at + ENTRY <= Math.min(bytes.length, MAX_FILE); at += ENTRY) {
      const chunk = bytes.readUInt32LE(at);
      if (chunk < MAX_XORB_CHUNKS) hashes.set(bytes.subarray(at + 4, at + ENTRY), 32 * chunk);
    }
    return hashes;
  }

  #path(root: string, name: string): string {
    return `${root}/${name.slice(0, 2)}/${name}`;
  }
}
