/** The one hook that `git worktree add` runs. */
import { accessSync, constants } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { openPlace } from '../git-place.ts';
import type { DriverContext } from './driver.ts';
import { enterMount } from './enter-mount.ts';
import type { Settings } from './settings.ts';

export interface CheckedOut {
  readonly path: string;
  readonly commit: string;
  readonly gitDir: string;
  readonly settings: Settings;
  readonly backend?: string | undefined;
}

/** post-checkout in the new worktree, if the repository is trusted and has one. Its failure is no failure, as in git. */
export async function runPostCheckout(
  context: DriverContext,
  { path, gitDir, settings, commit, backend }: CheckedOut,
): Promise<void> {
  const { place, signal } = context;
  if (!place.trusted) return;
  const set = settings.get('core.hookspath');
  const directory =
    set === undefined ? join(place.commonDir, 'hooks') : isAbsolute(set) ? set : join(path, set);
  try {
    accessSync(join(directory, 'post-checkout'), constants.X_OK);
  } catch {
    return;
  }
  const there = await openPlace(path, {
    trusted: true,
    env: place.env,
    ...(backend === 'userns'
      ? { enter: enterMount(path), paths: { gitDir, commonDir: place.commonDir, workTree: path } }
      : {}),
  });
  const none = '0'.repeat(commit.length);
  await there.git(['hook', 'run', 'post-checkout', '--', none, commit, '1'], {
    okStatus: Array.from({ length: 256 }, (_, status) => status),
    signal,
  });
}
