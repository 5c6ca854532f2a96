/** What can take a new repository: the registry itself, or a transaction on it. */

import type { RegistryConfig } from './config.ts';
import type { GitManager } from './git-manager.ts';
import type { RepositoryRecord } from './metadata.ts';
import type { NameReservation, ReserveOptions } from './name-reservation.ts';
import type { RepoId } from './repo-id.ts';
import type { WorktreeHome } from './worktree/driver.ts';

export interface NewRecord {
  readonly id?: RepoId | undefined;
  readonly name: string;
  /** Any form; it is stored without secrets. */
  readonly url?: string | undefined;
  /** Absolute; of an adopted repository. Another's place is `repos/<name>`. */
  readonly path?: string | undefined;
  readonly bare?: boolean | undefined;
  readonly trusted?: boolean | undefined;
  readonly trackingRef?: string | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
}

/** What somebody asks for, as far as they say. */
export type AskedRecord = { readonly [K in keyof NewRecord]?: NewRecord[K] | undefined };

export interface AddRecordOptions {
  /** An absolute directory on the registry's file system that becomes the repository's place, together with the entry or not at all. */
  readonly from?: string | undefined;
  /** Called when the entry cannot be made after all, or the transaction fails. Not after a crash. */
  readonly undo?: (() => Promise<void>) | undefined;
  /** Called once the entry is there for good: before `addRecord` of the registry resolves, after the commit of a transaction. */
  readonly committed?: (() => Promise<void> | void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface RecordSink {
  /** Absolute, without symbolic links. */
  readonly root: string;
  readonly config: RegistryConfig;
  readonly manager: GitManager;
  readonly env: NodeJS.ProcessEnv;
  readonly home: WorktreeHome;
  absolutePath(record: Pick<RepositoryRecord, 'path'>): string;
  find(query: string): RepositoryRecord | undefined;
  /**
   * Keeps `name` for the caller until it is released or its process ends. While somebody else has it,
   * this waits; when they have made a repository of it meanwhile, `record` is that one.
   */
  reserveName(name: string, options?: ReserveOptions): Promise<NameReservation>;
  /** Makes the entry. Throws NAME_TAKEN; NAME_INVALID; URL_INVALID. */
  addRecord(input: NewRecord, options?: AddRecordOptions): Promise<RepositoryRecord>;
}
