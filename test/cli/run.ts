/** Runs of the command line for tests: in this process, or as a program of its own. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, openSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { runProgram } from '../../src/cli/program.ts';
import type { Catalogue } from '../../src/cli/words.ts';

export const PROGRAM = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

/** A file of the source tree, from the top. */
export function sourceFile(path: string): string {
  return fileURLToPath(new URL(`../../../${path}`, import.meta.url));
}

export interface CliRun {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** A file for standard input. */
  readonly stdin?: string;
  /** Other commands than those of the program. */
  readonly catalogue?: Catalogue;
}

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export async function cli(argv: readonly string[], run: CliRun = {}): Promise<CliResult> {
  const texts = { stdout: '', stderr: '' };
  const collectInto = (name: keyof typeof texts) => ({
    write(text: string) {
      texts[name] += text;
    },
  });
  const host = {
    cwd: run.cwd ?? '/',
    env: { ...process.env, ...run.env },
    stdin: openSync(run.stdin ?? '/dev/null', 'r'),
    stdout: collectInto('stdout'),
    stderr: collectInto('stderr'),
    interruptible: () => new AbortController().signal,
  };
  const code = await runProgram(argv, host, run.catalogue);
  return { code, ...texts };
}

export function spawnCli(
  argv: readonly string[],
  run: CliRun & { input?: string } = {},
): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [PROGRAM, ...argv], {
    cwd: run.cwd ?? '/',
    env: { ...process.env, ...run.env },
    input: run.input ?? '',
    encoding: 'utf8',
  });
}

/** A directory of its own for a test. */
export function temporaryFolder(t: ExecutionContext): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'git2db-cli-')));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Points this process (AVA gives each test file one), and all it starts, at a git configuration of its own. */
export function isolateGit(): void {
  const home = realpathSync(mkdtempSync(join(tmpdir(), 'git2db-home-')));
  process.on('exit', () => rmSync(home, { recursive: true, force: true }));
  for (const name of Object.keys(process.env)) if (name.startsWith('GIT_')) delete process.env[name];
  Object.assign(process.env, {
    HOME: home,
    XDG_CONFIG_HOME: join(home, '.config'),
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_AUTHOR_NAME: 'a',
    GIT_AUTHOR_EMAIL: 'a@example.org',
    GIT_COMMITTER_NAME: 'a',
    GIT_COMMITTER_EMAIL: 'a@example.org',
  });
}

/** Runs git, which must succeed; its standard output without the last newline. */
export function gitIn(cwd: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('git', args, { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`git ${args.join(' ')}: ${stderr}`);
  return stdout.replace(/\n$/, '');
}

/** A fresh repository with one commit that holds nothing. */
export function repository(t: ExecutionContext, name = 'repository'): string {
  const folder = join(temporaryFolder(t), name);
  mkdirSync(folder);
  gitIn(folder, 'init', '-q', '-b', 'main');
  gitIn(folder, 'commit', '-q', '--allow-empty', '-m', 'start');
  return folder;
}
