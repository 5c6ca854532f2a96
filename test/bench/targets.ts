/**
 * What we are after. A target is a ratio of two rows of the table (`over`), a column of one row, or a
 * fact, with the value that it should not pass.
 */

export interface Target {
  readonly name: string;
  readonly case: string;
  /** The step of the row, or the name of the fact. */
  readonly step: string;
  readonly of: 'wallS' | 'cpuS' | 'otherRss' | 'bytesAdded' | 'fact';
  readonly contender: string;
  /** The contender to divide by. */
  readonly over?: string;
  readonly limit: number;
  readonly atLeast?: true;
  readonly unit?: 'bytes' | 'percent';
}

export const OURS = 'git2db';
export const OURS_WASM = 'git2db (wasm)';
export const LFS = 'git-lfs';
export const PLAIN = 'git';
export const NULL_FILTER = 'null filter';
export const COPY = 'cp';
export const BARE_NODE = 'node -e 0';

const MIB = 1 << 20;

const LARGE = ['random', 'float32'] as const;

/** At most `limit` times what another contender takes for the same step. */
function ratio(
  name: string,
  step: string,
  of: 'wallS' | 'cpuS',
  contender: string,
  over: string,
  limit: number,
): Target {
  const what = of === 'cpuS' ? 'cpu' : 'wall';
  const who = contender === OURS ? '' : ` (${contender})`;
  return {
    name: `${name} ${step}: ${what} over ${over}${who}`,
    case: name,
    step,
    of,
    contender,
    over,
    limit,
  };
}

function fact(name: string, step: string, limit: number, unit?: 'bytes' | 'percent'): Target {
  const shared = { name: `${name}: ${step}`, case: name, step, of: 'fact' as const, contender: OURS, limit };
  return unit === undefined ? shared : { ...shared, unit };
}

function memory(name: string, step: string): Target {
  return {
    name,
    case: 'memory',
    step,
    of: 'otherRss',
    contender: OURS,
    limit: 200 * MIB,
    unit: 'bytes',
  };
}

export const TARGETS: readonly Target[] = [
  ...LARGE.flatMap((kind): Target[] => [
    ratio(kind, 'add', 'cpuS', OURS, LFS, 0.5),
    ratio(kind, 'add', 'wallS', OURS, LFS, 0.5),
    ratio(kind, 'add', 'wallS', OURS, COPY, 2),
    ratio(kind, 'checkout', 'cpuS', OURS, NULL_FILTER, 1.3),
    ratio(kind, 'checkout', 'cpuS', OURS_WASM, NULL_FILTER, 1.6),
    ratio(kind, 'pull', 'wallS', OURS, COPY, 1.5),
    ratio(kind, 'status after touch', 'cpuS', OURS, LFS, 0.25),
    {
      name: `${kind} second version: growth`,
      case: kind,
      step: 'second',
      of: 'bytesAdded',
      contender: OURS,
      limit: MIB + 512 * 1024,
      unit: 'bytes',
    },
    {
      name: `${kind} cleaned again: bytes written`,
      case: kind,
      step: 'status after touch',
      of: 'bytesAdded',
      contender: OURS,
      limit: 0,
      unit: 'bytes',
    },
  ]),
  ratio('many', 'add', 'cpuS', OURS, LFS, 0.5),
  ratio('many', 'checkout', 'wallS', OURS, LFS, 1),
  fact('gc', 'xorbs after gc', 5),
  fact('gc', 'shards after gc', 5),
  fact('gc', 'look-up before over after gc', 2),
  { ...fact('gc', 'given back', 90, 'percent'), atLeast: true },
  memory('filter memory, file in', 'clean'),
  memory('filter memory, file out', 'smudge'),
  ratio('startup', 'handshake', 'cpuS', OURS, BARE_NODE, 1.3),
  fact('million', 'ms that the chunks add to a look-up', 50),
  fact('million', 'memory that the chunks add to a look-up', 64 * MIB, 'bytes'),
];
