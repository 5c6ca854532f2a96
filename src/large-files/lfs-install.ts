/**
 * `filter=lfs` served by our program. What stood in git's configuration before is remembered there, under
 * `git2db.replaced.`, and comes back with uninstall.
 */
import { setConfig, unsetConfig } from '../git/config.ts';
import { splitZ } from '../git/records.ts';
import { git } from '../git/runner.ts';
import { Git2dbError } from '../xet/errors.ts';
import type { ConfigChange, ConfigValue, InstallScope } from './install.ts';

export const LFS_FILTER_PROGRAM = 'git2db-lfs-filter';

interface Setting {
  readonly key: string;
  /** Undefined: the key must not be set. */
  readonly value: string | undefined;
}

const SETTINGS: readonly Setting[] = [
  { key: 'filter.lfs.process', value: LFS_FILTER_PROGRAM },
  { key: 'filter.lfs.required', value: 'true' },
  // One process for each file; git takes them only where there is no process, and others look at them first.
  { key: 'filter.lfs.clean', value: undefined },
  { key: 'filter.lfs.smudge', value: undefined },
];

const REMEMBERED = 'git2db.replaced';

/** What any version of git-lfs writes. */
const GIT_LFS = /^git[- ]lfs (?:filter-process|clean|smudge)(?: --skip)?(?: --)?(?: %f)?$/;

export interface LfsInstallOptions {
  readonly cwd: string;
  readonly scope: InstallScope;
  /** Replace values that neither git-lfs nor git2db wrote. */
  readonly force: boolean;
}

export interface LfsInstallResult {
  readonly changes: readonly ConfigChange[];
  /** git-lfs was told to leave pointers (`git lfs install --skip-smudge`). */
  readonly didSkip: boolean;
}

/** Throws REFUSED for a foreign value, before anything was changed. */
export async function installLfs({ cwd, scope, force }: LfsInstallOptions): Promise<LfsInstallResult> {
  const present = await readScope(cwd, scope);
  const foreign = SETTINGS.filter(({ key, value }) => {
    const values = present.get(key) ?? [];
    return values.some((found) => found !== value && !GIT_LFS.test(found) && !isBoolean(key));
  });
  if (foreign.length > 0 && !force) {
    const lines = foreign.map(({ key }) => `  ${key} = ${present.get(key)!.join(', ')}`);
    throw new Git2dbError(
      'REFUSED',
      `the ${scope} configuration already holds\n${lines.join('\n')}\nwhich neither git-lfs nor git2db wrote; --force replaces it`,
      { data: { scope, keys: foreign.map(({ key }) => key) } },
    );
  }
  const run = { cwd, keepGitEnv: true };
  const changes: ConfigChange[] = [];
  let didSkip = false;
  const isOurs = present.get('filter.lfs.process')?.join() === LFS_FILTER_PROGRAM;
  for (const { key, value } of SETTINGS) {
    const values = present.get(key);
    const isWanted = value === undefined ? values === undefined : values?.length === 1 && values[0] === value;
    // What is right already was somebody else's, too, and comes back as it was.
    if (values !== undefined && !(isWanted && isOurs)) {
      didSkip ||= values.some((found) => / --skip\b/.test(found));
      await unsetConfig(`--${scope}`, `${REMEMBERED}.${key}`, run);
      for (const found of values)
        await git(['config', `--${scope}`, '--add', `${REMEMBERED}.${key}`, found], run);
    }
    if (isWanted) continue;
    if (value === undefined) await unsetConfig(`--${scope}`, key, run);
    else await setConfig(`--${scope}`, key, value, run);
    changes.push({ key, from: values?.join(', '), to: value });
  }
  return { changes, didSkip };
}

/** Undoes `installLfs`. A key that holds something else by now stays as it is. */
export async function uninstallLfs({
  cwd,
  scope,
}: Pick<LfsInstallOptions, 'cwd' | 'scope'>): Promise<{ changes: ConfigChange[]; kept: ConfigValue[] }> {
  const present = await readScope(cwd, scope);
  const run = { cwd, keepGitEnv: true };
  const changes: ConfigChange[] = [];
  const kept: ConfigValue[] = [];
  // Not ours to begin with, or taken over by somebody since: nothing is put back over it.
  const process = present.get('filter.lfs.process');
  const isOurs = process?.length === 1 && process[0] === LFS_FILTER_PROGRAM;
  for (const { key, value } of SETTINGS) {
    const values = present.get(key);
    const before = present.get(`${REMEMBERED}.${key}`) ?? [];
    const isUnchanged =
      value === undefined ? values === undefined : values?.length === 1 && values[0] === value;
    if (isOurs && isUnchanged && (values !== undefined || before.length > 0)) {
      if (values !== undefined) await unsetConfig(`--${scope}`, key, run);
      for (const found of before) await git(['config', `--${scope}`, '--add', key, found], run);
      changes.push({
        key,
        from: values?.join(', '),
        to: before.length === 0 ? undefined : before.join(', '),
      });
    } else if (isOurs && values !== undefined) kept.push({ key, value: values.join(', '), scope });
    if (before.length > 0) await unsetConfig(`--${scope}`, `${REMEMBERED}.${key}`, run);
  }
  return { changes, kept };
}

function isBoolean(key: string): boolean {
  return key === 'filter.lfs.required';
}

async function readScope(cwd: string, scope: InstallScope): Promise<Map<string, string[]>> {
  const pattern = '^(filter\\.lfs|git2db\\.replaced\\.filter\\.lfs)\\.(process|required|clean|smudge)$';
  const found = await git(['config', `--${scope}`, '-z', '--get-regexp', pattern], {
    cwd,
    keepGitEnv: true,
    okStatus: [0, 1],
  });
  const values = new Map<string, string[]>();
  for (const record of splitZ(found.stdout)) {
    const text = record.toString('utf8');
    const newline = text.indexOf('\n');
    const key = newline < 0 ? text : text.slice(0, newline);
    values.set(key, [...(values.get(key) ?? []), newline < 0 ? 'true' : text.slice(newline + 1)]);
  }
  return values;
}
