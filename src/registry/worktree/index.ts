/** Worktrees of a repository, whatever stores them. */
export { type CompletionReport, completeWorktrees } from './completion.ts';
export { createWorktree } from './create.ts';
export type {
  BackendChoice,
  DriverName,
  DriverProbe,
  Rejected,
  SharedUsage,
  StorageDriver,
  WorktreeHome,
  WorktreeProgress,
  WorktreeSpec,
  WorktreeUsage,
} from './driver.ts';
export { probeDrivers, storageDrivers } from './drivers.ts';
export { collectLayers } from './layer-collection.ts';
export { listWorktrees, openWorktree } from './list.ts';
export { planRemoval, type RemovalOptions, type RemovalReason, removeWorktree } from './remove.ts';
export { type RepairReport, repairWorktrees } from './repair.ts';
export { Worktree } from './worktree.ts';
export type { WorktreeState } from './worktree-state.ts';
