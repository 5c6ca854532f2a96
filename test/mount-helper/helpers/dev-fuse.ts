/**
 * Lets every user open /dev/fuse while a test file runs. Where only root may, root opens it to all and
 * puts the mode back when the last of the test files that asked has ended, also when it was killed: a
 * shell that waits for the end of its standard input does it, under a lock shared by all files.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const KEEPER = `exec 9>>"$1"
flock -s 9
mode=$(stat -c %a /dev/fuse)
if [ "$mode" != 666 ]; then echo "$mode" >"$1"; chmod 666 /dev/fuse; fi
echo ready
cat >/dev/null
flock -u 9
if flock -x -n 9; then
  mode=$(cat "$1")
  if [ -n "$mode" ]; then chmod "$mode" /dev/fuse; : >"$1"; fi
fi`;

/** Why ordinary users cannot have /dev/fuse, or undefined. */
export function devFuseMissing(): string | undefined {
  const found = statSync('/dev/fuse', { throwIfNoEntry: false });
  if (found === undefined) return 'there is no /dev/fuse';
  const isOpen = (found.mode & 0o006) === 0o006;
  return isOpen || process.getuid!() === 0 ? undefined : '/dev/fuse is closed to this user';
}

let opened: Promise<void> | undefined;

/** Returns when /dev/fuse is open to all; it is put back after this process has ended. */
export function openDevFuse(): Promise<void> {
  if (process.getuid!() !== 0) return Promise.resolve();
  opened ??= startKeeper();
  return opened;
}

async function startKeeper(): Promise<void> {
  const lock = join(tmpdir(), 'git2db-test-dev-fuse.lock');
  const keeper = spawn('sh', ['-c', KEEPER, 'sh', lock], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  await once(keeper.stdout, 'data');
  keeper.stdout.destroy();
  keeper.unref();
  // Neither may keep this process alive; that the pipe closes with it is the signal.
  (keeper.stdin as unknown as { unref(): void }).unref();
}
