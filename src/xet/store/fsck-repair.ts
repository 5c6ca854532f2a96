/**
 * Mending a store after a check. In this order, so that nothing that can be read now becomes unreadable
 * in between, and a crash leaves at worst something stored twice:
 *
 *     rebuild   xorbs with all their chunks: a right footer, in place of the wrong one, by rename
 *     carve     damaged shards: what proves itself goes into new ones, then they are taken away
 *     mend      files with chunks in broken xorbs are stored again, as far as the chunks are to be had
 *     quarantine  only now are the broken xorbs taken away, by rename: what was mended is acknowledged, so
 *                 every process reads it, though it is not published yet. (It cannot be before: a xorb
 *                 of the same chunks has the same name, and what is published is never replaced.)
 *     publish
 *
 * Nothing is deleted. Directories of living writers are not touched. No gc runs meanwhile.
 */
import { constants, copyFileSync, linkSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { errnoOf, Git2dbError } from '../errors.ts';
import { formatHash, isZeroHash, parseHash } from '../hash/xet-hash.ts';
import { ShardBuilder } from '../shard/builder.ts';
import type { FileRecord } from '../shard/file-info.ts';
import { shardName } from '../shard/shard.ts';
import type { XorbRecord } from '../shard/xorb-info.ts';
import type { Uploader } from '../upload.ts';
import type { StoreCheck } from './fsck.ts';
import { type BrokenXorb, hasAllChunks } from './fsck-damage.ts';
import { IncomingFiles, isDamagedIncoming } from './fsck-incoming.ts';
import { Mender } from './fsck-mend.ts';
import { provesXorb } from './fsck-records.ts';
import { carveShard } from './fsck-shard.ts';
import { listOf, rebuiltXorb } from './fsck-xorb.ts';
import { GcLock } from './gc/lock.ts';
import { JOURNAL } from './incoming.ts';
import { syncDirectory } from './layout.ts';
import { probeLiveness } from './liveness.ts';
import type { LocalStore } from './local-store.ts';
import { publishShard } from './publish.ts';
import { writeWhole } from './write-all.ts';

export interface RepairOptions {
  /** Gives the writer; sealed by `publish`. Its store is the one that was checked; made if need be. */
  readonly uploader: Uploader;
  /** Other stores that may have what this one lost. */
  readonly others: readonly LocalStore[];
  readonly signal?: AbortSignal | undefined;
}

export interface RepairLog {
  /** Files in `quarantine/`, by the name they have there. */
  readonly quarantined: string[];
  /** Xorbs that got a right footer. */
  readonly rebuilt: string[];
  /** Files stored again, by hash. */
  readonly mended: Set<string>;
}

/** Shards are cut below the wire's limit of 64 MiB. */
const MAX_SHARD = 60 << 20;

export class StoreRepair {
  readonly log: RepairLog = { quarantined: [], rebuilt: [], mended: new Set() };
  readonly #store: LocalStore;
  readonly #check: StoreCheck;
  readonly #options: RepairOptions;
  readonly #mender: Mender;

  constructor(store: LocalStore, check: StoreCheck, options: RepairOptions) {
    this.#store = store;
    this.#check = check;
    this.#options = options;
    const { compression } = options.uploader.options;
    this.#mender = new Mender(store, check.broken, { compression, others: options.others });
  }

  /** Everything that needs nothing but this store and the other ones. Throws REFUSED while a gc is at work. */
  async repairObjects(): Promise<void> {
    this.#store.layout.create();
    const lock = await GcLock.acquire(this.#store.layout);
    try {
      await this.#repairObjects(lock.directory);
    } finally {
      lock.release();
    }
  }

  /** `directory`: for temporary files. */
  async #repairObjects(directory: string): Promise<void> {
    const { broken, brokenFiles, exposedFiles, damagedShards, damagedCatalog } = this.#check;
    for (const xorb of [...broken.values()]) if (hasAllChunks(xorb)) this.#rebuild(xorb, directory);
    this.#describeAgain(directory);
    for (const name of damagedShards) this.#quarantine(this.#store.layout.shard(name));
    this.#store.catalog.publish({ rebuild: damagedCatalog });
    this.#forget();
    for (const hash of [...brokenFiles.keys(), ...exposedFiles]) this.mend(hash);
    await this.#mendIncoming();
    for (const xorb of [...broken.values()]) this.#quarantineXorb(xorb);
    await this.publish();
  }

  /** True if the file is sound, or is now that it was stored again. Then call `publish`. */
  mend(hash: string): boolean {
    this.#options.signal?.throwIfAborted();
    if (this.log.mended.has(hash)) return true;
    const bytes = parseHash(hash);
    if (this.#mender.isSound(bytes)) return true;
    for (const file of this.#mender.describe(bytes)) {
      if (!this.#mender.mend(file, this.#options.uploader.writer)) continue;
      this.log.mended.add(hash);
      return true;
    }
    return false;
  }

  /** Publishes what was stored so far. */
  async publish(): Promise<void> {
    await this.#options.uploader.seal();
    this.#forget();
    for (const hash of this.#mender.irregular) this.#markIrregular(hash);
    this.#mender.irregular.clear();
  }

  #forget(): void {
    this.#store.forgetSources();
    this.#store.catalog.reload();
  }

  /** A right footer for a xorb whose chunks are all there. The old file stays in quarantine. */
  #rebuild(xorb: BrokenXorb, directory: string): void {
    const { path, name } = xorb;
    // Chunks of a living writer's directory are left to recovery, which makes the footer itself.
    if (path === undefined || path !== this.#store.layout.xorb(name)) return;
    const temporary = join(directory, name);
    writeWhole(temporary, rebuiltXorb(xorb));
    const kept = this.#quarantineName(basename(path));
    try {
      linkSync(path, kept);
    } catch {
      // No hard links, or not for us.
      copyFileSync(path, kept, constants.COPYFILE_FICLONE);
    }
    renameSync(temporary, path);
    syncDirectory(dirname(path));
    this.log.quarantined.push(basename(kept));
    this.log.rebuilt.push(name);
    this.#check.broken.delete(name);
    this.#store.forgetSources();
  }

  /** New shards for what can be proven of the damaged ones, and for xorbs that none describes. */
  #describeAgain(directory: string): void {
    const { damagedShards, undescribed } = this.#check;
    if (damagedShards.length === 0 && undescribed.length === 0) return;
    const xorbs = new Map<string, XorbRecord>();
    const files = new Map<string, FileRecord>();
    for (const name of damagedShards) {
      const carved = carveShard(this.#store.layout.shard(name), (hash) => this.#soundRecord(hash));
      for (const record of carved.xorbs)
        xorbs.set(formatHash(record.xorbHash), this.#soundRecord(record.xorbHash) ?? record);
      for (const record of carved.files) files.set(formatHash(record.fileHash), record);
    }
    for (const name of undescribed) {
      const record = this.#soundRecord(parseHash(name));
      if (record !== undefined) xorbs.set(name, record);
    }
    let builder = new ShardBuilder();
    const cut = () => {
      if (builder.xorbCount + builder.fileCount > 0) this.#publishShard(builder.build(), directory);
      builder = new ShardBuilder();
    };
    for (const record of xorbs.values()) {
      builder.addXorb(record);
      if (builder.size() > MAX_SHARD) cut();
    }
    for (const record of files.values()) {
      builder.addFile(record);
      if (builder.size() > MAX_SHARD) cut();
    }
    cut();
  }

  /** What a shard says of a xorb, from the xorb itself; undefined where that cannot be relied on. */
  #soundRecord(xorbHash: Uint8Array): XorbRecord | undefined {
    const broken = this.#check.broken.get(formatHash(xorbHash));
    if (broken !== undefined) {
      return broken.list && { xorbHash, ...broken.list, storedBytes: 0 };
    }
    try {
      const source = this.#store.openXorb(xorbHash);
      const list = listOf(source);
      if (!provesXorb(list, xorbHash)) return undefined;
      return { xorbHash, ...list, storedBytes: source.recordEnds[source.count - 1] as number };
    } catch (error) {
      if (error instanceof Git2dbError || errnoOf(error) !== undefined) return undefined;
      throw error;
    }
  }

  #publishShard(bytes: Uint8Array, directory: string): void {
    const { layout } = this.#store;
    const name = shardName(bytes);
    const temporary = join(directory, `${name}.mdb`);
    writeWhole(temporary, [bytes]);
    publishShard(layout, temporary, layout.shard(name), bytes, this.#options.uploader.options.fsync);
    syncDirectory(layout.shards);
  }

  /**
   * Files that a writer acknowledged into a local xorb that is damaged now. Recovery of a dead writer
   * drops those, and what it takes to be damaged with them: so they are stored again before, and the
   * damaged files are kept.
   */
  async #mendIncoming(): Promise<void> {
    const { broken, writers } = this.#check;
    for (const incoming of writers) {
      const terms = incoming.state.files.flatMap((file) => file.terms);
      const isExposed = terms.some(
        ({ xorbHash }) => xorbHash !== undefined && broken.has(formatHash(xorbHash)),
      );
      const isDamaged = isDamagedIncoming(incoming, broken);
      if (!isExposed && !isDamaged) continue;
      const files = new IncomingFiles(incoming);
      for (const file of files.list(this.#store)) {
        const hash = formatHash(file.hash);
        if (isZeroHash(file.hash) || this.log.mended.has(hash)) continue;
        if (this.#mender.mend(file, this.#options.uploader.writer)) this.log.mended.add(hash);
      }
      files.close();
      if (isDamaged && (await probeLiveness(incoming.directory)) === 'dead')
        this.#copyIncoming(incoming.directory);
    }
  }

  #copyIncoming(directory: string): void {
    const kept = this.#quarantineName(`incoming-${basename(directory)}`);
    mkdirSync(kept, { recursive: true });
    const paths = [...this.#check.broken.values()].flatMap(({ path }) =>
      path !== undefined && dirname(path) === directory ? [path] : [],
    );
    for (const path of [join(directory, JOURNAL), ...paths]) {
      copyFileSync(path, join(kept, basename(path)), constants.COPYFILE_FICLONE);
    }
    this.log.quarantined.push(basename(kept));
  }

  #quarantineXorb(xorb: BrokenXorb): void {
    const { layout } = this.#store;
    const { path, name } = xorb;
    if (path !== layout.xorb(name) && path !== join(layout.trash, name)) return;
    this.#check.broken.set(name, { ...xorb, path: this.#quarantine(path) });
  }

  /** Takes an object away, for a person to look at; its new path, undefined when it is not there any more. */
  #quarantine(path: string): string | undefined {
    const kept = this.#quarantineName(basename(path));
    try {
      renameSync(path, kept);
    } catch (error) {
      // Another repair, or gc, was faster.
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
    this.log.quarantined.push(basename(kept));
    return kept;
  }

  /** A free path in `quarantine/`. */
  #quarantineName(name: string): string {
    const { quarantine } = this.#store.layout;
    mkdirSync(quarantine, { recursive: true });
    let path = join(quarantine, name);
    for (let i = 1; statSync(path, { throwIfNoEntry: false }) !== undefined; i++)
      path = join(quarantine, `${name}.${i}`);
    return path;
  }

  /** Nobody may predict chunk boundaries from the xorbs of this file. */
  #markIrregular(hash: string): void {
    for (const file of this.#store.findFiles(parseHash(hash))) {
      for (const { name, xorbHash } of file.terms)
        if (xorbHash !== undefined) this.#store.layout.markIrregular(name);
      return;
    }
  }
}
