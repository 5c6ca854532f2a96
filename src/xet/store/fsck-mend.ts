/**
 * Storing broken files again, chunk by chunk: each chunk that cannot be relied on is replaced by the same
 * chunk of a sound xorb, or put into a new xorb from wherever its bytes still are: a damaged xorb, one
 * in quarantine, another store. A chunk is its hash, so whatever proves itself is the right one.
 */
import { join } from 'node:path';
import { Chunker } from '../chunk/chunker.ts';
import { type CompressionMode, compressChunk } from '../compress/scheme.ts';
import { errnoOf, Git2dbError } from '../errors.ts';
import { fileHash } from '../hash/merkle.ts';
import { formatHash, HASH_SIZE, hashesEqual } from '../hash/xet-hash.ts';
import type { KnownXorb } from '../shard/validate.ts';
import { ByteList } from './byte-list.ts';
import type { BrokenXorb } from './fsck-damage.ts';
import { FileJudge } from './fsck-files.ts';
import { diagnoseXorb, listOf, readBrokenChunk, readProvenChunk } from './fsck-xorb.ts';
import { extendTerms, type LocalTerm } from './journal.ts';
import type { LocalStore, StoredFile, StoredTerm } from './local-store.ts';
import { namesIn } from './names-in.ts';
import type { StoreWriter } from './writer.ts';

/** Raw bytes handed to the writer before they are flushed. */
const FLUSH_BYTES = 4 << 20;

export interface MenderOptions {
  readonly compression: CompressionMode;
  /** Other stores that may have chunks, and descriptions of files. */
  readonly others: readonly LocalStore[];
}

export class Mender {
  readonly #store: LocalStore;
  readonly #broken: ReadonlyMap<string, BrokenXorb>;
  readonly #options: MenderOptions;
  readonly #judge: FileJudge;
  readonly #quarantined = new Map<string, readonly BrokenXorb[]>();
  readonly #xorbHashes = new Map<string, Uint8Array>();
  /** Hashes of mended files with a chunk that the chunking rule would have cut otherwise. */
  readonly irregular = new Set<string>();

  constructor(store: LocalStore, broken: ReadonlyMap<string, BrokenXorb>, options: MenderOptions) {
    this.#store = store;
    this.#broken = broken;
    this.#options = options;
    this.#judge = new FileJudge(broken);
  }

  /** Descriptions of a file that may help to mend it: ours, then those of other stores. */
  *describe(hash: Uint8Array): Generator<StoredFile> {
    for (const store of [this.#store, ...this.#options.others]) {
      for (const file of store.findFiles(hash)) if (file.shard !== undefined) yield file;
    }
  }

  /** True if a shard of ours describes the file by chunks that can all be relied on. */
  isSound(hash: Uint8Array): boolean {
    return [...this.#store.findFiles(hash)].some(
      (file) => file.shard !== undefined && this.#judge.judge(file).isSound,
    );
  }

  /** Stores and acknowledges the file again. False, and nothing is stored, when a chunk is not to be had. */
  mend(file: StoredFile, writer: StoreWriter): boolean {
    const chunks = this.#chunksOf(file);
    if (chunks === undefined) return false;
    const terms: LocalTerm[] = [];
    writer.begin();
    let unflushed = 0;
    let isRegular = true;
    let place = 0;
    for (let i = 0; i < chunks.lengths.length; i++) {
      const at = HASH_SIZE * i;
      const length = chunks.lengths[i] as number;
      while ((chunks.places[place + 1]?.first ?? i + 1) <= i) place++;
      const { first, term } = chunks.places[place] as ChunkOrigin;
      const origin = { term, chunk: term.start + i - first };
      const found = this.#findSound(chunks.hashes, at, origin, terms.at(-1), writer);
      if (found !== undefined) {
        extendTerms(terms, found.xorbHash, found.local, found.index, length);
        continue;
      }
      const raw = this.#findBytes(chunks.hashes, at, origin);
      if (raw === undefined) {
        writer.rollback();
        return false;
      }
      const { scheme, payload } = compressChunk(raw, this.#options.compression);
      const { xorb, index } = writer.put(chunks.hashes, at, payload ?? raw, scheme, length);
      extendTerms(terms, undefined, xorb.number, index, length);
      isRegular &&= isCutByRule(raw, i === chunks.lengths.length - 1);
      unflushed += length;
      if (unflushed >= FLUSH_BYTES) {
        writer.flush();
        unflushed = 0;
      }
    }
    writer.commit({ fileHash: file.hash, size: file.size, terms, sha256: file.record?.sha256 });
    if (!isRegular) this.irregular.add(formatHash(file.hash));
    return true;
  }

  /** All chunks of a file in order, proven by its hash; undefined when a list is unknown or wrong. */
  #chunksOf(file: StoredFile): FileChunks | undefined {
    const hashes = new ByteList(HASH_SIZE * 64);
    const lengths: number[] = [];
    const places: ChunkOrigin[] = [];
    for (const term of file.terms) {
      const list = this.#listOf(term);
      if (list === undefined || term.end > list.lengths.length) return undefined;
      hashes.append(list.hashes, HASH_SIZE * term.start, HASH_SIZE * (term.end - term.start));
      places.push({ first: lengths.length, term });
      for (let chunk = term.start; chunk < term.end; chunk++) lengths.push(list.lengths[chunk] as number);
    }
    if (!hashesEqual(fileHash(hashes.slice(), lengths), 0, file.hash, 0)) return undefined;
    return { hashes: hashes.slice(), lengths, places };
  }

  #listOf(term: StoredTerm): KnownXorb | undefined {
    return (
      readOrNothing(() => this.#judge.listOf(term)) ??
      this.#copiesOf(term.name).find(({ list }) => list !== undefined)?.list ??
      readOrNothing(() => listOf(term.open()))
    );
  }

  /** A place of the chunk that new terms may refer to; the one behind `last` if it is there. */
  #findSound(
    hashes: Uint8Array,
    at: number,
    { term, chunk }: Origin,
    last: LocalTerm | undefined,
    writer: StoreWriter,
  ): SoundPlace | undefined {
    const own = writer.findChunk(hashes, at);
    if (own !== undefined) return { xorbHash: undefined, local: own.xorb.number, index: own.index };
    const candidates = this.#store.findChunk(hashes, at);
    if (term.xorbHash !== undefined) candidates.unshift({ xorb: Buffer.from(term.xorbHash), index: chunk });
    let best: SoundPlace | undefined;
    for (const { xorb, index } of candidates) {
      const name = formatHash(xorb);
      if (this.#broken.has(name) || !this.#holds(xorb, index, hashes, at) || !writer.touchXorb(name))
        continue;
      // One object for each xorb: terms compare by identity.
      const known = this.#xorbHashes.get(name) ?? Uint8Array.from(xorb);
      this.#xorbHashes.set(name, known);
      const place = { xorbHash: known, local: 0, index };
      if (last?.xorbHash === known && last.end === index) return place;
      best ??= place;
    }
    return best;
  }

  #holds(xorbHash: Uint8Array, index: number, hashes: Uint8Array, at: number): boolean {
    try {
      const source = this.#store.openXorb(xorbHash);
      return index < source.count && hashesEqual(source.hashes, HASH_SIZE * index, hashes, at);
    } catch (error) {
      return unlessUsable(error) ?? false;
    }
  }

