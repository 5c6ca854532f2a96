/**
 * The pre-push hook, which sends the content of large files before the refs move: for pointers of both kinds. Git
 * 2.54 and newer take it from the configuration (`hook.<name>.command`), beside any other; older ones have one file
 * for it in the hooks directory, where another hook may stand.
 *
 * A file is written over only if it is ours or one that git-lfs writes, which the shape of its text tells; git-lfs's
 * are remembered, so that uninstall puts them back. Any other hook is left alone: chained if that is wanted, else
 * refused with the line that it needs.
 */
import { chmodSync, lstatSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setConfig, unsetConfig } from '../git/config.ts';
import { type GitRun, git, gitText } from '../git/runner.ts';
import { gitAtLeast } from '../git/version.ts';
import { makeDirectories } from '../make-directories.ts';
import { errnoOf, FormatError, Git2dbError } from '../xet/errors.ts';
import { readRegular } from '../xet/regular-file.ts';
import { shellWord } from './shell-word.ts';

/** Hooks that git-lfs installs. Ours does the work of the first; the others serve its file locks, which we have not. */
export const LFS_HOOKS = ['pre-push', 'post-checkout', 'post-commit', 'post-merge'] as const;
export type HookName = (typeof LFS_HOOKS)[number];

export type HookState = 'missing' | 'ours' | 'git-lfs' | 'foreign';

export interface HookChange {
  readonly name: HookName;
  /** The file, or the section of the configuration. */
  readonly place: string;
  readonly from: HookState;
  readonly to: HookState;
}

export interface HookOptions {
  readonly cwd: string;
  /** Whether git-lfs's hooks are replaced. */
  readonly lfs: boolean;
  /** Keep a foreign pre-push hook and have it run after ours. */
  readonly chain: boolean;
  /** Default: what git's version says. */
  readonly inConfiguration?: boolean | undefined;
  /** Absolute path of git2db, for where PATH has none when the hook runs. */
  readonly program?: string | undefined;
  /** Default: the repository and the environment this process was started for. */
  readonly run?: Pick<GitRun, 'env' | 'keepGitEnv' | 'signal'> | undefined;
}

const MARK = '# Written by "git2db xet install"';
const CHAINED = 'pre-push.chained';
const CONFIG_HOOK = 'hook.git2db-xet';
export const CONFIG_HOOK_COMMAND: string = `${CONFIG_HOOK}.command`;
/** In git's configuration: the text of a hook that was replaced. */
const REMEMBERED = 'git2db.replaced.hooks';
const ARGUMENTS = 'xet hook pre-push';
const COMMAND = `git2db ${ARGUMENTS}`;

/** Line for a hook that somebody else writes. */
export const HOOK_LINE = `${COMMAND} "$@"`;

/** Throws REFUSED where a hook stands in the way that `installHooks` would not replace; NOT_A_REPOSITORY. */
export async function checkHooks(options: HookOptions): Promise<void> {
  if (await usesConfiguration(options)) return;
  const directory = await hooksDirectory(runOf(options));
  checkDirectory(directory);
  check(findHooks(directory).get('pre-push')!, options);
}

function check({ state, path }: FoundHook, { lfs, chain }: HookOptions): void {
  if (state === 'git-lfs' && !lfs) {
    throw refused(
      path,
      'is that of git-lfs',
      'git2db xet install --lfs',
      'puts ours in its place, which serves pointers of both kinds; --no-hooks leaves it',
    );
  }
  if (state === 'foreign' && !chain) {
    throw refused(
      path,
      'was not written by git2db',
      'git2db xet install --chain-hooks',
      `keeps it and runs it after ours; or put this line into it, and install with --no-hooks: ${HOOK_LINE}`,
    );
  }
}

function usesConfiguration({ inConfiguration }: HookOptions): boolean | Promise<boolean> {
  return inConfiguration ?? gitAtLeast('2.54');
}

