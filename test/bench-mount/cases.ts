/** The steps that are measured. Each begins with a fresh mount, so that nothing is known to it yet. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { measure } from '../bench/measure.ts';
import { TOP } from '../bench-shared/environment.ts';
import { run } from '../bench-shared/run.ts';
import { type Contender, KERNEL, KERNEL_OURS, PASSTHROUGH, PEER, type Place, RAW } from './contenders.ts';
import type { MountInputs } from './inputs.ts';
import type { Case, Sizes } from './options.ts';
import { OURS } from './targets.ts';

export interface Step {
  readonly case: Case;
  /** Names of the rows that it gives a value for. */
  readonly rows: readonly string[];
  /** Who takes part. */
  readonly contenders: readonly string[];
  readonly lower: (inputs: MountInputs) => string;
  /** Seconds of rest before each measurement, when the gigabytes of the one before have been removed. */
  readonly restS?: number;
  /** Bytes of memory that the system is to have at hand: what it gave to its host it has to get back first. */
  readonly memoryAtHand?: number;
  /** Values of the rows; `undefined`: nothing to say about this contender. */
  readonly run: (place: Place, contender: Contender) => Promise<readonly (number | undefined)[]>;
}

const ALL = [OURS, PEER, KERNEL, RAW];
const ENV = { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1', LC_ALL: 'C' };

/** Seconds that a workload says it took. */
export function workload(...args: readonly string[]): number {
  const seconds = Number(run(['python3', join(TOP, 'test/bench-mount/workloads.py'), ...args]));
  if (!Number.isFinite(seconds)) throw new Error(`${args[0]}: no figure`);
  return seconds;
}

async function wallS(command: readonly string[], cwd: string): Promise<number> {
  return (await measure(command, { cwd, env: ENV })).wallS;
}

export function listSteps(sizes: Sizes): Step[] {
  const fileLayer = (inputs: MountInputs) => inputs.file(sizes.fileMb);
  const bytes = String(sizes.fileMb << 20);
  // The pages of the mount's file, and of that below it.
  const memoryAtHand = 3 * sizes.fileMb * 2 ** 20;
  return [
    {
      case: 'read',
      rows: ['sequential read'],
      contenders: ALL,
      lower: fileLayer,
      memoryAtHand,
      run: async (place) => reading(place, () => [workload('read', join(place.reading, 'file'))]),
    },
    {
      case: 'write',
      rows: ['sequential write'],
      contenders: ALL,
      lower: fileLayer,
      memoryAtHand,
      run: async (place) => reading(place, () => [workload('write', join(place.root, 'new'), bytes)]),
    },
    {
      case: 'random',
      rows: ['random reads of 4 KiB'],
      contenders: ALL,
      lower: fileLayer,
      run: async (place) =>
        reading(place, () => [
          workload('random_read', join(place.reading, 'file'), String(sizes.randomReads)),
        ]),
    },
    {
      case: 'find',
      rows: ['find and stat'],
      contenders: ALL,
      lower: (inputs) => inputs.tree(sizes.find),
      run: async (place) =>
        reading(place, async () => [
          await wallS(['find', join(place.reading, 'tree'), '-printf', '%s %T@\n'], '/'),
        ]),
    },
    {
      case: 'create',
      rows: ['create and unlink'],
      contenders: ALL,
      lower: fileLayer,
      run: async (place) =>
        reading(place, () => [workload('create_unlink', join(place.root, 'made'), String(sizes.create))]),
    },
    {
      case: 'git',
      rows: ['git status', 'git checkout'],
      contenders: ALL,
      lower: (inputs) => inputs.repository(sizes.repository),
      run: git,
    },
    {
      case: 'ready',
      rows: ['mount ready'],
      contenders: [OURS, PEER, KERNEL],
      lower: fileLayer,
      run: async (place) => [await ready(place)],
    },
    {
      case: 'ready',
      rows: ['mount ready, kernel'],
      contenders: [KERNEL_OURS],
      lower: fileLayer,
      run: async (place) => [await ready(place)],
    },
    {
      // The floor: what starting our program takes before it does anything.
      case: 'ready',
      rows: ['mount ready: Node alone'],
      contenders: [RAW],
      lower: fileLayer,
      run: async () => [1000 * (await wallS([process.execPath, '-e', '0'], '/'))],
    },
    {
      case: 'memory',
      rows: ['server memory, idle', 'server memory, all names known'],
      contenders: [OURS, PEER],
      lower: (inputs) => inputs.tree(sizes.names),
      run: memory,
    },
    {
      case: 'delay',
      rows: ['longest stat during a copy-up'],
      contenders: ALL,
      lower: (inputs) => inputs.copyUp(sizes.copyUpMb),
      restS: 10,
      run: async (place) =>
        reading(place, () => {
          const paths = ['file', 'elsewhere'].map((name) => join(place.reading, name));
          // In a plain directory: what a copy of that file alone makes of the machine.
          const copy = place.reading === place.lower ? [join(place.upper, 'file')] : [];
          return [1000 * workload('stat_delay', ...paths, ...copy)];
        }),
    },
    {
      case: 'passthrough',
      rows: ['sequential read, passthrough', 'sequential write, passthrough', 'random reads, passthrough'],
      contenders: [PASSTHROUGH, RAW],
      lower: fileLayer,
      memoryAtHand,
      run: async (place) =>
        reading(place, () => {
          const file = join(place.root, 'new');
          const write = workload('write', file, bytes);
          // More of both than by requests: without these they are over in a tenth of a second.
          const random = String(8 * sizes.randomReads);
          return [workload('read', file, '4'), write, workload('random_read', file, random)];
        }),
    },
  ];
}

type Values = readonly (number | undefined)[];

/** With a mount; of a plain directory nothing of the lower is copied. */
async function reading(place: Place, work: () => Values | Promise<Values>): Promise<Values> {
  place.mount({ isChanged: false });
  try {
    return await work();
  } finally {
    place.unmount();
  }
}

async function git(place: Place): Promise<Values> {
  const repo = join(place.root, 'repo');
  place.mount();
  try {
    // The index learns how this mount shows its files; then the mount forgets what it knows.
    run(['git', 'status', '--porcelain'], repo);
    if (place.root === place.merged) {
      place.unmount();
      place.mount();
    }
    const status = await wallS(['git', 'status', '--porcelain'], repo);
    return [status, await wallS(['git', 'checkout', '-q', 'other'], repo)];
  } finally {
    place.unmount();
  }
}

/** Milliseconds until the mounting command has returned and the tree can be read. */
async function ready(place: Place): Promise<number> {
  const start = performance.now();
  place.mount();
  readdirSync(place.root);
  const took = performance.now() - start;
  place.unmount();
  return took;
}

async function memory(place: Place): Promise<Values> {
  place.mount();
  try {
    const pids = serversOf(place.merged);
    const idle = residentBytes(pids);
    run(['find', join(place.root, 'tree'), '-printf', '%s\n']);
    return [idle, residentBytes(pids)];
  } finally {
    place.unmount();
  }
}

/** Processes that have /dev/fuse open for the mount, by the number of its connection. */
function serversOf(merged: string): number[] {
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((one) => one.split(' ')[4] === merged)!;
  const connection = line.split(' ')[2]!.split(':')[1]!;
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const open = pids.flatMap((pid) => fuseConnections(pid).map((found) => ({ pid: Number(pid), found })));
  const exact = open.filter(({ found }) => found === connection);
  // Older kernels do not tell which connection a descriptor belongs to: then it is the youngest server.
  const chosen = exact.length > 0 ? exact : open.slice(-1);
  if (chosen.length === 0) throw new Error(`no process serves ${merged}`);
  return [...new Set(chosen.map(({ pid }) => pid))];
}

function fuseConnections(pid: string): string[] {
  const fds = unlessGone(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
  return fds.flatMap((fd) => {
    if (unlessGone(() => readlinkSync(`/proc/${pid}/fd/${fd}`)) !== '/dev/fuse') return [];
    const info = unlessGone(() => readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8')) ?? '';
    return [/^fuse_connection:\s*(\d+)/m.exec(info)?.[1] ?? ''];
  });
}

/** Undefined where the process has ended, or closed the descriptor, meanwhile. */
function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

function residentBytes(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return sum + 1024 * Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
  }, 0);
}
