/** All repositories of a registry as they were at one moment, with what finds them. Never changes. */
import { NotFoundError } from './errors.ts';
import { indexOf, type RegistryMetadata, type RepositoryRecord } from './metadata.ts';
import { parseRemoteUrl } from './remote-url.ts';
import { findRepoId } from './repo-id.ts';
import { foldName, NameTable } from './repository-name.ts';

/** URLs of repositories are asked for again and again, and taking them apart costs. */
const canonicalUrls = new Map<string, string | undefined>();
const MAX_CANONICAL_URLS = 50_000;
const MAX_NEAR = 5;

export class Snapshot {
  readonly metadata: RegistryMetadata;
  readonly #byId: ReadonlyMap<string, RepositoryRecord>;
  readonly #byName: ReadonlyMap<string, RepositoryRecord>;
  #byUrl: ReadonlyMap<string, readonly RepositoryRecord[]> | undefined;
  #sorted: readonly RepositoryRecord[] | undefined;

  constructor(metadata: RegistryMetadata) {
    this.metadata = metadata;
    const { byId, byName } = indexOf(metadata.repositories);
    this.#byId = byId;
    this.#byName = byName;
  }

  get generation(): number {
    return this.metadata.generation;
  }

  byId(id: string): RepositoryRecord | undefined {
    return this.#byId.get(id) ?? this.#byId.get(id.toLowerCase());
  }

  byName(name: string): RepositoryRecord | undefined {
    return this.#byName.get(name);
  }

  byPath(path: string): RepositoryRecord | undefined {
    return this.metadata.repositories.find((record) => record.path === path);
  }

  /**
   * Those whose URL means the same as `url`: first what was written just so, then the oldest. Throws
   * URL_INVALID for what can be no URL.
   */
  byUrl(url: string): readonly RepositoryRecord[] {
    const wanted = parseRemoteUrl(url);
    this.#byUrl ??= this.#indexUrls();
    const found = this.#byUrl.get(wanted.canonical) ?? [];
    return [...found].sort(
      (a, b) =>
        Number(b.url === wanted.url) - Number(a.url === wanted.url) ||
        compare(a.createdAt, b.createdAt) ||
        compare(a.name, b.name),
    );
  }

  /** By name, in the order of code units: the same on every machine. */
  list(): readonly RepositoryRecord[] {
    this.#sorted ??= Object.freeze(
      [...this.metadata.repositories].sort((a, b) => compare(a.name, b.name)),
    ) as readonly RepositoryRecord[];
    return this.#sorted;
  }

  /** By id or name; an id in any case. */
  find(query: string): RepositoryRecord | undefined {
    return this.#byName.get(query) ?? (findRepoId(query) === undefined ? undefined : this.byId(query));
  }

  /** As `find`. Throws NOT_FOUND with what was perhaps meant. */
  get(query: string): RepositoryRecord {
    const record = this.find(query);
    if (record !== undefined) return record;
    throw notFound(query, this);
  }

  /** The names in use. */
  names(): NameTable {
    return new NameTable(this.#byName.keys());
  }

  /** Names, or ids, that differ from `query` by little. */
  near(query: string): string[] {
    const wanted = foldName(query.slice(0, 300));
    const limit = Math.min(3, Math.max(1, Math.floor(wanted.length / 3)));
    const candidates: { readonly shown: string; readonly distance: number }[] = [];
    for (const { id, name } of this.metadata.repositories) {
      const folded = foldName(name);
      const shown = wanted.includes('/') ? folded : folded.slice(folded.indexOf('/') + 1);
      const isPart = wanted.length >= 3 && folded.includes(wanted);
      const distance = isPart ? 1 : editDistance(wanted, shown, limit);
      if (distance <= limit) candidates.push({ shown: name, distance });
      else if (wanted.length >= 4 && id.startsWith(wanted)) candidates.push({ shown: id, distance: 0 });
      else if (wanted.length === id.length && editDistance(wanted, id, 2) <= 2) {
        candidates.push({ shown: id, distance: 2 });
      }
    }
    candidates.sort((a, b) => a.distance - b.distance || compare(a.shown, b.shown));
    return candidates.slice(0, MAX_NEAR).map(({ shown }) => shown);
  }

  #indexUrls(): ReadonlyMap<string, readonly RepositoryRecord[]> {
    const index = new Map<string, RepositoryRecord[]>();
    for (const record of this.metadata.repositories) {
      const key = record.url === undefined ? undefined : canonicalUrl(record.url);
      if (key === undefined) continue;
      const same = index.get(key);
      if (same === undefined) index.set(key, [record]);
      else same.push(record);
    }
    return index;
  }
}

/** Undefined for a stored URL that is none, which some other program must have written. */
export function canonicalUrl(url: string): string | undefined {
  if (canonicalUrls.has(url)) return canonicalUrls.get(url);
  let canonical: string | undefined;
  try {
    canonical = parseRemoteUrl(url).canonical;
  } catch {
    canonical = undefined;
  }
  if (canonicalUrls.size >= MAX_CANONICAL_URLS) canonicalUrls.clear();
  canonicalUrls.set(url, canonical);
  return canonical;
}

export function notFound(query: string, snapshot: Snapshot): NotFoundError {
  const shown = JSON.stringify(query.slice(0, 200));
  const count = snapshot.metadata.repositories.length;
  return new NotFoundError(
    `no repository has the name or id ${shown} (the registry ${snapshot.metadata.root} has ${count})`,
    snapshot.near(query),
    { data: { query } },
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Letters put in, left out or changed, neighbours swapped being two; anything above `limit` is `limit + 1`. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  let previous = Array.from({ length: b.length + 1 }, (_, index) => Math.min(index, limit + 1));
  for (let i = 1; i <= a.length; i++) {
    const current = new Array<number>(b.length + 1).fill(limit + 1);
    current[0] = i;
    let best = i;
    // Further from the diagonal than `limit` there is nothing to be found.
    for (let j = Math.max(1, i - limit); j <= Math.min(b.length, i + limit); j++) {
      const changed = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const value = Math.min(changed, previous[j]! + 1, current[j - 1]! + 1);
      current[j] = value;
      if (value < best) best = value;
    }
    if (best > limit) return limit + 1;
    previous = current;
  }
  return previous[b.length]!;
}
