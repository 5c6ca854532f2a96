import type { GitConfig } from '../git/config.ts';
import type { RepositoryPaths } from '../git/repository.ts';

/** `error`: contents are, or soon will be, not where they should be. `warning`: it works, but not well. */
export type Severity = 'error' | 'warning' | 'note';

export interface Fault {
  /** Stable, in kebab-case; docs/troubleshooting.md has a paragraph for each. */
  readonly id: string;
  readonly severity: Severity;
  readonly message: string;
  /** Shell commands, to be run one after the other in the directory that was looked at. */
  readonly remedy: readonly string[];
  /** Files that it is about, from the top of the work tree. */
  readonly paths: readonly Buffer[];
}

/** What the doctor knows of the machine; tests pass another one. */
export interface DoctorHost {
  /** Of Node, without a `v`. */
  readonly nodeVersion: string;
  /** Undefined where there are no users. */
  readonly uid: number | undefined;
  /** Bytes that an ordinary user can still write at `path`; undefined when that cannot be told. */
  freeBytes(path: string): number | undefined;
  hasNativeBlake3(): boolean;
  hasWebAssembly(): boolean;
}

/** What is looked at. */
export interface Patient {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  readonly host: DoctorHost;
  /** All of git's configuration that is in force. */
  readonly config: GitConfig;
  readonly repository: RepositoryPaths | undefined;
  /** Top of the work tree that `cwd` is in. */
  readonly workTree: string | undefined;
}

export function fault(
  severity: Severity,
  id: string,
  message: string,
  remedy: readonly string[] = [],
  paths: readonly Buffer[] = [],
): Fault {
  return { id, severity, message, remedy, paths };
}
