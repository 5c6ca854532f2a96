/**
 * What the store takes, what it saves, and what nobody needs any more. Contents are not read: shards say
 * what files and xorbs consist of.
 */
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { loadFilterConfig } from '../filter-process/config.ts';
import { type ListedBlob, withWholePaths } from '../git/listed-paths.ts';
import { errnoOf, FormatError } from '../xet/errors.ts';
import { formatHash, isHashString } from '../xet/hash/xet-hash.ts';
import { readRegular } from '../xet/regular-file.ts';
import { Shard } from '../xet/shard/shard.ts';
import { readHead } from '../xet/store/catalog-head.ts';
import { readJournals } from '../xet/store/fsck-incoming.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import { namesIn } from '../xet/store/names-in.ts';
import { referencedPointers, repositoriesOf, storedFileOf } from './referenced-pointers.ts';
import type { Place } from './work-tree.ts';

export const STORE_PARTS = [
  'xorbs',
  'shards',
  'catalog',
  'incoming',
  'quarantine',
  'trash',
  'other',
] as const;
export type StorePart = (typeof STORE_PARTS)[number];

export interface FileSum {
  readonly files: number;
  readonly bytes: number;
}

export interface NamedFile {
  /** One path it has in the history. */
  readonly path: Buffer;
  readonly size: number;
  readonly fileHash: string;
}

export interface StoreUsage {
  /** Directory of the store. */
  readonly store: string;
  /** Apparent size of all below it, directories included: what `du --apparent-size` says. */
  readonly totalBytes: number;
  /** Apparent size of the files in each part. */
  readonly parts: Readonly<Record<StorePart, number>>;
  readonly counts: {
    readonly xorbs: number;
    readonly shards: number;
    readonly tables: number;
    readonly chunks: number;
  };
  /** Distinct files that the store describes, at their full size. */
  readonly known: FileSum;
  /** Distinct files that this repository's refs, index and worktrees name. */
  readonly referenced: FileSum;
  /** Those of them that the store does not describe. */
  readonly missing: FileSum;
  /** Raw bytes of all chunks: the known files without what they repeat, and what no file needs any more. */
  readonly chunkBytes: number;
  /** The same as stored. */
  readonly storedBytes: number;
  /** An estimate of what gc could free, ignoring its grace period; undefined when a user cannot be looked at. */
  readonly reclaimable: { readonly xorbs: number; readonly bytes: number } | undefined;
  /** At most 10 of the referenced files. */
  readonly largest: readonly NamedFile[];
  /** Repositories that use the store and could not be looked at. */
  readonly unreadable: readonly string[];
}

const LARGEST = 10;

/** Throws NOT_A_REPOSITORY, STORE_UNSUPPORTED, GIT_FAILED. */
export async function diskUsage({
  cwd,
  env,
  signal,
}: Place & { readonly signal?: AbortSignal }): Promise<StoreUsage> {
  const config = loadFilterConfig(cwd, env);
  const store = new LocalStore(config.storeDir);
  store.existsOrCan();
  const wanted = new Set<string>();
  const own = new Map<string, NamedFile & ListedBlob>();
  const unreadable: string[] = [];
  for (const { commonDir, repository } of repositoriesOf(store.layout, config.repository)) {
    const isOwn = commonDir === config.repository.commonDir;
    try {
      if (repository === undefined) throw new Error('gone');
      for await (const { pointer, ...place } of referencedPointers(repository, {
        signal,
        onMissing: () => {},
      })) {
        const file = storedFileOf(store, pointer);
        if (file === undefined) continue;
        wanted.add(file.hash);
        if (isOwn) own.set(file.hash, { ...place, size: file.size, fileHash: file.hash });
      }
    } catch (error) {
      if (isOwn || (error as Error).name === 'AbortError') throw error;
      unreadable.push(commonDir);
    }
  }
  const files = new StoreFiles(store.root);
  const contents = readContents(store, files, wanted);
  const known = sumOf(contents.sizes.values());
  const referenced = [...own.values()].filter(({ size }) => size > 0);
  const largest = await withWholePaths(
    config.repository,
    referenced.sort((a, b) => b.size - a.size).slice(0, LARGEST),
    { signal },
  );
  const missing = referenced.filter(({ fileHash }) => !contents.sizes.has(fileHash));
  return {
    store: store.root,
    totalBytes: files.totalBytes,
    parts: files.parts,
    counts: {
      xorbs: files.xorbs.size,
      shards: files.shards.length,
      tables: readHead(store.layout).length,
      chunks: contents.chunks,
    },
    known,
    referenced: sumOf(referenced.map(({ size }) => size)),
    missing: sumOf(missing.map(({ size }) => size)),
    chunkBytes: contents.chunkBytes,
    storedBytes: files.parts.xorbs,
    reclaimable: unreadable.length > 0 ? undefined : reclaimable(files, contents),
    largest: largest.map(({ path, size, fileHash }) => ({ path, size, fileHash })),
    unreadable,
  };
}

function sumOf(sizes: Iterable<number>): FileSum {
  let files = 0;
  let bytes = 0;
  for (const size of sizes) {
    files++;
    bytes += size;
  }
  return { files, bytes };
}

