/** One worktree of a repository, as it was when it was looked up; its operations look again. */

import { guardMethods } from '../../arguments.ts';
import type { BackendName } from '../../mount-helper/index.ts';
import { Git2dbError } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';
import { lockAdmin, unlockAdmin } from './admin-directory.ts';
import type { DriverContext, DriverName, Rejected, WorktreeHome, WorktreeUsage } from './driver.ts';
import { driverByName } from './drivers.ts';
import { readHead } from './head.ts';
import { isOffMount } from './overlay-mount.ts';
import { placeOfWorktree } from './removal-reasons.ts';
import { type RemovalOptions, removeWorktree } from './remove.ts';
import { type RepairReport, repairWorktree } from './repair.ts';
import type { WorktreeState } from './worktree-state.ts';
import { updateState } from './worktree-store.ts';

export class Worktree implements AsyncDisposable {
  /** Of its record; of a worktree that git alone knows: the name of its directory in the repository. */
  readonly id: string;
  readonly path: string;
  /** Name below `refs/heads/`; undefined: detached. */
  readonly branch: string | undefined;
  /** Commit id; undefined on a branch without commits, or when it could not be read. */
  readonly head: string | undefined;
  readonly driver: DriverName;
  /** Of overlay2: what serves its files. */
  readonly backend: BackendName | undefined;
  /** What `auto` passed over, and why. */
  readonly rejected: readonly Rejected[];
  /** False where other programs do not see the files at `path`: git goes in by `git2db-mount exec`. */
  readonly reachable: boolean;
  /** The user's reason, or git's, why it must stay; undefined: not locked. */
  readonly locked: string | undefined;
  /** Made by git alone: there is no record of it. */
  readonly foreign: boolean;
  readonly ephemeral: boolean;
  /** Its directory below `<common dir>/worktrees`. */
  readonly gitDir: string;
  readonly #context: DriverContext;
  readonly #state: WorktreeState;
  #isRemoved = false;

  constructor(context: DriverContext, state: WorktreeState, gitDir: string, facts: WorktreeFacts) {
    this.#context = context;
    this.#state = state;
    this.id = state.id;
    this.path = state.path;
    this.gitDir = gitDir;
    this.branch = facts.branch?.replace(/^refs\/heads\//, '');
    this.head = facts.head;
    this.driver = state.driver;
    this.backend = state.backend;
    this.rejected = state.rejected;
    this.reachable = state.backend !== 'userns';
    this.locked = facts.locked;
    this.foreign = facts.foreign;
    this.ephemeral = state.ephemeral;
  }

  /**
   * Of overlay2: whether its files are there now; undefined for the others, and where only its namespace could
   * tell.
   */
  get mounted(): boolean | undefined {
    return this.driver === 'overlay2' && this.reachable ? !isOffMount(this.#state) : undefined;
  }

  /** HEAD as it is now. */
  async current(): Promise<{ branch: string | undefined; head: string | undefined }> {
    const { branch, head } = await readHead(this.#context.place, this.gitDir);
    return { branch: branch?.replace(/^refs\/heads\//, ''), head };
  }

  /**
   * Refuses by WORKTREE_DIRTY while anything would be lost (`data.reasons`), unless forced. Called again
   * after an interruption it goes on.
   */
  async remove(options: RemovalOptions = {}): Promise<void> {
    if (this.#isRemoved) return;
    await removeWorktree(this.#context.place, this.#context.home, this.id, options);
    this.#isRemoved = true;
  }

  /** Keeps it from being removed, by git too, until `unlock`. */
  async lock(reason: string): Promise<void> {
    if (/[\0\r\n]/.test(reason) || reason.trim() === '') {
      throw new Git2dbError('USAGE', 'the reason of a lock is one line of text, and not empty');
    }
    if (!this.foreign) await updateState(this.#context.home, this.id, { lockReason: reason });
    lockAdmin(this.gitDir, this.driver, reason);
  }

  async unlock(): Promise<void> {
    if (!this.foreign) await updateState(this.#context.home, this.id, { lockReason: undefined });
    unlockAdmin(this.gitDir, this.driver);
  }

  /** Mounts it again after a crash or a reboot, if need be. */
  async repair(): Promise<RepairReport> {
    return repairWorktree(this.#context, this.#state.id);
  }

  /** Bytes on disk, as du(1) counts them: its own, and those it shares. */
  async diskUsage(): Promise<WorktreeUsage> {
    return driverByName(this.driver).usage(this.#context, this.#state);
  }

  /** Git, run in this worktree. */
  async place(): Promise<GitPlace> {
    return placeOfWorktree(this.#context.place, this.gitDir, this.#state);
  }

  get [Symbol.toStringTag](): string {
    return 'Worktree';
  }

  /** Removes it if it was made with `ephemeral`, as `remove` does; else nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.ephemeral) await this.remove();
  }
}

export interface WorktreeFacts {
  /** Full name. */
  readonly branch: string | undefined;
  readonly head: string | undefined;
  readonly locked: string | undefined;
  readonly foreign: boolean;
}

export type { WorktreeHome };

guardMethods(Worktree, { remove: ['options?'], lock: ['reason'] });
