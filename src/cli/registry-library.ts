/**
 * What commands of the registry load when they run, and no other command does: scripts/build.mjs makes a
 * bundle of its own of it. Everything here is used through registry-session.ts.
 */
export { examine as examineMounts } from '../mount-helper/doctor.ts';
export { probe as probeMounts } from '../mount-helper/index.ts';
export * from '../registry/index.ts';
export { lacksContent } from '../registry/worktree/completion.ts';
export { diskUsage as diskBytes } from '../registry/worktree/disk-usage.ts';
export { spareBytes } from '../registry/worktree/spare-space.ts';
