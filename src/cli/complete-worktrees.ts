/**
 * After content has come: overlay worktrees of the repository of the current directory that lack it are shown it, those
 * of a registry that the repository is in. Costs a look at a directory where there are no other worktrees.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { findRepository } from '../git/repository.ts';
import { messageOf } from '../xet/errors.ts';
import type { CommandContext } from './command.ts';
import { printable } from './present.ts';
import { loadLibrary, recordOf } from './registry-session.ts';

/** True if files of some worktree have changed. What fails is told, and fails nothing. */
export async function completeWorktreesHere(context: CommandContext, signal: AbortSignal): Promise<boolean> {
  const { cwd, output } = context;
  const env = context.env as NodeJS.ProcessEnv;
  const repository = findRepository(cwd, env);
  if (repository === undefined) return false;
  const { commonDir } = repository;
  const trees = linkedWorktrees(commonDir);
  if (trees.length === 0) return false;
  let hasMoved = false;
  for (const root of registriesAbove([env.GIT2DB_REGISTRY, cwd, commonDir, ...trees])) {
    const library = await loadLibrary();
    if (!library.lacksContent(root, commonDir)) continue;
    try {
      const { config } = library.resolveConfig({ cwd, env });
      await using manager = new library.GitManager({ config, env });
      await using db = await library.Git2DB.open(root, { config, manager, env, signal });
      const record = recordOf(db, repository);
      if (record === undefined) continue;
      await using handle = await db.repo(record.id);
      for (const { outcome, path, message } of await handle.worktree().complete({ signal })) {
        hasMoved ||= outcome === 'moved';
        const line = printable(`worktree ${path}: ${message}`);
        if (outcome === 'open') output.warn(line);
        else output.detail(line);
      }
    } catch (error) {
      signal.throwIfAborted();
      output.warn(`worktrees of the registry ${root} could not be shown the content: ${messageOf(error)}`);
    }
  }
  return hasMoved;
}

/** Paths of linked worktrees, as git has noted them. */
function linkedWorktrees(commonDir: string): string[] {
  const directory = join(commonDir, 'worktrees');
  try {
    return readdirSync(directory).flatMap((name) => {
      try {
        return dirname(readFileSync(join(directory, name, 'gitdir'), 'utf8').trim());
      } catch {
        return [];
      }
    });
  } catch {
    return [];
  }
}

function registriesAbove(places: readonly (string | undefined)[]): Set<string> {
  const roots = new Set<string>();
  for (const place of places) {
    if (place === undefined || place === '') continue;
    for (let directory = resolve(place); ; directory = dirname(directory)) {
      if (existsSync(join(directory, '.git2db', 'metadata.json'))) {
        roots.add(directory);
        break;
      }
      if (directory === dirname(directory)) break;
    }
  }
  return roots;
}
