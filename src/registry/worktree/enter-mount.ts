/** Commands in a mount that only its own namespace sees: through `git2db-mount exec`. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { quickStartWords } from '../../node-start.ts';
import { Git2dbError } from '../../xet/errors.ts';

/** Makes the words of a command that runs `argv` where the tree at `merged` is seen. */
export function enterMount(merged: string): (argv: readonly string[]) => readonly string[] {
  const node = [...quickStartWords(process.env), process.execPath];
  return (argv) => [...node, mountProgram(), 'exec', merged, '--', ...argv];
}

/** From a bundle the program is beside this file, from the library's modules in dist/bin. */
function mountProgram(): string {
  const places = ['./git2db-mount.js', '../../bin/git2db-mount.js', '../../mount-helper/main.js'];
  const found = places
    .map((place) => fileURLToPath(new URL(place, import.meta.url)))
    .find((file) => existsSync(file));
  if (found !== undefined) return found;
  throw new Git2dbError('DRIVER_UNAVAILABLE', 'git2db-mount is missing: the package is not complete');
}
