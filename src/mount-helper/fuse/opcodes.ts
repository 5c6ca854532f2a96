/**
 * What the kernel can ask, and the bodies of its requests (offsets from the start of the body, which is
 * byte 40 of the frame). Names end in NUL and come last.
 *
 *     LOOKUP UNLINK RMDIR REMOVEXATTR      name
 *     FORGET                 u64 lookups
 *     BATCH_FORGET           u32 count, 4 unused, count times {u64 node, u64 lookups}
 *     GETATTR                u32 flags (1: handle is valid), 4 unused, u64 handle
 *     SETATTR                0 u32 valid, 8 u64 handle, 16 u64 size, 24 u64 lock owner, 32 i64 atime, 40 i64 mtime,
 *                            48 i64 ctime, 56 u32 atime ns, 60 u32 mtime ns, 64 u32 ctime ns, 68 u32 mode, 76 u32 uid, 80 u32 gid
 *     READLINK STATFS        nothing
 *     SYMLINK                name, target
 *     MKNOD                  u32 mode, u32 rdev, u32 umask, 4 unused, name
 *     MKDIR                  u32 mode, u32 umask, name
 *     RENAME                 u64 new parent, name, new name
 *     RENAME2                u64 new parent, u32 flags, 4 unused, name, new name
 *     LINK                   u64 node, new name (the header's node is the new parent)
 *     OPEN OPENDIR           u32 flags, u32 open flags (1: clear set-uid and set-gid)
 *     CREATE TMPFILE         u32 flags, u32 mode, u32 umask, u32 open flags, name
 *     READ READDIR READDIRPLUS             u64 handle, u64 offset, u32 size, u32 read flags, u64 lock owner, u32 flags, 4 unused
 *     WRITE                  u64 handle, u64 offset, u32 size, u32 write flags, u64 lock owner, u32 flags, 4 unused, data
 *     RELEASE RELEASEDIR     u64 handle, u32 flags, u32 release flags, u64 lock owner
 *     FLUSH                  u64 handle, 8 unused, u64 lock owner
 *     FSYNC FSYNCDIR         u64 handle, u32 flags (1: data only), 4 unused
 *     SETXATTR               u32 size, u32 flags, (with SETXATTR_EXT u32 setxattr flags, 4 unused,) name, value
 *     GETXATTR LISTXATTR     u32 size, 4 unused, name (not for LISTXATTR)
 *     FALLOCATE              u64 handle, u64 offset, u64 length, u32 mode, 4 unused
 *     LSEEK                  u64 handle, u64 offset, u32 whence, 4 unused
 *     COPY_FILE_RANGE        u64 handle, u64 offset, u64 node to, u64 handle to, u64 offset to, u64 length, u64 flags
 *     INTERRUPT              u64 unique of the request
 *     INIT                   see `init.ts`
 */

export const LOOKUP = 1;
export const FORGET = 2;
export const GETATTR = 3;
export const SETATTR = 4;
export const READLINK = 5;
export const SYMLINK = 6;
export const MKNOD = 8;
export const MKDIR = 9;
export const UNLINK = 10;
export const RMDIR = 11;
export const RENAME = 12;
export const LINK = 13;
export const OPEN = 14;
export const READ = 15;
export const WRITE = 16;
export const STATFS = 17;
export const RELEASE = 18;
export const FSYNC = 20;
export const SETXATTR = 21;
export const GETXATTR = 22;
export const LISTXATTR = 23;
export const REMOVEXATTR = 24;
export const FLUSH = 25;
export const INIT = 26;
export const OPENDIR = 27;
export const READDIR = 28;
export const RELEASEDIR = 29;
export const FSYNCDIR = 30;
export const CREATE = 35;
export const INTERRUPT = 36;
export const DESTROY = 38;
export const IOCTL = 39;
export const NOTIFY_REPLY = 41;
export const BATCH_FORGET = 42;
export const FALLOCATE = 43;
export const READDIRPLUS = 44;
export const RENAME2 = 45;
export const LSEEK = 46;
export const COPY_FILE_RANGE = 47;
export const TMPFILE = 51;
/** As COPY_FILE_RANGE, with 64 bits in the answer. */
export const COPY_FILE_RANGE_64 = 53;

const REQUESTS: Readonly<Record<string, readonly [opcode: number, fixedPart: number]>> = {
  LOOKUP: [LOOKUP, 0],
  FORGET: [FORGET, 8],
  GETATTR: [GETATTR, 16],
  SETATTR: [SETATTR, 88],
  READLINK: [READLINK, 0],
  SYMLINK: [SYMLINK, 0],
  MKNOD: [MKNOD, 16],
  MKDIR: [MKDIR, 8],
  UNLINK: [UNLINK, 0],
  RMDIR: [RMDIR, 0],
  RENAME: [RENAME, 8],
  LINK: [LINK, 8],
  OPEN: [OPEN, 8],
  READ: [READ, 40],
  WRITE: [WRITE, 40],
  STATFS: [STATFS, 0],
  RELEASE: [RELEASE, 24],
  FSYNC: [FSYNC, 16],
  SETXATTR: [SETXATTR, 8],
  GETXATTR: [GETXATTR, 8],
  LISTXATTR: [LISTXATTR, 8],
  REMOVEXATTR: [REMOVEXATTR, 0],
  FLUSH: [FLUSH, 24],
  INIT: [INIT, 16],
  OPENDIR: [OPENDIR, 8],
  READDIR: [READDIR, 40],
  RELEASEDIR: [RELEASEDIR, 24],
  FSYNCDIR: [FSYNCDIR, 16],
  CREATE: [CREATE, 16],
  INTERRUPT: [INTERRUPT, 8],
  DESTROY: [DESTROY, 0],
  IOCTL: [IOCTL, 0],
  NOTIFY_REPLY: [NOTIFY_REPLY, 0],
  BATCH_FORGET: [BATCH_FORGET, 8],
  FALLOCATE: [FALLOCATE, 32],
  READDIRPLUS: [READDIRPLUS, 40],
  RENAME2: [RENAME2, 16],
  LSEEK: [LSEEK, 24],
  COPY_FILE_RANGE: [COPY_FILE_RANGE, 56],
  TMPFILE: [TMPFILE, 16],
  COPY_FILE_RANGE_64: [COPY_FILE_RANGE_64, 56],
};

/** Of opcodes that we do not know. */
export const UNKNOWN = 255;

/** By opcode: the length of what comes before names and data, or UNKNOWN. */
export const FIXED_PART = new Uint8Array(256).fill(UNKNOWN);
for (const [opcode, length] of Object.values(REQUESTS)) FIXED_PART[opcode] = length;

/** Requests that get no reply, whatever happens. */
export function hasNoReply(opcode: number): boolean {
  return opcode === FORGET || opcode === BATCH_FORGET || opcode === INTERRUPT || opcode === NOTIFY_REPLY;
}

/** For traces. */
export function opcodeName(opcode: number): string {
  return Object.keys(REQUESTS).find((name) => REQUESTS[name]?.[0] === opcode) ?? `opcode ${opcode}`;
}
