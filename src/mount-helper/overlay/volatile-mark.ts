/**
 * The mark of a volatile mount, which never waits for the disk: after a crash its upper may have lost
 * anything, and a later mount must not take it for sound. The mark is the kernel's own:
 *
 *     WORK/work/incompat/volatile/dirty
 *
 * so that overlayfs refuses such an upper just as we do. It is made before the first write and removed
 * after a last syncfs; one that is found means that this never happened.
 */
import { constants } from 'node:fs';
import { Git2dbError } from '../../xet/errors.ts';
import { joinPath, showPath } from '../path.ts';
import { EACCES, EEXIST, ENOENT, ENOTDIR, errnoMessage } from '../system/errno.ts';
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  AT_SYMLINK_NOFOLLOW,
  type CString,
  close,
  cString,
  fchmodat,
  mkdirat,
  openat,
  statx,
  syncfs,
  unlinkat,
} from '../system/libc.ts';
import { newStatx, statxMode } from '../system/statx.ts';
import { O_PATH } from './disk-layer.ts';
import type { WorkDirectory } from './work-directory.ts';

const { O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_WRONLY } = constants;
const WORK = cString('work');
const INCOMPAT = cString('incompat');
const VOLATILE = cString('volatile');
const DIRTY = cString('dirty');
const MODE_BITS = 0o7777;

/** Throws if `path`, the work directory, has the mark. To be asked before anything is mounted. */
export function refuseVolatileMark(path: Uint8Array): void {
  const base = openat(AT_FDCWD, cString(path), O_PATH | O_DIRECTORY);
  if (base < 0) return;
  const found = findVolatileMark(base);
  close(base);
  if (found === 0) return;
  const name = showPath(Buffer.from(path));
  const mark = showPath(joinPath(Buffer.from(path), 'work/incompat/volatile'));
  throw new Git2dbError(
    found === 1 ? 'VOLATILE_LEFTOVER' : 'UPPER_FOREIGN',
    found === 1
      ? `the last mount with the work directory ${name} was volatile and did not end cleanly, so its upper may have ` +
          `lost writes; begin with an empty upper, or, to use it as it is, remove ${mark}`
      : `cannot tell whether the last mount with the work directory ${name} was volatile: ${errnoMessage(found)}; ` +
          'mount as the user who made it',
  );
}

/** 1 if the mark is there, 0 if not, `-errno` if that cannot be seen. `base`: the work directory, O_PATH. */
export function findVolatileMark(base: number): number {
  return withKernelWork(base, (work) => {
    const incompat = openDirectory(work, INCOMPAT);
    if (incompat < 0) return isMissing(incompat) ? 0 : incompat;
    const code = statx(incompat, VOLATILE, AT_SYMLINK_NOFOLLOW, newStatx());
    close(incompat);
    if (code >= 0) return 1;
    return isMissing(code) ? 0 : code;
  });
}

/** 0 or `-errno`; a mark that is there already is as good. */
export function makeVolatileMark(base: number): number {
  const made = mkdirat(base, WORK, 0o700);
  if (made < 0 && made !== -EEXIST) return made;
  return withKernelWork(base, (work) =>
    within(work, INCOMPAT, (incompat) =>
      within(incompat, VOLATILE, (mark) => {
        const fd = openat(mark, DIRTY, O_WRONLY | O_CREAT | O_NOFOLLOW, 0o600);
        return fd < 0 ? fd : close(fd);
      }),
    ),
  );
}

/** The clean end of a volatile mount: brings everything to the disk, then takes the mark away. */
export function endVolatile(work: WorkDirectory): number {
  const code = syncfs(work.fd);
  return code < 0 ? code : removeVolatileMark(work.base);
}

/** The same for a mount of the kernel's, once it is gone. `path`: the work directory. */
export function endVolatileAt(path: Uint8Array): number {
  const base = openat(AT_FDCWD, cString(path), O_DIRECTORY);
  if (base < 0) return base;
  const code = syncfs(base);
  const removed = code < 0 ? code : removeVolatileMark(base);
  close(base);
  return removed;
}

/** Takes away the mark, and the directories around it as far as nothing else is in them. */
export function removeVolatileMark(base: number): number {
  const code = withKernelWork(base, (work) => {
    const incompat = openDirectory(work, INCOMPAT);
    if (incompat < 0) return isMissing(incompat) ? 0 : incompat;
    const mark = openDirectory(incompat, VOLATILE);
    if (mark >= 0) {
      unlinkat(mark, DIRTY);
      close(mark);
    }
    const removed = unlinkat(incompat, VOLATILE, AT_REMOVEDIR);
    close(incompat);
    unlinkat(work, INCOMPAT, AT_REMOVEDIR);
    return removed < 0 && !isMissing(removed) ? removed : 0;
  });
  // The kernel makes it anew for each of its mounts.
  if (code >= 0) unlinkat(base, WORK, AT_REMOVEDIR);
  return code;
}

/** Makes the directory `name` where it is missing, and hands it on. */
function within(directory: number, name: CString, use: (fd: number) => number): number {
  const made = mkdirat(directory, name, 0o700);
  if (made < 0 && made !== -EEXIST) return made;
  const fd = openDirectory(directory, name);
  if (fd < 0) return fd;
  const code = use(fd);
  close(fd);
  return code;
}

/**
 * Calls `use` with the kernel's `work` directory; 0 where there is none. The kernel gives it mode 0, which
 * keeps its unprivileged owner out too: then it is opened for that moment.
 */
function withKernelWork(base: number, use: (work: number) => number): number {
  const work = openDirectory(base, WORK);
  if (work < 0) return isMissing(work) ? 0 : work;
  let code = use(work);
  const attributes = newStatx();
  if (code === -EACCES && statx(base, WORK, AT_SYMLINK_NOFOLLOW, attributes) >= 0) {
    const mode = statxMode(attributes) & MODE_BITS;
    if (fchmodat(base, WORK, mode | 0o700) >= 0) {
      code = use(work);
      fchmodat(base, WORK, mode);
    }
  }
  close(work);
  return code;
}

function openDirectory(directory: number, name: CString): number {
  return openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
}

function isMissing(code: number): boolean {
  return code === -ENOENT || code === -ENOTDIR;
}
