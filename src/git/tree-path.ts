/**
 * Paths of files as git has them: relative to the top of the work tree, `/` between, any byte but NUL.
 * They are given as text, or as bytes where they are no UTF-8, and come back as both.
 */
import { isUtf8 } from 'node:buffer';
import { Git2dbError } from '../xet/errors.ts';
import type { GitArg } from './byte-words.ts';

export type TreePath = string | Uint8Array;

export interface PathText {
  /** With U+FFFD for what is no UTF-8. */
  readonly path: string;
  /** The path as it is; only there where it is no UTF-8. */
  readonly pathBytes?: Buffer;
}

/** `bytes` for a result. The copy is the caller's. */
export function pathText(bytes: Buffer): PathText {
  const path = bytes.toString('utf8');
  return isUtf8(bytes) ? { path } : { path, pathBytes: Buffer.from(bytes) };
}

/** Throws PATH_INVALID for a path that leads out of the work tree, or that no file can have. */
export function checkPath(path: TreePath): Buffer {
  const bytes = Buffer.from(path as Uint8Array);
  const text = bytes.toString('latin1');
  const why =
    text === ''
      ? 'it is empty'
      : text.startsWith('/')
        ? 'it is absolute; give it relative to the top of the work tree'
        : text.includes('\0')
          ? 'it holds a NUL byte'
          : text.split('/').includes('..')
            ? 'it holds ".."'
            : undefined;
  if (why === undefined) return bytes;
  throw new Git2dbError(
    'PATH_INVALID',
    `${JSON.stringify(bytes.toString('utf8').slice(0, 200))} is no path in the work tree: ${why}`,
    {
      data: { path: bytes.toString('utf8') },
    },
  );
}

/** `--` and the paths, for a command that takes no `--pathspec-from-file`. */
export function pathArgs(paths: readonly TreePath[] | undefined): GitArg[] {
  return paths === undefined || paths.length === 0 ? [] : ['--', ...paths.map(checkPath)];
}

/** For the stdin of a command with `--pathspec-from-file=- --pathspec-file-nul`. */
export function pathInput(paths: readonly TreePath[]): Buffer {
  return Buffer.concat(paths.flatMap((path) => [checkPath(path), Buffer.of(0)]));
}

export const PATHS_FROM_INPUT = ['--pathspec-from-file=-', '--pathspec-file-nul'] as const;
