/**
 * `trash/`: what gc is about to delete. Objects are moved there under their file names, and back; readers
 * and writers look into it when an object is not in its place, so a move never breaks them.
 */
import { linkSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { errnoOf } from '../../errors.ts';
import { type StoreLayout, syncDirectory } from '../layout.ts';
import type { Fsync } from '../publish.ts';
import { listTrash, type StoredObject, statOf } from './objects.ts';

export class Trash {
  readonly #layout: StoreLayout;
  readonly #fsync: Fsync;
  /** Directories whose entries changed and are not on stable storage yet. */
  readonly #unsynced = new Set<string>();

  constructor(layout: StoreLayout, fsync: Fsync) {
    this.#layout = layout;
    this.#fsync = fsync;
  }

  /**
   * Moves an object here, unless somebody has relied on it since it was listed. False if it stays. A
   * writer may do so between our look and the move; then its mtime, which moves along, tells later.
   */
  put(object: StoredObject): boolean {
    const target = join(this.#layout.trash, basename(object.path));
    const stat = statOf(object.path);
    if (stat === undefined || stat.mtimeMs !== object.mtimeMs || stat.size !== object.size) return false;
    // Left by an earlier gc, with a twin published since: that one goes first.
    if (statOf(target) !== undefined) return false;
    mkdirSync(this.#layout.trash, { recursive: true });
    renameSync(object.path, target);
    this.#changed(object.path, target);
    return true;
  }

  /** Puts a xorb or shard back in its place, unless one stands there. */
  restore(kind: 'xorb' | 'shard', object: StoredObject): void {
    const target = kind === 'xorb' ? this.#layout.xorb(object.name) : this.#layout.shard(object.name);
    mkdirSync(dirname(target), { recursive: true });
    try {
      linkSync(object.path, target);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'ENOENT') return;
      // EEXIST: a writer has taken it back itself. Anything else: no hard links here.
      if (errno !== 'EEXIST' && statOf(target) === undefined) renameSync(object.path, target);
    }
    rmSync(object.path, { force: true });
    this.#changed(object.path, target);
  }

  /** Puts everything back that an earlier gc has left here. */
  restoreAll(): number {
    const { xorbs, shards } = listTrash(this.#layout);
    // Content before what names it.
    for (const object of xorbs) this.restore('xorb', object);
    for (const object of shards) this.restore('shard', object);
    this.sync();
    return xorbs.length + shards.length;
  }

  delete(object: StoredObject): void {
    rmSync(object.path, { force: true });
    this.#changed(object.path);
  }

  /** Makes the moves durable. */
  sync(): void {
    if (this.#fsync !== 'none') for (const directory of this.#unsynced) syncDirectory(directory);
    this.#unsynced.clear();
  }

  #changed(...paths: readonly string[]): void {
    for (const path of paths) this.#unsynced.add(dirname(path));
  }
}
