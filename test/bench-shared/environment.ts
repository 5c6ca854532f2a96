/** The programs and the environment of those who take part in a bench: nothing of whoever runs it counts. */
import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** build/test/bench-shared -> the top of the source tree. */
export const TOP = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));

/** Makes the directory `bin` of links to programs: names, and paths from the top of the source tree. */
export function linkPrograms(bin: string, programs: Readonly<Record<string, string>>): void {
  mkdirSync(bin, { recursive: true });
  for (const [name, path] of Object.entries(programs)) {
    rmSync(join(bin, name), { force: true });
    symlinkSync(join(TOP, path), join(bin, name));
  }
}

export function benchEnvironment(home: string, bin: string): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(GIT|XET|XDG|HF_)|_proxy$/i.test(name));
  return {
    ...Object.fromEntries(inherited),
    HOME: home,
    PATH: `${bin}:${process.env.PATH}`,
    LC_ALL: 'C',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_TERMINAL_PROMPT: '0',
    GIT_AUTHOR_NAME: 'bench',
    GIT_AUTHOR_EMAIL: 'bench@example.org',
    GIT_COMMITTER_NAME: 'bench',
    GIT_COMMITTER_EMAIL: 'bench@example.org',
  };
}

/** Git's settings for all who take part. */
export const QUIET_GIT = { 'gc.auto': '0', 'advice.detachedHead': 'false' } as const;

export const XET_FILTER = {
  'filter.xet.process': 'git2db-filter',
  'filter.xet.required': 'true',
} as const;

/** As `git lfs install` sets it up. */
export const LFS_FILTER = {
  'filter.lfs.process': 'git-lfs filter-process',
  'filter.lfs.required': 'true',
  'filter.lfs.clean': 'git-lfs clean -- %f',
  'filter.lfs.smudge': 'git-lfs smudge -- %f',
} as const;
