/** Putting another program in the place of this process, with arguments and environment as bytes. */

import { addressOf, bindAll, type CString, result } from '../../native/library.ts';
import { cString, fcntl } from './libc.ts';

const SIGPIPE = 13;
const SIG_DFL = 0;
const F_SETFD = 2;

const calls = bindAll({
  execve: 'int execve(const void*, const void*, const void*)',
  signal: 'int64_t signal(int, int64_t)',
});

/**
 * execve(2). Comes back only when it failed, with `-errno`. The new program has our standard streams, and no
 * other descriptors; signals are handled as they were before Node started.
 */
export function replaceProcess(
  file: string | Buffer,
  words: readonly (string | Buffer)[],
  environment: readonly Buffer[],
): number {
  const strings = [words, environment].map((list) => list.map((word) => cString(word)));
  const [argv, envp] = strings.map(pointers) as [Buffer, Buffer];
  // Node ignores it, and what is ignored stays so in the new program.
  calls.signal(SIGPIPE, SIG_DFL);
  // Node marks all that it has inherited to be closed.
  for (const fd of [0, 1, 2]) fcntl(fd, F_SETFD, 0);
  return result(calls.execve(cString(file), argv, envp));
}

/** `char *[]`, ended by a null pointer. Valid while the strings are. */
function pointers(strings: readonly CString[]): Buffer {
  const out = Buffer.alloc((strings.length + 1) * 8);
  for (const [i, string] of strings.entries()) out.writeBigUInt64LE(BigInt(addressOf(string)), i * 8);
  return out;
}
