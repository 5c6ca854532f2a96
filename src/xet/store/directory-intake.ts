/**
 * What comes into a store of this machine from elsewhere: xorbs and shards as a whole, published in the order
 * xorb, shard, catalog, each on stable storage before the next. gc waits for each of these steps; between them,
 * what was put is young.
 */

import {
  closeSync,
  fdatasync,
  fstatSync,
  mkdirSync,
  open,
  renameSync,
  rmSync,
  statSync,
  writev,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { errnoOf, Git2dbError, messageOf } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import type { XorbFooter } from '../xorb/format.ts';
import { throwIfAborted } from './aborted.ts';
import { provenFooter } from './footers.ts';
import { GroupCommit } from './group-commit.ts';
import { syncDirectory } from './layout.ts';
import type { LocalStore } from './local-store.ts';
import { hasUsableXorb, publishFile, publishShard } from './publish.ts';
import { SharedRegistration } from './registered.ts';
import { acceptShard, type IncomingShard, readIncomingShard, xorbsMissing } from './shard-intake.ts';
import type { CallOptions, XorbUpload } from './store.ts';
import { unwritable } from './unwritable.ts';
import { writeAll, writeWhole } from './write-all.ts';
import type { WriterOptions } from './writer.ts';
import { checkedFooter, checkedRecords } from './xorb-intake.ts';
import { closeSource, openXorbFile } from './xorb-source.ts';

const openAsync = promisify(open);
const writevAsync = promisify(writev);
const fdatasyncAsync = promisify(fdatasync);

/** Chunk lists proved in one go. */
const XORBS_A_TURN = 8;

export class DirectoryIntake {
  readonly #store: LocalStore;
  readonly #options: WriterOptions;
  readonly #registration: SharedRegistration;
  readonly #shards: GroupCommit<IncomingShard, boolean>;
  #temporaries = 0;

  constructor(store: LocalStore, options: WriterOptions) {
    this.#store = store;
    this.#options = options;
    this.#registration = new SharedRegistration(store.root, options);
    this.#shards = new GroupCommit((shards) => this.#commit(shards));
  }

  /** False if it is there already. Throws INVALID_XORB, LIMIT_EXCEEDED, STORE_UNWRITABLE, DISK_FULL. */
  async putXorb(upload: XorbUpload, options: CallOptions = {}): Promise<boolean> {
    const { layout } = this.#store;
    const { xorbHash } = upload.footer;
    const footer = checkedFooter(upload.footer);
    this.#checkPlace();
    return this.#guard(() =>
      this.#registration.use(async (directory) => {
        const name = formatHash(xorbHash);
        const target = layout.xorb(name);
        this.rescue('xorb', name);
        if (hasUsableXorb(layout, target, xorbHash)) {
          this.#store.touchXorb(name);
          return false;
        }
        const temporary = join(directory, `put-${this.#temporaries++}`);
        try {
          if (!takeFile(upload, temporary)) {
            await this.#writeXorb(temporary, checkedRecords(upload, footer), options.signal);
          } else await this.#appendFooter(temporary, upload, footer);
          // Its chunk boundaries are whoever's; the mark comes before the xorb.
          layout.markIrregular(name);
          mkdirSync(dirname(target), { recursive: true });
          const isFirst = !hasUsableXorb(layout, target, xorbHash);
          if (isFirst) publishFile(temporary, target, this.#options.fsync);
          this.#syncDirectories(dirname(target), layout.xorbs);
          return isFirst && isSameFile(temporary, target);
        } finally {
          rmSync(temporary, { force: true });
        }
      }),
    );
  }

  /** False if nothing of it was new. Throws CONTENT_MISSING, INVALID_SHARD, LIMIT_EXCEEDED, STORE_UNWRITABLE. */
  async putShard(bytes: Uint8Array, options: CallOptions = {}): Promise<boolean> {
    const shard = readIncomingShard(bytes);
    if (shard.needed.size === 0 && shard.files.length === 0) return false;
    this.#checkPlace();
    return this.#shards.add(shard, options.signal);
  }

  /** Brings back what gc has put aside, unless it is in its place. False if it is in neither. */
  rescue(kind: 'xorb' | 'shard', name: string): boolean {
    const { layout } = this.#store;
    const [target, aside] = kind === 'xorb' ? [layout.xorb(name), name] : [layout.shard(name), `${name}.mdb`];
    if (statSync(target, { throwIfNoEntry: false }) !== undefined) return true;
    try {
      const from = join(layout.trash, aside);
      if (statSync(from, { throwIfNoEntry: false }) === undefined) return false;
      mkdirSync(dirname(target), { recursive: true });
      publishFile(from, target, this.#options.fsync);
      this.#syncDirectories(dirname(target));
      return true;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return statSync(target, { throwIfNoEntry: false }) !== undefined;
      throw error;
    }
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    await this.#shards.settled();
  }

  async #writeXorb(path: string, pieces: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<void> {
    const fd = await openAsync(path, 'wx', 0o666);
    try {
      let position = 0;
      for await (const piece of pieces) {
        throwIfAborted(signal);
        for (let done = 0; done < piece.length; ) {
          const { bytesWritten } = await writevAsync(fd, [piece.subarray(done)], position + done);
          done += bytesWritten;
        }
        position += piece.length;
      }
      if (this.#options.fsync !== 'none') await fdatasyncAsync(fd);
    } finally {
      closeSync(fd);
    }
  }

  async #appendFooter(
    path: string,
    { footer: { recordEnds } }: XorbUpload,
    footer: Uint8Array,
  ): Promise<void> {
    const fd = await openAsync(path, 'r+');
    try {
      const { size } = fstatSync(fd);
      const expected = recordEnds.at(-1) as number;
      if (size !== expected) throw new Error(`the records of a xorb are ${size} bytes, expected ${expected}`);
      writeAll(fd, [footer], size);
      if (this.#options.fsync !== 'none') await fdatasyncAsync(fd);
    } finally {
      closeSync(fd);
    }
  }

  /** Shards that came at about the same time, with one catalog for all. */
  async #commit(shards: readonly IncomingShard[]): Promise<PromiseSettledResult<boolean>[]> {
    return this.#guard(() =>
      this.#registration.use(async (directory) => {
        this.#store.catalog.refresh();
        const results: PromiseSettledResult<boolean>[] = [];
        for (const shard of shards) {
          try {
            results.push({ status: 'fulfilled', value: await this.#publish(shard, directory) });
          } catch (reason) {
            results.push({ status: 'rejected', reason: unwritable(this.#store.root, reason) });
          }
          await othersTurn();
        }
        if (results.some((result) => result.status === 'fulfilled' && result.value)) this.#publishCatalog();
        return results;
      }),
    );
  }

  async #publish(shard: IncomingShard, directory: string): Promise<boolean> {
    const { layout } = this.#store;
    const footers = await this.#footersOf(shard);
    const stored = acceptShard(shard, footers, Math.floor(Date.now() / 1000));
    if (!this.#isNew(shard)) return false;
    const temporary = join(directory, `put-${this.#temporaries++}`);
    writeWhole(temporary, [stored.bytes], this.#options.fsync);
    publishShard(layout, temporary, layout.shard(stored.name), stored.bytes, this.#options.fsync);
    rmSync(temporary, { force: true });
    this.#syncDirectories(layout.shards);
    return true;
  }

  /** Footers of all xorbs that are needed, whose age is renewed. Throws CONTENT_MISSING. */
  async #footersOf({ needed }: IncomingShard): Promise<Map<string, XorbFooter>> {
    const { layout } = this.#store;
    const footers = new Map<string, XorbFooter>();
    const missing: string[] = [];
    let looked = 0;
    for (const [name, xorbHash] of needed) {
      if (looked++ % XORBS_A_TURN === XORBS_A_TURN - 1) await othersTurn();
      try {
        if (!this.#store.touchXorb(name) && !(this.rescue('xorb', name) && this.#store.touchXorb(name))) {
          missing.push(name);
          continue;
        }
        const source = openXorbFile(layout.xorb(name), xorbHash);
        closeSource(source);
        const { count, hashes, recordEnds, rawEnds } = source;
        const footer = {
          xorbHash,
          count,
          hashes,
          recordEnds: Uint32Array.from(recordEnds),
          rawEnds: Uint32Array.from(rawEnds),
        };
        footers.set(name, provenFooter(footer, xorbHash, this.#store.root));
      } catch (error) {
        // What cannot be read counts as missing: sent again, it takes the place of the damaged one.
        if (!(error instanceof Git2dbError) && errnoOf(error) !== 'ENOENT') throw error;
        missing.push(name);
      }
    }
    if (missing.length > 0) throw xorbsMissing(missing, this.#store.root);
    return footers;
  }

  /** Whether anything in it is not described by shards that are here. Those are relied on from now on. */
  #isNew({ files, xorbs }: IncomingShard): boolean {
    for (const { fileHash, sha256 } of files) {
      const known = [...this.#store.findFiles(fileHash)].find(
        ({ record, terms }) =>
          record !== undefined &&
          (sha256 === undefined || record.sha256 === sha256) &&
          terms.every(({ name }) => this.#store.hasXorb(name)),
      );
      if (known?.shard === undefined || !this.#store.touchShard(known.shard)) return true;
    }
    return xorbs.some(({ xorbHash, hashes }) =>
      this.#store.findChunk(hashes, 0).every(({ xorb, index }) => index !== 0 || !xorb.equals(xorbHash)),
    );
  }

  #publishCatalog(): void {
    try {
      this.#store.catalog.publish();
    } catch (error) {
      // A cache: readers list the shards, and the next writer tries again.
      this.#options.warn?.(`the catalog of ${this.#store.root} could not be updated: ${messageOf(error)}`);
    }
  }

  #syncDirectories(...paths: readonly string[]): void {
    if (this.#options.fsync !== 'none') for (const path of paths) syncDirectory(path);
  }

  /** A store is made where there is none, but not on the wrong disk because that of the store is not mounted. */
  #checkPlace(): void {
    const { root } = this.#store;
    if (this.#store.exists() || statSync(dirname(root), { throwIfNoEntry: false })?.isDirectory() === true)
      return;
    throw new Git2dbError(
      'REMOTE_MISSING',
      `there is no directory ${dirname(root)}: mount the disk that ${root} is to be on, or make the directory`,
    );
  }

  async #guard<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      throw unwritable(this.#store.root, error);
    }
  }
}

/** False if there is no file that can be had by a new name. */
function takeFile({ file }: XorbUpload, to: string): boolean {
  if (file === undefined) return false;
  try {
    renameSync(file, to);
    return true;
  } catch (error) {
    // Of another file system, or cleared away meanwhile: the records can still be read.
    if (errnoOf(error) === 'EXDEV' || errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

/** Requests that wait get their turn. */
function othersTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function isSameFile(a: string, b: string): boolean {
  const [first, second] = [a, b].map((path) => statSync(path, { throwIfNoEntry: false }));
  // Without hard links the temporary was copied: then nobody can tell, and it does not matter.
  return first === undefined || second === undefined || first.nlink === 1 || first.ino === second.ino;
}
