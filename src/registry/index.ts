/**
 * The registry, the handles and the worktrees, for programs: all of this room that others may name. It is
 * part of the entry point `git2db`; docs/library.md shows each piece at work.
 *
 *     await using db = await Git2DB.open('/srv/models');
 *     const handle = await db.repo(await db.clone('https://host/org/model').name('org/model').exec());
 *     const tree = await handle.worktree().create({ ref: 'main' });
 */

// ---- the registry ----------------------------------------------------------------------------
export { type AuthOptions, httpAuthority } from './auth.ts';
export { CloneOperation } from './clone.ts';
export type { CloneOptions, CloneProgress, CloneStage } from './clone-options.ts';
export {
  type ConfigInput,
  type ConfigSource,
  type ConfigSources,
  type GivenValue,
  loadConfig,
  type ResolvedConfig,
  resolveConfig,
} from './config.ts';
export {
  type ConfigExplanation,
  type ExplainedSetting,
  type ExplainedValue,
  explainConfig,
} from './config-explain.ts';
export type {
  OverlayBackend,
  RegistryConfig,
  SettingName,
  SettingValue,
  WorktreeDriver,
} from './config-settings.ts';
export type { RecordPatch } from './draft.ts';
export {
  AuthError,
  ConflictError,
  LockTimeoutError,
  NameError,
  NetworkError,
  NotFoundError,
  ReferenceError_,
} from './errors.ts';
export {
  type CacheStats,
  GitManager,
  type GitManagerOptions,
  type Operation,
  type Repository,
  type RepositoryOptions,
  type Signature,
  type SignatureOptions,
} from './git-manager.ts';
export type { GitPlace, OpenPlaceOptions, PlaceRun, PlaceStreamRun } from './git-place.ts';
export { openPlace } from './git-place.ts';
export type { GitProgress } from './git-progress.ts';
export { Git2DB, type OpenOptions } from './git2db.ts';
// ---- handles ---------------------------------------------------------------------------------
export type { BlameCommit, BlameLine, BlameOptions } from './handles/blame.ts';
export type {
  Branch,
  BranchListOptions,
  BranchManager,
  CheckoutOptions,
  CheckoutResult,
  Comparison,
  CreateOptions,
  Upstream,
} from './handles/branch.ts';
export type { CommitOptions, CommitResult } from './handles/commit.ts';
export {
  type Conflict,
  type ConflictKind,
  type ConflictOperation,
  type ConflictStage,
  MergeConflictError,
  type Resumption,
} from './handles/conflict.ts';
export type { Connection } from './handles/connection.ts';
export type { DiffFunction, DiffOptions, FileChange } from './handles/diff.ts';
export type { FetchedRef, FetchOptions, FetchResult } from './handles/fetch.ts';
export type { GitDate, IdentityOptions, Person } from './handles/identity.ts';
export type { LfsFacet, LfsFile } from './handles/lfs.ts';
export type { CommitInfo, Ident, LogField, LogOptions } from './handles/log.ts';
export type { MergeFunction, MergeOptions, MergeResult } from './handles/merge.ts';
export type { ComposeOptions, MergedTrees, MergeTreesOptions } from './handles/merge-trees.ts';
export type { Operation as StoppedOperation, OperationKind } from './handles/operation.ts';
export type { PushedRef, PushOptions, PushResult } from './handles/push.ts';
export type { ContentProgress, PushedContent, PushedFile } from './handles/push-content.ts';
export type { RebaseFunction, RebaseOptions, RebaseResult } from './handles/rebase.ts';
export type { Ref, RefListOptions, RefManager, RefUpdate, RefUpdateOptions } from './handles/refs.ts';
export type {
  LsRemoteOptions,
  PullOptions,
  PullResult,
  Remote,
  RemoteAddOptions,
  RemoteManager,
  RemoteRef,
} from './handles/remote.ts';
export type { ResetOptions } from './handles/reset.ts';
export type { PickFunction, PickKind, PickOptions, PickResult } from './handles/sequence.ts';
export type { AddOptions, StagedFile, StageManager } from './handles/staging.ts';
export type {
  StashApplyOptions,
  StashEntry,
  StashManager,
  StashName,
  StashPushOptions,
} from './handles/stash.ts';
export type { ChangeKind, RepositoryStatus, StatusEntry, StatusOptions } from './handles/status.ts';
export type { Tag, TagListOptions, TagManager, TagOptions, TagVerification } from './handles/tag.ts';
export type { WorktreeManager } from './handles/worktree.ts';
export type { XetFacet } from './handles/xet.ts';
export type { OpenRepository, ReadOnlyFs } from './isomorphic.ts';
export type { RepositoryRecord } from './metadata.ts';
export type { NameReservation, ReserveOptions } from './name-reservation.ts';
export { nearMatches } from './near-matches.ts';
export type { AddRecordOptions, NewRecord, RecordSink } from './record-sink.ts';
export type { RegisterOptions } from './register.ts';
export { maskUrl, nameFromUrl, parseRemoteUrl, type RemoteUrl, type UrlScheme } from './remote-url.ts';
export type { RemovalReport, RemoveOptions, RepositoryRemovalReason } from './remove.ts';
export type { RegistryRepair } from './repair.ts';
export { RepoId } from './repo-id.ts';
export type { RepositoryFilter } from './repository-filter.ts';
export { type HandleExtras, RepositoryHandle } from './repository-handle.ts';
export { checkName } from './repository-name.ts';
export type { Isolation, Transaction, TransactionOptions } from './transaction.ts';
export type { FindingCode, RegistryFinding } from './verify.ts';
export type { RegistryEvent, WatchOptions } from './watch.ts';
// ---- worktrees -------------------------------------------------------------------------------
export {
  type BackendChoice,
  type CompletionReport,
  collectLayers,
  completeWorktrees,
  createWorktree,
  type DriverName,
  type DriverProbe,
  listWorktrees,
  openWorktree,
  planRemoval,
  probeDrivers,
  type Rejected,
  type RemovalOptions,
  type RemovalReason,
  type RepairReport,
  removeWorktree,
  repairWorktrees,
  type SharedUsage,
  type StorageDriver,
  storageDrivers,
  Worktree,
  type WorktreeHome,
  type WorktreeProgress,
  type WorktreeSpec,
  type WorktreeState,
  type WorktreeUsage,
} from './worktree/index.ts';
