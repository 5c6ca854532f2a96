/** The server of a FUSE mount, and what befalls it: signals, and errors or kills at a chosen system call. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { type MountSandbox, runCommand } from './mount-sandbox.ts';

/** Process that serves the mount of a sandbox, as `list` tells. */
export async function serverPid(sandbox: MountSandbox): Promise<number> {
  const run = await sandbox.program('list', '--json');
  const mounts = JSON.parse(run.stdout) as { merged: string; pids: number[] }[];
  const pid = mounts.find(({ merged }) => merged === sandbox.merged)?.pids[0];
  if (pid === undefined)
    throw new Error(`list names no server of ${sandbox.merged}: ${run.stdout}${run.stderr}`);
  return pid;
}

export async function killServer(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await processEnd(pid);
}

export async function processEnd(pid: number): Promise<void> {
  while (isRunning(pid)) await new Promise((resolve) => setTimeout(resolve, 5));
}

function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) !== 'Z';
  } catch {
    return false;
  }
}

/** Processes, other than of this test, that have something below `dir` on their command line or open. */
export function processesUsing(dir: string): number[] {
  const uses = (pid: string) => {
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(dir)) return true;
      return readdirSync(`/proc/${pid}/fd`).some((fd) =>
        readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith(dir),
      );
    } catch {
      return false; // it ended meanwhile
    }
  };
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid && uses(name))
    .map(Number);
}

let missing: string | undefined | null = null;

/** Why strace cannot attach to a process here, or undefined. */
export function straceMissing(): string | undefined {
  if (missing === null) {
    const { error, status } = spawnSync('strace', ['-o', '/dev/null', 'true'], { stdio: 'ignore' });
    if (error) missing = 'strace is not installed';
    else missing = status === 0 ? undefined : 'strace cannot attach to processes here';
  }
  return missing;
}

/** Makes system calls of a running process fail or kill it, as strace's `inject` says, until `stop`. */
export class Injection {
  readonly #strace: ChildProcess;

  private constructor(strace: ChildProcess) {
    this.#strace = strace;
  }

  /** `what`: `renameat2:error=EIO`, `openat:signal=SIGKILL:when=3`. */
  static async start(pid: number, what: string): Promise<Injection> {
    const [calls] = what.split(':') as [string];
    const args = ['-f', '-o', '/dev/null', '-e', `trace=${calls}`, '-e', `inject=${what}`, '-p', String(pid)];
    const strace = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    while (!said.includes('attached')) {
      const [piece] = (await Promise.race([
        once(strace.stderr!, 'data'),
        once(strace, 'close').then(() => [null]),
      ])) as [Buffer | null];
      if (piece === null) throw new Error(`strace: ${said}`);
      said += piece;
    }
    strace.stderr!.resume();
    return new Injection(strace);
  }

  async stop(): Promise<void> {
    if (this.#strace.exitCode !== null || this.#strace.signalCode !== null) return;
    const ended = once(this.#strace, 'close');
    this.#strace.kill('SIGINT');
    // It may wait for ever for a thread of a process that was killed by one of the others.
    const timer = setTimeout(() => this.#strace.kill('SIGKILL'), 500);
    await ended;
    clearTimeout(timer);
  }
}

/** By which a program leaves something behind. */
const CHANGES =
  'mkdir,mkdirat,mknod,mknodat,link,linkat,symlink,rename,renameat,renameat2,unlink,unlinkat,rmdir,' +
  'chmod,fchmod,fchmodat,chown,fchown,setxattr,fsetxattr,removexattr,mount,openat';

/**
 * Runs a command, and returns every system call by which it changed something, in order, as `Injection` names
 * it: `mkdirat:when=2`. `file`: where strace may write.
 */
export async function changesOf(
  command: readonly string[],
  env: NodeJS.ProcessEnv,
  file: string,
): Promise<string[]> {
  const calls = CHANGES.split(',').map((call) => `?${call}`);
  const { status, stderr } = await runCommand(
    ['strace', '-o', file, '-e', `trace=${calls}`, ...command],
    env,
  );
  if (status !== 0) throw new Error(`${command.join(' ')}: ${stderr}`);
  const text = readFileSync(file, 'latin1');
  const counts = new Map<string, number>();
  const points: string[] = [];
  for (const line of text.split('\n')) {
    const call = /^(\w+)\(/.exec(line)?.[1];
    if (call === undefined) continue;
    const count = (counts.get(call) ?? 0) + 1;
    counts.set(call, count);
    if (call !== 'openat' || line.includes('O_CREAT')) points.push(`${call}:when=${count}`);
  }
  return points;
}

/** The command, which is killed before it does the call that `point` names. `all`: or one of its children is. */
export function killedAt(
  point: string,
  command: readonly string[],
  { all = false }: { readonly all?: boolean } = {},
): string[] {
  const [call, when] = point.split(':') as [string, string];
  const inject = `inject=${call}:signal=SIGKILL:${when}`;
  return [
    'strace',
    ...(all ? ['-f'] : []),
    '-o',
    '/dev/null',
    '-e',
    `trace=${call}`,
    '-e',
    inject,
    ...command,
  ];
}