/** Throws what `checkHooks` throws, before anything was changed. */
export async function installHooks(options: HookOptions): Promise<HookChange[]> {
  const { lfs, program } = options;
  const run = runOf(options);
  const directory = await hooksDirectory(run);
  const inConfiguration = await usesConfiguration(options);
  const found = findHooks(directory);
  if (!inConfiguration) {
    checkDirectory(directory);
    check(found.get('pre-push')!, options);
  }
  const wanted: HookName[] = lfs ? [...LFS_HOOKS] : ['pre-push'];
  const changes: HookChange[] = [];
  for (const name of wanted) {
    const { state, path, text } = found.get(name)!;
    if (name === 'pre-push' && !inConfiguration) {
      if (state === 'ours' && text === hookText(isChained(directory), program)) continue;
      if (state === 'git-lfs') await remember(run, name, text as string);
      if (state === 'foreign') renameSync(path, join(directory, CHAINED));
      writeHook(path, hookText(isChained(directory), program));
      changes.push({ name, place: path, from: state, to: 'ours' });
    } else if (state === 'git-lfs' || (state === 'ours' && inConfiguration)) {
      if (state === 'git-lfs') await remember(run, name, text as string);
      rmSync(path, { force: true });
      changes.push({ name, place: path, from: state, to: 'missing' });
    }
  }
  const command = program === undefined ? COMMAND : `${shellWord(program)} ${ARGUMENTS}`;
  if (inConfiguration && (await configuredHook(run)) !== command) {
    await setConfig('--local', CONFIG_HOOK_COMMAND, command, run);
    await setConfig('--local', `${CONFIG_HOOK}.event`, 'pre-push', run);
    changes.push({ name: 'pre-push', place: CONFIG_HOOK, from: 'missing', to: 'ours' });
  }
  return changes;
}

/** Whether a command of `hook.<name>.command` is one that `installHooks` writes, with that `program` or none. */
export function isHookCommand(command: string | undefined, program: string | undefined): boolean {
  if (command === COMMAND) return true;
  return program !== undefined && command === `${shellWord(program)} ${ARGUMENTS}`;
}

export function isOwnHookText(text: string): boolean {
  return text.split('\n', 2)[1]?.startsWith(MARK) === true;
}

/** Whether the file is our hook, and does nothing but our work. */
export function isOwnHookAlone(path: string): boolean {
  const text = readHook(path);
  return text !== undefined && isOwnHookText(text) && !isChained(dirname(path));
}

/** Takes our hook away, and puts back what it replaced where nothing else has come since. */
export async function uninstallHooks({
  cwd,
  lfsOnly,
}: {
  readonly cwd: string;
  readonly lfsOnly: boolean;
}): Promise<HookChange[]> {
  const run = runOf({ cwd });
  const directory = await hooksDirectory(run);
  const changes: HookChange[] = [];
  if (!lfsOnly && (await configuredHook(run)) !== undefined) {
    await unsetConfig('--local', CONFIG_HOOK_COMMAND, run);
    await unsetConfig('--local', `${CONFIG_HOOK}.event`, run);
    changes.push({ name: 'pre-push', place: CONFIG_HOOK, from: 'ours', to: 'missing' });
  }
  for (const [name, { state, path }] of findHooks(directory)) {
    const before = await recall(run, name);
    const isFree = state === 'missing' || state === 'ours';
    if (before !== undefined && isFree) {
      writeHook(path, before);
      changes.push({ name, place: path, from: state, to: 'git-lfs' });
    } else if (state === 'ours' && !lfsOnly) {
      rmSync(path);
      if (isChained(directory)) renameSync(join(directory, CHAINED), path);
      changes.push({ name, place: path, from: 'ours', to: findHooks(directory).get(name)!.state });
    }
    if (before !== undefined) await unsetConfig('--local', `${REMEMBERED}.${name}`, run);
  }
  return changes;
}

/** Whose pre-push hook git would run here. Throws NOT_A_REPOSITORY. */
export async function prePushHook(
  cwd: string,
): Promise<{ readonly state: HookState; readonly place: string }> {
  const run = runOf({ cwd });
  const { path, state } = findHooks(await hooksDirectory(run)).get('pre-push')!;
  if (state !== 'ours' && isOurCommand(await configuredHook(run, [])) && (await gitAtLeast('2.54')))
    return { state: 'ours', place: CONFIG_HOOK };
  return { state, place: path };
}

/** Whoever's installation it was. */
function isOurCommand(command: string | undefined): boolean {
  return command === COMMAND || command?.endsWith(` ${ARGUMENTS}`) === true;
}

/** Where git looks for hooks, core.hooksPath included. */
export async function hooksDirectory(run: HookRun): Promise<string> {
  const { stdout, status, stderr } = await git(['rev-parse', '--git-path', 'hooks'], {
    ...run,
    okStatus: [0, 128],
  });
  if (status !== 0)
    throw new Git2dbError('NOT_A_REPOSITORY', `${run.cwd} is in no git repository: ${stderr.trim()}`);
  return resolve(run.cwd, stdout.toString('utf8').replace(/\n$/, ''));
}

interface FoundHook {
  readonly state: HookState;
  readonly path: string;
  readonly text: string | undefined;
}

function findHooks(directory: string): Map<HookName, FoundHook> {
  return new Map(
    LFS_HOOKS.map((name) => {
      const path = join(directory, name);
      const text = readHook(path);
      return [name, { path, text, state: text === undefined ? 'missing' : stateOf(name, text) }];
    }),
  );
}

