/**
 * The filter talks to git with synchronous calls on inherited descriptors. They are pipes in blocking
 * mode, but the mode belongs to whoever made the pipe, and a caller that is not git may hand over a
 * non-blocking one. `blocking` makes such a descriptor behave like any other.
 */

import { errnoOf } from '../xet/errors.ts';

const MAX_PAUSE_MS = 16;

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/**
 * The result of the system call `call`, repeated while the descriptor is not ready (EAGAIN, with pauses
 * that grow to 16 ms) or a signal interrupts it (EINTR). Any other error is thrown as it is.
 */
export function blocking(call: () => number): number {
  for (let pauseMs = 1; ; ) {
    try {
      return call();
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'EINTR') continue;
      if (errno !== 'EAGAIN') throw error;
      Atomics.wait(sleeper, 0, 0, pauseMs);
      pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS);
    }
  }
}
