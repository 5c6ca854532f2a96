/** The operation that has stopped in a work tree and waits to be continued or aborted (gitrepository-layout). */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Git2dbError } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';

export type OperationKind = 'merge' | 'rebase' | 'am' | 'cherry-pick' | 'revert' | 'bisect';

export interface Operation {
  readonly kind: OperationKind;
  /** The commit that is being merged, picked or reverted, or at which the rebase stands. */
  readonly commit: string | undefined;
  /** Full name of the branch that a rebase will move; undefined when detached, or for another kind. */
  readonly branch: string | undefined;
  /** Of a rebase. */
  readonly onto: string | undefined;
  readonly step: number | undefined;
  readonly steps: number | undefined;
}

export async function findOperation(place: GitPlace): Promise<Operation | undefined> {
  const file = (name: string) => join(place.gitDir, name);
  const merge = file('rebase-merge');
  if (existsSync(merge)) {
    return operation('rebase', {
      commit: first(join(merge, 'stopped-sha')),
      branch: branchOf(first(join(merge, 'head-name'))),
      onto: first(join(merge, 'onto')),
      step: count(join(merge, 'msgnum')),
      steps: count(join(merge, 'end')),
    });
  }
  const apply = file('rebase-apply');
  if (existsSync(apply)) {
    return operation(existsSync(join(apply, 'applying')) ? 'am' : 'rebase', {
      commit: first(join(apply, 'original-commit')),
      branch: branchOf(first(join(apply, 'head-name'))),
      onto: first(join(apply, 'onto')),
      step: count(join(apply, 'next')),
      steps: count(join(apply, 'last')),
    });
  }
  const picked = await pseudoRef(place, 'CHERRY_PICK_HEAD');
  if (picked !== undefined) return operation('cherry-pick', { commit: picked });
  const reverted = await pseudoRef(place, 'REVERT_HEAD');
  if (reverted !== undefined) return operation('revert', { commit: reverted });
  const todo = first(file('sequencer/todo'));
  if (todo !== undefined)
    return operation(/^(?:revert|p?revert)\b/.test(todo) ? 'revert' : 'cherry-pick', {});
  const merged = first(file('MERGE_HEAD'));
  if (merged !== undefined) return operation('merge', { commit: merged });
  return existsSync(file('BISECT_LOG')) ? operation('bisect', {}) : undefined;
}

/** Throws NO_OPERATION unless an operation of `kind` waits. */
export async function requireOperation(place: GitPlace, kind: OperationKind): Promise<Operation> {
  const found = await findOperation(place);
  if (found?.kind === kind) return found;
  throw new Git2dbError(
    'NO_OPERATION',
    `expected a ${kind} in progress in ${place.workTree ?? place.gitDir}, found ${found === undefined ? 'none' : `a ${found.kind}`}`,
    { data: { expected: kind, found: found?.kind } },
  );
}

/** Throws OPERATION_IN_PROGRESS when one waits. */
export async function requireNoOperation(place: GitPlace, wanted: string): Promise<void> {
  const found = await findOperation(place);
  if (found === undefined || found.kind === 'bisect') return;
  throw new Git2dbError(
    'OPERATION_IN_PROGRESS',
    `cannot ${wanted} in ${place.workTree ?? place.gitDir}: a ${found.kind} waits there; continue or abort it first`,
    { data: { operation: found } },
  );
}

function operation(kind: OperationKind, facts: Partial<Operation>): Operation {
  return {
    commit: undefined,
    branch: undefined,
    onto: undefined,
    step: undefined,
    steps: undefined,
    ...facts,
    kind,
  };
}

/** A file in the git directory, or a ref where refs are in tables. */
async function pseudoRef(place: GitPlace, name: string): Promise<string | undefined> {
  const found = first(join(place.gitDir, name));
  if (found !== undefined || !existsSync(join(place.gitDir, 'reftable'))) return found;
  return (await place.objects.info(name))?.oid;
}

function first(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').split('\n', 1)[0] || undefined;
  } catch {
    return undefined;
  }
}

function count(path: string): number | undefined {
  const text = first(path);
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

function branchOf(headName: string | undefined): string | undefined {
  return headName?.startsWith('refs/') ? headName : undefined;
}