/** Undefined where there is none. What is no file is somebody else's, without a text. */
function readHook(path: string): string | undefined {
  try {
    return readRegular(path, 'REFUSED').toString('latin1');
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    if (error instanceof FormatError) return '';
    throw error;
  }
}

function stateOf(name: HookName, text: string): HookState {
  if (isOwnHookText(text)) return 'ours';
  return isGitLfsHook(name, text) ? 'git-lfs' : 'foreign';
}

/**
 * All versions of git-lfs have written the same few lines: the shell, from 1.1 on a test whether git-lfs is there,
 * whose message changes, and one command.
 */
export function isGitLfsHook(name: HookName, text: string): boolean {
  const lines = text.trim().split('\n');
  const command = lines.pop() ?? '';
  if (lines.shift()?.trim() !== '#!/bin/sh') return false;
  const isCommand =
    command.trim() === `git lfs ${name} "$@"` ||
    (name === 'pre-push' && /^git lfs push --stdin (?:\$\*|"\$@")$/.test(command.trim()));
  const isTest = (line: string) =>
    /^command -v git-lfs >\/dev\/null 2>&1 \|\| \{ echo >&2 "[^"`$]*"; exit [02]; \}$/.test(line.trim());
  return isCommand && lines.length <= 1 && lines.every(isTest);
}

/** Without `program` the same text as scripts/install-hooks.sh writes. */
function hookText(chained: boolean, program: string | undefined): string {
  const name = program === undefined ? 'git2db' : '"$git2db"';
  const line = `${name} ${ARGUMENTS} "$@"`;
  const find =
    program === undefined
      ? []
      : ['git2db=git2db', `command -v git2db >/dev/null 2>&1 || git2db=${shellWord(program)}`];
  const then = chained
    ? [
        'lines=$(cat)',
        'give() { [ -z "$lines" ] || printf "%s\\n" "$lines"; }',
        `give | ${line} || exit`,
        `give | "$(dirname "$0")"/${CHAINED} "$@"`,
      ]
    : [`exec ${line}`];
  return [
    '#!/bin/sh',
    `${MARK}: sends the content of large files before the refs move.`,
    ...find,
    `command -v ${name} >/dev/null 2>&1 || {`,
    '  echo >&2 "git2db is not on PATH, so the content of large files cannot be sent: nothing is pushed."',
    '  echo >&2 "Put git2db on PATH, or remove this hook: $0"',
    '  exit 1',
    '}',
    ...then,
    '',
  ].join('\n');
}

function isChained(directory: string): boolean {
  return readHook(join(directory, CHAINED)) !== undefined;
}

/** Throws REFUSED where no hook can be, as something else has the name of the directory. */
function checkDirectory(directory: string): void {
  const isThere = lstatSync(directory, { throwIfNoEntry: false }) !== undefined;
  if (!isThere || statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return;
  throw new Git2dbError(
    'REFUSED',
    `${shellWord(directory)}, where git looks for hooks, is no directory: remove it, name another one with ` +
      '`git config core.hooksPath DIR`, or install with --no-hooks',
    { data: { path: directory } },
  );
}

function writeHook(path: string, text: string): void {
  makeDirectories(dirname(path));
  const temporary = `${path}.git2db-${process.pid}`;
  writeFileSync(temporary, text, { encoding: 'latin1', mode: 0o755 });
  chmodSync(temporary, 0o755);
  renameSync(temporary, path);
}

export type HookRun = Pick<GitRun, 'env' | 'keepGitEnv' | 'signal'> & { readonly cwd: string };

function runOf({ cwd, run = { keepGitEnv: true } }: Pick<HookOptions, 'cwd' | 'run'>): HookRun {
  return { ...run, cwd };
}

function remember(run: HookRun, name: HookName, text: string): Promise<void> {
  return setConfig('--local', `${REMEMBERED}.${name}`, text, run);
}

async function recall(run: HookRun, name: HookName): Promise<string | undefined> {
  const { stdout, status } = await git(['config', '--local', '-z', '--get', `${REMEMBERED}.${name}`], {
    ...run,
    okStatus: [0, 1],
  });
  return status === 0 ? stdout.toString('latin1').replace(/\0$/, '') : undefined;
}

/** `scope`: nothing for what is in force, whoever's file says it. */
async function configuredHook(
  run: HookRun,
  scope: readonly string[] = ['--local'],
): Promise<string | undefined> {
  const text = await gitText(['config', ...scope, '--get', CONFIG_HOOK_COMMAND], {
    ...run,
    okStatus: [0, 1],
  });
  return text === '' ? undefined : text;
}

function refused(path: string, what: string, command: string, effect: string): Git2dbError {
  return new Git2dbError('REFUSED', `the hook ${shellWord(path)} ${what}: ${command} ${effect}`, {
    data: { path },
  });
}
