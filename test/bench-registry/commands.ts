/** Commands beside ours: started straight from here, their output read to its end, as a program that uses git does. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';

/** For git, and for our library alike. */
export const ENV: NodeJS.ProcessEnv = {
  ...process.env,
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'bench',
  GIT_AUTHOR_EMAIL: 'bench@example.org',
  GIT_COMMITTER_NAME: 'bench',
  GIT_COMMITTER_EMAIL: 'bench@example.org',
  LC_ALL: 'C',
};

/** Git looks again at files that are as young as its index; after this time they are not. */
export const RACY_MS = 1100;

export interface CommandOptions {
  readonly cwd: string;
  readonly input?: string;
}

/** Milliseconds until the command has ended. Throws when its exit status is not 0. */
export async function commandMs(command: readonly string[], { cwd, input }: CommandOptions): Promise<number> {
  const [program, ...args] = command as [string, ...string[]];
  const start = performance.now();
  const child = spawn(program, args, {
    cwd,
    env: ENV,
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stdout!.resume();
  child.stderr!.on('data', (bytes) => {
    stderr = (stderr + bytes).slice(-2000);
  });
  child.stdin?.end(input);
  const [status] = (await once(child, 'close')) as [number | null];
  const took = performance.now() - start;
  if (status !== 0)
    throw new Error(`${command.join(' ').slice(0, 200)}: ${stderr.trim() || `exit status ${status}`}`);
  return took;
}

/** Milliseconds until `work` has ended. */
export async function workMs(work: () => unknown): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** Bytes on disk, as du(1) counts them. */
export function diskBytes(...paths: readonly string[]): number {
  const { status, stdout, stderr } = spawnSync('du', ['-s', '-c', '--block-size=1', '--', ...paths], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`du: ${stderr.trim()}`);
  return Number(stdout.trim().split('\n').at(-1)!.split('\t')[0]);
}

/** What was written before is no longer on its way to the disk. */
export function settle(path: string): void {
  spawnSync('sync', ['-f', path]);
}
