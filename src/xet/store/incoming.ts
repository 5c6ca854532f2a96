/**
 * Reading what other writers have acknowledged but not sealed yet. A writer may seal and remove its
 * directory at any moment: then its files are in `shards/`, and the caller looks there once more.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, FormatError } from '../errors.ts';
import { openRegular, readRegular } from '../regular-file.ts';
import { decodeJournal, type IncomingState, type LocalFile } from './journal.ts';
import type { XorbSource } from './xorb-source.ts';

export const JOURNAL = 'journal';
/** Directories of dead writers, moved into the directory of the one that completes their work. */
export const RESCUE_PREFIX = 'rescue-';
const MAX_DEPTH = 4;

interface CachedState {
  readonly size: number;
  readonly mtimeMs: number;
  /** Undefined where the journal says something that we do not understand. */
  readonly state: IncomingState | undefined;
}

export interface IncomingFile {
  readonly directory: string;
  readonly state: IncomingState;
  readonly file: LocalFile;
}

export class IncomingReader {
  readonly #root: string;
  readonly #cache = new Map<string, CachedState>();

  constructor(root: string) {
    this.#root = root;
  }

  /** The newest acknowledged record of a file, in any writer's directory but `except`. */
  findFile(hash: Uint8Array, except?: string): IncomingFile | undefined {
    for (const directory of writerDirectories(this.#root)) {
      if (directory === except) continue;
      const state = this.#read(directory);
      const file = state?.files.findLast((f) => Buffer.compare(f.fileHash, hash) === 0);
      if (state !== undefined && file !== undefined) return { directory, state, file };
    }
    return undefined;
  }

  /** File hashes that writers have acknowledged for a SHA-256 (64 digits), this process's own writer included. */
  findSha256(sha256: string): Uint8Array[] {
    return writerDirectories(this.#root).flatMap((directory) =>
      (this.#read(directory)?.files ?? []).filter((f) => f.sha256 === sha256).map((f) => f.fileHash),
    );
  }

  #read(directory: string): IncomingState | undefined {
    const path = join(directory, JOURNAL);
    try {
      const { size, mtimeMs } = statSync(path);
      const cached = this.#cache.get(directory);
      if (cached !== undefined && cached.size === size && cached.mtimeMs === mtimeMs) return cached.state;
      const state = tryDecode(path);
      this.#cache.set(directory, { size, mtimeMs, state });
      return state;
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
      throw error;
    }
  }
}

/** One bad journal must not keep others from being read; recovery and fsck tell of it. */
function tryDecode(path: string): IncomingState | undefined {
  try {
    return decodeJournal(readRegular(path, 'INVALID_JOURNAL'));
  } catch (error) {
    if (error instanceof FormatError) return undefined;
    throw error;
  }
}

/** Directories with a journal: every writer's, and those it is rescuing. */
export function writerDirectories(root: string, depth = 0): string[] {
  let names: string[];
  try {
    names = readdirSync(root);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return [];
    throw error;
  }
  const found: string[] = [];
  for (const name of names) {
    if (name.startsWith('.') || (depth > 0 && !name.startsWith(RESCUE_PREFIX))) continue;
    const directory = join(root, name);
    found.push(directory);
    if (depth < MAX_DEPTH) found.push(...writerDirectories(directory, depth + 1));
  }
  return found;
}

/** Opens local xorb `number` of a writer. The caller closes it. Throws ENOENT when it was sealed. */
export function openLocalXorb(directory: string, state: IncomingState, number: number): XorbSource {
  const xorb = state.xorbs[number];
  if (xorb === undefined) throw new Error(`no local xorb ${number}`);
  const path = join(directory, `${number}.xorb`);
  return {
    path,
    fd: openRegular(path, 'INVALID_JOURNAL'),
    count: xorb.count,
    hashes: xorb.hashes.slice(),
    recordEnds: xorb.recordEnds,
    rawEnds: xorb.rawEnds,
    pins: 0,
  };
}
