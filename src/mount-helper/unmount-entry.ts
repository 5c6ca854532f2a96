/** Taking one entry out of the table of mounts, by whoever has the right to. */
import { readCaller } from './caller.ts';
import { fusermountUnmount } from './fuse/unmount-user.ts';
import type { MountEntry } from './mount-table.ts';
import { EPERM } from './system/errno.ts';
import { MNT_DETACH, UMOUNT_NOFOLLOW, umount2 } from './system/kernel.ts';
import { cString } from './system/libc.ts';

/** 0 or -errno. `detach`: also when it is in use; it stays for those who use it. */
export function unmountEntry({ mountPoint }: MountEntry, detach: boolean): number {
  return umount2(cString(mountPoint), UMOUNT_NOFOLLOW | (detach ? MNT_DETACH : 0));
}

/** The same for a FUSE mount: whoever may not call umount2(2) goes through fusermount3. */
export async function unmountFuseEntry(entry: MountEntry, detach: boolean): Promise<number> {
  if (readCaller().mayMount) {
    const code = unmountEntry(entry, detach);
    if (code !== -EPERM) return code;
  }
  return fusermountUnmount(entry.mountPoint, detach);
}