  #findBytes(hashes: Uint8Array, at: number, { term, chunk }: Origin): Uint8Array | undefined {
    const known = this.#store
      .findChunk(hashes, at)
      .map(({ xorb, index }) => ({ name: formatHash(xorb), index }));
    for (const { name, index } of [{ name: term.name, index: chunk }, ...known]) {
      for (const xorb of this.#copiesOf(name)) {
        if (xorb.list === undefined || !hashesEqual(xorb.list.hashes, HASH_SIZE * index, hashes, at))
          continue;
        const raw = readOrNothing(() => readBrokenChunk(xorb, index));
        if (raw !== undefined) return raw;
      }
    }
    // Not sealed yet, so that nothing can refer to it; and its writer may be dead.
    if (term.xorbHash === undefined) return readOrNothing(() => readProvenChunk(term.open(), chunk));
    return this.#findElsewhere(hashes, at, term.xorbHash, chunk);
  }

  /** What is left of a broken xorb: in its place, and in quarantine. */
  #copiesOf(name: string): readonly BrokenXorb[] {
    const broken = this.#broken.get(name);
    if (broken === undefined) return [];
    let quarantined = this.#quarantined.get(name);
    if (quarantined === undefined) {
      const { quarantine } = this.#store.layout;
      const list = broken.list;
      quarantined = namesIn(quarantine)
        .filter((entry) => entry === name || entry.startsWith(`${name}.`))
        .flatMap((entry) => readOrNothing(() => diagnoseXorb(name, join(quarantine, entry), list)) ?? []);
      this.#quarantined.set(name, quarantined);
    }
    return [broken, ...quarantined];
  }

  #findElsewhere(
    hashes: Uint8Array,
    at: number,
    xorbHash: Uint8Array,
    chunk: number,
  ): Uint8Array | undefined {
    for (const store of this.#options.others) {
      for (const { xorb, index } of [...store.findChunk(hashes, at), { xorb: xorbHash, index: chunk }]) {
        const raw = readOrNothing(() => {
          const source = store.openXorb(xorb);
          const isIt = index < source.count && hashesEqual(source.hashes, HASH_SIZE * index, hashes, at);
          return isIt ? readProvenChunk(source, index) : undefined;
        });
        if (raw !== undefined) return raw;
      }
    }
    return undefined;
  }
}

interface FileChunks {
  readonly hashes: Uint8Array;
  readonly lengths: readonly number[];
  /** The term that each run of chunks comes from, in order. */
  readonly places: readonly ChunkOrigin[];
}

interface ChunkOrigin {
  /** Number in the file of the term's first chunk. */
  readonly first: number;
  readonly term: StoredTerm;
}

/** What a file's description says of one of its chunks. */
interface Origin {
  readonly term: StoredTerm;
  /** Number in the term's xorb. */
  readonly chunk: number;
}

interface SoundPlace {
  readonly xorbHash: Uint8Array | undefined;
  readonly local: number;
  readonly index: number;
}

/** True if the chunking rule cuts just these bytes, given where they start. */
function isCutByRule(raw: Uint8Array, isLast: boolean): boolean {
  const chunker = new Chunker();
  const [first] = chunker.push(raw);
  return first === undefined ? isLast : first === raw.length;
}

function readOrNothing<T>(read: () => T | undefined): T | undefined {
  try {
    return read();
  } catch (error) {
    return unlessUsable(error);
  }
}

/** Nothing, for what is missing, damaged or unreadable. Other errors are bugs. */
function unlessUsable(error: unknown): undefined {
  if (error instanceof Git2dbError || errnoOf(error) !== undefined) return undefined;
  throw error;
}
