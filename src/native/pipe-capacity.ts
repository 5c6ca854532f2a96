/** How much a pipe holds before whoever writes has to wait (pipe(7), Linux 2.6.35). */
import { bindAll, result } from './library.ts';

const F_SETPIPE_SZ = 1031;
const F_GETPIPE_SZ = 1032;
const PIPE_DEFAULT = 65536;

const calls = bindAll({ fcntl: 'int fcntl(int, int, int64_t)' });

/**
 * How many bytes the pipe takes, having asked for `wanted`: more than a MiB takes privilege. `-errno` for what is
 * no pipe.
 */
export function raisePipeCapacity(fd: number, wanted: number): number {
  for (let bytes = wanted; bytes > PIPE_DEFAULT; bytes /= 2) {
    const capacity = result(calls.fcntl(fd, F_SETPIPE_SZ, bytes));
    if (capacity > 0) return capacity;
  }
  return result(calls.fcntl(fd, F_GETPIPE_SZ, 0));
}