/** Every file below a store, by its apparent size; one with several names counts once, as for du. */
class StoreFiles {
  totalBytes = 0;
  readonly parts: Record<StorePart, number> = {
    xorbs: 0,
    shards: 0,
    catalog: 0,
    incoming: 0,
    quarantine: 0,
    trash: 0,
    other: 0,
  };
  /** Size by name. */
  readonly xorbs = new Map<string, number>();
  readonly shards: string[] = [];
  readonly #seen = new Set<string>();

  constructor(root: string) {
    this.#visit(root, 'other', 0);
  }

  #visit(path: string, part: StorePart, depth: number): void {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return;
    if (stat.nlink > 1 && !stat.isDirectory()) {
      const inode = `${stat.dev}:${stat.ino}`;
      if (this.#seen.has(inode)) return;
      this.#seen.add(inode);
    }
    this.totalBytes += stat.size;
    if (!stat.isDirectory()) {
      this.parts[part] += stat.size;
      return;
    }
    for (const name of namesIn(path)) {
      const inner = join(path, name);
      if (part === 'xorbs' && depth === 2 && isHashString(name))
        this.xorbs.set(name, lstatSync(inner, { throwIfNoEntry: false })?.size ?? 0);
      if (part === 'shards' && name.endsWith('.mdb') && isHashString(name.slice(0, -4)))
        this.shards.push(inner);
      this.#visit(inner, depth === 0 ? partOf(name) : part, depth + 1);
    }
  }
}

function partOf(name: string): StorePart {
  return STORE_PARTS.find((part) => part === name) ?? 'other';
}

interface Contents {
  /** Full size of every file that is described, by hash. */
  readonly sizes: ReadonlyMap<string, number>;
  readonly chunks: number;
  readonly chunkBytes: number;
  /** Raw bytes of each described xorb that is there, and how many of them some wanted file needs. */
  readonly xorbs: ReadonlyMap<string, { readonly raw: number; readonly live: number }>;
}

function readContents(store: LocalStore, files: StoreFiles, wanted: ReadonlySet<string>): Contents {
  const sizes = new Map<string, number>();
  const live = new LiveChunks();
  for (const shard of openShards(files.shards)) {
    for (const { fileHash, terms } of shard.files()) {
      const hash = formatHash(fileHash);
      sizes.set(
        hash,
        terms.reduce((sum, { rawBytes }) => sum + rawBytes, 0),
      );
      if (wanted.has(hash))
        for (const { xorbHash, start, end } of terms) live.add(formatHash(xorbHash), start, end);
    }
  }
  for (const { state } of readJournals(store).writers) {
    for (const { fileHash, size, terms } of state.files) {
      sizes.set(formatHash(fileHash), size);
      // Somebody may be about to stage it.
      for (const { xorbHash, start, end } of terms)
        if (xorbHash !== undefined) live.add(formatHash(xorbHash), start, end);
    }
  }
  const xorbs = new Map<string, { raw: number; live: number }>();
  let chunks = 0;
  let chunkBytes = 0;
  for (const shard of openShards(files.shards)) {
    for (const { xorbHash, lengths } of shard.xorbs()) {
      const name = formatHash(xorbHash);
      if (xorbs.has(name) || !files.xorbs.has(name)) continue;
      const raw = lengths.reduce((sum, length) => sum + length, 0);
      xorbs.set(name, {
        raw,
        live: lengths.reduce((sum, length, i) => sum + (live.has(name, i) ? length : 0), 0),
      });
      chunks += lengths.length;
      chunkBytes += raw;
    }
  }
  return { sizes, chunks, chunkBytes, xorbs };
}

/** One at a time. Damaged ones are left out: fsck names them. */
function* openShards(paths: readonly string[]): Generator<Shard> {
  for (const path of paths) {
    try {
      yield Shard.open(readRegular(path, 'INVALID_SHARD'));
    } catch (error) {
      if (!(error instanceof FormatError) && errnoOf(error) !== 'ENOENT') throw error;
    }
  }
}

/** A bit for each chunk of each xorb that something needs: some hundred bytes for a xorb. */
class LiveChunks {
  readonly #bits = new Map<string, Uint8Array>();

  add(xorb: string, start: number, end: number): void {
    let bits = this.#bits.get(xorb);
    if (bits === undefined || bits.length * 8 < end) {
      const larger = new Uint8Array(Math.max(128, Math.ceil(end / 8)));
      if (bits !== undefined) larger.set(bits);
      bits = larger;
      this.#bits.set(xorb, bits);
    }
    for (let i = start; i < end; i++) bits[i >> 3]! |= 1 << (i & 7);
  }

  has(xorb: string, chunk: number): boolean {
    return (((this.#bits.get(xorb)?.[chunk >> 3] ?? 0) >> (chunk & 7)) & 1) === 1;
  }
}

/** Stored bytes are taken to be spread over a xorb as its raw bytes are. */
function reclaimable(
  files: StoreFiles,
  { xorbs }: Contents,
): { readonly xorbs: number; readonly bytes: number } {
  let dead = 0;
  let bytes = files.parts.trash;
  for (const [name, size] of files.xorbs) {
    const { raw, live } = xorbs.get(name) ?? { raw: 1, live: 0 };
    if (live === 0) dead++;
    bytes += live === 0 ? size : Math.floor((size * (raw - live)) / raw);
  }
  return { xorbs: dead, bytes };
}
