/** Registries for tests of the command line, with the library in this process. */
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type CliResult, cli, gitIn, temporaryFolder } from './run.ts';

export interface TestRegistry {
  readonly root: string;
  /** The repository that was cloned, `model`. */
  readonly upstream: string;
  readonly clone: string;
  /** Runs a command with this registry; what it says must be a success. */
  run(...argv: string[]): Promise<CliResult>;
  /** The same with --json. */
  // biome-ignore lint/suspicious/noExplicitAny: documents of all commands
  json(...argv: string[]): Promise<any>;
  /** Whatever it answers. */
  attempt(...argv: string[]): Promise<CliResult>;
}

/** A registry with one clone, `model`: branches main (two commits) and topic (one), the tag v1. */
export async function registryWithClone(t: ExecutionContext): Promise<TestRegistry> {
  const folder = temporaryFolder(t);
  const upstream = join(folder, 'upstream');
  mkdirSync(upstream);
  gitIn(upstream, 'init', '-q', '-b', 'main');
  writeFileSync(join(upstream, 'a.txt'), 'one\ntwo\n');
  mkdirSync(join(upstream, 'd'));
  writeFileSync(join(upstream, 'd/b.txt'), 'b\n');
  gitIn(upstream, 'add', '.');
  gitIn(upstream, 'commit', '-q', '-m', 'first');
  gitIn(upstream, 'branch', 'topic');
  appendFileSync(join(upstream, 'a.txt'), 'three\n');
  gitIn(upstream, 'commit', '-q', '-a', '-m', 'second');
  gitIn(upstream, 'tag', '-a', 'v1', '-m', 'version one');
  gitIn(upstream, 'config', 'receive.denyCurrentBranch', 'ignore');
  const root = join(folder, 'registry');
  const env = { GIT2DB_REGISTRY: root };
  const attempt = (...argv: string[]) => cli(argv, { cwd: folder, env });
  const run = async (...argv: string[]) => {
    const result = await attempt(...argv);
    if (result.code !== 0) throw new Error(`git2db ${argv.join(' ')}: ${result.code} ${result.stderr}`);
    return result;
  };
  const json = async (...argv: string[]) => JSON.parse((await run(...argv, '--json')).stdout);
  await cli(['init', root]);
  await run('clone', upstream, 'model');
  return { root, upstream, clone: join(root, 'repos/model'), run, json, attempt };
}
