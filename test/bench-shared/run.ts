/** Commands that are not measured. */
import { spawnSync } from 'node:child_process';

/** What the command wrote to stdout. Throws when it fails, with what it wrote to stderr. */
export function run(command: readonly string[], cwd = '/', env: NodeJS.ProcessEnv = process.env): string {
  const [program, ...args] = command as [string, ...string[]];
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd,
    env,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${program} ${args.join(' ').slice(0, 80)}: ${stderr.trim()}`);
  return stdout;
}
