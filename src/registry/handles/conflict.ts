/** Where two sides of a merge do not fit, and the error that lets a caller resolve it and go on, or take it back. */
import { type PathText, pathText } from '../../git/tree-path.ts';
import { Git2dbError } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';

export interface ConflictStage {
  /** `100644`, `100755`, `120000`, or `160000` for a submodule. */
  readonly mode: string;
  readonly oid: string;
}

export type ConflictKind =
  | 'both-modified'
  | 'both-added'
  | 'both-deleted'
  | 'deleted-by-us'
  | 'deleted-by-them'
  | 'added-by-us'
  | 'added-by-them';

export interface Conflict extends PathText {
  readonly kind: ConflictKind;
  /** The file in the common ancestor, on our side and on theirs; undefined where it is not. */
  readonly stages: {
    readonly base: ConflictStage | undefined;
    readonly ours: ConflictStage | undefined;
    readonly theirs: ConflictStage | undefined;
  };
}

export type ConflictOperation = 'merge' | 'rebase' | 'cherry-pick' | 'revert' | 'stash' | 'merge-trees';

/** How an operation that stopped goes on. */
export interface Resumption<Result> {
  /** After the conflicts have been resolved and staged. Rejects with the next MergeConflictError when it stops again. */
  continue(): Promise<Result>;
  /** Brings back the state from before the operation. */
  abort(): Promise<void>;
  /** Leaves out the commit at which it stopped; undefined where that means nothing. */
  readonly skip?: (() => Promise<Result>) | undefined;
}

/**
 * An operation has stopped at conflicts. The repository is left as git leaves it, the index with its stages, files
 * with their markers: also a later process can go on (`handle.merge.continue()`).
 */
export class MergeConflictError<Result = unknown> extends Git2dbError {
  readonly operation: ConflictOperation;
  readonly conflicts: readonly Conflict[];
  readonly #resumption: Resumption<Result>;

  constructor(
    operation: ConflictOperation,
    conflicts: readonly Conflict[],
    where: string,
    resumption: Resumption<Result>,
  ) {
    const shown = conflicts.slice(0, 10).map(({ path, kind }) => `${JSON.stringify(path)} (${kind})`);
    const more = conflicts.length > shown.length ? ` and ${conflicts.length - shown.length} more` : '';
    const files =
      conflicts.length === 0
        ? 'without a conflicting file: see "git status"'
        : `at ${conflicts.length} conflicting ${conflicts.length === 1 ? 'file' : 'files'}: ${shown.join(', ')}${more}`;
    const remedy =
      operation === 'merge-trees'
        ? 'nothing was changed'
        : 'resolve and stage them, then continue(), or abort()';
    super('MERGE_CONFLICT', `${operation} in ${where} stopped ${files}; ${remedy}`, {
      data: { operation, conflicts },
    });
    this.name = 'MergeConflictError';
    this.operation = operation;
    this.conflicts = conflicts;
    this.#resumption = resumption;
  }

  continue(): Promise<Result> {
    return this.#resumption.continue();
  }

  abort(): Promise<void> {
    return this.#resumption.abort();
  }

  /** Goes on without the commit at which it stopped. Throws USAGE where nothing can be skipped. */
  skip(): Promise<Result> {
    if (this.#resumption.skip !== undefined) return this.#resumption.skip();
    return Promise.reject(
      new Git2dbError('USAGE', `nothing can be skipped in a ${this.operation}: continue() or abort()`),
    );
  }
}

/** The unmerged files of the index. */
export async function listConflicts(place: GitPlace, signal?: AbortSignal): Promise<Conflict[]> {
  return conflictsOf(await place.linesZ(['ls-files', '-u', '-z', '--full-name'], { signal }));
}

/** From lines `<mode> SP <oid> SP <stage> TAB <path>`, grouped by path. */
export function conflictsOf(lines: readonly Buffer[]): Conflict[] {
  const byPath = new Map<string, { path: Buffer; stages: (ConflictStage | undefined)[] }>();
  for (const line of lines) {
    const tab = line.indexOf(0x09);
    const [mode, oid, stage] = line.toString('latin1', 0, tab).split(' ') as [string, string, string];
    const path = line.subarray(tab + 1);
    const key = path.toString('latin1');
    const entry = byPath.get(key) ?? { path, stages: [] };
    byPath.set(key, entry);
    entry.stages[Number(stage)] = { mode, oid };
  }
  return [...byPath.values()].map(({ path, stages: [, base, ours, theirs] }) => ({
    ...pathText(path),
    kind: kindOf(base !== undefined, ours !== undefined, theirs !== undefined),
    stages: { base, ours, theirs },
  }));
}

function kindOf(base: boolean, ours: boolean, theirs: boolean): ConflictKind {
  if (base) {
    if (ours && theirs) return 'both-modified';
    if (ours) return 'deleted-by-them';
    return theirs ? 'deleted-by-us' : 'both-deleted';
  }
  if (ours && theirs) return 'both-added';
  return ours ? 'added-by-us' : 'added-by-them';
}
