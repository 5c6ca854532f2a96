/** Directories and file systems for tests of single parts, without any mount of ours. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import {
  type DiskDirectory,
  type DiskLayer,
  openDiskLayer,
} from '../../../src/mount-helper/overlay/disk-layer.ts';
import { cString, utimensat } from '../../../src/mount-helper/system/libc.ts';
import { getxattrAt, setxattrAt } from '../../../src/mount-helper/system/xattr.ts';

export const isRoot = process.geteuid?.() === 0;

/** Adds the reason to the title of a test that only root can run. */
export const rootOnly = isRoot ? '' : ' (skipped: not root)';

export function scratch(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'git2db-mount-'));
  chmodSync(path, 0o755);
  // Node's own removal ends where paths are too long.
  t.teardown(() => execFileSync('rm', ['-rf', path]));
  return path;
}

/** A file system in memory, mounted until the test has ended. Root only. */
export function smallFileSystem(t: ExecutionContext, sizeBytes: number): string {
  const path = join(scratch(t), 'small');
  mkdirSync(path);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'git2db-test', path]);
  t.teardown(() => execFileSync('umount', ['--lazy', path]));
  return path;
}

/** The calls of `action` are those of an ordinary user. It must not be asynchronous. Root only. */
export function asUser<T>(uid: number, action: () => T): T {
  process.setegid!(uid);
  process.seteuid!(uid);
  try {
    return action();
  } finally {
    process.seteuid!(0);
    process.setegid!(0);
  }
}

export function openLayer(
  t: ExecutionContext,
  path: string,
  updatesAccessTimes = false,
): { layer: DiskLayer; root: DiskDirectory } {
  const layer = openDiskLayer(Buffer.from(path), {
    description: path,
    readsWhiteoutNames: false,
    updatesAccessTimes,
  });
  if (typeof layer === 'number') throw new Error(`cannot open ${path}: ${layer}`);
  const root = layer.openRoot();
  if (typeof root === 'number') throw new Error(`cannot open the root of ${path}: ${root}`);
  t.teardown(() => {
    root.release();
    layer.close();
  });
  return { layer, root };
}

export type Times = readonly [atime: number, atimeNs: number, mtime: number, mtimeNs: number];

export function setTimes(directory: number, name: string, times: Times): void {
  const code = utimensat(directory, cString(name), ...times);
  if (code < 0) throw new Error(`utimensat ${name}: ${code}`);
}

/** 0 or `-errno`. */
export function setXattr(
  directory: number,
  name: string,
  attribute: string,
  value: string | Uint8Array,
): number {
  return setxattrAt(directory, cString(name), cString(attribute), Buffer.from(value));
}

/** The value, or `-errno`. */
export function getXattr(directory: number, name: string, attribute: string): Buffer | number {
  const out = Buffer.alloc(65536);
  const length = getxattrAt(directory, cString(name), cString(attribute), out);
  return length < 0 ? length : Buffer.from(out.subarray(0, length));
}

/** An access control list as the system keeps it: version 2, then tag u16, permissions u16, id u32 each. */
export function encodeAcl(
  entries: readonly (readonly [tag: number, permissions: number, id: number])[],
): Buffer {
  const bytes = Buffer.alloc(4 + 8 * entries.length);
  bytes.writeUInt32LE(2, 0);
  for (const [i, [tag, permissions, id]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + 8 * i);
    bytes.writeUInt16LE(permissions, 6 + 8 * i);
    bytes.writeUInt32LE(id >>> 0, 8 + 8 * i);
  }
  return bytes;
}

export const ACL_USER_OBJ = 1;
export const ACL_USER = 2;
export const ACL_GROUP_OBJ = 4;
export const ACL_MASK = 16;
export const ACL_OTHER = 32;
export const NO_ID = -1;
