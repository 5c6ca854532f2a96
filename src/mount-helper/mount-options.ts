/** A mount that was asked for, complete and checked in itself. Paths are absolute bytes without a NUL. */

export type BackendName = 'kernel' | 'userns' | 'fuse';

/** Which names hide what is below: see `overlay/whiteout.ts`. */
export type WhiteoutReading = 'auto' | 'kernel' | 'all';

/** Where the overlay's own extended attributes live: `trusted.overlay.` or `user.overlay.`. */
export type XattrNamespace = 'trusted' | 'user';

/** Does the kernel read and write files by itself: where it can, `on`: or there is no mount. */
export type Passthrough = 'auto' | 'on' | 'off';

export interface MountOptions {
  /** Topmost first; at least one. */
  readonly lowers: readonly Buffer[];
  /** Both or none. Without them the mount is read-only. */
  readonly upper?: Buffer;
  readonly work?: Buffer;
  readonly merged: Buffer;
  /** What mount(8) shows as the device. */
  readonly source: string;
  readonly backend: BackendName | 'auto';
  readonly foreground: boolean;
  readonly debug: boolean;
  readonly readOnly: boolean;
  readonly volatile: boolean;
  readonly nonempty: boolean;
  /** All files seem to belong to these. */
  readonly squashToUid?: number;
  readonly squashToGid?: number;
  /** As fuse-overlayfs's `uidmapping` and `gidmapping`. */
  readonly uidMapping: readonly IdRange[];
  readonly gidMapping: readonly IdRange[];
  /** Undefined: as the caller's rights suggest (root: both on). */
  readonly allowOther?: boolean;
  readonly defaultPermissions?: boolean;
  /** Owner and mode of what cannot be given away are kept in an extended attribute: 0, 1 or 2 as fuse-overlayfs. */
  readonly xattrPermissions: 0 | 1 | 2;
  readonly noacl: boolean;
  /** How long the kernel may cache names and attributes; undefined: as long as it likes. */
  readonly timeoutMs?: number;
  readonly whiteouts: WhiteoutReading;
  /** FUSE backend only; undefined: auto. */
  readonly passthrough?: Passthrough;
  /** Kernel backend only: asked for by name. */
  readonly index?: boolean;
  readonly metacopy?: boolean;
  readonly redirectDir?: 'on' | 'off' | 'follow' | 'nofollow';
  readonly xino?: 'on' | 'off' | 'auto';
  /** Asked for with `userxattr`; undefined: as the upper's stamp says, or the caller's rights suggest. */
  readonly namespace?: XattrNamespace;
  /** `context=` and its kin, as they were written: for the kernel's security module. */
  readonly securityContexts: readonly Buffer[];
  /** MS_* options that mount(8) passes and that have a meaning: nosuid, nodev, noexec, noatime. */
  readonly flags: readonly ('nosuid' | 'nodev' | 'noexec' | 'noatime')[];
}

/** Ids [inside, inside + count) of the layers show as [outside, outside + count) in the mount. */
export interface IdRange {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

/** What holds where nothing else is said. */
export const DEFAULT_OPTIONS = {
  source: 'git2db-mount',
  backend: 'auto',
  foreground: false,
  debug: false,
  readOnly: false,
  volatile: false,
  nonempty: false,
  uidMapping: [],
  gidMapping: [],
  xattrPermissions: 0,
  noacl: false,
  whiteouts: 'auto',
  securityContexts: [],
  flags: [],
} as const satisfies Omit<MountOptions, 'lowers' | 'merged'>;
