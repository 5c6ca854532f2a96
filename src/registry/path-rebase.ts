/** Absolute paths inside a registry that lay elsewhere before. */

export interface Rebase {
  /** Where the registry has been, absolute; what was begun for one place may have to be ended for the next. */
  readonly from: readonly string[];
  readonly to: string;
}

/** Below these directories of its root a registry keeps things; a path there needs nothing any more. */
const OWN_DIRECTORIES = ['/repos/', '/.git2db/', '/worktrees/'];

/** Where `path` is now: the same, unless it lies in a former root. */
export function rebasePath(path: string, { from, to }: Rebase): string {
  if (OWN_DIRECTORIES.some((directory) => path.startsWith(to + directory))) return path;
  for (const root of from) {
    if (path === root || path.startsWith(`${root}/`)) return to + path.slice(root.length);
  }
  return path;
}

export function isInRoot(path: string, root: string): boolean {
  return path === root || path.startsWith(`${root}/`);
}

/**
 * The same for a path that is part of a text: at its start, or after a quote, blank, `=` or `:`, and up to a
 * slash, a quote, a blank or the end (a command of a filter, a file URL).
 */
export function rebaseText(text: string, rebase: Rebase): string {
  const roots = rebase.from.map((root) => root.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  if (roots.length === 0) return text;
  const pattern = new RegExp(`(^|[\\s"'=:]|file://)((?:${roots.join('|')})(?=$|[/\\s"'])[^\\s"']*)`, 'g');
  return text.replace(pattern, (_, before: string, path: string) => before + rebasePath(path, rebase));
}
