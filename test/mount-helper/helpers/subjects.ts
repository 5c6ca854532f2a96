/**
 * What the tests of mounts run on: each backend of ours, by root and by an ordinary user, and, when asked
 * for by name, the kernel's overlayfs without us (`overlayfs`: shows that the tests expect what the kernel
 * does) and Debian's `fuse-overlayfs`.
 *
 *   GIT2DB_MOUNT_SUBJECTS   names from the table below, separated by commas
 *   GIT2DB_MOUNT_PROGRAM    another build of git2db-mount.js
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { devFuseMissing } from './dev-fuse.ts';
import { driverMissing, PACKAGE } from './driver.ts';

export type SubjectName =
  | 'kernel'
  | 'userns'
  | 'userns-root'
  | 'fuse'
  | 'fuse-user'
  | 'overlayfs'
  | 'fuse-overlayfs';

export interface Subject {
  readonly name: SubjectName;
  readonly backend: 'kernel' | 'userns' | 'fuse' | 'overlayfs' | 'fuse-overlayfs';
  /** Mounted and used by root, or by `uid`. */
  readonly isRoot: boolean;
  readonly uid: number;
  readonly gid: number;
  /** A command in front of all that the subject's user runs. */
  readonly prefix: readonly string[];
  /** Where the overlay's own attributes are kept. */
  readonly namespace: 'trusted.overlay' | 'user.overlay';
  /** A directory of a lower layer can be renamed. */
  readonly movesLowerDirectories: boolean;
  /** Names of one file of a lower layer stay names of one file when it is written to. */
  readonly keepsHardLinks: boolean;
  /** Why this host cannot run it. */
  readonly missing: string | undefined;
}

export const PROGRAM = process.env.GIT2DB_MOUNT_PROGRAM ?? `${PACKAGE}dist/bin/git2db-mount.js`;

const IS_ROOT = process.getuid!() === 0;

/**
 * Whoever runs the tests; for root a user of the system that owns nothing: fusermount3 serves nobody who has
 * no name.
 */
export const ORDINARY_USER = IS_ROOT ? systemUser() : { uid: process.getuid!(), gid: process.getgid!() };

function systemUser(): { readonly uid: number; readonly gid: number } {
  const users = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  const found = ['games', 'lp', 'bin', 'daemon']
    .map((name) => users.find((user) => user[0] === name))
    .find(Boolean);
  return found === undefined ? { uid: 54321, gid: 54321 } : { uid: Number(found[2]), gid: Number(found[3]) };
}

const AS_USER = IS_ROOT
  ? ['setpriv', `--reuid=${ORDINARY_USER.uid}`, `--regid=${ORDINARY_USER.gid}`, '--clear-groups', '--']
  : [];

const ROOT = { isRoot: true, uid: 0, gid: 0, prefix: [], namespace: 'trusted.overlay' } as const;
const USER = { isRoot: false, ...ORDINARY_USER, prefix: AS_USER, namespace: 'user.overlay' } as const;

function describe(name: SubjectName): Subject {
  const traits = {
    kernel: { ...ROOT, backend: 'kernel', movesLowerDirectories: true, keepsHardLinks: false },
    userns: { ...USER, backend: 'userns', movesLowerDirectories: false, keepsHardLinks: false },
    'userns-root': {
      ...ROOT,
      namespace: 'user.overlay',
      backend: 'userns',
      movesLowerDirectories: false,
      keepsHardLinks: false,
    },
    fuse: { ...ROOT, backend: 'fuse', movesLowerDirectories: true, keepsHardLinks: true },
    'fuse-user': { ...USER, backend: 'fuse', movesLowerDirectories: true, keepsHardLinks: true },
    overlayfs: { ...ROOT, backend: 'overlayfs', movesLowerDirectories: true, keepsHardLinks: false },
    'fuse-overlayfs': {
      ...ROOT,
      backend: 'fuse-overlayfs',
      movesLowerDirectories: false,
      keepsHardLinks: true,
    },
  } as const;
  const found = traits[name];
  return { name, ...found, missing: missingFor(found.backend, found.isRoot) };
}

function missingFor(backend: Subject['backend'], isRoot: boolean): string | undefined {
  const ours = backend === 'kernel' || backend === 'userns' || backend === 'fuse';
  return (
    driverMissing() ??
    (ours && !existsSync(PROGRAM) ? `${PROGRAM} is not built` : undefined) ??
    (isRoot && !IS_ROOT ? 'needs root' : undefined) ??
    (!isRoot && IS_ROOT ? programMissing('setpriv') : undefined) ??
    backendMissing(backend, isRoot)
  );
}

function backendMissing(backend: Subject['backend'], isRoot: boolean): string | undefined {
  switch (backend) {
    case 'kernel':
    case 'overlayfs':
      return kernelMissing();
    case 'userns':
      return usernsMissing(isRoot ? [] : AS_USER);
    default:
      return (
        devFuseMissing() ??
        (isRoot ? undefined : programMissing('fusermount3')) ??
        (backend === 'fuse' ? undefined : programMissing('fuse-overlayfs'))
      );
  }
}

/** A trial in a mount namespace of its own, on a tmpfs that goes with it. */
const TRIAL = `mount -t tmpfs none /mnt && mkdir /mnt/l /mnt/u /mnt/w /mnt/m &&
mount -t overlay none -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w$1 /mnt/m`;

function kernelMissing(): string | undefined {
  return trialFails('overlayfs cannot be mounted', ['unshare', '-m', 'sh', '-c', TRIAL, 'sh', '']);
}

function usernsMissing(prefix: readonly string[]): string | undefined {
  const trial = [...prefix, 'unshare', '-Urm', 'sh', '-c', TRIAL, 'sh', ',userxattr'];
  return trialFails('overlayfs cannot be mounted in a user namespace', trial);
}

function trialFails(what: string, [program, ...args]: readonly string[]): string | undefined {
  const { status, stderr, error } = spawnSync(program!, args, { encoding: 'utf8', cwd: '/' });
  if (status === 0) return undefined;
  return `${what}: ${error?.message ?? stderr.trim().split('\n')[0]}`;
}

export function programMissing(program: string): string | undefined {
  const { status } = spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
  return status === 0 ? undefined : `${program} is not installed`;
}

const DEFAULT = 'kernel,userns,fuse,fuse-user';

/** What this run tests, in order. */
export const SUBJECTS: readonly Subject[] = (process.env.GIT2DB_MOUNT_SUBJECTS ?? DEFAULT)
  .split(',')
  .map((name) => describe(name as SubjectName));

/** A subject by name, whatever this run tests. */
export function subjectNamed(name: SubjectName): Subject {
  return describe(name);
}
