/**
 * Fitting one repository, and the records of worktrees, to a registry that lies elsewhere than before. In
 * git's own files paths are absolute, because older versions of git refuse relative ones. Each step looks
 * first and writes only what is otherwise, so all of it may be done again after a crash.
 */
import {
  chmodSync,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { parseConfigText } from '../git/config-text.ts';
import { git } from '../git/runner.ts';
import { errnoOf } from '../xet/errors.ts';
import { isInRoot, type Rebase, rebasePath, rebaseText } from './path-rebase.ts';

export interface Relocation extends Rebase {
  /** The original is still there, and what lies outside of the registry belongs to it. */
  readonly isCopy: boolean;
}

/** `commonDir`: where the repository's git directory is now. */
export async function relocateRepository(commonDir: string, relocation: Relocation): Promise<void> {
  await relocateConfig(join(commonDir, 'config'), relocation);
  rewriteFile(join(commonDir, 'objects', 'info', 'alternates'), (text) =>
    text
      .split('\n')
      .map((line) => rebasePath(line, relocation))
      .join('\n'),
  );
  const admins = join(commonDir, 'worktrees');
  for (const name of namesIn(admins)) {
    const admin = join(admins, name);
    await relocateConfig(join(admin, 'config.worktree'), relocation);
    rewriteFile(
      join(admin, 'gitdir'),
      (text) => rebasePath(text.trimEnd(), relocation) + text.slice(text.trimEnd().length),
    );
    const dotGit = readText(join(admin, 'gitdir'))?.trimEnd();
    // What lies outside of a copy belongs to the original.
    if (dotGit === undefined || (relocation.isCopy && !isInRoot(dotGit, relocation.to))) continue;
    rewriteFile(dotGit, (text) => relocateGitFile(text, relocation));
  }
  await relocateConfig(join(commonDir, 'config.worktree'), relocation);
}

/** The records and uppers of overlay worktrees, in `<root>/.git2db/worktrees`. */
export function relocateWorktreeRecords(worktrees: string, relocation: Relocation, trees: string): void {
  for (const id of namesIn(worktrees)) {
    const directory = join(worktrees, id);
    rewriteFile(join(directory, 'upper', '.git'), (text) => relocateGitFile(text, relocation));
    const file = join(directory, 'state.json');
    const state = parseObject(readText(file));
    if (state === undefined) continue;
    const moved = rebaseValues(state, relocation) as Record<string, unknown>;
    const { path, driver } = moved;
    if (relocation.isCopy && typeof path === 'string' && !isInRoot(path, relocation.to)) {
      if (driver !== 'overlay2') {
        // Its files are the original's, and were not copied.
        rmSync(directory, { recursive: true, force: true });
        continue;
      }
      moved.path = join(trees, id);
      moved.madeDirectories = [join(trees, id)];
      const { commonDir, admin } = moved;
      if (typeof commonDir === 'string' && typeof admin === 'string' && isInRoot(commonDir, relocation.to)) {
        rewriteFile(join(commonDir, 'worktrees', admin, 'gitdir'), () => `${join(trees, id, '.git')}\n`);
      }
    }
    rewriteFile(file, () => `${JSON.stringify(moved, null, 2)}\n`);
  }
}

function relocateGitFile(text: string, relocation: Relocation): string {
  return text.replace(/^(gitdir: )(.*?)([\r\n]*)$/s, (_, key: string, path: string, end: string) => {
    return key + rebasePath(path, relocation) + end;
  });
}

function rebaseValues(value: unknown, rebase: Rebase): unknown {
  if (typeof value === 'string') return rebasePath(value, rebase);
  if (Array.isArray(value)) return value.map((each) => rebaseValues(each, rebase));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, rebaseValues(each, rebase)]));
}

/** The remotes of a copy stay what they are: the original's repositories may be among them. */
async function relocateConfig(file: string, relocation: Relocation): Promise<void> {
  const text = readText(file);
  if (text === undefined) return;
  for (const { key, value } of parseConfigText(text)) {
    if (value === undefined || (relocation.isCopy && key.startsWith('remote.'))) continue;
    const moved = rebaseText(value, relocation);
    if (moved === value) continue;
    await git(['config', '--file', file, '--fixed-value', '--replace-all', key, moved, value]);
  }
}

/** Replaces `file` when `change` has something else to say; nothing there is fine. Its mode stays. */
function rewriteFile(file: string, change: (text: string) => string): void {
  const text = readText(file);
  if (text === undefined) return;
  const changed = change(text);
  if (changed === text) return;
  const { mode } = lstatSync(file);
  const fresh = `${file}.git2db-new`;
  writeFileSync(fresh, changed, { mode: mode & 0o777, flush: true });
  chmodSync(fresh, mode & 0o777);
  renameSync(fresh, file);
}

/** Undefined when there is no such regular file: a symbolic link is nobody's that we would have written. */
function readText(file: string): string | undefined {
  try {
    return lstatSync(file).isFile() ? readFileSync(file, 'utf8') : undefined;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    throw error;
  }
}

function parseObject(text: string | undefined): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text ?? '');
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    // Nothing that can be mended here: the worktree's own repair tells of it.
    return undefined;
  }
}

function namesIn(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory).sort() : [];
}
