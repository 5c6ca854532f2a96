/** The branch that a worktree is made with, and its undoing: no failure leaves a stray one. */

import { Git2dbError } from '../../xet/errors.ts';
import { ReferenceError_ } from '../errors.ts';
import type { CheckoutTarget, DriverContext } from './driver.ts';
import type { WorktreeState } from './worktree-state.ts';

/** Throws REF_INVALID where somebody else has made the branch meanwhile. */
export async function makeBranch({ place, signal }: DriverContext, target: CheckoutTarget): Promise<void> {
  const name = target.branch!.slice('refs/heads/'.length);
  try {
    await place.git(['branch', '--no-track', '--end-of-options', name, target.commit], { signal });
  } catch (error) {
    if (!(error instanceof Git2dbError) || !/already exists/.test(error.message)) throw error;
    throw new ReferenceError_(`the branch ${name} exists already: give it as the ref, or take another name`, {
      cause: error,
      data: { branch: name },
    });
  }
  if (target.upstream === undefined) return;
  const tracking = await place.git(['config', '--get', 'branch.autoSetupMerge'], {
    okStatus: [0, 1],
    signal,
  });
  if (tracking.stdout.toString().trim() === 'false') return;
  await place.git(['branch', `--set-upstream-to=${target.upstream}`, '--end-of-options', name], { signal });
}

/** Only while it is where it was made: whoever has committed to it since keeps it. */
export async function unmakeBranch({ place }: DriverContext, state: WorktreeState): Promise<void> {
  if (state.madeBranch !== true || state.branch === undefined) return;
  const gone = await place.git(['update-ref', '-d', '--end-of-options', state.branch, state.base], {
    okStatus: [0, 1, 128],
  });
  if (gone.status !== 0) return;
  const section = `branch.${state.branch.slice('refs/heads/'.length)}`;
  await place.git(['config', '--local', '--remove-section', section], { okStatus: [0, 1, 5, 128] });
}
