/**
 * The pre-push hook, which sends the content of large files before the refs move: for pointers of both kinds. Git
 * 2.54 and newer take it from the configuration (`hook.<name>.command`), beside any other; older ones have one file
 * for it in the hooks directory, where another hook may stand.
 *
 * A file is written over only if it is ours or one that git-lfs writes, which the shape of its text tells; git-lfs's
 * are remembered, so that uninstall puts them back. Any other hook is left alone: chained if that is wanted, else
 * refused with the line that it needs.
 */
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setConfig, unsetConfig } from '../git/config.ts';
import { git, gitAtLeast, gitText } from '../git/runner.ts';
import { errnoOf, Git2dbError } from '../xet/errors.ts';
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
}

const MARK = '# Written by "git2db xet install"';
const CHAINED = 'pre-push.chained';
const CONFIG_HOOK = 'hook.git2db-xet';
/** In git's configuration: the text of a hook that was replaced. */
const REMEMBERED = 'git2db.replaced.hooks';
const COMMAND = 'git2db xet hook pre-push';

/** Line for a hook that somebody else writes. */
export const HOOK_LINE = `${COMMAND} "$@"`;

/** Throws REFUSED where a hook stands in the way that `installHooks` would not replace; NOT_A_REPOSITORY. */
export async function checkHooks(options: HookOptions): Promise<void> {
  const { cwd, lfs, chain } = options;
  if (await usesConfiguration(options)) return;
  const { state, path } = findHooks(await hooksDirectory(cwd)).get('pre-push')!;
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
  await checkHooks(options);
  const { cwd, lfs } = options;
  const directory = await hooksDirectory(cwd);
  const inConfiguration = await usesConfiguration(options);
  const found = findHooks(directory);
  const wanted: HookName[] = lfs ? [...LFS_HOOKS] : ['pre-push'];
  const changes: HookChange[] = [];
  for (const name of wanted) {
    const { state, path, text } = found.get(name)!;
    if (name === 'pre-push' && !inConfiguration) {
      if (state === 'ours' && text === hookText(isChained(directory))) continue;
      if (state === 'git-lfs') await remember(cwd, name, text as string);
      if (state === 'foreign') renameSync(path, join(directory, CHAINED));
      writeHook(path, hookText(isChained(directory)));
      changes.push({ name, place: path, from: state, to: 'ours' });
    } else if (state === 'git-lfs' || (state === 'ours' && inConfiguration)) {
      if (state === 'git-lfs') await remember(cwd, name, text as string);
      rmSync(path, { force: true });
      changes.push({ name, place: path, from: state, to: 'missing' });
    }
  }
  if (inConfiguration && (await configuredHook(cwd)) !== COMMAND) {
    await setConfig('--local', `${CONFIG_HOOK}.command`, COMMAND, run(cwd));
    await setConfig('--local', `${CONFIG_HOOK}.event`, 'pre-push', run(cwd));
    changes.push({ name: 'pre-push', place: CONFIG_HOOK, from: 'missing', to: 'ours' });
  }
  return changes;
}

/** Takes our hook away, and puts back what it replaced where nothing else has come since. */
export async function uninstallHooks({
  cwd,
  lfsOnly,
}: {
  readonly cwd: string;
  readonly lfsOnly: boolean;
}): Promise<HookChange[]> {
  const directory = await hooksDirectory(cwd);
  const changes: HookChange[] = [];
  if (!lfsOnly && (await configuredHook(cwd)) !== undefined) {
    await unsetConfig('--local', `${CONFIG_HOOK}.command`, run(cwd));
    await unsetConfig('--local', `${CONFIG_HOOK}.event`, run(cwd));
    changes.push({ name: 'pre-push', place: CONFIG_HOOK, from: 'ours', to: 'missing' });
  }
  for (const [name, { state, path }] of findHooks(directory)) {
    const before = await recall(cwd, name);
    const isFree = state === 'missing' || state === 'ours';
    if (before !== undefined && isFree) {
      writeHook(path, before);
      changes.push({ name, place: path, from: state, to: 'git-lfs' });
    } else if (state === 'ours' && !lfsOnly) {
      rmSync(path);
      if (isChained(directory)) renameSync(join(directory, CHAINED), path);
      changes.push({ name, place: path, from: 'ours', to: findHooks(directory).get(name)!.state });
    }
    if (before !== undefined) await unsetConfig('--local', `${REMEMBERED}.${name}`, run(cwd));
  }
  return changes;
}

/** Whose pre-push hook git would run here. Throws NOT_A_REPOSITORY. */
export async function prePushHook(
  cwd: string,
): Promise<{ readonly state: HookState; readonly place: string }> {
  const { path, state } = findHooks(await hooksDirectory(cwd)).get('pre-push')!;
  if (state !== 'ours' && (await configuredHook(cwd)) === COMMAND && (await gitAtLeast('2.54')))
    return { state: 'ours', place: CONFIG_HOOK };
  return { state, place: path };
}

/** Where git looks for hooks, core.hooksPath included. */
async function hooksDirectory(cwd: string): Promise<string> {
  const { stdout, status, stderr } = await git(['rev-parse', '--git-path', 'hooks'], {
    cwd,
    keepGitEnv: true,
    okStatus: [0, 128],
  });
  if (status !== 0)
    throw new Git2dbError('NOT_A_REPOSITORY', `${cwd} is in no git repository: ${stderr.trim()}`);
  return resolve(cwd, stdout.toString('utf8').replace(/\n$/, ''));
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

/** Undefined where there is none. */
function readHook(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    throw error;
  }
}

function stateOf(name: HookName, text: string): HookState {
  if (text.split('\n', 2)[1]?.startsWith(MARK)) return 'ours';
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

function hookText(chained: boolean): string {
  const then = chained
    ? [
        'lines=$(cat)',
        'give() { [ -z "$lines" ] || printf "%s\\n" "$lines"; }',
        `give | ${HOOK_LINE} || exit`,
        `give | "$(dirname "$0")"/${CHAINED} "$@"`,
      ]
    : [`exec ${HOOK_LINE}`];
  return [
    '#!/bin/sh',
    `${MARK}: sends the content of large files before the refs move.`,
    'command -v git2db >/dev/null 2>&1 || {',
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

function writeHook(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.git2db-${process.pid}`;
  writeFileSync(temporary, text, { encoding: 'latin1', mode: 0o755 });
  chmodSync(temporary, 0o755);
  renameSync(temporary, path);
}

function run(cwd: string) {
  return { cwd, keepGitEnv: true } as const;
}

function remember(cwd: string, name: HookName, text: string): Promise<void> {
  return setConfig('--local', `${REMEMBERED}.${name}`, text, run(cwd));
}

async function recall(cwd: string, name: HookName): Promise<string | undefined> {
  const { stdout, status } = await git(['config', '--local', '-z', '--get', `${REMEMBERED}.${name}`], {
    ...run(cwd),
    okStatus: [0, 1],
  });
  return status === 0 ? stdout.toString('latin1').replace(/\0$/, '') : undefined;
}

async function configuredHook(cwd: string): Promise<string | undefined> {
  const text = await gitText(['config', '--local', '--get', `${CONFIG_HOOK}.command`], {
    ...run(cwd),
    okStatus: [0, 1],
  });
  return text === '' ? undefined : text;
}

function refused(path: string, what: string, command: string, effect: string): Git2dbError {
  return new Git2dbError('REFUSED', `the hook ${shellWord(path)} ${what}: ${command} ${effect}`, {
    data: { path },
  });
}
