/** What the figures of a run were measured on. */
import { spawnSync } from 'node:child_process';
import { arch, cpus, release } from 'node:os';

/** For `machine`. */
export const FUSE_OVERLAYFS_VERSION = [
  'sh',
  '-c',
  'fuse-overlayfs --version | sed -n "s/^fuse-overlayfs: //p"',
] as const;

/** `programs`: by the name to show, the command that tells the version in its first line. */
export function machine(programs: Readonly<Record<string, readonly string[]>> = {}): Record<string, string> {
  const first = ([program, ...args]: readonly string[]) =>
    spawnSync(program!, args, { encoding: 'utf8' }).stdout?.trim().split('\n')[0] || 'none';
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: `${cpus().length} x ${cpus()[0]?.model.trim() ?? arch()}`,
    kernel: release(),
    node: process.version,
    git: first(['git', '--version']),
    ...Object.fromEntries(Object.entries(programs).map(([name, command]) => [name, first(command)])),
    commit: first(['git', 'describe', '--always', '--dirty']),
  };
}
