/**
 * The C library's calls on mounts, events, sockets and the process itself. As in `libc.ts`, each returns
 * a number >= 0, or `-errno`.
 */
import { addressOf, bindAll, type CString, callAsync, type Memory, result } from '../../native/library.ts';

export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_NOEXEC = 8;
export const MS_REMOUNT = 32;
export const MS_NOATIME = 1024;
export const MS_BIND = 4096;
export const MS_REC = 16384;
export const MS_PRIVATE = 1 << 18;

export const MNT_FORCE = 1;
export const MNT_DETACH = 2;
export const UMOUNT_NOFOLLOW = 8;

export const EFD_CLOEXEC = 0o2000000;
export const EFD_NONBLOCK = 0o4000;
export const POLLIN = 1;
export const POLLERR = 8;
export const POLLHUP = 16;

/** Numbers of system calls are the same on all machines since Linux 5.1. */
const OPEN_TREE = 428;
const MOUNT_SETATTR = 442;
const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const AT_RECURSIVE = 0x8000;
const OPEN_TREE_CLONE = 1;
const OPEN_TREE_CLOEXEC = 0o2000000;
const MOUNT_ATTR_RDONLY = 1;
const MOUNT_ATTR_NOATIME = 0x10;
const MOUNT_ATTR__ATIME = 0x70;
const EMPTY = Buffer.alloc(1);

const RLIMIT_NOFILE = 7;
const O_CLOEXEC = 0o2000000;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const AF_UNIX = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const EPROTO = 71;
const EPIPE = 32;

const calls = bindAll({
  mount: 'int mount(const void*, const void*, const void*, uint64_t, const void*)',
  umount2: 'int umount2(const void*, int)',
  eventfd: 'int eventfd(uint32_t, int)',
  poll: 'int poll(void*, uint64_t, int)',
  socketpair: 'int socketpair(int, int, int, void*)',
  recvmsg: 'int64_t recvmsg(int, void*, int)',
  umask: 'int umask(uint32_t)',
  pipe2: 'int pipe2(void*, int)',
  splice: 'int64_t splice(int, void*, int, void*, uint64_t, uint32_t)',
  prctl: 'int prctl(int, uint64_t, uint64_t, uint64_t, uint64_t)',
  getrlimit: 'int getrlimit(int, void*)',
  setrlimit: 'int setrlimit(int, const void*)',
  unshare: 'int unshare(int)',
  setns: 'int setns(int, int)',
  close: 'int close(int)',
  dup2: 'int dup2(int, int)',
  setsid: 'int setsid()',
  // Libraries have these two by name only since glibc 2.36.
  openTree: 'int64_t syscall(int64_t, int, const void*, uint32_t)',
  mountSetattr: 'int64_t syscall(int64_t, int, const void*, uint32_t, void*, uint64_t)',
});

/** mount(2). `flags`: MS_* bits. */
export function mount(
  source: CString,
  target: CString,
  type: CString | null,
  flags: number,
  data: CString | null,
): number {
  return result(calls.mount(source, target, type, flags, data));
}

/** `flags`: MNT_FORCE, MNT_DETACH, UMOUNT_NOFOLLOW. */
export function umount2(target: CString, flags: number): number {
  return result(calls.umount2(target, flags));
}

/** The same on a thread of libuv's pool: a server must not wait for its own mount in the thread that serves. */
export function umount2Async(target: CString, flags: number): Promise<number> {
  return callAsync('int umount2(const void*, int)', target, flags).finally(() => target.length);
}

/** Makes `to` another descriptor of what `from` is; it stays open when another program is executed. */
export function dup2(from: number, to: number): number {
  return result(calls.dup2(from, to));
}

/** A session of its own, without a terminal. EPERM for the leader of a process group. */
export function setsid(): number {
  return result(calls.setsid());
}

/** A descriptor whose 8-byte reads and writes are a counter; `flags`: EFD_*. */
export function eventfd(initial: number, flags: number): number {
  return result(calls.eventfd(initial, flags));
}

/** `entries`: `struct pollfd` each: fd i32(0), events i16(4), revents i16(6). -1 ms waits without end. */
export function poll(entries: Memory, count: number, timeoutMs: number): number {
  return result(calls.poll(entries, count, timeoutMs));
}

