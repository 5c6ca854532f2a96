/**
 * A throw-away place to run real git in: its own home, configuration and temporary directory, so
 * that no test sees the machine's settings or leaves anything behind.
 */

import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';

export interface RunOptions {
  /** Relative to the sandbox's `dir`, or absolute; `dir` itself unless given. */
  readonly cwd?: string;
  readonly input?: Uint8Array | string;
  /** Laid over the sandbox's environment; `undefined` removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Statuses that do not fail the test; `[0]` unless given. Not looked at by `run`. */
  readonly okStatus?: readonly number[];
  /** The child is killed and the test fails after this time, one minute unless given. */
  readonly timeoutMs?: number;
}

export interface RunResult {
  readonly stdout: string;
  readonly stdoutBytes: Buffer;
  readonly stderr: string;
  /** -1 when the child was killed by a signal. */
  readonly status: number;
  readonly signal: NodeJS.Signals | null;
}

export interface SandboxOptions {
  /** Directories put in front of PATH. */
  readonly path?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Settings for the sandbox's own global configuration, beside an identity and `main` as first branch. */
  readonly config?: Readonly<Record<string, string>>;
}

export interface Sandbox {
  /** Empty working directory, without symbolic links in its path. */
  readonly dir: string;
  /** HOME, outside `dir`; holds `.gitconfig`. */
  readonly home: string;
  /** TMPDIR, outside `dir`. */
  readonly tmp: string;
  /** The whole environment of what runs in here. */
  readonly env: Readonly<Record<string, string>>;
  /** An absolute path in `dir`. */
  path(...parts: string[]): string;
  /** Writes a file and the directories above it. */
  write(rel: string, bytes: Uint8Array | string): void;
  read(rel: string): Buffer;
  /** Runs a program to its end, whatever its status. */
  run(command: string, args: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** As `run`; a status not in `okStatus` throws, with what the program wrote. */
  runOk(command: string, args: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** `runOk('git', args)`. */
  git(args: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** stdout of git without its last newline. */
  gitText(args: readonly string[], options?: RunOptions): Promise<string>;
}

const GIT_CONFIG: Readonly<Record<string, string>> = {
  'user.name': 'Sandbox',
  'user.email': 'sandbox@example.invalid',
  'init.defaultBranch': 'main',
  'commit.gpgSign': 'false',
  'core.autocrlf': 'false',
  // Nothing may go on in the background once a test has ended.
  'gc.auto': '0',
  'maintenance.auto': 'false',
  'protocol.file.allow': 'always',
  'advice.detachedHead': 'false',
};

/** Makes a sandbox that is removed when the test ends. */
export function createSandbox(t: ExecutionContext, options: SandboxOptions = {}): Sandbox {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'git2db-test-')));
  t.teardown(() => rm(root, { recursive: true, force: true, maxRetries: 3 }));
  const [dir, home, tmp] = ['work', 'home', 'tmp'].map((name) => join(root, name)) as [
    string,
    string,
    string,
  ];
  for (const directory of [dir, home, tmp]) mkdirSync(directory);
  writeFileSync(join(home, '.gitconfig'), configText({ ...GIT_CONFIG, ...options.config }));
  const env: Readonly<Record<string, string>> = {
    PATH: [...(options.path ?? []), process.env.PATH ?? ''].join(delimiter),
    HOME: home,
    XDG_CONFIG_HOME: join(home, '.config'),
    TMPDIR: tmp,
    LC_ALL: 'C.UTF-8',
    TZ: 'UTC',
    NO_COLOR: '1',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: join(home, '.gitconfig'),
    GIT_ATTR_NOSYSTEM: '1',
    GIT_TERMINAL_PROMPT: '0',
    GIT_EDITOR: 'true',
    GIT_CEILING_DIRECTORIES: root,
    ...options.env,
  };

  function path(...parts: string[]): string {
    return join(dir, ...parts);
  }

  function run(command: string, args: readonly string[], runOptions: RunOptions = {}): Promise<RunResult> {
    return runProgram(command, args, dir, env, runOptions);
  }

  async function runOk(
    command: string,
    args: readonly string[],
    runOptions: RunOptions = {},
  ): Promise<RunResult> {
    const result = await run(command, args, runOptions);
    if ((runOptions.okStatus ?? [0]).includes(result.status)) return result;
    const ending = result.signal ?? `status ${result.status}`;
    throw new Error(`${command} ${args.join(' ')}: ${ending}\n${result.stdout}${result.stderr}`);
  }

  return {
    dir,
    home,
    tmp,
    env,
    path,
    write(rel, bytes) {
      mkdirSync(dirname(path(rel)), { recursive: true });
      writeFileSync(path(rel), bytes);
    },
    read: (rel) => readFileSync(path(rel)),
    run,
    runOk,
    git: (args, runOptions) => runOk('git', args, runOptions),
    gitText: async (args, runOptions) => (await runOk('git', args, runOptions)).stdout.replace(/\n$/, ''),
  };
}

/**
 * Hides the machine's git settings and any inherited GIT_* variable from this process, for code that
 * runs git by itself. For the top of a test file: AVA gives each a process of its own.
 */
export function isolateProcess(): void {
  for (const name of Object.keys(process.env)) if (name.startsWith('GIT_')) delete process.env[name];
  process.env.GIT_CONFIG_NOSYSTEM = '1';
  process.env.GIT_CONFIG_GLOBAL = '/dev/null';
}

function configText(settings: Readonly<Record<string, string>>): string {
  const lines = Object.entries(settings).map(([key, value]) => {
    const [, section, subsection, name] = /^([^.]+)(?:\.(.+))?\.([^.]+)$/.exec(key)!;
    const header = subsection === undefined ? section : `${section} ${JSON.stringify(subsection)}`;
    return `[${header}]\n\t${name} = ${JSON.stringify(value)}\n`;
  });
  return lines.join('');
}

function runProgram(
  command: string,
  args: readonly string[],
  dir: string,
  base: Readonly<Record<string, string>>,
  { cwd, input, env, timeoutMs = 60_000 }: RunOptions,
): Promise<RunResult> {
  const merged: Record<string, string> = { ...base };
  for (const [name, value] of Object.entries(env ?? {})) {
    if (value === undefined) delete merged[name];
    else merged[name] = value;
  }
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: cwd === undefined ? dir : join(cwd.startsWith('/') ? '' : dir, cwd),
      env: merged,
      stdio: 'pipe',
    });
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`${command} ${args.join(' ')} did not end within ${timeoutMs} ms`));
    }, timeoutMs);
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (piece: Buffer) => stdout.push(piece));
    child.stderr.on('data', (piece: Buffer) => stderr.push(piece));
    // A program that does not read all of its input is judged by its status.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.once('close', (status, signal) => {
      clearTimeout(timer);
      const stdoutBytes = Buffer.concat(stdout);
      resolve({
        stdout: stdoutBytes.toString('utf8'),
        stdoutBytes,
        stderr: Buffer.concat(stderr).toString('utf8'),
        status: status ?? -1,
        signal,
      });
    });
  });
}
