/** Files named on the command line, with `-` for standard input. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { getSystemErrorMap } from 'node:util';
import { EXIT_FALSE, EXIT_UNEXPECTED, exitCodeOf } from '../exit-codes.ts';
import type { DigestOptions, digestFile, FileDigest } from '../large-files/file-digest.ts';
import { errnoOf, messageOf } from '../xet/errors.ts';
import type { CommandContext } from './command.ts';

/**
 * What `read` makes of the open file; undefined, and said on stderr, when it cannot be read. `isOnly`: then this is
 * all that there is to tell with `--json`, too.
 */
export function readOperand<T>(
  path: string,
  { stdin, output, json }: CommandContext,
  read: (fd: number, size: number) => T,
  isOnly: boolean,
): T | undefined {
  let fd: number | undefined;
  try {
    fd = path === '-' ? stdin : openSync(path, 'r');
    return read(fd, fstatSync(fd).size);
  } catch (error) {
    if (exitCodeOf(error) !== EXIT_UNEXPECTED) throw error;
    const message = `cannot read ${path}: ${systemReason(error)}`;
    if (json && isOnly) {
      output.jsonError({ error: { code: errnoOf(error) ?? null, exitCode: EXIT_FALSE, message } });
    }
    output.error(message);
    return undefined;
  } finally {
    if (fd !== undefined && path !== '-') closeSync(fd);
  }
}

/** Digests an open file under a progress bar, by what large-files-library.ts has for that. */
export function digestWithProgress(
  path: string,
  { output }: CommandContext,
  file: { readonly fd: number; readonly size: number; readonly head?: Uint8Array },
  options: Pick<DigestOptions, 'sha256'>,
  digest: typeof digestFile,
): FileDigest {
  const progress = output.progress(path, 'bytes', file.size > 0 ? file.size : undefined);
  try {
    return digest(file.fd, { ...options, head: file.head, onBytes: (count) => progress.advance(count) });
  } finally {
    progress.finish();
  }
}

/** `no such file or directory` for ENOENT and so on. */
function systemReason(error: unknown): string {
  const { errno } = error as { errno?: unknown };
  const known = typeof errno === 'number' ? getSystemErrorMap().get(errno) : undefined;
  return known?.[1] ?? messageOf(error);
}
