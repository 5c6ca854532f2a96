/**
 * Random trees and random system calls on them. Few names, used for files and directories alike, so that
 * calls meet: a name is removed, made again as something else, renamed over, and held open meanwhile.
 */
import type { Identity, SystemCalls } from '../helpers/driver.ts';
import { directory, file, hardLink, type LayerSpec, symlink } from '../helpers/layers.ts';

/** `path`: below the mount; `slot`: a descriptor that an earlier `open` put there. */
export type Argument = { readonly path: string } | { readonly slot: number } | string | number;

export interface Operation {
  readonly call: keyof SystemCalls;
  readonly args: readonly Argument[];
  /** Where the descriptor goes. */
  readonly opens?: number;
  readonly as?: Identity;
}

export const SLOTS = 4;

/** Marks generated times: whatever is older was set, whatever is younger is the time of a change. */
export const SET_BEFORE = 1_400_000_000n * 1_000_000_000n;

/** Equal seeds give equal sequences, on every machine. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** An integer in [0, end). */
  below(end: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * end);
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }
}

const NAMES = ['a', 'b', 'c', 'd', 'e'];

function path(random: Random): string {
  const depth = random.pick([1, 1, 2, 2, 2, 3]);
  return Array.from({ length: depth }, () => random.pick(NAMES)).join('/');
}

function content(random: Random): string {
  return random.pick('uvwxyz'.split('')).repeat(random.pick([0, 1, 5, 100, 4096, 5000]));
}

function time(random: Random): string {
  return `${1_000_000_000 + random.below(100_000_000)}${String(random.below(1_000_000_000)).padStart(9, '0')}`;
}

/** A layer: paths whose parents are directories. */
export function randomLayer(random: Random, entries: number, hasHardLinks: boolean): LayerSpec {
  const layer: Record<string, LayerSpec[string]> = {};
  const files: string[] = [];
  for (let i = 0; i < entries; i++) {
    const name = path(random);
    const parents = name.split('/').slice(0, -1);
    const above = parents.map((_, depth) => parents.slice(0, depth + 1).join('/'));
    const isFree = !(name in layer) && !Object.keys(layer).some((other) => other.startsWith(`${name}/`));
    if (
      !isFree ||
      above.some((dir) => dir in layer && typeof layer[dir] !== 'string' && layer[dir]!.type !== 'directory')
    ) {
      continue;
    }
    for (const dir of above) layer[dir] ??= directory({ mode: 0o755 });
    const metadata = {
      mode: random.pick([0o644, 0o600, 0o755]),
      times: [time(random), time(random)] as const,
    };
    const kind = random.below(10);
    if (kind < 3) layer[name] = directory({ ...metadata, mode: 0o755 });
    else if (kind === 3) layer[name] = symlink(random.pick(NAMES), { times: metadata.times });
    else if (kind === 4 && hasHardLinks && files.length > 0) layer[name] = hardLink(random.pick(files));
    else {
      layer[name] = file(content(random), {
        ...metadata,
        xattrs: random.chance(30) ? { 'user.k': 'low' } : {},
      });
      files.push(name);
    }
  }
  return layer;
}

type Make = (random: Random) => { readonly args: readonly Argument[]; readonly opens?: number };

const at = (random: Random): Argument => ({ path: path(random) });
const slot = (random: Random): Argument => ({ slot: random.below(SLOTS) });
const args = (...list: Argument[]) => ({ args: list });

