/**
 * Runs one command and says what it cost. No program beyond sh is needed:
 *
 *   - CPU is what the kernel charged to the children that a wrapper shell waited for, at any depth
 *     (cutime + cstime of `/proc/<shell>/stat`): git, its filters, everything they waited for, and
 *     nothing else. Its resolution is one clock tick, 10 ms; short commands are repeated.
 *   - Peak memory is the kernel's own high-water mark (VmHWM) of each process below the shell, read
 *     every 40 ms, so a process that lives shorter may be missed.
 *   - Wall time includes `sync -f` of the place written to, for every contender alike. What was written
 *     there before is flushed before the clock starts, and memory is at hand.
 */
import { spawn, spawnSync } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { touchMemory } from '../bench-shared/memory.ts';

/** Clock ticks in a second: USER_HZ, 100 on every Linux that Node runs on. */
const TICKS = 100;
const SAMPLE_MS = 40;

export interface Cost {
  readonly wallS: number;
  readonly cpuS: number;
  /** Peak of the largest process called git, and of the largest other one, in bytes. */
  readonly gitRss: number;
  readonly otherRss: number;
}

export interface RunOptions {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** A place on the file system that is flushed inside the measured time. */
  readonly sync?: string;
  /** Bytes of memory that the command finds free at once: see `touchMemory`. */
  readonly memoryAtHand?: number;
  /** File for standard input; nothing otherwise. */
  readonly stdin?: string;
  /** Runs the command so often and divides; for commands of a few ticks. */
  readonly repeat?: number;
}

export class CommandFailed extends Error {
  constructor(command: readonly string[], detail: string) {
    super(`${command.join(' ')}: ${detail.trim()}`);
    this.name = 'CommandFailed';
  }
}

const WRAPPER = `n=$BENCH_REPEAT
while [ "$n" -gt 0 ]; do
  if [ -n "$BENCH_STDIN" ]; then "$@" <"$BENCH_STDIN"; else "$@" </dev/null; fi || exit
  n=$((n - 1))
done
if [ -n "$BENCH_SYNC" ]; then sync -f "$BENCH_SYNC"; fi
cat "/proc/$$/stat" >&3`;

/** Runs `command`; throws CommandFailed with its stderr when it does not exit with 0. */
export async function measure(command: readonly string[], options: RunOptions): Promise<Cost> {
  const repeat = options.repeat ?? 1;
  if (options.sync !== undefined) spawnSync('sync', ['-f', options.sync]);
  touchMemory(options.memoryAtHand ?? 0);
  const start = performance.now();
  const child = spawn('sh', ['-c', WRAPPER, 'sh', ...command], {
    cwd: options.cwd,
    env: {
      ...options.env,
      BENCH_REPEAT: String(repeat),
      BENCH_STDIN: options.stdin ?? '',
      BENCH_SYNC: options.sync ?? '',
    },
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  });
  const texts = { err: '', stat: '' };
  child.stderr!.on('data', (bytes) => {
    texts.err = (texts.err + bytes).slice(-2000);
  });
  child.stdio[3]!.on('data', (bytes) => {
    texts.stat += bytes;
  });
  const peak = { git: 0, other: 0 };
  const sampler = setInterval(() => samplePeaks(child.pid!, peak), SAMPLE_MS);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  }).finally(() => clearInterval(sampler));
  const wallS = (performance.now() - start) / 1000 / repeat;
  if (status !== 0) throw new CommandFailed(command, texts.err || `exit status ${status}`);
  return { wallS, cpuS: childrenTicks(texts.stat) / TICKS / repeat, gitRss: peak.git, otherRss: peak.other };
}

/** cutime + cstime: fields 16 and 17, counted after the name, which may hold anything. */
function childrenTicks(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[13]) + Number(fields[14]);
}

function samplePeaks(pid: number, peak: { git: number; other: number }): void {
  for (const child of childrenOf(pid)) {
    const status = readOrEmpty(`/proc/${child}/status`);
    const name = /^Name:\s+(\S+)/m.exec(status)?.[1] ?? '';
    const bytes = 1024 * Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    const kind = name === 'git' ? 'git' : 'other';
    peak[kind] = Math.max(peak[kind], bytes);
    samplePeaks(child, peak);
  }
}

function childrenOf(pid: number): number[] {
  let tasks: string[];
  try {
    tasks = readdirSync(`/proc/${pid}/task`);
  } catch {
    return []; // it ended meanwhile
  }
  const lists = tasks.map((task) => readOrEmpty(`/proc/${pid}/task/${task}/children`));
  return lists.join(' ').split(' ').filter(Boolean).map(Number);
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Bytes of all files under `path` by apparent size; 0 when there is nothing. */
export function bytesUnder(path: string): number {
  let entries: ReturnType<typeof listFolder>;
  try {
    entries = listFolder(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw error;
  }
  return entries.reduce((sum, entry) => {
    const inner = join(path, entry.name);
    return (
      sum +
      (entry.isDirectory() ? bytesUnder(inner) : (lstatSync(inner, { throwIfNoEntry: false })?.size ?? 0))
    );
  }, 0);
}

function listFolder(path: string) {
  return readdirSync(path, { withFileTypes: true });
}
