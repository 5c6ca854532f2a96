/** The store as the filter sees it: opened at the first file that needs it, closed by `seal`. */

import { Downloader } from '../xet/download.ts';
import { errnoOf, Git2dbError } from '../xet/errors.ts';
import { useBlake3 } from '../xet/hash/blake3.ts';
import { formatHash, parseHash } from '../xet/hash/xet-hash.ts';
import { ReadAhead } from '../xet/read-ahead.ts';
import { planRun } from '../xet/reconstruct/part.ts';
import type { ReadPlan } from '../xet/reconstruct/plan.ts';
import { adoptFile } from '../xet/store/adopt.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import { registerUser } from '../xet/store/users.ts';
import type { FilePart } from '../xet/transfer/file-part.ts';
import { Uploader } from '../xet/upload.ts';
import type { FilterConfig } from './config.ts';
import { findLfsObject, hasSha256, type LfsSource, lfsContentMissing } from './lfs-content.ts';

export class Content {
  readonly config: FilterConfig;
  readonly store: LocalStore;
  readonly downloader: Downloader;
  readonly readAhead: ReadAhead;
  readonly #warn: (message: string) => void;
  #uploader: Uploader | undefined;
  #sources: LocalStore[] | undefined;
  /** Stores that know of this repository as a user. */
  readonly #entered = new Set<LocalStore>();

  constructor(config: FilterConfig, warn: (message: string) => void) {
    this.config = config;
    this.#warn = warn;
    useBlake3(config.kernels.blake3);
    this.store = new LocalStore(config.storeDir);
    this.downloader = new Downloader(this.store, { kernels: config.kernels });
    this.readAhead = new ReadAhead(this.downloader);
  }

  get uploader(): Uploader {
    if (this.#uploader === undefined) {
      const { compression, fsync, kernels } = this.config;
      this.#uploader = new Uploader(this.store, { compression, fsync, kernels, warn: this.#warn });
    }
    return this.#uploader;
  }

  /** Enters the repository in the store's list of users; before the first pointer is given or read. */
  register(): void {
    this.#enter(this.store);
  }

  #enter(store: LocalStore): void {
    if (this.#entered.has(store) || !store.existsOrCan()) return;
    try {
      registerUser(store.layout, this.config.repository.commonDir);
    } catch (error) {
      // A store that we may only read: its owner's gc must be told by hand.
      if (!isReadOnly(error)) throw error;
    }
    this.#entered.add(store);
  }

  /** The size of a file that `plan` would find, by what the stores list: nothing is opened, proved or written. */
  findSize(hash: string): number | undefined {
    const bytes = parseHash(hash);
    const own = this.store.findFile(bytes);
    if (own !== undefined) return own.size;
    this.#sources ??= this.#openSources();
    for (const source of this.#sources) {
      const file = source.findFile(bytes);
      if (file !== undefined) return file.size;
    }
    return undefined;
  }

