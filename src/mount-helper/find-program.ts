/** Programs of the system that mounts need, looked for in one way by all who need them. */
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { Git2dbError } from '../xet/errors.ts';

/** mount(8) runs its helpers without PATH. */
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The first executable file of this name; `searchPath` is the value of PATH, empty: the system's. */
export function findProgram(name: string, searchPath: string): string | undefined {
  return (searchPath || DEFAULT_PATH)
    .split(delimiter)
    .filter((directory) => directory.startsWith('/'))
    .map((directory) => join(directory, name))
    .find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** The setuid program that mounts and unmounts FUSE for ordinary users. Throws FUSERMOUNT_MISSING. */
export function findFusermount(searchPath: string): string {
  const program = findProgram('fusermount3', searchPath);
  if (program !== undefined) return program;
  throw new Git2dbError(
    'FUSERMOUNT_MISSING',
    'fusermount3, which mounts and unmounts for ordinary users, is not on PATH; install the package fuse3',
  );
}
