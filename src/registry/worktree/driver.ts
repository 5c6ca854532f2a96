/**
 * The words of worktrees: where their parts lie, what is asked for, and what a storage driver has to do.
 *
 *     overlay2   a read-only layer that all worktrees of one tree share, an overlay mount per worktree
 *     reflink    a directory of its own whose files share their blocks with files that are there already
 *     vfs        a directory of its own, as `git worktree add` makes it
 *
 * What a worktree's record says (worktree-state.ts) is what serves its files.
 */
import type { BackendName } from '../../mount-helper/index.ts';
import type { Git2dbError } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';
import type { GitAnswers } from './settings.ts';
import type { WorktreeState } from './worktree-state.ts';

/** Absolute directories; made when they are first needed. */
export interface WorktreeHome {
  /** A directory for each worktree: `<id>/{upper,work,state.json}`. */
  readonly worktrees: string;
  /** Read-only trees that overlay worktrees share. */
  readonly layers: string;
  /** The Xet store that the repositories share; undefined: each has its own. */
  readonly store: string | undefined;
  /** Where worktrees without a given path go; undefined: beside the repository. */
  readonly trees?: string | undefined;
  /** A directory that is git2db's own with all in it: no worktree goes there. `worktrees` and `layers` always are. */
  readonly own?: string | undefined;
  /** Why nothing can be changed, if so: worktrees are neither made, mended nor removed then. */
  readonly readOnly?: Git2dbError | undefined;
}

export const DRIVER_NAMES = ['overlay2', 'reflink', 'vfs'] as const;
export type DriverName = (typeof DRIVER_NAMES)[number];
export const BACKEND_CHOICES = ['auto', 'kernel', 'userns', 'fuse'] as const satisfies readonly (
  | 'auto'
  | BackendName
)[];
export type BackendChoice = 'auto' | BackendName;

export interface WorktreeSpec {
  /** A missing or empty directory; undefined: derived from the branch or ref. */
  readonly path?: string | undefined;
  /** A branch, or anything that names a commit. */
  readonly ref: string;
  /** A branch to make at `ref` and to check out. */
  readonly newBranch?: string | undefined;
  /** Check out the commit, also where `ref` is a branch. */
  readonly detach?: boolean | undefined;
  readonly driver?: DriverName | 'auto' | undefined;
  readonly backend?: BackendChoice | undefined;
  /** `await using` removes it again. */
  readonly ephemeral?: boolean | undefined;
  /**
   * Whether a plain `git push` in it sends the content of large files, by a pre-push hook in the repository. Unless
   * given: so in a repository that the registry has made, and as it is in one that it has adopted.
   */
  readonly hooks?: boolean | undefined;
  readonly onProgress?: ((event: WorktreeProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type WorktreeProgress =
  | { readonly kind: 'layer'; readonly key: string; readonly state: 'making' | 'made' }
  | { readonly kind: 'mounted'; readonly backend: BackendName }
  | { readonly kind: 'checked-out' };

/** A driver, or a driver's backend, that was not taken, and why. */
export interface Rejected {
  readonly driver: DriverName;
  readonly backend?: BackendName | undefined;
  readonly reason: string;
}

export type DriverProbe =
  | {
      readonly works: true;
      readonly backend?: BackendName | undefined;
      readonly rejected: readonly Rejected[];
    }
  | { readonly works: false; readonly rejected: readonly Rejected[] };

/** What all steps of one worktree's life know. */
export interface DriverContext {
  readonly place: GitPlace;
  readonly home: WorktreeHome;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: WorktreeProgress) => void) | undefined;
  /** What git was asked while something else was going on; see `askAhead`. */
  readonly answers?: GitAnswers | undefined;
}

/** What `ref` came to: the commit to check out, and the branch HEAD shall be on. */
export interface CheckoutTarget {
  readonly commit: string;
  readonly tree: string;
  /** Full name; undefined: detached. */
  readonly branch: string | undefined;
  /** The branch is to be made, at `commit`, following `upstream` if given. */
  readonly newBranch: boolean;
  readonly upstream: string | undefined;
}

export interface StorageDriver {
  readonly name: DriverName;
  /** A real trial: on the file system where the worktree shall be. Leaves nothing behind. */
  probe(context: DriverContext, path: string, backend: BackendChoice): Promise<DriverProbe>;
  /**
   * Makes the worktree that `state` reserves, and resolves to what is to be recorded of it. A failure may
   * leave parts behind, which `remove` clears: the record of a worktree is there before its parts.
   */
  create(context: DriverContext, state: WorktreeState, target: CheckoutTarget): Promise<WorktreeState>;
  /** Sees to it that the files are there (mounts them). Resolves to the state as it then is. */
  open(context: DriverContext, state: WorktreeState): Promise<WorktreeState>;
  /** Removes all it made, and nothing else; may be called again after it was interrupted. Throws MOUNT_BUSY. */
  remove(context: DriverContext, state: WorktreeState): Promise<void>;
  /** As `open`, after a crash or a reboot; what was done, for a person, or undefined. */
  repair(
    context: DriverContext,
    state: WorktreeState,
  ): Promise<{ state: WorktreeState; done: readonly string[] }>;
  /** Bytes on disk, as du(1) counts them. */
  usage(context: DriverContext, state: WorktreeState): Promise<WorktreeUsage>;
}

export interface WorktreeUsage {
  /** What the worktree alone takes: upper, work and record, or all of its files. */
  readonly ownBytes: number;
  /** The layers it reads, the topmost first. */
  readonly shared: readonly SharedUsage[];
}

export interface SharedUsage {
  readonly layer: string;
  readonly bytes: number;
  /** How many recorded worktrees read it, this one among them. */
  readonly sharers: number;
}
