/**
 * What is costly to have of a repository, kept while it is true: its open place (long-lived `git cat-file`
 * processes), its parsed configuration, and a snapshot of its refs. Everything is checked by stat at each
 * use, so that what another process did shows at the next call; nothing is believed for a time.
 */
import { readdirSync, realpathSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { GitConfig } from '../git/config.ts';
import { type FileStamps, isFresh, stampFiles } from './file-stamp.ts';
import type { GitPlace } from './git-place.ts';
import { readScopedConfig } from './scoped-config.ts';

export interface RefSnapshot {
  /** The full name HEAD stands for; undefined when it is detached. */
  readonly head: string | undefined;
  /** By full name. A tag's own object, not what it points to. */
  readonly refs: ReadonlyMap<string, string>;
}

export interface CacheStats {
  readonly places: number;
  readonly configurations: number;
  readonly refSnapshots: number;
  readonly hits: number;
  readonly misses: number;
  /** Taken out because there were too many. */
  readonly evicted: number;
}

interface Kept<T> {
  readonly stamps: FileStamps;
  readonly value: Promise<T>;
}

interface KeptPlace {
  readonly place: GitPlace;
  /** Of the git directory: another one may have taken its path. */
  readonly identity: string;
}

const LIMIT = 100;

export class PlaceCache {
  readonly #places = new Map<string, KeptPlace>();
  readonly #configs = new Map<string, Kept<GitConfig>>();
  readonly #refs = new Map<string, Kept<RefSnapshot>>();
  #hits = 0;
  #misses = 0;
  #evicted = 0;

  /** The open place at `path`, or the one that `open` makes. */
  async place(path: string, trusted: boolean, open: () => Promise<GitPlace>): Promise<GitPlace> {
    const key = JSON.stringify([realPathOf(path), trusted]);
    const known = this.#places.get(key);
    if (known !== undefined && identityOf(known.place.gitDir) === known.identity) {
      this.#hits++;
      touch(this.#places, key, known);
      return known.place;
    }
    this.#misses++;
    const place = await open();
    // Somebody else may have opened it meanwhile; one of two is enough.
    const meanwhile = this.#places.get(key);
    if (meanwhile !== undefined && meanwhile !== known) {
      await place.close();
      return meanwhile.place;
    }
    this.#places.set(key, { place, identity: identityOf(place.gitDir) });
    await known?.place.close();
    await this.#trim(this.#places, ({ place: old }) => old.close());
    return place;
  }

  /** All settings in force in `place`. */
  config(place: GitPlace): Promise<GitConfig> {
    return this.#kept(this.#configs, place.gitDir, async () => {
      const scoped = await readScopedConfig(place, place.env);
      return { stamps: scoped.stamps, value: new GitConfig(scoped.all) };
    });
  }

  refs(place: GitPlace): Promise<RefSnapshot> {
    return this.#kept(this.#refs, place.gitDir, async () => {
      const stamps = stampFiles(refFiles(place));
      return { stamps, value: await readRefs(place) };
    });
  }

  stats(): CacheStats {
    return {
      places: this.#places.size,
      configurations: this.#configs.size,
      refSnapshots: this.#refs.size,
      hits: this.#hits,
      misses: this.#misses,
      evicted: this.#evicted,
    };
  }

  /** Forgets everything and ends the processes of all places; they can still be used. */
  async clear(): Promise<void> {
    const places = [...this.#places.values()];
    this.#places.clear();
    this.#configs.clear();
    this.#refs.clear();
    await Promise.all(places.map(({ place }) => place.close()));
  }

  async #kept<T>(
    map: Map<string, Kept<T>>,
    key: string,
    read: () => Promise<{ stamps: FileStamps; value: T }>,
  ): Promise<T> {
    const known = map.get(key);
    if (known !== undefined && isFresh(known.stamps)) {
      this.#hits++;
      touch(map, key, known);
      return known.value;
    }
    this.#misses++;
    const { stamps, value } = await read();
    map.set(key, { stamps, value: Promise.resolve(value) });
    await this.#trim(map, () => {});
    return value;
  }

  async #trim<T>(map: Map<string, T>, end: (old: T) => unknown): Promise<void> {
    while (map.size > LIMIT) {
      const [oldest, value] = map.entries().next().value!;
      map.delete(oldest);
      this.#evicted++;
      await end(value);
    }
  }
}

/** To the end of the order in which entries are taken out. */
function touch<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key);
  map.set(key, value);
}

function realPathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return resolve(path);
  }
}

function identityOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? '-' : `${stat.dev}:${stat.ino}`;
}

/**
 * A loose ref is replaced by rename, which its directory's times show; so do new and removed ones. Packed
 * refs and reftables are files of their own.
 */
function refFiles({ commonDir, gitDir }: GitPlace): string[] {
  const paths = [
    join(gitDir, 'HEAD'),
    join(commonDir, 'packed-refs'),
    join(commonDir, 'reftable', 'tables.list'),
  ];
  const pending = [...new Set([join(commonDir, 'refs'), join(gitDir, 'refs')])];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    paths.push(directory);
    try {
      for (const entry of readdirSync(directory, { withFileTypes: true })) {
        if (entry.isDirectory()) pending.push(join(directory, entry.name));
      }
    } catch {
      // Not there, or gone meanwhile: that is what its stamp says.
    }
  }
  return paths;
}

async function readRefs(place: GitPlace): Promise<RefSnapshot> {
  const head = await place.git(['symbolic-ref', '-q', 'HEAD'], { okStatus: [0, 1] });
  const listed = await place.text(['for-each-ref', '--format=%(objectname) %(refname)']);
  const refs = new Map<string, string>();
  for (const line of listed.split('\n')) {
    const blank = line.indexOf(' ');
    if (blank > 0) refs.set(line.slice(blank + 1), line.slice(0, blank));
  }
  return { head: head.status === 0 ? head.stdout.toString('utf8').trimEnd() : undefined, refs };
}