/** Both ends of a stream; ours is closed on exec, the other is to be handed to a child. */
export function socketPair(): { ours: number; theirs: number } | number {
  const pair = Buffer.alloc(8);
  const code = result(calls.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
  return code < 0 ? code : { ours: pair.readInt32LE(0), theirs: pair.readInt32LE(4) };
}

/**
 * Receives one byte and the descriptor that comes with it (SCM_RIGHTS). EPIPE: the other end was closed
 * without sending one.
 */
export function receiveDescriptor(socket: number): number {
  const data = Buffer.alloc(8);
  // struct iovec: base u64(0), length u64(8).
  const vector = Buffer.alloc(16);
  vector.writeBigUInt64LE(BigInt(addressOf(data)), 0);
  vector.writeBigUInt64LE(1n, 8);
  // struct cmsghdr: length u64(0), level i32(8), type i32(12), then the descriptor i32(16), padded to 24.
  const control = Buffer.alloc(24);
  // struct msghdr: name u64(0), its length u32(8), vectors u64(16), their number u64(24), control u64(32),
  // its length u64(40), flags i32(48).
  const message = Buffer.alloc(56);
  message.writeBigUInt64LE(BigInt(addressOf(vector)), 16);
  message.writeBigUInt64LE(1n, 24);
  message.writeBigUInt64LE(BigInt(addressOf(control)), 32);
  message.writeBigUInt64LE(BigInt(control.length), 40);
  const received = result(calls.recvmsg(socket, message, MSG_CMSG_CLOEXEC));
  if (received < 0) return received;
  if (received === 0) return -EPIPE;
  const whole = message.readBigUInt64LE(40) >= 20n;
  const rights = control.readInt32LE(8) === SOL_SOCKET && control.readInt32LE(12) === SCM_RIGHTS;
  return whole && rights ? control.readInt32LE(16) : -EPROTO;
}

export interface Pipe {
  /** To read from. */
  readonly from: number;
  /** To write to. */
  readonly to: number;
}

/** Closed on exec. */
export function pipe(): Pipe | number {
  const pair = Buffer.alloc(8);
  const code = result(calls.pipe2(pair, O_CLOEXEC));
  return code < 0 ? code : { from: pair.readInt32LE(0), to: pair.readInt32LE(4) };
}

const spliceOffset = new BigInt64Array(1);
const spliceOffsetBytes = new Uint8Array(spliceOffset.buffer);

/** Moves bytes between a pipe and something else, without a copy where it can. `fromOffset` -1: `from` is the pipe. */
export function splice(from: number, fromOffset: number, to: number, size: number, flags: number): number {
  if (fromOffset < 0) return result(calls.splice(from, null, to, null, size, flags));
  spliceOffset[0] = BigInt(fromOffset);
  return result(calls.splice(from, spliceOffsetBytes, to, null, size, flags));
}

/**
 * The mounts at `path` once more, where only the descriptor (O_PATH) leads to them: nothing can be written
 * there, and reading leaves access times alone. EPERM without privilege, ENOSYS before Linux 5.12.
 */
export function cloneReadOnly(path: CString): number {
  const fd = result(
    calls.openTree(OPEN_TREE, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE),
  );
  if (fd < 0) return fd;
  // struct mount_attr: set u64(0), cleared u64(8), propagation u64(16), user namespace u64(24).
  const attributes = Buffer.alloc(32);
  attributes.writeUInt32LE(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME, 0);
  attributes.writeUInt32LE(MOUNT_ATTR__ATIME, 8);
  const flags = AT_EMPTY_PATH | AT_RECURSIVE;
  const code = result(calls.mountSetattr(MOUNT_SETATTR, fd, EMPTY, flags, attributes, attributes.length));
  if (code >= 0) return fd;
  calls.close(fd);
  return code;
}

/** Of the whole process; returns the mask before. */
export function umask(mask: number): number {
  return calls.umask(mask);
}

export function prctl(option: number, argument: number): number {
  return result(calls.prctl(option, argument, 0, 0, 0));
}

/** `flags`: CLONE_NEW* bits. Of the calling thread. */
export function unshare(flags: number): number {
  return result(calls.unshare(flags));
}

export function setns(fd: number, type: number): number {
  return result(calls.setns(fd, type));
}

/**
 * Lets this process have as many descriptors open as it may, up to `wanted` (raising the hard limit
 * takes privilege; without it the limit that is there is used). Returns what is allowed now.
 */
export function raiseOpenFiles(wanted: number): number {
  // struct rlimit: soft u64(0), hard u64(8).
  const limit = Buffer.alloc(16);
  const code = result(calls.getrlimit(RLIMIT_NOFILE, limit));
  if (code < 0) return code;
  const soft = Number(limit.readBigUInt64LE(0));
  const hard = Number(limit.readBigUInt64LE(8));
  if (soft >= wanted) return soft;
  for (const target of [wanted, Math.min(wanted, hard)]) {
    limit.writeBigUInt64LE(BigInt(target), 0);
    limit.writeBigUInt64LE(BigInt(Math.max(target, hard)), 8);
    if (calls.setrlimit(RLIMIT_NOFILE, limit) === 0) return target;
  }
  return soft;
}
