/** Registries for tests: settings of their own, repositories to register, and programs that use one and are killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { type RegistryConfig, resolveConfig } from '../../src/registry/config.ts';
import { GitManager } from '../../src/registry/git-manager.ts';
import { Git2DB, type OpenOptions } from '../../src/registry/git2db.ts';
import { createSandbox, type Sandbox } from '../helpers/git-sandbox.ts';

export interface RegistrySandbox extends Sandbox {
  /** The directory of the registry, not made yet. */
  readonly root: string;
  readonly config: RegistryConfig;
  open(options?: OpenOptions & { readonly directory?: string }): Promise<Git2DB>;
  /** Makes a repository with one commit below the sandbox, and tells where. */
  repository(name: string, options?: { readonly url?: string; readonly bare?: boolean }): Promise<string>;
}

export function createRegistrySandbox(t: ExecutionContext): RegistrySandbox {
  const sandbox = createSandbox(t);
  const { env } = sandbox;
  const config = resolveConfig({ cwd: sandbox.dir, env }).config;
  const root = sandbox.path('registry');
  return {
    ...sandbox,
    root,
    config,
    async open({ directory = root, ...options } = {}) {
      const manager = new GitManager({ config });
      const registry = await Git2DB.open(directory, { config, env, manager, ...options });
      t.teardown(async () => {
        await registry[Symbol.asyncDispose]();
        await manager[Symbol.asyncDispose]();
      });
      return registry;
    },
    async repository(name, { url, bare = false } = {}) {
      const path = sandbox.path(name);
      await sandbox.git(['init', '-q', ...(bare ? ['--bare'] : []), path]);
      if (!bare) {
        writeFileSync(join(path, 'file'), `${name}\n`);
        await sandbox.git(['add', 'file'], { cwd: path });
        await sandbox.git(['commit', '-q', '-m', 'first'], { cwd: path });
      }
      if (url !== undefined) await sandbox.git(['remote', 'add', 'origin', url], { cwd: path });
      return path;
    },
  };
}

export interface RegistryProcess {
  readonly child: ChildProcess;
  /** The lines it has written so far. */
  lines(): readonly string[];
  /** Resolves when it has ended, with the number or signal. */
  readonly ended: Promise<number | NodeJS.Signals>;
}

/** Starts test/registry/registry-process.ts. */
export function startRegistryProcess(
  sandbox: RegistrySandbox,
  args: readonly string[],
  t: ExecutionContext,
): RegistryProcess {
  const file = fileURLToPath(new URL('./registry-process.js', import.meta.url));
  const child = spawn(process.execPath, [file, ...args], {
    cwd: sandbox.dir,
    env: sandbox.env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  let text = '';
  child.stdout!.on('data', (piece: Buffer) => {
    text += piece.toString('utf8');
  });
  const ended = new Promise<number | NodeJS.Signals>((resolve) => {
    child.once('close', (status, signal) => resolve(signal ?? status ?? -1));
  });
  return { child, ended, lines: () => text.split('\n').slice(0, -1) };
}

/** Polls until `holds` does; fails the test after a minute. */
export async function until(t: ExecutionContext, what: string, holds: () => boolean): Promise<void> {
  for (const start = Date.now(); !holds(); ) {
    if (Date.now() - start > 60_000) return t.fail(`waited a minute for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export function metadataOf(
  root: string,
): Record<string, unknown> & { repositories: Record<string, unknown>[] } {
  return JSON.parse(readFileSync(join(root, '.git2db', 'metadata.json'), 'utf8'));
}

export function exists(...parts: string[]): boolean {
  return existsSync(join(...parts));
}
