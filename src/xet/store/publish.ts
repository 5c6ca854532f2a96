/**
 * Giving objects the names under which everybody finds them. What is published is never replaced: two
 * writers may rightly have different bytes for one xorb name, and somebody may be reading the first.
 * Only an object that nobody can read makes room, by moving to `quarantine/`.
 */
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fdatasyncSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { errnoOf, FormatError } from '../errors.ts';
import { readRegular } from '../regular-file.ts';
import type { StoreLayout } from './layout.ts';
import { closeSource, openXorbFile } from './xorb-source.ts';

/** Whether data must be on stable storage before they get a name. */
export type Fsync = 'batch' | 'none';

/** Errors of link(2) on file systems without hard links. */
const NO_LINKS = new Set(['EPERM', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);

/** Gives `from`, which the caller has synced, the name `to` as well, unless that exists. */
export function publishFile(from: string, to: string, fsync: Fsync = 'batch'): void {
  try {
    linkSync(from, to);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'EEXIST') return;
    if (errno === undefined || !NO_LINKS.has(errno)) throw error;
    if (existsSync(to)) return;
    const copy = `${from}.copy`;
    copyFileSync(from, copy, constants.COPYFILE_FICLONE);
    if (fsync !== 'none') syncFile(copy);
    renameSync(copy, to);
  }
}

export function syncFile(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fdatasyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** True if a xorb that readers can use has this name; a damaged one is put aside. */
export function hasUsableXorb(layout: StoreLayout, path: string, xorbHash: Uint8Array): boolean {
  try {
    closeSource(openXorbFile(path, xorbHash));
    return true;
  } catch (error) {
    if (error instanceof FormatError) quarantine(layout, path);
    else if (errnoOf(error) !== 'ENOENT') return true; // we may not look: somebody else's, and in its place
    return false;
  }
}

/** As publishFile, for a shard: one of this name and other bytes is damaged, and put aside. */
export function publishShard(
  layout: StoreLayout,
  from: string,
  to: string,
  bytes: Uint8Array,
  fsync: Fsync,
): void {
  try {
    if (Buffer.compare(readRegular(to, 'INVALID_SHARD'), bytes) !== 0) quarantine(layout, to);
  } catch (error) {
    if (error instanceof FormatError) quarantine(layout, to);
    else if (errnoOf(error) !== 'ENOENT') throw error;
  }
  publishFile(from, to, fsync);
}

/** Moves a damaged object to `quarantine/`, under its own name or that with a number. */
function quarantine(layout: StoreLayout, path: string): void {
  mkdirSync(layout.quarantine, { recursive: true });
  const name = join(layout.quarantine, basename(path));
  let kept = name;
  for (let i = 1; existsSync(kept); i++) kept = `${name}.${i}`;
  try {
    renameSync(path, kept);
  } catch (error) {
    // Somebody else was faster.
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}
