/** Where this installation's filter program is, and the command that makes git start it. */
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FILTER_PROGRAM, findProgram } from '../large-files/install.ts';
import { shellWord } from '../large-files/shell-word.ts';

let known: string | undefined;

/** Absolute path of `git2db-filter`: that of the package this file belongs to, else the first on PATH. */
export function filterProgram(env: NodeJS.ProcessEnv = process.env): string | undefined {
  if (known !== undefined && isExecutable(known)) return known;
  const bundled = join(packageDirectory(), 'dist', 'bin', `${FILTER_PROGRAM}.js`);
  known = isExecutable(bundled) ? bundled : findProgram(FILTER_PROGRAM, absoluteOnly(env.PATH ?? ''));
  return known;
}

/** For `filter.xet.process`. Git starts a command of plain characters without a shell. */
export function filterCommand(env?: NodeJS.ProcessEnv): string | undefined {
  const program = filterProgram(env);
  return program === undefined ? undefined : shellWord(program);
}

/** The nearest directory above this file whose package.json is ours; works in the sources, the build and a bundle. */
function packageDirectory(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    if (packageName(join(directory, 'package.json')) === 'git2db') return directory;
    const parent = dirname(directory);
    if (parent === directory) return directory;
    directory = parent;
  }
}

function packageName(file: string): unknown {
  try {
    return (JSON.parse(readFileSync(file, 'utf8')) as { name?: unknown }).name;
  } catch {
    return undefined;
  }
}

/** A relative entry means another program wherever git happens to run. */
function absoluteOnly(searchPath: string): string {
  return searchPath
    .split(delimiter)
    .filter((folder) => folder.startsWith('/'))
    .join(delimiter);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
