/** Worktrees of a repository, whatever stores them: what programs call, behind the checked door. */
import { guarded } from '../../arguments.ts';
import * as completion from './completion.ts';
import * as creation from './create.ts';
import * as drivers from './drivers.ts';
import * as layers from './layer-collection.ts';
import * as listing from './list.ts';
import * as removal from './remove.ts';
import * as mending from './repair.ts';

export type { CompletionReport } from './completion.ts';
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
export { storageDrivers } from './drivers.ts';
export type { RemovalOptions, RemovalReason } from './remove.ts';
export type { RepairReport } from './repair.ts';
export { Worktree } from './worktree.ts';
export type { WorktreeState } from './worktree-state.ts';

const THERE = ['place:any', 'home:any'] as const;
const OF_ONE = [...THERE, 'branchOrPathOrId', 'options?'] as const;
const OF_ALL = [...THERE, 'options?'] as const;

export const createWorktree = guarded('createWorktree', [...THERE, 'spec:object'], creation.createWorktree);
export const openWorktree = guarded('openWorktree', OF_ONE, listing.openWorktree);
export const removeWorktree = guarded('removeWorktree', OF_ONE, removal.removeWorktree);
export const listWorktrees = guarded('listWorktrees', OF_ALL, listing.listWorktrees);
export const planRemoval = guarded('planRemoval', OF_ALL, removal.planRemoval);
export const repairWorktrees = guarded('repairWorktrees', OF_ALL, mending.repairWorktrees);
export const completeWorktrees = guarded('completeWorktrees', OF_ALL, completion.completeWorktrees);
export const collectLayers = guarded('collectLayers', ['home:any', 'options?'], layers.collectLayers);
export const probeDrivers = guarded('probeDrivers', [...THERE, 'path', 'backend?'], drivers.probeDrivers);
