/**
 * What commands about large files load when they run, and no other command does: scripts/build.mjs makes a
 * bundle of its own of it, because reading it takes as long as all the rest of the program.
 */
export { examine } from '../large-files/doctor.ts';
export { diskUsage, STORE_PARTS } from '../large-files/du.ts';
export { evict } from '../large-files/evict.ts';
export { fetch } from '../large-files/fetch.ts';
export { serveFetches } from '../large-files/fetch-service.ts';
export { digestFile } from '../large-files/file-digest.ts';
export { fsck } from '../large-files/fsck.ts';
export { isAllWell } from '../large-files/fsck-report.ts';
export { collect } from '../large-files/gc.ts';
export { GitRemotes } from '../large-files/git-remotes.ts';
export { listLargeFiles } from '../large-files/list.ts';
export { migrateInfo, migratePointers } from '../large-files/migrate.ts';
export { migrateLfs } from '../large-files/migrate-lfs.ts';
export { migrateToLfs } from '../large-files/migrate-to-lfs.ts';
export { parseUpdates, prePush, updatesToSee } from '../large-files/pre-push.ts';
export { planPull, pull } from '../large-files/pull.ts';
export { pushSelected } from '../large-files/push.ts';
export { reportRemotes } from '../large-files/remote-report.ts';
export { restoreLfs } from '../large-files/restore-lfs.ts';
export { status } from '../large-files/status.ts';
export { listTracked, track, untrack } from '../large-files/track.ts';
export { addTrusted, listTrusted, removeTrusted } from '../large-files/trusted-places.ts';
