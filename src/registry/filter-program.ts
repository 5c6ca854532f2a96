/** Where this installation's filter programs are, and the commands that make git start them. */
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FILTER_PROGRAM, findProgram } from '../large-files/install.ts';
import { LFS_FILTER_PROGRAM } from '../large-files/lfs-install.ts';
import { shellWord } from '../large-files/shell-word.ts';

const known = new Map<string, string | undefined>();

/** Absolute path of a program of ours: that of the package this file belongs to, else the first on PATH. */
export function filterProgram(
  env: NodeJS.ProcessEnv = process.env,
  name: string = FILTER_PROGRAM,
): string | undefined {
  const last = known.get(name);
  if (last !== undefined && isExecutable(last)) return last;
  const bundled = join(packageDirectory(), 'dist', 'bin', `${name}.js`);
  const found = isExecutable(bundled) ? bundled : findProgram(name, absoluteOnly(env.PATH ?? ''));
  known.set(name, found);
  return found;
}

/** For `filter.xet.process`. Git starts a command of plain characters without a shell. */
export function filterCommand(env?: NodeJS.ProcessEnv): string | undefined {
  const program = filterProgram(env);
  return program === undefined ? undefined : shellWord(program);
}

/** For `filter.lfs.process`: never the same command, as git shares one process between equal ones. */
export function lfsFilterCommand(env?: NodeJS.ProcessEnv): string | undefined {
  const program = filterProgram(env, LFS_FILTER_PROGRAM);
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
