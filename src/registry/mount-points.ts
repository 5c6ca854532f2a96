/** What is mounted where, as this process sees it: proc_pid_mountinfo(5). */
import { readFileSync } from 'node:fs';

export interface MountPoint {
  readonly path: string;
  /** `ext4`, `overlay`, `fuse.git2db-mount`. */
  readonly type: string;
}

/** Empty where there is no such table. */
export function readMountPoints(): MountPoint[] {
  let text: string;
  try {
    text = readFileSync('/proc/self/mountinfo', 'utf8');
  } catch {
    return [];
  }
  return text.split('\n').flatMap((line) => {
    const fields = line.split(' ');
    const dash = fields.indexOf('-', 6);
    const [path, type] = [fields[4], fields[dash + 1]];
    return path === undefined || dash < 0 || type === undefined ? [] : [{ path: unescapeField(path), type }];
  });
}

/** The worktrees that are mounted in `directory` or below it. */
export function worktreeMounts(directory: string): string[] {
  return readMountPoints()
    .filter(({ path, type }) => isOverlay(type) && (path === directory || path.startsWith(`${directory}/`)))
    .map(({ path }) => path);
}

function isOverlay(type: string): boolean {
  return type === 'overlay' || type === 'fuse.git2db-mount';
}

function unescapeField(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
