/** The ways of having a writable tree over a read-only one that are compared. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { TOP } from '../bench-shared/environment.ts';
import { run } from '../bench-shared/run.ts';
import { OURS } from './targets.ts';

const PROGRAM = process.env.GIT2DB_MOUNT_PROGRAM ?? join(TOP, 'dist/bin/git2db-mount.js');

export interface Contender {
  readonly name: string;
  /** Why it cannot run here. */
  readonly missing: string | undefined;
  /** The command that mounts, or undefined where the files are simply there. */
  readonly command: ((place: Place) => readonly string[]) | undefined;
  readonly unmount: ((place: Place) => readonly string[]) | undefined;
}

export const KERNEL_OURS = `${OURS} (kernel)`;
export const PASSTHROUGH = `${OURS} (passthrough)`;
export const PEER = 'fuse-overlayfs';
export const KERNEL = 'overlayfs';
export const RAW = 'directory';

function layers({ lower, upper, work }: Place): string {
  return `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
}

function ours(
  name: string,
  backend: string,
  missing: string | undefined,
  ...more: readonly string[]
): Contender {
  return {
    name,
    missing: (existsSync(PROGRAM) ? undefined : `${PROGRAM} is not built`) ?? missing,
    command: (place) => {
      const options = [layers(place), ...more].join(',');
      return [PROGRAM, '--backend', backend, '-o', options, place.merged];
    },
    unmount: ({ merged }) => [PROGRAM, 'umount', merged],
  };
}

export function listContenders(): Contender[] {
  const fuse = existsSync('/dev/fuse') ? undefined : 'there is no /dev/fuse';
  const root = process.getuid!() === 0 ? undefined : 'needs root';
  const umount = ({ merged }: Place) => (root ? ['fusermount3', '-u', merged] : ['umount', merged]);
  return [
    ours(OURS, 'fuse', fuse, 'passthrough=off'),
    {
      name: PEER,
      missing: fuse ?? withoutProgram(PEER),
      command: (place) => [PEER, '-o', layers(place), place.merged],
      unmount: umount,
    },
    {
      name: KERNEL,
      missing: root,
      command: (place) => ['mount', '-t', 'overlay', 'overlay', '-o', layers(place), place.merged],
      unmount: umount,
    },
    ours(KERNEL_OURS, 'kernel', root),
    ours(PASSTHROUGH, 'fuse', fuse ?? root ?? withoutPassthrough(), 'passthrough=on'),
    { name: RAW, missing: undefined, command: undefined, unmount: undefined },
  ];
}

function withoutProgram(program: string): string | undefined {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).error
    ? `${program} is not installed`
    : undefined;
}

/** For files of the upper. The kernel gives it to CAP_SYS_ADMIN of the first user namespace, from 6.9 on. */
function withoutPassthrough(): string | undefined {
  const [major, minor] = readFileSync('/proc/sys/kernel/osrelease', 'utf8').split('.').map(Number) as [
    number,
    number,
  ];
  if (major < 6 || (major === 6 && minor < 9)) return 'needs Linux 6.9';
  const isFirst = /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'));
  return isFirst ? undefined : 'needs CAP_SYS_ADMIN outside of user namespaces';
}

/** A fresh upper over a lower, and where a contender shows both. */
export class Place {
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
  readonly merged: string;
  readonly #contender: Contender;

  constructor(dir: string, lower: string, contender: Contender) {
    this.lower = lower;
    this.upper = join(dir, 'upper');
    this.work = join(dir, 'work');
    this.merged = join(dir, 'merged');
    this.#contender = contender;
    rmSync(dir, { recursive: true, force: true });
    for (const path of [this.upper, this.work, this.merged]) mkdirSync(path, { recursive: true });
  }

  /** Where the files are. A plain directory gets a copy when it is to be changed. */
  get root(): string {
    return this.#contender.command === undefined ? this.upper : this.merged;
  }

  mount({ isChanged = true } = {}): void {
    const { command } = this.#contender;
    if (command !== undefined) run(command(this));
    else if (isChanged) cpSync(this.lower, this.upper, { recursive: true, preserveTimestamps: true });
  }

  /** Where files that are only read are. */
  get reading(): string {
    return this.#contender.command === undefined ? this.lower : this.merged;
  }

  unmount(): void {
    const { unmount } = this.#contender;
    if (unmount !== undefined) run(unmount(this));
  }
}
