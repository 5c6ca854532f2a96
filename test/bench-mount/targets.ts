/** What we are after: our figure in a row against another's, or against a limit. */

export const OURS = 'git2db';

export interface Row {
  readonly case: string;
  readonly name: string;
  readonly unit: 's' | 'ms' | 'bytes';
  /** Whose figure must hold; ours unless given. */
  readonly who?: string;
  /** The figure is to be at most `limit`, or at most `limit` times that of `over`. */
  readonly limit?: number;
  readonly over?: string;
}

const MIB = 1 << 20;
const PEER = 'fuse-overlayfs';
const AHEAD = 1 / 1.3;

/** The rows of the table, in its order. */
export const ROWS: readonly Row[] = [
  { case: 'read', name: 'sequential read', unit: 's', limit: 1, over: PEER },
  { case: 'write', name: 'sequential write', unit: 's', limit: 1, over: PEER },
  { case: 'random', name: 'random reads of 4 KiB', unit: 's', limit: 1, over: PEER },
  { case: 'find', name: 'find and stat', unit: 's', limit: 1, over: PEER },
  { case: 'create', name: 'create and unlink', unit: 's', limit: AHEAD, over: PEER },
  { case: 'git', name: 'git status', unit: 's', limit: 1, over: PEER },
  { case: 'git', name: 'git checkout', unit: 's', limit: AHEAD, over: PEER },
  { case: 'ready', name: 'mount ready', unit: 'ms', limit: 150 },
  { case: 'ready', name: 'mount ready, kernel', unit: 'ms', who: `${OURS} (kernel)`, limit: 50 },
  { case: 'ready', name: 'mount ready: Node alone', unit: 'ms' },
  { case: 'memory', name: 'server memory, idle', unit: 'bytes', limit: 80 * MIB },
  { case: 'memory', name: 'server memory, all names known', unit: 'bytes', limit: 200 * MIB },
  { case: 'delay', name: 'longest stat during a copy-up', unit: 'ms', limit: 20 },
  {
    case: 'passthrough',
    name: 'sequential read, passthrough',
    unit: 's',
    who: `${OURS} (passthrough)`,
    limit: 1.1,
    over: 'directory',
  },
  {
    case: 'passthrough',
    name: 'sequential write, passthrough',
    unit: 's',
    who: `${OURS} (passthrough)`,
    limit: 1.1,
    over: 'directory',
  },
  {
    case: 'passthrough',
    name: 'random reads, passthrough',
    unit: 's',
    who: `${OURS} (passthrough)`,
    limit: 1.1,
    over: 'directory',
  },
];
