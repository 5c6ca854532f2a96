/**
 * `git2db xet status`: what the large files of the work tree are at the moment. Answered from the index,
 * the pointers and lstat; no filter is started and no content read, so it takes as long for files of
 * gigabytes as for small ones.
 */
import { type BigIntStats, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Content } from '../filter-process/content.ts';
import type { IndexEntry } from '../git/index-file/entry.ts';
import { git, gitLinesZ } from '../git/runner.ts';
import { errnoOf } from '../xet/errors.ts';
import { type ComparedFields, comparedFields, matchesIndex } from './index-match.ts';
import { readBlobFacts } from './pointer-blobs.ts';
import { findPointerFile } from './pointer-files.ts';
import type { Place } from './work-tree.ts';
import { type OpenWorkTree, openWorkTree, readXetEntries } from './xet-entries.ts';

/**
 * `materialised`: content, as git knows it. `unverified`: content of the right size that git has not looked at since it
 * was written. `modified`: something else. `deleted`: no file.
 */
export type LargeFileState = 'materialised' | 'pointer' | 'unverified' | 'modified' | 'deleted';

export interface LargeFileStatus {
  /** From the top of the work tree. */
  readonly path: Buffer;
  /** Of the content that the index names. */
  readonly size: number;
  readonly fileHash: string;
  readonly state: LargeFileState;
  /** For a pointer: whether its content is in a store that can be reached. */
  readonly available: boolean | undefined;
  /** Against HEAD. */
  readonly staged: 'new' | 'changed' | undefined;
}

export interface WorkTreeStatus {
  /** In git's order. */
  readonly files: readonly LargeFileStatus[];
  readonly store: {
    readonly path: string;
    /** Apparent size of all files in it. */
    readonly bytes: number;
  };
  /** The other stores that content was looked for in. */
  readonly otherStores: readonly string[];
}

export interface StatusOptions extends Place {
  /** Git's pathspecs, relative to `cwd`; the whole work tree where there are none. */
  readonly pathspecs: readonly string[];
  readonly warn: (message: string) => void;
}

/** Throws NOT_A_REPOSITORY without a work tree, USAGE for a pathspec that matches nothing. */
export async function status(options: StatusOptions): Promise<WorkTreeStatus> {
  const tree = openWorkTree(options);
  const { entries, indexTimeNs } = await readXetEntries(tree, options.pathspecs);
  const blobs = await readBlobFacts(
    entries.map(({ oid }) => oid),
    tree.run,
  );
  const staged = entries.length === 0 ? undefined : await listStaged(tree);
  const fields = comparedFields(options.cwd, options.env);
  const content = new Content(tree.config, options.warn);
  const workTree = new WorkTreeFiles(tree.root, indexTimeNs, fields);
  content.store.existsOrCan();
  const files: LargeFileStatus[] = [];
  for (const entry of entries) {
    const pointer = blobs.get(entry.oid)?.pointer;
    if (pointer === undefined || pointer.kind === 'lfs') continue;
    const { size, hash } = pointer;
    const state = workTree.stateOf(entry, size);
    const available = state === 'pointer' ? size === 0 || content.findSize(hash) !== undefined : undefined;
    const path = entry.path;
    files.push({ path, size, fileHash: hash, state, available, staged: staged?.(path) });
  }
  const [own, ...others] = content.places();
  content.store.close();
  const bytes = sizeBelow(own!, (unreadable) =>
    options.warn(
      `${unreadable} cannot be read, so the store is larger than is said: ask whoever it belongs to`,
    ),
  );
  return { files, store: { path: own!, bytes }, otherStores: others };
}

/** Looks at the files of index entries, and at the directories above them. */
class WorkTreeFiles {
  readonly #root: Buffer;
  readonly #indexTimeNs: bigint;
  readonly #fields: ComparedFields;
  /** Whether a directory is one, and reached by no symbolic link. */
  readonly #isReal = new Map<string, boolean>();

  constructor(root: string, indexTimeNs: bigint, fields: ComparedFields) {
    this.#root = Buffer.from(`${root}/`);
    this.#indexTimeNs = indexTimeNs;
    this.#fields = fields;
  }

  stateOf(entry: IndexEntry, size: number): LargeFileState {
    // Beyond a link there are no files of the work tree, says git too.
    const stat = this.#isRealDirectory(parentOf(entry.path)) ? this.#look(entry.path) : undefined;
    if (stat === undefined) return 'deleted';
    if (!stat.isFile()) return 'modified';
    if (findPointerFile(this.#root, entry) !== undefined) return 'pointer';
    if (stat.size !== BigInt(size)) return 'modified';
    return matchesIndex(entry, stat, this.#indexTimeNs, this.#fields) ? 'materialised' : 'unverified';
  }

  #isRealDirectory(path: Buffer): boolean {
    if (path.length === 0) return true;
    const key = path.toString('latin1');
    let known = this.#isReal.get(key);
    if (known === undefined) {
      known = this.#isRealDirectory(parentOf(path)) && this.#look(path)?.isDirectory() === true;
      this.#isReal.set(key, known);
    }
    return known;
  }

  #look(path: Buffer): BigIntStats | undefined {
    try {
      return lstatSync(Buffer.concat([this.#root, path]), { bigint: true });
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
      throw error;
    }
  }
}

function parentOf(path: Buffer): Buffer {
  return path.subarray(0, Math.max(0, path.lastIndexOf('/')));
}

/** A function that says how a path of the index differs from HEAD; before the first commit, every one is new. */
async function listStaged({ run }: OpenWorkTree): Promise<(path: Buffer) => LargeFileStatus['staged']> {
  const head = await git(['rev-parse', '--verify', '--quiet', 'HEAD^{tree}'], {
    ...run,
    okStatus: [0, 1, 128],
  });
  if (head.status !== 0) return () => 'new';
  const tree = head.stdout.toString('latin1').trim();
  // :mode mode oid oid status NUL path NUL
  const fields = await gitLinesZ(['diff-index', '--cached', '--raw', '-z', '--no-renames', tree], run);
  const changes = new Map<string, 'new' | 'changed'>();
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const isNew = fields[i]!.at(-1) === 0x41;
    changes.set(fields[i + 1]!.toString('latin1'), isNew ? 'new' : 'changed');
  }
  return (path) => changes.get(path.toString('latin1'));
}

/** Apparent size of all files below a directory; 0 where it is not. What may not be looked into is left out, and told. */
function sizeBelow(directory: string, onUnreadable: (directory: string) => void): number {
  let bytes = 0;
  try {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) bytes += sizeBelow(path, onUnreadable);
      else if (entry.isFile()) bytes += lstatSync(path, { throwIfNoEntry: false })?.size ?? 0;
    }
  } catch (error) {
    // A writer may seal and remove its directory while we look.
    if (errnoOf(error) === 'EACCES') onUnreadable(directory);
    else if (errnoOf(error) !== 'ENOENT') throw error;
  }
  return bytes;
}
