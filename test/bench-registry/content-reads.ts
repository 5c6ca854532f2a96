/** Which files of a worktree a command opens: what git compares by content it must open. */
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { ENV } from './commands.ts';

export function missingTracer(): string | undefined {
  return spawnSync('strace', ['-V'], { stdio: 'ignore' }).error ? 'strace is not installed' : undefined;
}

/** How many tracked files `command`, run in `workTree`, opens. `scratch`: where the trace may lie meanwhile. */
export function openedFiles(workTree: string, command: readonly string[], scratch: string): number {
  const trace = join(scratch, 'opened.strace');
  const tracer = ['-f', '-qq', '-s', '4096', '-e', 'trace=open,openat,openat2', '-o', trace];
  const { status, stderr } = spawnSync('strace', [...tracer, ...command], {
    cwd: workTree,
    env: ENV,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`strace: ${stderr.trim()}`);
  const listed = spawnSync('git', ['ls-files', '-z'], {
    cwd: workTree,
    env: ENV,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  const tracked = new Set(listed.stdout.split('\0').filter(Boolean));
  const opened = new Set<string>();
  for (const line of readFileSync(trace, 'utf8').split('\n')) {
    // A failed one read nothing; a directory is listed, not read.
    const path = /open(?:at2?)?\((?:[^,"]+, )?"([^"]*)"/.exec(line)?.[1];
    if (path === undefined || / = -1 /.test(line)) continue;
    const inside = path.startsWith('/') ? relative(workTree, path) : path;
    if (tracked.has(inside)) opened.add(inside);
  }
  rmSync(trace);
  return opened.size;
}