  /** Where content of this SHA-256 is on this machine, as far as that can be told without reading it all. */
  findLfs(sha256: string, size: number): LfsSource | undefined {
    const claims = this.#filesOf(sha256, size);
    if (claims.length > 0) return { kind: 'chunks', plan: () => this.#planClaims(claims, sha256, size) };
    const path = findLfsObject(this.config.lfs.objectDirs(), sha256, size, (damaged) =>
      this.#warn(`${damaged} is not what its name says: passed over; git lfs fsck tells more`),
    );
    return path === undefined ? undefined : { kind: 'object', path };
  }

  /** Where the bytes of an LFS object are among our chunks. Throws CONTENT_MISSING. */
  planLfs(sha256: string, size: number): ReadPlan {
    const claims = this.#filesOf(sha256, size);
    if (claims.length > 0) return this.#planClaims(claims, sha256, size);
    throw lfsContentMissing(sha256, size, [...this.places(), ...this.config.lfs.objectDirs()]);
  }

  /** Hashes of files that some store says have this SHA-256. */
  #filesOf(sha256: string, size: number): Uint8Array[] {
    const own = this.store.findSha256(sha256).filter((hash) => this.store.findFile(hash)?.size === size);
    if (own.length > 0) return own;
    this.#sources ??= this.#openSources();
    return this.#sources.flatMap((source) =>
      source.findSha256(sha256).filter((hash) => source.findFile(hash)?.size === size),
    );
  }

  /** Of several files that claim to be it, the one that is. */
  #planClaims(claims: readonly Uint8Array[], sha256: string, size: number): ReadPlan {
    let failure: unknown;
    for (const hash of claims) {
      try {
        const plan = this.plan(formatHash(hash), size);
        if (claims.length === 1 || hasSha256(this.downloader.read(plan), sha256)) return plan;
      } catch (error) {
        if (!(error instanceof Git2dbError)) throw error;
        failure = error;
      }
    }
    throw failure ?? lfsContentMissing(sha256, size, this.places());
  }

  /** Directories of the stores that were asked for content so far. */
  places(): string[] {
    return [this.store, ...(this.#sources ?? [])].map((store) => store.root);
  }

  /** Where the bytes of a file are: in our store, or taken into it from a store of a remote. */
  plan(hash: string, size: number | undefined): ReadPlan {
    this.register();
    const bytes = parseHash(hash);
    try {
      return this.downloader.plan(bytes, size);
    } catch (error) {
      if (!(error instanceof Git2dbError)) throw error;
      return this.#fromSources(bytes, size, error);
    }
  }

  /** Where the bytes of a part of a file are that is being fetched into our store. */
  planPart(part: FilePart): ReadPlan {
    if (part.kind === 'file') return this.downloader.plan(part.hash, part.size);
    return planRun(this.store.term(part.hash, part.start, part.end, part.size));
  }

  /** Throws `ours` when no source has the file, or a source's damage where ours is only that it is missing. */
  #fromSources(hash: Uint8Array, size: number | undefined, ours: Git2dbError): ReadPlan {
    let failure = ours;
    this.#sources ??= this.#openSources();
    for (const source of this.#sources) {
      let plan: ReadPlan;
      this.#enter(source);
      try {
        plan = new Downloader(source).plan(hash, size);
      } catch (error) {
        if (!(error instanceof Git2dbError)) throw error;
        if (failure.code === 'CONTENT_MISSING') failure = error;
        continue;
      }
      const file = source.findFile(hash);
      if (file === undefined) return plan;
      try {
        adoptFile(this.store, this.uploader.writer, source, file);
        return this.downloader.plan(hash, size);
      } catch (error) {
        // Ours cannot be written, or theirs is still open: read theirs this once.
        this.#warn(`content of ${source.root} is read there and not kept here: ${(error as Error).message}`);
        return plan;
      }
    }
    throw failure.code === 'CONTENT_MISSING' ? this.#missing(formatHash(hash), size) : failure;
  }

  #openSources(): LocalStore[] {
    return this.config
      .sourceDirs()
      .map((dir) => new LocalStore(dir)) // Opens nothing yet.
      .filter(isReadable);
  }

  #missing(hash: string, size: number | undefined): Git2dbError {
    const places = this.places();
    return new Git2dbError(
      'CONTENT_MISSING',
      `the content (${size ?? 'unknown number of'} bytes, hash ${hash}) is not in ${places.join(' nor in ')}. ` +
        'Get it from a machine that has it (`git remote add` its path, then `git2db xet pull`), ' +
        'or let pointers stand for missing files: `git config xet.onMissing pointer`',
      { data: { file: hash, places } },
    );
  }

  /** Publishes what was stored and closes the stores. Errors say what is left where. */
  async seal(): Promise<void> {
    const uploader = this.#uploader;
    this.#uploader = undefined;
    try {
      await uploader?.seal();
    } finally {
      for (const source of this.#sources ?? []) source.close();
      this.#sources = undefined;
      this.store.close();
    }
  }
}

/** Whether there is a store, for us to read. */
function isReadable(store: LocalStore): boolean {
  try {
    return store.exists();
  } catch (error) {
    if (errnoOf(error) === 'EACCES') return false;
    throw error;
  }
}

function isReadOnly(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === 'EROFS' || errno === 'EACCES' || errno === 'EPERM';
}
