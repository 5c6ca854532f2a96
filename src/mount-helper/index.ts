/**
 * Entry point `git2db/mount`: one tree out of several, the lower ones never written to.
 *
 *     await using tree = await mount({ lowers: ['/base'], upper: '/u/up', work: '/u/work', merged: '/u/tree' });
 *     console.log(tree.backend, tree.merged.toString());
 *
 * All refusals are `Git2dbError`s, told apart by `code`; docs/exit-codes.md says what each one means. Paths
 * are strings, or bytes where they are not UTF-8; what comes back is bytes.
 */
import { type ListedMount, listMounts } from './list.ts';
import { type Environment, type MountResult, mountOverlay, type Rejection } from './mount.ts';
import type { BackendName, IdRange, MountOptions, WhiteoutReading, XattrNamespace } from './mount-options.ts';
import type { MountState } from './mount-state.ts';
import { completeOptions } from './options.ts';
import { currentDirectory, resolvePath } from './path.ts';
import { type Probe, type ProbeFinding, probe as probeDirectory } from './probe.ts';
import { recordPlaces } from './record-places.ts';
import { type RepairOutcome, repairMounts } from './repair.ts';
import { type UmountOptions, umount as umountAt } from './umount.ts';

export { type ErrorCode, Git2dbError, type MountErrorCode } from '../xet/errors.ts';
export type {
  BackendName,
  IdRange,
  ListedMount,
  MountState,
  Probe,
  ProbeFinding,
  Rejection,
  RepairOutcome,
  UmountOptions,
  WhiteoutReading,
  XattrNamespace,
};

export type Path = string | Uint8Array;

/** What to mount. All but the paths are options, as after `-o`; see docs/mount.md. */
export interface MountSpec
  extends Partial<Omit<MountOptions, 'lowers' | 'upper' | 'work' | 'merged' | 'foreground' | 'debug'>> {
  /** Topmost first; at least one. */
  readonly lowers: readonly Path[];
  /** Both or none. Without them the tree is read-only. */
  readonly upper?: Path;
  readonly work?: Path;
  /** An empty directory. */
  readonly merged: Path;
}

export interface Surroundings {
  /** Where records of mounts are kept depends on HOME and the XDG variables. Default: those of the process. */
  readonly env?: Environment;
}

/** A mount that is there. It outlives this process unless it is unmounted, or declared with `await using`. */
export class Mount implements AsyncDisposable {
  readonly merged: Buffer;
  readonly backend: BackendName;
  /** Backends that `auto` would have preferred, and why they did not do. */
  readonly rejected: readonly Rejection[];
  /** Of the server or holder; undefined: the kernel's overlay needs none. */
  readonly pid: number | undefined;
  readonly #env: Environment;
  #isEnded = false;

  constructor({ merged, backend, rejected, pid }: MountResult, env: Environment) {
    this.merged = merged;
    this.backend = backend;
    this.rejected = rejected;
    this.pid = pid;
    this.#env = env;
  }

  /** Throws MOUNT_BUSY while somebody uses it, NOT_MOUNTED when somebody else has ended it. */
  async unmount(options: UmountOptions = {}): Promise<void> {
    await umountAt(recordPlaces(this.#env), this.merged, options);
    this.#isEnded = true;
  }

  /** Unmounts, unless `unmount` has been called. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isEnded) await this.unmount();
  }
}

/** Resolves when the mount is ready; rejects with nothing left behind. */
export async function mount(spec: MountSpec, { env = process.env }: Surroundings = {}): Promise<Mount> {
  const { lowers, upper, work, merged, ...options } = spec;
  const complete = completeOptions(
    {
      ...options,
      lowers: lowers.map(toBytes),
      ...(upper === undefined ? {} : { upper: toBytes(upper) }),
      ...(work === undefined ? {} : { work: toBytes(work) }),
    },
    toBytes(merged),
    currentDirectory(),
  );
  return new Mount(await mountOverlay(complete, env), env);
}

/** Ends the mount on `merged`, whoever made it. Throws NOT_MOUNTED, MOUNT_BUSY (`data.holders`), MOUNT_FAILED. */
export async function umount(
  merged: Path,
  { env = process.env, ...options }: UmountOptions & Surroundings = {},
): Promise<void> {
  await umountAt(recordPlaces(env), absolute(merged), options);
}

/** The mounts of this user, and those of others that can be seen. */
export function list({ env = process.env }: Surroundings = {}): readonly ListedMount[] {
  return listMounts(recordPlaces(env)).mounts;
}

/** Tries each backend on a scratch directory in `directory`. */
export async function probe(directory: Path, { env = process.env }: Surroundings = {}): Promise<Probe> {
  return probeDirectory(absolute(directory), { backend: 'auto', env });
}

/** Clears dead mounts and mounts again what a crash or reboot has ended. What was wrong; empty: nothing. */
export async function repair({ env = process.env }: Surroundings = {}): Promise<RepairOutcome[]> {
  return repairMounts(recordPlaces(env), { remount: (options) => mountOverlay(options, env) });
}

function toBytes(path: Path): Buffer {
  return Buffer.from(path);
}

function absolute(path: Path): Buffer {
  return resolvePath(currentDirectory(), toBytes(path));
}
