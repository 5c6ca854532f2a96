/**
 * Two repositories made by the same commands: in one of them git itself works, in the other the handle.
 * With fixed identities and dates the object ids are the same exactly when all that was done is the same.
 */
import { cpSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { GitManager } from '../../../src/registry/git-manager.ts';
import { openPlace } from '../../../src/registry/git-place.ts';
import { RepositoryHandle } from '../../../src/registry/repository-handle.ts';
import { createSandbox, type Sandbox, type SandboxOptions } from '../../helpers/git-sandbox.ts';

/** Of everybody, for every commit. */
export const FIXED = {
  GIT_AUTHOR_NAME: 'A U Thor',
  GIT_AUTHOR_EMAIL: 'author@example.invalid',
  GIT_AUTHOR_DATE: '@1700000000 +0100',
  GIT_COMMITTER_NAME: 'C O Mitter',
  GIT_COMMITTER_EMAIL: 'committer@example.invalid',
  GIT_COMMITTER_DATE: '@1700000100 +0000',
} as const;

export interface Twins {
  readonly sandbox: Sandbox;
  readonly handle: RepositoryHandle;
  /** Directories, relative to the sandbox: what git works on, what the handle works on. */
  readonly git: string;
  readonly ours: string;
  /** Runs git in the first. */
  run(args: readonly string[], options?: { okStatus?: readonly number[]; input?: string }): Promise<string>;
  /** Writes a file in both. */
  write(path: string, content: string | Uint8Array): void;
  /** Fails the test unless refs, HEAD, index, status, stashes and files are the same. */
  same(t: ExecutionContext): Promise<void>;
}

export interface TwinOptions extends SandboxOptions {
  readonly trusted?: boolean;
  readonly init?: readonly string[];
}

/** `make` runs git in the first; the second is a copy of it. */
export async function createTwins(
  t: ExecutionContext,
  make: (run: Twins['run'], sandbox: Sandbox) => Promise<void>,
  options: TwinOptions = {},
): Promise<Twins> {
  const sandbox = createSandbox(t, { ...options, env: { ...FIXED, ...options.env } });
  const run: Twins['run'] = (args, { okStatus, input } = {}) =>
    sandbox
      .runOk('git', args, {
        cwd: 'git',
        ...(okStatus === undefined ? {} : { okStatus }),
        ...(input === undefined ? {} : { input }),
      })
      .then(({ stdout }) => stdout.replace(/\n$/, ''));
  await sandbox.git(['init', '--quiet', ...(options.init ?? []), 'git']);
  await make(run, sandbox);
  cpSync(sandbox.path('git'), sandbox.path('ours'), { recursive: true, verbatimSymlinks: true });
  // The copies' stat data are not those of the index.
  await sandbox.run('git', ['update-index', '-q', '--refresh'], { cwd: 'ours' });
  const handle = await handleAt(t, sandbox, 'ours', options.trusted === true);
  return {
    sandbox,
    handle,
    git: 'git',
    ours: 'ours',
    run,
    write(path, content) {
      sandbox.write(join('git', path), content);
      sandbox.write(join('ours', path), content);
    },
    async same(assert) {
      assert.deepEqual(await stateOf(sandbox, 'ours'), await stateOf(sandbox, 'git'));
    },
  };
}

export async function handleAt(
  t: ExecutionContext,
  sandbox: Sandbox,
  dir: string,
  trusted = false,
): Promise<RepositoryHandle> {
  const place = await openPlace(sandbox.path(dir), { trusted, env: { ...sandbox.env } });
  const handle = new RepositoryHandle(place, { manager: managerOf() });
  t.teardown(() => handle[Symbol.asyncDispose]());
  return handle;
}

let manager: GitManager | undefined;

export function managerOf(): GitManager {
  manager ??= new GitManager();
  return manager;
}

export async function stateOf(sandbox: Sandbox, dir: string): Promise<Record<string, unknown>> {
  const text = async (...args: string[]) => (await sandbox.run('git', args, { cwd: dir })).stdout;
  return {
    refs: await text('for-each-ref', '--format=%(refname) %(objectname) %(symref) %(upstream)'),
    head: await text('symbolic-ref', '-q', 'HEAD'),
    oid: await text('rev-parse', '-q', '--verify', 'HEAD'),
    status: await text('status', '--porcelain=v2', '--branch', '--untracked-files=all'),
    index: await text('ls-files', '--stage'),
    stash: await text('stash', 'list', '--format=%gd %H %gs'),
    files: files(sandbox.path(dir)),
  };
}

function files(top: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const entry of readdirSync(top, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const rel = path.slice(top.length + 1);
    if (rel === '.git' || rel.startsWith('.git/') || !entry.isFile()) continue;
    found[rel] = readFileSync(path, 'latin1');
  }
  return found;
}

/** Commits `files` with the message. */
export async function commitFiles(
  run: Twins['run'],
  sandbox: Sandbox,
  files: Readonly<Record<string, string>>,
  message: string,
): Promise<string> {
  for (const [path, content] of Object.entries(files)) sandbox.write(join('git', path), content);
  await run(['add', '--all']);
  await run(['commit', '--quiet', '--allow-empty', '-m', message]);
  return run(['rev-parse', 'HEAD']);
}
