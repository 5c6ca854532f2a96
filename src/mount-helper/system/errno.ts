/** Error numbers of Linux (the same on x64, arm64 and riscv64), by name, and what they mean. */

export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const EIO = 5;
export const ENXIO = 6;
export const E2BIG = 7;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const EXDEV = 18;
export const ENODEV = 19;
export const ENOTDIR = 20;
export const EISDIR = 21;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const ENOTTY = 25;
export const ETXTBSY = 26;
export const EFBIG = 27;
export const ENOSPC = 28;
export const ESPIPE = 29;
export const EROFS = 30;
export const EMLINK = 31;
export const EPIPE = 32;
export const ERANGE = 34;
export const EDEADLK = 35;
export const ENAMETOOLONG = 36;
export const ENOSYS = 38;
export const ENOTEMPTY = 39;
export const ELOOP = 40;
export const ENODATA = 61;
export const EPROTO = 71;
export const EOVERFLOW = 75;
export const EOPNOTSUPP = 95;
export const ENOTCONN = 107;
export const ETIMEDOUT = 110;
export const ESTALE = 116;
export const EDQUOT = 122;
export const ECANCELED = 125;

/** All of them. */
export const ERRNO = {
  EPERM,
  ENOENT,
  ESRCH,
  EINTR,
  EIO,
  ENXIO,
  E2BIG,
  EBADF,
  EAGAIN,
  ENOMEM,
  EACCES,
  EFAULT,
  EBUSY,
  EEXIST,
  EXDEV,
  ENODEV,
  ENOTDIR,
  EISDIR,
  EINVAL,
  ENFILE,
  EMFILE,
  ENOTTY,
  ETXTBSY,
  EFBIG,
  ENOSPC,
  ESPIPE,
  EROFS,
  EMLINK,
  EPIPE,
  ERANGE,
  EDEADLK,
  ENAMETOOLONG,
  ENOSYS,
  ENOTEMPTY,
  ELOOP,
  ENODATA,
  EPROTO,
  EOVERFLOW,
  EOPNOTSUPP,
  ENOTCONN,
  ETIMEDOUT,
  ESTALE,
  EDQUOT,
  ECANCELED,
} as const;

export type ErrnoName = keyof typeof ERRNO;

const MESSAGES: Readonly<Record<ErrnoName, string>> = {
  EPERM: 'operation not permitted',
  ENOENT: 'no such file or directory',
  ESRCH: 'no such process',
  EINTR: 'interrupted',
  EIO: 'input/output error',
  ENXIO: 'no such device or address',
  E2BIG: 'argument list too long',
  EBADF: 'bad file descriptor',
  EAGAIN: 'try again',
  ENOMEM: 'out of memory',
  EACCES: 'permission denied',
  EFAULT: 'bad address',
  EBUSY: 'busy',
  EEXIST: 'file exists',
  EXDEV: 'on another file system',
  ENODEV: 'no such device',
  ENOTDIR: 'not a directory',
  EISDIR: 'is a directory',
  EINVAL: 'invalid argument',
  ENFILE: 'too many open files in the system',
  EMFILE: 'too many open files',
  ENOTTY: 'not supported by this device',
  ETXTBSY: 'program is running',
  EFBIG: 'file too large',
  ENOSPC: 'no space left on device',
  ESPIPE: 'cannot seek',
  EROFS: 'read-only file system',
  EMLINK: 'too many links',
  EPIPE: 'broken pipe',
  ERANGE: 'does not fit',
  EDEADLK: 'would deadlock',
  ENAMETOOLONG: 'name too long',
  ENOSYS: 'not implemented by the system',
  ENOTEMPTY: 'directory not empty',
  ELOOP: 'too many symbolic links',
  ENODATA: 'no such attribute',
  EPROTO: 'protocol error',
  EOVERFLOW: 'value too large',
  EOPNOTSUPP: 'not supported',
  ENOTCONN: 'transport endpoint is not connected',
  ETIMEDOUT: 'timed out',
  ESTALE: 'stale handle',
  EDQUOT: 'quota exceeded',
  ECANCELED: 'cancelled',
};

const NAMES = new Map<number, ErrnoName>(
  (Object.entries(ERRNO) as [ErrnoName, number][]).map(([name, number]) => [number, name]),
);

/** `ENOENT` for 2 or -2; the plain number for one that is not in the table. */
export function errnoName(errno: number): string {
  return NAMES.get(Math.abs(errno)) ?? `errno ${Math.abs(errno)}`;
}

/** For a person: `no such file or directory (ENOENT)`. */
export function errnoMessage(errno: number): string {
  const name = NAMES.get(Math.abs(errno));
  return name === undefined ? `errno ${Math.abs(errno)}` : `${MESSAGES[name]} (${name})`;
}

/**
 * `-errno` of what a Node file system call threw; -EIO for anything else. Node's own `errno` is already
 * negative.
 */
export function negativeErrno(error: unknown): number {
  const code = (error as { errno?: unknown } | null)?.errno;
  return typeof code === 'number' && code < 0 && code > -4096 ? code : -EIO;
}
