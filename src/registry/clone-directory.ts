/**
 * Where a clone is made before anybody sees it, and what an interrupted one left there.
 *
 *     repos/.git2db-clone-<hash of the name>/clone.json    what was asked for
 *     repos/.git2db-clone-<hash of the name>/repository/   becomes repos/<name> by one rename
 *
 * Whoever has reserved the name has this directory. A killed clone's is used again for the same URL and
 * shape, and deleted otherwise. What git can use again is what it had finished: a pack that was received
 * to its end (also where no ref led to it yet), the refs, files that are checked out. Of a pack that was
 * cut off nothing remains, as git's protocol cannot go on in the middle of one.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeDirectories } from '../make-directories.ts';
import type { CheckedCloneOptions } from './clone-options.ts';
import { checkAborted } from './errors.ts';
import { OWN_PREFIX } from './registry-layout.ts';
import { foldName } from './repository-name.ts';

const VERSION = 1;
const ASIDE = '-left-';
/** A git whose caller was killed notices when it next says something; a filter at the end of its input. */
const WAIT_FOR_ORPHANS_MS = 2000;

export interface CloneShape {
  readonly url: string;
  readonly objectFormat: string;
  readonly bare: boolean;
  readonly trusted: boolean;
  readonly hooks: boolean;
  readonly depth: number | null;
  readonly shallowSince: string | null;
  readonly filter: string | null;
  readonly sparse: readonly string[] | null;
  /** What HEAD becomes: another branch of an earlier run would stay behind. */
  readonly target: string | null;
}

export class CloneDirectory {
  readonly path: string;
  /** The repository in the making. */
  readonly repository: string;
  readonly #stateFile: string;

  constructor(repos: string, name: string) {
    const hash = createHash('sha256').update(foldName(name)).digest('hex').slice(0, 32);
    this.path = join(repos, `${OWN_PREFIX}-clone-${hash}`);
    this.repository = join(this.path, 'repository');
    this.#stateFile = join(this.path, 'clone.json');
  }

  /**
   * Makes the directory ready; true where there is something to go on with. While a git that a killed clone
   * has left is still at work in it, it is put aside, and deleted by a later clone.
   */
  async prepare(shape: CloneShape, signal: AbortSignal | undefined): Promise<boolean> {
    await this.#sweepAside();
    if (existsSync(this.path) && (await this.#hasOrphans(signal))) {
      renameSync(this.path, `${this.path}${ASIDE}${randomBytes(4).toString('hex')}`);
    }
    if (this.#reusable(shape)) {
      sweepLeftovers(this.repository);
      return true;
    }
    await this.remove();
    makeDirectories(this.path, 0o700);
    writeFileSync(this.#stateFile, stateText(shape), { mode: 0o600 });
    return false;
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true, maxRetries: 5 });
  }

  #reusable(shape: CloneShape): boolean {
    try {
      return (
        readFileSync(this.#stateFile, 'utf8') === stateText(shape) &&
        ['HEAD', '.git/HEAD'].some((file) => existsSync(join(this.repository, file)))
      );
    } catch {
      return false;
    }
  }

  /** Whether somebody still works here after a while. */
  async #hasOrphans(signal: AbortSignal | undefined): Promise<boolean> {
    const deadline = performance.now() + WAIT_FOR_ORPHANS_MS;
    while (processesIn(this.path).length > 0) {
      if (performance.now() > deadline) return true;
      checkAborted(signal, 'the clone');
      await sleep(20);
    }
    return false;
  }

  /** What earlier clones of this name have put aside and nobody works in any more. */
  async #sweepAside(): Promise<void> {
    const repos = dirname(this.path);
    if (!existsSync(repos)) return;
    for (const name of readdirSync(repos)) {
      const path = join(repos, name);
      if (!path.startsWith(`${this.path}${ASIDE}`) || processesIn(path).length > 0) continue;
      await rm(path, { recursive: true, force: true, maxRetries: 5 });
    }
  }
}

function stateText(shape: CloneShape): string {
  return `${JSON.stringify({ version: VERSION, ...shape })}\n`;
}

/** `target`: the ref or oid that is checked out. */
export function cloneShape(
  url: string,
  options: CheckedCloneOptions,
  objectFormat: string,
  target: string | undefined,
): CloneShape {
  const { bare, trusted, hooks, depth, shallowSince, filter, sparse } = options;
  return {
    url,
    objectFormat,
    bare,
    trusted,
    hooks,
    depth: depth ?? null,
    shallowSince: shallowSince ?? null,
    filter: filter ?? null,
    sparse: sparse ?? null,
    target: target ?? null,
  };
}

/** Lock files and half-written packs of a process that was killed. Nobody works here now. */
function sweepLeftovers(repository: string): void {
  const gitDir = existsSync(join(repository, '.git')) ? join(repository, '.git') : repository;
  for (const entry of readdirSync(gitDir, { withFileTypes: true, recursive: true })) {
    if (entry.isDirectory()) continue;
    const isLock = entry.name.endsWith('.lock') && !entry.parentPath.includes('/objects');
    const isPartial = /^tmp_(?:pack|idx|rev|obj)_/.test(entry.name) && entry.parentPath.includes('/objects');
    if (isLock || isPartial) rmSync(join(entry.parentPath, entry.name), { force: true });
  }
}

/** Whose working directory lies in `directory`, as far as that may be looked at; none where there is no /proc. */
function processesIn(directory: string): number[] {
  let names: string[];
  try {
    names = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
  return names.map(Number).filter((pid) => {
    if (pid === process.pid) return false;
    try {
      const cwd = readlinkSync(`/proc/${pid}/cwd`);
      return cwd === directory || cwd.startsWith(`${directory}/`);
    } catch {
      return false;
    }
  });
}
