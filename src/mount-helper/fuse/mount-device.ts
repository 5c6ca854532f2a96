/**
 * The device /dev/fuse and the mount that belongs to it. Whoever may mount (root, or root of a user
 * namespace) does so by mount(2); everybody else through `fusermount3`, which is set-uid root, mounts on
 * our behalf and hands the open device over a socket.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { Git2dbError } from '../../xet/errors.ts';
import { findFusermount } from '../find-program.ts';
import type { MountOptions } from '../mount-options.ts';
import { FUSE_TYPE, findMount, readMountTable } from '../mount-table.ts';
import { showPath } from '../path.ts';
import { securityLabels } from '../security-labels.ts';
import { byteCommand } from '../system/byte-command.ts';
import { EACCES, EIO, EPERM, errnoMessage } from '../system/errno.ts';
import {
  MNT_DETACH,
  MS_NOATIME,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  mount,
  receiveDescriptor,
  socketPair,
  UMOUNT_NOFOLLOW,
  umount2Async,
} from '../system/kernel.ts';
import { AT_FDCWD, close, cString, openat } from '../system/libc.ts';
import { fusermountUnmount } from './unmount-user.ts';

const DEVICE = cString('/dev/fuse');
const O_RDWR = 2;
const SUBTYPE = FUSE_TYPE.slice('fuse.'.length);

const MOUNT_FLAGS = {
  nosuid: MS_NOSUID,
  nodev: MS_NODEV,
  noexec: MS_NOEXEC,
  noatime: MS_NOATIME,
} as const;

/** A connection that is mounted and waits for INIT. */
export interface MountedDevice {
  readonly fd: number;
  /** By whom it is unmounted, too. */
  readonly mountedBy: 'mount' | 'fusermount';
}

/** Mounts on `options.merged`, or throws why that is not possible. */
export function mountDevice(options: MountOptions): MountedDevice {
  const fd = openat(AT_FDCWD, DEVICE, O_RDWR);
  if (fd < 0) throw deviceError(fd);
  const code = mountDirectly(fd, options);
  if (code >= 0) return { fd, mountedBy: 'mount' };
  close(fd);
  if (code !== -EPERM) throw mountError(code, options);
  return { fd: mountThroughFusermount(options), mountedBy: 'fusermount' };
}

function mountDirectly(fd: number, options: MountOptions): number {
  let flags = options.readOnly ? MS_RDONLY : 0;
  for (const flag of options.flags) flags |= MOUNT_FLAGS[flag];
  const isRoot = process.geteuid!() === 0;
  const data = [
    `fd=${fd}`,
    'rootmode=40000',
    `user_id=${process.geteuid!()}`,
    `group_id=${process.getegid!()}`,
    ...((options.defaultPermissions ?? true) ? ['default_permissions'] : []),
    ...((options.allowOther ?? isRoot) ? ['allow_other'] : []),
    ...securityLabels(options).map(String),
  ];
  return mount(
    cString(options.source),
    cString(options.merged),
    cString(FUSE_TYPE),
    flags,
    cString(data.join(',')),
  );
}

/** The open device. */
function mountThroughFusermount(options: MountOptions): number {
  const program = findFusermount(process.env.PATH ?? '');
  const pair = socketPair();
  if (typeof pair === 'number') throw mountError(pair, options);
  const helperOptions = [
    `fsname=${escapeOption(options.source)}`,
    `subtype=${SUBTYPE}`,
    ...((options.defaultPermissions ?? true) ? ['default_permissions'] : []),
    ...(options.allowOther === true ? ['allow_other'] : []),
    ...(options.readOnly ? ['ro'] : []),
    ...options.flags,
  ];
  const { file, args } = byteCommand(program, ['-o', helperOptions.join(','), '--', options.merged]);
  const ran = spawnSync(file, [...args], {
    stdio: ['ignore', 'ignore', 'pipe', pair.theirs],
    env: { ...process.env, _FUSE_COMMFD: '3', LC_ALL: 'C' },
    encoding: 'utf8',
  });
  close(pair.theirs);
  const fd = ran.status === 0 ? receiveDescriptor(pair.ours) : -EIO;
  close(pair.ours);
  if (fd >= 0) return fd;
  const said = ran.stderr?.trim().split('\n').at(-1);
  throw new Git2dbError('MOUNT_FAILED', said || `fusermount3 ended with ${ran.status ?? ran.signal}`, {
    cause: ran.error,
  });
}

/** fusermount3 ends a value at a comma, unless a backslash is before it. */
function escapeOption(value: string): string {
  return value.replace(/[\\,]/g, '\\$&');
}

function deviceError(code: number): Git2dbError {
  const isForbidden = code === -EACCES || code === -EPERM;
  const remedy = isForbidden ? 'chmod 0666 /dev/fuse' : 'modprobe fuse';
  return new Git2dbError(
    isForbidden ? 'FUSE_FORBIDDEN' : 'FUSE_MISSING',
    `cannot open /dev/fuse: ${errnoMessage(code)}; as root: ${remedy} (in a container: --device /dev/fuse)`,
  );
}

function mountError(code: number, { merged }: MountOptions): Git2dbError {
  return new Git2dbError('MOUNT_FAILED', `cannot mount on ${showPath(merged)}: ${errnoMessage(code)}`, {
    data: { errno: -code },
  });
}

/** `major:minor` of our mount on `merged`; undefined when something else, or nothing, is mounted there. */
export function mountedDeviceNumber(merged: Buffer): string | undefined {
  const entry = findMount(readMountTable(), merged);
  return entry?.type === FUSE_TYPE ? entry.device : undefined;
}

/**
 * Lets the kernel read ahead `kib` at a time instead of 128: fewer and larger READs. Only root may; nobody
 * else misses more than speed.
 */
export function raiseReadAhead(device: string, kib: number): void {
  try {
    writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, `${kib}`);
  } catch {
    // Not root, or no sysfs here.
  }
}

/**
 * Cuts the connection: whoever waits for an answer gets an error, and the server's next read says ENODEV.
 * False where the kernel's control files are not to be had.
 */
export function abortConnection(device: string): boolean {
  const minor = device.slice(device.indexOf(':') + 1);
  try {
    writeFileSync(`/sys/fs/fuse/connections/${minor}/abort`, '1');
    return true;
  } catch {
    return false;
  }
}

/**
 * Ends the mount on `merged` if it is still the one with `device`. Runs beside the thread that calls:
 * the server has to go on answering until it is done. Resolves to 0 or `-errno` (EBUSY).
 */
export async function unmountDevice(
  merged: Buffer,
  device: string | undefined,
  mountedBy: MountedDevice['mountedBy'],
  { lazily }: { readonly lazily: boolean },
): Promise<number> {
  if (device === undefined || mountedDeviceNumber(merged) !== device) return 0;
  if (mountedBy === 'mount') {
    return umount2Async(cString(merged), UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0));
  }
  return fusermountUnmount(merged, lazily);
}
