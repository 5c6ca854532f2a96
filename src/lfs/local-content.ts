/**
 * Content that LFS pointers name, in the repository at hand: found among chunks or in git-lfs's own store, given to
 * servers as a stream, and put into the chunk store when it comes.
 */
import { createHash } from 'node:crypto';
import { closeSync, readSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type FilterConfig, loadFilterConfig } from '../filter-process/config.ts';
import { Content } from '../filter-process/content.ts';
import { ContentCheck } from '../filter-process/lfs-content.ts';
import { Git2dbError } from '../xet/errors.ts';
import type { FileUpload } from '../xet/file-upload.ts';
import { isZeroHash, parseHash } from '../xet/hash/xet-hash.ts';
import { openRegular } from '../xet/regular-file.ts';
import type { LfsObject, LfsPlace } from './objects.ts';

const BLOCK = 4 << 20;

export class LocalContent {
  readonly config: FilterConfig;
  readonly #content: Content;
  /** Content is stored one file after the other; the last of those that wait. */
  #storing: Promise<unknown> = Promise.resolve();

  private constructor(config: FilterConfig, warn: (message: string) => void) {
    this.config = config;
    this.#content = new Content(config, warn);
  }

  /** Throws NOT_A_REPOSITORY or INVALID_CONFIG. */
  static open({ cwd, env }: Pick<LfsPlace, 'cwd' | 'env'>, warn: (message: string) => void): LocalContent {
    return new LocalContent(loadFilterConfig(cwd, env), warn);
  }

  /** Directory for downloads that are not complete yet. */
  get incompleteDir(): string {
    return join(dirname(this.config.lfs.objectDirs()[0] as string), 'git2db-incomplete');
  }

  /** Whether the content is on this machine. */
  has({ sha256, size }: LfsObject): boolean {
    return size === 0 || this.#content.findLfs(sha256, size) !== undefined;
  }

  /**
   * Puts content that this machine has somewhere into the chunk store, unless it is there. False if this machine does
   * not have it. Throws CONTENT_DAMAGED, STORE_UNWRITABLE, DISK_FULL.
   */
  async take(object: LfsObject, signal?: AbortSignal): Promise<boolean> {
    if (object.size === 0) return true;
    const source = this.#content.findLfs(object.sha256, object.size);
    if (source === undefined) return false;
    // Planning takes a file over from the store of a remote.
    if (source.kind === 'chunks') source.plan();
    else await this.storeFile(source.path, object, signal);
    return true;
  }

  /** File hash of content that `take` has put into the chunk store. Throws CONTENT_MISSING. */
  fileHash({ sha256, size }: LfsObject): Uint8Array {
    const { store } = this.#content;
    const found = store.findSha256(sha256).find((hash) => store.findFile(hash)?.size === size);
    if (found !== undefined) return found;
    throw new Git2dbError('CONTENT_MISSING', `LFS object ${sha256} (${size} bytes) is not in ${store.root}`);
  }

  /** The bytes, verified: they end early, with CONTENT_DAMAGED, where they are not the object. */
  *read({ sha256, size }: LfsObject): Generator<Uint8Array> {
    if (size === 0) return;
    const source = this.#content.findLfs(sha256, size);
    const pieces =
      source?.kind === 'object'
        ? fileBlocks(source.path, size)
        : this.#chunks((source?.plan ?? (() => this.#content.planLfs(sha256, size)))());
    const check = new ContentCheck(sha256, `what this machine has for LFS object ${sha256}`);
    let last: Uint8Array | undefined;
    for (const piece of pieces) {
      check.update(piece);
      if (last !== undefined) yield last;
      last = piece;
    }
    // Before the end, so that nobody gets all of something wrong.
    check.finish();
    if (last !== undefined) yield last;
  }

  *#chunks(plan: ReturnType<Content['planLfs']>): Generator<Buffer> {
    // The window's memory is used again, and whoever sends it takes its time.
    for (const { chunks } of this.#content.downloader.read(plan)) yield Buffer.concat(chunks);
  }

