/** Who takes part, and what we are after. */
import type { Target } from '../bench-shared/median-report.ts';

export const OURS = 'git2db';
export const SERVER = 'git2db serve';
export const LFS = 'git-lfs';
export const CURL = 'curl and nginx';

export const ROW = {
  push: 'push of a large file',
  fetch: 'fetch of a large file',
  clone: 'clone with a large file',
  wirePush: 'bytes on the wire: push of the second version',
  wireFetch: 'bytes on the wire: fetch of the second version',
  wirePushGc: 'bytes on the wire: push of the second version after gc on both sides',
  wireFetchGc: 'bytes on the wire: fetch of the second version after gc on both sides',
  manyPush: 'push of many files',
  manyClone: 'clone with many files',
  manyPushRequests: 'requests: push of many files',
  manyCloneRequests: 'requests: clone with many files',
  memoryPush: 'bytes of memory: push',
  memoryFetch: 'bytes of memory: fetch',
  metadata: 'p99 of metadata requests of 200 clients while 8 transfer',
  bucket: 'first request of a fresh server on a bucket',
} as const;

const MIB = 1 << 20;

function over(row: string, other: string, limit: number): Target {
  return { name: `${row}: ${OURS} over ${other}`, row, contender: OURS, over: other, limit };
}

function atMost(contender: string, row: string, limit: number): Target {
  return { name: `${row}, ${contender}`, row, contender, limit };
}

export const TARGETS: readonly Target[] = [
  // At least 0.6 of the throughput.
  over(ROW.push, CURL, 1 / 0.6),
  over(ROW.fetch, CURL, 1 / 0.6),
  over(ROW.clone, LFS, 0.5),
  atMost(OURS, ROW.wirePush, 2 * MIB),
  atMost(OURS, ROW.wireFetch, 2 * MIB),
  atMost(OURS, ROW.wirePushGc, 2 * MIB),
  atMost(OURS, ROW.wireFetchGc, 2 * MIB),
  over(ROW.manyPush, LFS, 1),
  over(ROW.manyClone, LFS, 1),
  atMost(OURS, ROW.manyPushRequests, 100),
  atMost(OURS, ROW.manyCloneRequests, 100),
  atMost(OURS, ROW.memoryPush, 250 * MIB),
  atMost(OURS, ROW.memoryFetch, 250 * MIB),
  atMost(SERVER, ROW.memoryPush, 250 * MIB),
  atMost(SERVER, ROW.memoryFetch, 250 * MIB),
  atMost(SERVER, ROW.metadata, 100),
  atMost(SERVER, ROW.bucket, 1000),
];
