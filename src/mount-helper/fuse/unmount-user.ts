/** Unmounting for those who may not call umount2(2): by the program that is setuid root for it. */
import { execFile } from 'node:child_process';
import { findFusermount } from '../find-program.ts';
import { byteCommand } from '../system/byte-command.ts';
import { ERRNO } from '../system/errno.ts';

/** What fusermount3 says, in the C locale, for what the system has said to it. */
const MESSAGES: readonly (readonly [RegExp, number])[] = [
  [/resource busy/i, ERRNO.EBUSY],
  [/not permitted|permission denied|not found in|not mounted by/i, ERRNO.EPERM],
  [/invalid argument|no such file/i, ERRNO.EINVAL],
];

/** 0 or `-errno`; throws FUSERMOUNT_MISSING. `lazy` takes the mount out of the tree and leaves it to those who use it. */
export function fusermountUnmount(mountPoint: Buffer, lazy: boolean): Promise<number> {
  const program = findFusermount(process.env.PATH ?? '');
  const { file, args } = byteCommand(program, ['-u', ...(lazy ? ['-z'] : []), '--', mountPoint]);
  return new Promise((resolve) => {
    execFile(file, [...args], { env: { ...process.env, LC_ALL: 'C' } }, (error, _stdout, stderr) => {
      if (error === null) return resolve(0);
      const [, errno = ERRNO.EIO] = MESSAGES.find(([pattern]) => pattern.test(stderr)) ?? [];
      resolve(-errno);
    });
  });
}
