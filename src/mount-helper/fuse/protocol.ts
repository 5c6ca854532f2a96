/**
 * Numbers of the FUSE kernel protocol, version 7 (Linux UAPI `linux/fuse.h`). All integers on the wire
 * have the byte order of the host; every machine we run on is little-endian.
 *
 * One read of the device gives one request, one write to it takes one reply:
 *
 *     request header, 40 bytes                  reply header, 16 bytes
 *      0  u32  length, header included           0  u32  length, header included
 *      4  u32  opcode                            4  i32  0 or -errno; with an error there is no body
 *      8  u64  unique: names the request         8  u64  unique of the request
 *     16  u64  node
 *     24  u32  uid   28  u32  gid   32  u32  pid of the caller
 *     36  u16  length of extensions (8 bytes each), 38 unused
 *
 * Bodies: `opcodes.ts` (requests), `encode.ts` (replies), `init.ts` (the first exchange).
 */

export const REQUEST_HEADER = 40;
export const REPLY_HEADER = 16;
export const ROOT_NODE = 1;
export const NAME_MAX = 255;
/** A symbolic link's target, its NUL included. */
export const PATH_MAX = 4096;
/** The kernel takes no error beyond this one. */
export const LARGEST_ERRNO = 511;

/** Which fields of SETATTR count. */
export const FATTR_MODE = 1;
export const FATTR_UID = 2;
export const FATTR_GID = 4;
export const FATTR_SIZE = 8;
export const FATTR_ATIME = 16;
export const FATTR_MTIME = 32;
export const FATTR_FH = 64;
export const FATTR_ATIME_NOW = 128;
export const FATTR_MTIME_NOW = 256;
export const FATTR_LOCKOWNER = 512;
export const FATTR_CTIME = 1024;
export const FATTR_KILL_SUIDGID = 2048;

/** Flags of an answer to OPEN, OPENDIR and CREATE. */
export const FOPEN_DIRECT_IO = 1;
/** The pages that the kernel has of the file are still right. */
export const FOPEN_KEEP_CACHE = 2;
export const FOPEN_CACHE_DIR = 8;
/** Send no FLUSH when a descriptor is closed. */
export const FOPEN_NOFLUSH = 32;
export const FOPEN_PARALLEL_DIRECT_WRITES = 64;
/** The kernel reads and writes the file `backingId` by itself. */
export const FOPEN_PASSTHROUGH = 128;

export const FUSE_WRITE_CACHE = 1;
/** The writer has no right to keep set-uid and set-gid bits: clear them. */
export const FUSE_WRITE_KILL_SUIDGID = 4;

/**
 * Or-ed into the flags that `FileSystem.open` and `create` get: the caller truncates, and has no right to
 * keep set-uid and set-gid bits. (On the wire it is bit 0 of a field of its own; no O_* flag has this bit.)
 */
export const OPEN_KILL_SUIDGID = 0x40000000;

/** SETXATTR of an ACL by one who may not keep the set-gid bit: clear it. */
export const FUSE_SETXATTR_ACL_KILL_SGID = 1;
