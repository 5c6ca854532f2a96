/** Settings of one worktree (`config.worktree`), and what must be so before there may be any. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DriverContext } from './driver.ts';
import type { Settings } from './settings.ts';

/** As `git worktree add`: a new worktree begins with the main one's settings, but for those about its place. */
export async function copyWorktreeConfig(
  { place, signal }: DriverContext,
  settings: Settings,
  adminDirectory: string,
): Promise<void> {
  const source = join(place.commonDir, 'config.worktree');
  if (!settings.isTrue('extensions.worktreeconfig') || !existsSync(source)) return;
  const file = join(adminDirectory, 'config.worktree');
  writeFileSync(file, readFileSync(source));
  for (const key of ['core.worktree', 'core.bare']) {
    await place.git(['config', '--file', file, '--unset-all', key], { okStatus: [0, 5], signal });
  }
}

/** Size and mtime are enough for git to take a file as unchanged, in this worktree. */
export async function setMinimalStat(
  { place, signal }: DriverContext,
  settings: Settings,
  adminDirectory: string,
): Promise<void> {
  if (!settings.isTrue('extensions.worktreeconfig')) await enableWorktreeConfig({ place, signal });
  const file = join(adminDirectory, 'config.worktree');
  await place.git(['config', '--file', file, 'core.checkStat', 'minimal'], { signal });
  await place.git(['config', '--file', file, 'core.trustctime', 'false'], { signal });
}

/** What the shared file says of the main worktree alone moves to that one's own file first (git-worktree(1)). */
async function enableWorktreeConfig({
  place,
  signal,
}: Pick<DriverContext, 'place' | 'signal'>): Promise<void> {
  const shared = join(place.commonDir, 'config');
  const own = join(place.commonDir, 'config.worktree');
  for (const key of ['core.bare', 'core.worktree']) {
    const found = await place.git(['config', '--file', shared, '--get', key], { okStatus: [0, 1], signal });
    const value = found.stdout.toString().replace(/\n$/, '');
    if (found.status !== 0 || (key === 'core.bare' && value !== 'true')) continue;
    await place.git(['config', '--file', own, key, value], { signal });
    await place.git(['config', '--file', shared, '--unset-all', key], { signal });
  }
  await place.git(['config', '--file', shared, 'extensions.worktreeConfig', 'true'], { signal });
}
