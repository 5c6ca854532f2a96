/** File systems in a file, for what a tmpfs and the machine's own disk do not have. Root only. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { programMissing } from './subjects.ts';

const MIB = 1 << 20;
/** As small as their makers allow. */
const SIZES = { xfs: 320 * MIB, btrfs: 256 * MIB } as const;

export type LoopType = keyof typeof SIZES;

interface LoopFileSystem {
  readonly root: string;
  unmount(): void;
}

function mountLoop(type: LoopType): LoopFileSystem {
  const directory = mkdtempSync(join(tmpdir(), 'git2db-loop-'));
  const [image, root] = [join(directory, 'image'), join(directory, 'root')];
  const unmount = () => {
    // Whoever served from there may need a moment to let go.
    spawnSync('umount', ['--lazy', root], { stdio: 'ignore' });
    rmSync(directory, { recursive: true, force: true });
  };
  chmodSync(directory, 0o755);
  mkdirSync(root);
  writeFileSync(image, '');
  truncateSync(image, SIZES[type]);
  try {
    execFileSync(`mkfs.${type}`, ['-q', image], { stdio: 'pipe' });
    execFileSync('mount', ['-t', type, '-o', 'loop', image, root], { stdio: 'pipe' });
  } catch (error) {
    unmount();
    throw error;
  }
  return { root, unmount };
}

/** Its root, which everybody may write to; it goes with the test. */
export function loopFileSystem(t: ExecutionContext, type: LoopType): string {
  const { root, unmount } = mountLoop(type);
  t.teardown(unmount);
  execFileSync('chmod', ['1777', root]);
  return root;
}

/** Why this host has no such file system. */
export function loopMissing(type: LoopType): string | undefined {
  if (process.getuid!() !== 0) return 'needs root';
  const missing = programMissing(`mkfs.${type}`);
  if (missing !== undefined) return missing;
  try {
    mountLoop(type).unmount();
    return undefined;
  } catch (error) {
    return `no ${type} can be mounted here: ${(error as Error).message.split('\n')[1] ?? ''}`;
  }
}

/** Root of a file system that keeps no extended attributes, which everybody may write to; it goes with the test. */
export function ramFileSystem(t: ExecutionContext): string {
  const root = mkdtempSync(join(tmpdir(), 'git2db-ramfs-'));
  execFileSync('mount', ['-t', 'ramfs', 'none', root]);
  t.teardown(() => {
    spawnSync('umount', ['--lazy', root], { stdio: 'ignore' });
    rmSync(root, { recursive: true, force: true });
  });
  chmodSync(root, 0o1777);
  return root;
}
