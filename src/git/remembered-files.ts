/**
 * The files that a running `git cat-file` has read and does not look at again: the index (`:path`), alternates,
 * grafts, shallow boundaries and replacements. Packs and packed refs are here because that is cheap; git looks
 * for new ones by itself, but keeps files open that are gone.
 */
import { type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import type { RepositoryPaths } from './repository.ts';

export class RememberedFiles {
  readonly #replacementFiles: readonly string[];
  readonly #otherFiles: readonly string[];
  #replacements: string | undefined;
  #others: string | undefined;
  /** Which files were looked at in this turn: 1 replacements, 2 all the others. */
  #looked = 0;

  constructor({ gitDir, commonDir }: RepositoryPaths) {
    this.#replacementFiles = [join(commonDir, 'refs/replace'), join(commonDir, 'packed-refs')];
    this.#otherFiles = [
      join(gitDir, 'index'),
      join(commonDir, 'objects/pack'),
      join(commonDir, 'objects/info/alternates'),
      join(commonDir, 'info/grafts'),
      join(commonDir, 'shallow'),
      join(commonDir, 'reftable/tables.list'),
      join(commonDir, 'config'),
    ];
  }

  /** Before the first process is started: what it will read. */
  note(): void {
    this.#others ??= stampOf(this.#otherFiles);
    this.#replacements ??= stampOf(this.#replacementFiles);
  }

  /**
   * Whether one has changed since it was last looked at. An object id names the same object whatever the index and the
   * refs are: only replacements are looked at for one.
   */
  haveChanged(isOid: boolean): boolean {
    // Once for all questions that are asked in one go.
    const mask = isOid ? 1 : 3;
    if ((this.#looked & mask) === mask) return false;
    if (this.#looked === 0) {
      queueMicrotask(() => {
        this.#looked = 0;
      });
    }
    this.#looked |= mask;
    const [replacements, others] = [this.#replacements, this.#others];
    this.#replacements = stampOf(this.#replacementFiles);
    if (!isOid) this.#others = stampOf(this.#otherFiles);
    return this.#replacements !== replacements || (!isOid && this.#others !== others);
  }
}

function stampOf(files: readonly string[]): string {
  let stamp = '';
  for (const file of files) {
    const stats = statOrNothing(file);
    stamp += stats === undefined ? '-;' : `${stats.ino},${stats.size},${stats.mtimeMs},${stats.ctimeMs};`;
  }
  return stamp;
}

function statOrNothing(file: string): Stats | undefined {
  try {
    return statSync(file, { throwIfNoEntry: false });
  } catch {
    return undefined; // Not to be seen from here: git will say so itself.
  }
}