  /** Stores bytes as chunks, found by their SHA-256. Throws CONTENT_DAMAGED where they are not the object. */
  storeBytes(bytes: Uint8Array, object: LfsObject): Promise<void> {
    return this.#oneByOne(async () => {
      checkBytes(createHash('sha256').update(bytes).digest('hex'), bytes.length, object);
      const upload = this.#content.uploader.begin(object.size);
      upload.write(bytes);
      this.#finish(upload, object);
    });
  }

  /** The same with a file. */
  storeFile(path: string, object: LfsObject, signal?: AbortSignal): Promise<void> {
    return this.#oneByOne(async () => {
      const upload = this.#content.uploader.begin(object.size);
      const hash = createHash('sha256');
      try {
        for (const block of fileBlocks(path, object.size)) {
          signal?.throwIfAborted();
          hash.update(block);
          upload.write(block);
          // Others have connections to look after.
          await nextTurn();
        }
        checkBytes(hash.digest('hex'), upload.size, object);
      } catch (error) {
        upload.abort();
        throw error;
      }
      this.#finish(upload, object);
    });
  }

  #finish(upload: FileUpload, { sha256 }: LfsObject): void {
    upload.finish({ sha256 });
    this.#content.register();
  }

  /** Writes down the SHA-256 of a file that has come into the store by its file hash, if it is right. */
  async confirm(object: LfsObject, fileHash: string): Promise<void> {
    const { store, uploader, downloader } = this.#content;
    const hash = parseHash(fileHash);
    const stored = store.findFile(hash);
    if (stored === undefined)
      throw new Git2dbError('CONTENT_MISSING', `file ${fileHash} is not in ${store.root}`);
    await this.#oneByOne(async () => {
      const check = createHash('sha256');
      let size = 0;
      for (const { chunks } of downloader.read(downloader.plan(hash, object.size))) {
        for (const chunk of chunks) {
          check.update(chunk);
          size += chunk.length;
        }
        await nextTurn();
      }
      checkBytes(check.digest('hex'), size, object);
      if (!uploader.isRecorded(object.sha256, hash)) uploader.record(object.sha256, stored);
    });
  }

  /** SHA-256 and size of a file of the store; undefined where it is not here. Throws CONTENT_DAMAGED. */
  nameFile(fileHash: string, size: number | undefined): Promise<LfsObject | undefined> {
    const { store, uploader, downloader } = this.#content;
    const hash = parseHash(fileHash);
    return this.#oneByOne(async () => {
      if (isZeroHash(hash)) return { sha256: createHash('sha256').digest('hex'), size: 0 };
      let plan: ReturnType<Content['plan']>;
      try {
        plan = this.#content.plan(fileHash, size);
      } catch (error) {
        if (error instanceof Git2dbError && error.code === 'CONTENT_MISSING') return undefined;
        throw error;
      }
      const digest = createHash('sha256');
      for (const { chunks } of downloader.read(plan)) {
        for (const chunk of chunks) digest.update(chunk);
        await nextTurn();
      }
      const sha256 = digest.digest('hex');
      const stored = store.findFile(hash);
      if (stored !== undefined && !uploader.isRecorded(sha256, hash)) uploader.record(sha256, stored);
      return { sha256, size: plan.size };
    });
  }

  #oneByOne<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#storing.then(work, work);
    this.#storing = done.catch(() => undefined);
    return done;
  }

  /** Publishes what was stored. */
  async close(): Promise<void> {
    await this.#storing;
    await this.#content.seal();
  }
}

export interface Sha256Options {
  readonly signal?: AbortSignal | undefined;
  readonly warn?: ((message: string) => void) | undefined;
}

/**
 * SHA-256 and size of files of the store, by file hash (string form; the values are sizes, where they are known).
 * What nobody has computed yet is read, and written down, so that the files are found by it. Files that are not here
 * are left out.
 */
export async function sha256OfFiles(
  place: Pick<LfsPlace, 'cwd' | 'env'>,
  files: ReadonlyMap<string, number | undefined>,
  { signal, warn = () => {} }: Sha256Options = {},
): Promise<Map<string, LfsObject>> {
  const local = LocalContent.open(place, warn);
  const found = new Map<string, LfsObject>();
  try {
    for (const [hash, size] of files) {
      signal?.throwIfAborted();
      const object = await local.nameFile(hash, size);
      if (object !== undefined) found.set(hash, object);
    }
  } finally {
    await local.close();
  }
  return found;
}

function checkBytes(found: string, size: number, object: LfsObject): void {
  if (found === object.sha256 && size === object.size) return;
  throw new Git2dbError(
    'CONTENT_DAMAGED',
    `expected ${object.size} bytes of SHA-256 ${object.sha256}, found ${size} of ${found}`,
    { data: { sha256: object.sha256, found } },
  );
}

/** A file of `size` bytes, piece by piece, each in memory of its own. */
function* fileBlocks(path: string, size: number): Generator<Buffer> {
  const fd = openRegular(path, 'CONTENT_DAMAGED');
  try {
    for (let at = 0; at < size; ) {
      const block = Buffer.allocUnsafe(Math.min(BLOCK, size - at));
      const count = readSync(fd, block, 0, block.length, at);
      if (count === 0) throw new Git2dbError('CONTENT_DAMAGED', `${path} ends at ${at} of ${size} bytes`);
      yield block.subarray(0, count);
      at += count;
    }
  } finally {
    closeSync(fd);
  }
}