/** Each call with its weight. */
function calls({
  owners,
  groups,
  modes,
}: Population): readonly (readonly [weight: number, call: keyof SystemCalls, make: Make])[] {
  return [
    [
      12,
      'writeFile',
      (r) =>
        args(
          at(r),
          content(r),
          r.pick(['WRONLY|CREAT|TRUNC', 'WRONLY|CREAT|EXCL', 'WRONLY', 'WRONLY|APPEND', 'WRONLY|CREAT']),
          r.pick([0o644, 0o600, 0o666]),
        ),
    ],
    [6, 'readFile', (r) => args(at(r))],
    [9, 'lstat', (r) => args(at(r))],
    [4, 'stat', (r) => args(at(r))],
    [8, 'list', (r) => args(at(r))],
    [9, 'mkdir', (r) => args(at(r), r.pick([0o755, 0o777, 0o2775]))],
    [6, 'rmdir', (r) => args(at(r))],
    [8, 'unlink', (r) => args(at(r))],
    [11, 'rename', (r) => args(at(r), at(r))],
    [5, 'renameat2', (r) => args(at(r), at(r), r.pick([1, 2, 2]))],
    [6, 'link', (r) => args(at(r), at(r))],
    [3, 'symlink', (r) => args(r.pick([...NAMES, '../a', 'a/b']), at(r))],
    [3, 'readlink', (r) => args(at(r))],
    [5, 'chmod', (r) => args(at(r), r.pick(modes))],
    [3, 'lchown', (r) => args(at(r), r.pick(owners), r.pick(groups))],
    [
      4,
      'utimens',
      (r) => args(at(r), r.pick([time(r), 'omit', 'now']), r.pick([time(r), time(r), 'omit', 'now'])),
    ],
    [
      4,
      'setxattr',
      (r) => args(at(r), r.pick(['user.k', 'user.m']), r.pick(['', 'one', 'two']), r.pick([0, 0, 1, 2])),
    ],
    [3, 'getxattr', (r) => args(at(r), r.pick(['user.k', 'user.m']))],
    [2, 'listxattr', (r) => args(at(r))],
    [2, 'removexattr', (r) => args(at(r), r.pick(['user.k', 'user.m']))],
    [2, 'mknod', (r) => args(at(r), 0o140644)],
    [4, 'truncate', (r) => args(at(r), r.pick([0, 3, 4097]))],
    [
      8,
      'open',
      (r) => ({
        args: [
          at(r),
          r.pick([
            'RDONLY',
            'RDWR',
            'RDWR|CREAT',
            'WRONLY|APPEND',
            'RDONLY|NOFOLLOW',
            'RDWR|TMPFILE',
            'RDONLY|DIRECTORY',
          ]),
          0o644,
        ],
        opens: r.below(SLOTS),
      }),
    ],
    [5, 'pread', (r) => args(slot(r), 6000, r.pick([0, 2, 4000]))],
    [5, 'pwrite', (r) => args(slot(r), content(r), r.pick([0, 2, 4000, 9000]))],
    [5, 'fstat', (r) => args(slot(r))],
    [2, 'ftruncate', (r) => args(slot(r), r.pick([0, 2, 6000]))],
    [1, 'fchmod', (r) => args(slot(r), r.pick(modes))],
    [1, 'fsync', (r) => args(slot(r))],
    [2, 'fallocate', (r) => args(slot(r), r.pick([0, 1, 3]), r.pick([0, 4096]), r.pick([4096, 10000]))],
    [2, 'copyFileRange', (r) => args(slot(r), 0, slot(r), r.pick([0, 5000]), r.pick([10, 4096]))],
    [2, 'linkOpen', (r) => args(slot(r), at(r))],
    [1, 'futimens', (r) => args(slot(r), time(r), time(r))],
    [4, 'close', (r) => args(slot(r))],
  ];
}

export interface Population {
  /** Whom files may be given to. */
  readonly owners: readonly number[];
  readonly groups: readonly number[];
  /** What chmod sets. */
  readonly modes: readonly number[];
  /** Somebody else who does some of the calls. */
  readonly other: Identity | undefined;
}

/** An endless sequence. */
export function* randomOperations(random: Random, population: Population): Generator<Operation> {
  const choices = calls(population);
  const { other } = population;
  const total = choices.reduce((sum, [weight]) => sum + weight, 0);
  for (;;) {
    let left = random.below(total);
    const [, call, make] = choices.find(([weight]) => {
      left -= weight;
      return left < 0;
    })!;
    const as = other !== undefined && random.chance(12) ? { as: other } : {};
    yield { call, ...make(random), ...as };
  }
}

export function describeOperation({ call, args, opens, as }: Operation): string {
  const shown = args.map((arg) => {
    if (typeof arg === 'object') return 'path' in arg ? arg.path : `#${arg.slot}`;
    return typeof arg === 'string' && arg.length > 30 ? `${arg[0]}*${arg.length}` : JSON.stringify(arg);
  });
  const target = opens === undefined ? '' : ` -> #${opens}`;
  return `${call}(${shown.join(', ')})${target}${as === undefined ? '' : ` as ${as.uid}`}`;
}
