/** Programs on PATH, and what git's configuration says of them. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { basename, delimiter, isAbsolute, join } from 'node:path';
import { parseBool } from '../git/config.ts';
import { splitZ } from '../git/records.ts';
import { git, gitText } from '../git/runner.ts';
import { compareVersions } from '../git/version.ts';
import { packageVersion } from '../version.ts';
import { Git2dbError } from '../xet/errors.ts';
import { type Fault, fault, type Patient } from './doctor-fault.ts';
import { checkLfsDriver } from './doctor-lfs.ts';
import { FILTER_PROGRAM, findProgram } from './install.ts';
import { shellWord } from './shell-word.ts';

const OLDEST_NODE = '20.19';
/** `git config --show-scope`, which install needs. */
const OLDEST_GIT = '2.26';
const INSTALL = 'npm install --global git2db';
/** Any of these makes git start a shell for the command. */
const SHELL_CHARACTERS = /[\s|&;<>()$`\\"'*?[#~=%]/;

/** Node, git, native modules. `usable` is false where nothing else can be looked at. */
export async function checkPrograms({
  env,
  host,
}: Pick<Patient, 'env' | 'host'>): Promise<{ readonly faults: Fault[]; readonly usable: boolean }> {
  const faults: Fault[] = [];
  if (compareVersions(host.nodeVersion, OLDEST_NODE) < 0) {
    const message = `Node ${host.nodeVersion} is too old: git2db needs ${OLDEST_NODE} or newer`;
    faults.push(fault('error', 'node-too-old', message, ['nvm install 22']));
  }
  if (!host.hasWebAssembly()) {
    const message = 'WebAssembly is switched off: chunking, hashing and LZ4 are slow';
    faults.push(fault('warning', 'no-webassembly', message, ['unset NODE_OPTIONS']));
  } else if (!host.hasNativeBlake3()) {
    const message = 'the native BLAKE3 module does not load: hashing takes two to three times as long';
    faults.push(fault('warning', 'native-blake3-missing', message, [`${INSTALL} --include=optional`]));
  }
  let found: string;
  try {
    const text = await gitText(['--version'], { env: { PATH: env.PATH } });
    found = /\d+(?:\.\d+)+/.exec(text)?.[0] ?? text;
  } catch (error) {
    if (!(error instanceof Git2dbError)) throw error;
    faults.push(fault('error', 'git-missing', error.message, ['sudo apt-get install git']));
    return { faults, usable: false };
  }
  if (compareVersions(found, OLDEST_GIT) < 0) {
    const message = `git ${found} is too old: git2db needs ${OLDEST_GIT} or newer`;
    faults.push(fault('error', 'git-too-old', message, ['sudo apt-get install git']));
  }
  return { faults, usable: true };
}

/** For what `git -c` or the environment says. */
const UNSET_COMMAND = 'unset GIT_CONFIG_COUNT GIT_CONFIG_PARAMETERS';

interface ScopedValue {
  /** Of one of git's configuration files, or `command`. */
  readonly scope: string;
  readonly key: string;
  readonly value: string | undefined;
}

/** Keys in `xet.*` that mean something, and what values they take. */
const SETTINGS: Readonly<
  Record<string, { readonly takes: string; readonly isValid: (value: string) => boolean }>
> = {
  'xet.store': { takes: 'a directory', isValid: () => true },
  'xet.compression': oneOf('auto', 'none', 'lz4', 'bg4-lz4'),
  'xet.fsync': oneOf('batch', 'none'),
  'xet.onmissing': oneOf('error', 'pointer'),
  'xet.remote': { takes: 'an address, or the name of a git remote', isValid: () => true },
  'xet.fetchonsmudge': { takes: 'true or false', isValid: (value) => parseBool(value) !== undefined },
  'xet.skipsmudge': { takes: 'true or false', isValid: (value) => parseBool(value) !== undefined },
};

function oneOf(...values: readonly string[]): (typeof SETTINGS)[string] {
  // An empty value stands for the default.
  return { takes: values.join(', '), isValid: (value) => value === '' || values.includes(value) };
}

/** The driver in git's configuration, and the settings. `isUsed`: some file has filter=xet. */
export async function checkSettings(patient: Patient, isUsed: boolean): Promise<Fault[]> {
  const values = await readScoped(patient, '^(filter\\.(xet|lfs)|xet|git2db\\.replaced)\\.');
  const last = new Map(values.map((entry) => [entry.key, entry]));
  return [
    ...checkDriver(patient, last, isUsed),
    ...checkRivals(values),
    ...checkSharing(last),
    ...checkLfsDriver(values, patient.env.PATH ?? ''),
    ...checkXetKeys(values),
  ];
}

function checkDriver({ env }: Patient, last: ReadonlyMap<string, ScopedValue>, isUsed: boolean): Fault[] {
  const process = last.get('filter.xet.process');
  const required = last.get('filter.xet.required');
  const faults: Fault[] = [];
  const command = process?.value ?? '';
  if (process === undefined || command === '') {
    const remedy = process === undefined ? ['git2db xet install'] : reinstall(process.scope);
    faults.push(
      isUsed
        ? fault(
            'error',
            'attribute-without-filter',
            'files have filter=xet, but git has no filter.xet.process: it stores them whole',
            remedy,
          )
        : fault(
            'error',
            'filter-process-unset',
            'git has no filter.xet.process: it would store large files whole',
            remedy,
          ),
    );
  } else if (SHELL_CHARACTERS.test(command)) {
    const message = `filter.xet.process is ${JSON.stringify(command)}, not a single word: git starts a shell for it, and a missing program ends git`;
    faults.push(fault('warning', 'filter-process-not-one-word', message, reinstall(process.scope)));
  } else if (basename(command) !== FILTER_PROGRAM) {
    const message = `filter.xet.process is ${JSON.stringify(command)}, which is not ${FILTER_PROGRAM}`;
    faults.push(fault('error', 'filter-process-other', message, reinstall(process.scope)));
  }
  if (process !== undefined && (required === undefined || parseBool(required.value) !== true)) {
    const scope = required?.scope ?? process.scope;
    const message =
      'filter.xet.required is not true: when the filter fails, git silently stores whole contents, or leaves pointers';
    faults.push(fault('error', 'filter-not-required', message, reinstall(scope)));
  }
  const word =
    basename(command) === FILTER_PROGRAM && !SHELL_CHARACTERS.test(command) ? command : FILTER_PROGRAM;
  return [...faults, ...checkFilterProgram(word, env.PATH ?? '')];
}

function reinstall(scope: string): string[] {
  return [scope === 'command' ? UNSET_COMMAND : `git2db xet install --${scope} --force`];
}

/** The program that git will start: a name on PATH, or a path. */
function checkFilterProgram(word: string, searchPath: string): Fault[] {
  const path = isAbsolute(word) ? executable(word) : findProgram(word, searchPath);
  if (path === undefined) {
    const there = isAbsolute(word)
      ? isFile(word) && word
      : searchPath
          .split(delimiter)
          .map((folder) => join(folder, word))
          .find(isFile);
    return there
      ? [
          fault('error', 'filter-not-executable', `${there} is not executable`, [
            `chmod +x ${shellWord(there)}`,
          ]),
        ]
      : [
          fault(
            'error',
            'filter-not-on-path',
            `${word} is not ${isAbsolute(word) ? 'there' : 'on PATH'}: git will fail on files with filter=xet`,
            [INSTALL],
          ),
        ];
  }
  const { status, stdout, error } = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 30_000 });
  const version = /^git2db-filter (\S+)\n$/.exec(stdout ?? '')?.[1];
  if (status !== 0 || version === undefined) {
    const why = error?.message ?? `"--version" ended with status ${status}`;
    return [fault('error', 'filter-broken', `${path} does not run: ${why}`, [INSTALL])];
  }
  const own = packageVersion();
  if (version === own) return [];
  return [
    fault('warning', 'filter-version', `${path} is version ${version}, git2db is ${own}`, [
      `${INSTALL}@${own}`,
    ]),
  ];
}

function executable(path: string): string | undefined {
  try {
    accessSync(path, constants.X_OK);
    return isFile(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

function checkRivals(values: readonly ScopedValue[]): Fault[] {
  return values
    .filter(({ key, value }) => (key === 'filter.xet.clean' || key === 'filter.xet.smudge') && value !== '')
    .map(({ key, value, scope }) => {
      const message = `${key} is ${JSON.stringify(value)}: a leftover that git uses only when filter.xet.process is not set`;
      return fault('warning', 'leftover-clean-smudge', message, [unset(scope, key)]);
    });
}

function checkSharing(last: ReadonlyMap<string, ScopedValue>): Fault[] {
  const xet = last.get('filter.xet.process')?.value;
  const lfs = last.get('filter.lfs.process');
  if (!xet || lfs?.value !== xet) return [];
  const message = `filter.lfs.process and filter.xet.process are both ${JSON.stringify(xet)}: git would start one process for both drivers, which cannot know which pointer to write`;
  return [fault('error', 'drivers-share-command', message, [unset(lfs.scope, lfs.key)])];
}

function checkXetKeys(values: readonly ScopedValue[]): Fault[] {
  return values
    .filter(({ key }) => key.startsWith('xet.'))
    .flatMap(({ key, value, scope }) => {
      const setting = SETTINGS[key];
      if (setting === undefined) {
        const message = `the ${scope} configuration sets ${key}, which means nothing to git2db`;
        return [fault('warning', 'unknown-setting', message, [unset(scope, key)])];
      }
      if (
        value === undefined ? key === 'xet.skipsmudge' || key === 'xet.fetchonsmudge' : setting.isValid(value)
      )
        return [];
      const found = value === undefined ? 'no value' : JSON.stringify(value);
      const message = `the ${scope} configuration sets ${key} to ${found}; it takes ${setting.takes}`;
      return [fault('error', 'bad-setting', message, [unset(scope, key)])];
    });
}

function unset(scope: string, key: string): string {
  return scope === 'command' ? UNSET_COMMAND : `git config --${scope} --unset-all ${shellWord(key)}`;
}

/** `git config -z --show-scope`: scope NUL key [newline value] NUL. */
async function readScoped({ cwd, env }: Patient, keyPattern: string): Promise<ScopedValue[]> {
  const args = ['config', '-z', '--show-scope', '--get-regexp', keyPattern];
  const { stdout } = await git(args, { cwd, env, keepGitEnv: true, okStatus: [0, 1] });
  const pieces = [...splitZ(stdout)].map((piece) => piece.toString('utf8'));
  const values: ScopedValue[] = [];
  for (let i = 0; i + 1 < pieces.length; i += 2) {
    const [key, ...rest] = pieces[i + 1]!.split('\n') as [string, ...string[]];
    values.push({ scope: pieces[i]!, key, value: rest.length === 0 ? undefined : rest.join('\n') });
  }
  return values;
}
