/**
 * INIT, the first request of a connection: both sides say what they can.
 *
 *     request body, 64 bytes (16 before 7.36)     reply body, 64 bytes
 *      0  u32  major      4  u32  minor            0  u32  major = 7   4  u32  minor
 *      8  u32  max readahead                       8  u32  max readahead
 *     12  u32  flags                              12  u32  flags we want and were offered
 *     16  u32  flags, bits 32 to 63               16  u16  max background   18  u16  congestion threshold
 *                                                 20  u32  max write        24  u32  time granularity, ns
 *                                                 28  u16  max pages        30  u16  map alignment
 *                                                 32  u32  flags, bits 32 to 63
 *                                                 36  u32  max stack depth  40  24 unused
 */
import { EPROTO } from '../system/errno.ts';
import type { Frame } from './decode.ts';
import { REPLY_HEADER, REQUEST_HEADER } from './protocol.ts';

const ASYNC_READ = 1 << 0;
const ATOMIC_O_TRUNC = 1 << 3;
const BIG_WRITES = 1 << 5;
/** The server applies the umask: only it knows whether a default ACL takes its place. */
const DONT_MASK = 1 << 6;
const DO_READDIRPLUS = 1 << 13;
/** READDIRPLUS only where the kernel saw that attributes are asked for. */
const READDIRPLUS_AUTO = 1 << 14;
const PARALLEL_DIROPS = 1 << 18;
const POSIX_ACL = 1 << 20;
const MAX_PAGES = 1 << 22;
const CACHE_SYMLINKS = 1 << 23;
/** The kernel tells when set-uid and set-gid bits are to go, and need not ask before each write. */
const HANDLE_KILLPRIV_V2 = 1 << 28;
const SETXATTR_EXT = 1 << 29;
const INIT_EXT = 1 << 30;
/** Bits 32 and up are counted from 0 in the second word. */
const PASSTHROUGH = 1 << 5;

const MAJOR = 7;
/** Linux 4.20, the first with MAX_PAGES; of what came later we use what flags announce. */
const OLDEST_MINOR = 28;
const NEWEST_MINOR = 40;
const FIRST_MINOR_WITH_MORE_FLAGS = 36;
const REPLY_SIZE = 64;
const PAGE_SIZE = 4096;

/** Largest WRITE and READ. */
export const MAX_TRANSFER = 1 << 20;

export interface InitWishes {
  readonly posixAcl: boolean;
  readonly passthrough: boolean;
}

/** What both sides agreed on. */
export interface Session {
  readonly minor: number;
  readonly posixAcl: boolean;
  readonly passthrough: boolean;
  /** SETXATTR has its longer form. */
  readonly hasSetxattrExtension: boolean;
}

/**
 * Reads INIT and writes the answer's body into `reply`; returns what was agreed, or -EPROTO for a kernel that is too old. A
 * kernel with a newer major asks again with ours when it gets the answer.
 */
export function answerInit(frame: Frame, reply: DataView, wishes: InitWishes): Session | number {
  const request = frame.view;
  const body = REQUEST_HEADER;
  const major = request.getUint32(body, true);
  const minor = request.getUint32(body + 4, true);
  if (major < MAJOR || (major === MAJOR && minor < OLDEST_MINOR)) return -EPROTO;
  const offered = request.getUint32(body + 12, true);
  const hasMoreFlags =
    major === MAJOR &&
    minor >= FIRST_MINOR_WITH_MORE_FLAGS &&
    (offered & INIT_EXT) !== 0 &&
    frame.length >= body + 20;
  const moreOffered = hasMoreFlags ? request.getUint32(body + 16, true) : 0;

  const wanted =
    ASYNC_READ |
    ATOMIC_O_TRUNC |
    BIG_WRITES |
    DONT_MASK |
    DO_READDIRPLUS |
    READDIRPLUS_AUTO |
    PARALLEL_DIROPS |
    MAX_PAGES |
    CACHE_SYMLINKS |
    HANDLE_KILLPRIV_V2 |
    SETXATTR_EXT |
    INIT_EXT |
    (wishes.posixAcl ? POSIX_ACL : 0);
  const flags = wanted & offered;
  const moreFlags = (wishes.passthrough ? PASSTHROUGH : 0) & moreOffered;

  const at = REPLY_HEADER;
  for (let word = 0; word < REPLY_SIZE; word += 4) reply.setUint32(at + word, 0, true);
  reply.setUint32(at, MAJOR, true);
  reply.setUint32(at + 4, Math.min(minor, NEWEST_MINOR), true);
  reply.setUint32(at + 8, Math.max(request.getUint32(body + 8, true), MAX_TRANSFER), true);
  reply.setUint32(at + 12, flags >>> 0, true);
  reply.setUint16(at + 16, 64, true);
  reply.setUint16(at + 18, 48, true);
  reply.setUint32(at + 20, MAX_TRANSFER, true);
  reply.setUint32(at + 24, 1, true);
  reply.setUint16(at + 28, MAX_TRANSFER / PAGE_SIZE, true);
  reply.setUint32(at + 32, moreFlags, true);
  // 1: the files behind passthrough are on a file system that stacks on no other.
  reply.setUint32(at + 36, (moreFlags & PASSTHROUGH) !== 0 ? 1 : 0, true);
  return {
    minor: Math.min(minor, NEWEST_MINOR),
    posixAcl: (flags & POSIX_ACL) !== 0,
    passthrough: (moreFlags & PASSTHROUGH) !== 0,
    hasSetxattrExtension: (flags & SETXATTR_EXT) !== 0,
  };
}

export const INIT_REPLY_SIZE = REPLY_SIZE;
