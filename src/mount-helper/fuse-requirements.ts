/** What a FUSE mount needs of the machine, asked before anything is done. */
import { accessSync, closeSync, constants, openSync, readFileSync, statSync } from 'node:fs';
import { release } from 'node:os';
import { type ErrorCode, errnoOf, Git2dbError } from '../xet/errors.ts';
import type { Caller } from './caller.ts';
import { findFusermount } from './find-program.ts';

export interface FuseNeeds {
  readonly caller: Pick<Caller, 'mayMount'>;
  readonly allowOther: boolean;
  /** Value of PATH; empty: the system's. */
  readonly searchPath: string;
}

/** Where things are; tests name other places. */
export interface FusePlaces {
  readonly device: string;
  readonly config: string;
  readonly kernelRelease: string;
}

const PLACES: FusePlaces = { device: '/dev/fuse', config: '/etc/fuse.conf', kernelRelease: release() };

/** Requests of more than 128 KiB, and the reply to INIT that we send: Linux 4.20. */
const KERNEL_MIN = [4, 20] as const;

/** Throws the first thing that is missing. Returns the path of fusermount3 where it is needed. */
export function checkFuse(needs: FuseNeeds, places: FusePlaces = PLACES): string | undefined {
  requireKernel(places.kernelRelease, KERNEL_MIN, 'the FUSE backend');
  checkDevice(places.device, needs.caller.mayMount);
  if (needs.caller.mayMount) return undefined;
  const program = findFusermount(needs.searchPath);
  if (needs.allowOther && !allowsOther(places.config)) {
    throw refuse(
      'ALLOW_OTHER_FORBIDDEN',
      `allow_other is for root alone until ${places.config} has a line 'user_allow_other'; ` +
        'have it added, or leave allow_other out',
    );
  }
  return program;
}

function checkDevice(device: string, opensItself: boolean): void {
  try {
    statSync(device);
    // Only opening tells whether the driver is there.
    if (opensItself) closeSync(openSync(device, 'r+'));
    else accessSync(device, constants.R_OK | constants.W_OK);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'EACCES' || errno === 'EPERM') {
      throw refuse(
        'FUSE_FORBIDDEN',
        `${device} may not be opened by this user; as root: chmod 0666 ${device} (in a container: --device ${device})`,
        error,
      );
    }
    throw refuse(
      'FUSE_MISSING',
      `${device} is not there (${errno}); as root: modprobe fuse (in a container: --device ${device})`,
      error,
    );
  }
}

function allowsOther(config: string): boolean {
  try {
    return /^\s*user_allow_other\b/m.test(readFileSync(config, 'latin1'));
  } catch {
    return false;
  }
}

/** Throws KERNEL_TOO_OLD unless `kernelRelease` (as `6.1.0-13-amd64`) is at least `minimum`. */
export function requireKernel(
  kernelRelease: string,
  [major, minor]: readonly [number, number],
  what: string,
): void {
  const [foundMajor = 0, foundMinor = 0] = kernelRelease.split('.').map((part) => Number.parseInt(part, 10));
  if (foundMajor > major || (foundMajor === major && foundMinor >= minor)) return;
  throw refuse(
    'KERNEL_TOO_OLD',
    `${what} needs Linux ${major}.${minor} or later, this is ${kernelRelease}; use another backend or a newer kernel`,
  );
}

function refuse(code: ErrorCode, message: string, cause?: unknown): Git2dbError {
  return new Git2dbError(code, message, cause === undefined ? {} : { cause });
}
