/**
 * Changes to a registry's records that nobody else sees yet: checked one by one as they are made, and
 * applied together (apply-draft.ts). Nothing is touched on disk here.
 */
import { Git2dbError } from '../xet/errors.ts';
import { NameError } from './errors.ts';
import { encodeRecord, indexOf, type RepositoryRecord } from './metadata.ts';
import { isOwnPath } from './own-path.ts';
import type { AskedRecord, NewRecord } from './record-sink.ts';
import { parseRemoteUrl } from './remote-url.ts';
import { findRepoId, RepoId } from './repo-id.ts';
import { checkFree, checkName, NameTable } from './repository-name.ts';
import { canonicalUrl, Snapshot } from './snapshot.ts';

/** What changes beside the metadata when a draft is applied. */
export type Effect =
  /** The absolute directory `from` becomes the repository's place. */
  | { readonly kind: 'place'; readonly from: string; readonly record: RepositoryRecord }
  /** Git's remote gets the record's URL. */
  | { readonly kind: 'remote'; readonly record: RepositoryRecord; readonly url: string }
  /** The repository's directory is deleted. */
  | { readonly kind: 'discard'; readonly record: RepositoryRecord };

export interface RecordPatch {
  readonly name?: string | undefined;
  /** Git's remote is set to it as well. Null: no URL is recorded any more; git's remote stays. */
  readonly url?: string | null | undefined;
  readonly trackingRef?: string | null | undefined;
  readonly trusted?: boolean | undefined;
  /** Laid over what is there; null takes a key away. */
  readonly metadata?: Readonly<Record<string, string | null>> | undefined;
}

export class Draft {
  readonly base: Snapshot;
  readonly effects: Effect[] = [];
  /** Names that were taken without being reserved before: nobody else's reservation may stand in their way. */
  readonly claimed: string[] = [];
  readonly #records: Map<string, RepositoryRecord>;
  #snapshot: Snapshot | undefined;
  #names: NameTable | undefined;
  #places: NameTable | undefined;

  /** What was looked at, by what it was asked for with: an id, or a name that was not there. */
  readonly #seen = new Map<string, RepositoryRecord | undefined>();
  #sawAll = false;

  constructor(base: Snapshot) {
    this.base = base;
    this.#records = new Map(indexOf(base.metadata.repositories).byId);
    this.#snapshot = base;
  }

  get isEmpty(): boolean {
    return this.effects.length === 0 && this.#snapshot === this.base;
  }

  /** The base with all changes so far. */
  get snapshot(): Snapshot {
    this.#snapshot ??= new Snapshot({ ...this.base.metadata, repositories: [...this.#records.values()] });
    return this.#snapshot;
  }

  /** As `snapshot.find`, noted as what the changes may depend on. */
  find(query: string): RepositoryRecord | undefined {
    const record = this.snapshot.find(query);
    this.#see(query, record);
    return record;
  }

  /** As `snapshot.list`; whatever comes after it may depend on all there is. */
  list(): readonly RepositoryRecord[] {
    this.#sawAll = true;
    return this.snapshot.list();
  }

  #see(query: string, record: RepositoryRecord | undefined): void {
    const before = record === undefined ? undefined : this.base.byId(record.id);
    if (record === undefined) this.#seen.set(query, undefined);
    else if (before !== undefined) this.#seen.set(record.id, before);
  }

  /**
   * The same changes of a newer state of the registry. Undefined where somebody else has changed what was looked
   * at or changed here. Throws NAME_TAKEN where a name was given to somebody else.
   */
  rebase(now: Snapshot): Draft | undefined {
    if (this.#sawAll || this.base.metadata.registryId !== now.metadata.registryId) return undefined;
    for (const [query, before] of this.#seen) {
      const after = before === undefined ? now.find(query) : now.byId(before.id);
      if (!isEqual(before, after)) return undefined;
    }
    const next = new Draft(now);
    const own = this.#records;
    const changed = [...own.values()].filter((record) => this.base.byId(record.id) !== record);
    for (const { id } of this.base.metadata.repositories) {
      if (!own.has(id)) next.#records.delete(id);
    }
    for (const record of changed) {
      const old = this.base.byId(record.id);
      if (!isEqual(old, now.byId(record.id))) return undefined;
      next.#records.delete(record.id);
    }
    next.#snapshot = undefined;
    for (const record of changed) {
      checkFree(record.name, next.#nameTable());
      if (next.snapshot.byPath(record.path) !== undefined) return undefined;
      if (!record.adopted && next.#placeTable().collision(placeName(record)) !== undefined) return undefined;
      next.#put(record);
      next.#nameTable().add(record.name);
      if (!record.adopted) next.#placeTable().add(placeName(record));
    }
    next.effects.push(...this.effects);
    next.claimed.push(...this.claimed);
    return next;
  }

  records(): readonly RepositoryRecord[] {
    return this.snapshot.metadata.repositories;
  }

  /** Throws NAME_INVALID, NAME_TAKEN, URL_INVALID, USAGE. */
  add(
    input: NewRecord,
    { from, reserved = false }: { readonly from?: string | undefined; readonly reserved?: boolean } = {},
  ): RepositoryRecord {
    checkName(input.name);
    checkFree(input.name, this.#nameTable());
    const id = input.id === undefined ? RepoId.create() : RepoId.parse(input.id);
    const holder = this.#records.get(id);
    if (holder !== undefined) {
      throw new Git2dbError(
        'REFUSED',
        `the id ${id} belongs to ${JSON.stringify(holder.name)}: use another, or none`,
        {
          data: { id, name: holder.name },
        },
      );
    }
    const now = new Date().toISOString();
    const record: RepositoryRecord = {
      id,
      name: input.name,
      url: input.url === undefined ? undefined : parseRemoteUrl(input.url).url,
      path: input.path ?? this.#freePlace(input.name),
      adopted: input.path !== undefined && !isOwnPath(input.path),
      bare: input.bare ?? false,
      trusted: input.trusted ?? false,
      trackingRef: input.trackingRef,
      createdAt: now,
      updatedAt: now,
      metadata: checkTexts(input.metadata ?? {}),
    };
    this.#put(record);
    this.#nameTable().add(record.name);
    if (!reserved) this.claimed.push(record.name);
    if (!record.adopted) this.#placeTable().add(placeName(record));
    if (from !== undefined) this.effects.push({ kind: 'place', from, record });
    return record;
  }

  /** The record as it is afterwards, the same object if nothing changes. Throws as `add`, and NOT_FOUND. */
  update(query: string, patch: RecordPatch): RepositoryRecord {
    const old = this.find(query) ?? this.snapshot.get(query);
    const name = patch.name ?? old.name;
    if (name !== old.name) {
      checkName(name);
      const others = this.#nameTable();
      others.delete(old.name);
      try {
        checkFree(name, others);
      } catch (error) {
        others.add(old.name);
        throw error;
      }
      others.add(name);
      this.claimed.push(name);
    }
    const url =
      patch.url === undefined ? old.url : patch.url === null ? undefined : parseRemoteUrl(patch.url).url;
    const changed: RepositoryRecord = {
      ...old,
      name,
      url,
      trackingRef: patch.trackingRef === undefined ? old.trackingRef : (patch.trackingRef ?? undefined),
      trusted: patch.trusted ?? old.trusted,
      metadata: patch.metadata === undefined ? old.metadata : mergeTexts(old.metadata, patch.metadata),
    };
    if (isSameRecord(old, changed)) return old;
    const record = { ...changed, updatedAt: laterThan(old.updatedAt) };
    this.#put(record);
    if (url !== undefined && url !== old.url) this.effects.push({ kind: 'remote', record, url });
    return record;
  }

  /** `discard`: its directory, which is ours, is deleted as well. */
  remove(query: string, { discard }: { readonly discard: boolean }): RepositoryRecord {
    const record = this.find(query) ?? this.snapshot.get(query);
    this.#records.delete(record.id);
    this.#snapshot = undefined;
    this.#names?.delete(record.name);
    if (discard && !record.adopted) this.effects.push({ kind: 'discard', record });
    return record;
  }

  #put(record: RepositoryRecord): void {
    this.#records.set(record.id, record);
    this.#snapshot = undefined;
  }

  #nameTable(): NameTable {
    this.#names ??= new NameTable([...this.#records.values()].map(({ name }) => name));
    return this.#names;
  }

  #placeTable(): NameTable {
    this.#places ??= new NameTable(
      [...this.#records.values()].filter(({ adopted }) => !adopted).map(placeName),
    );
    return this.#places;
  }

  /** `repos/<name>`, but for a name that another repository had when it was made. */
  #freePlace(name: string): string {
    const taken = this.#placeTable();
    let place = name;
    for (let number = 2; taken.collision(place) !== undefined; number++) place = `${name}-${number}`;
    return `repos/${place}`;
  }
}

/** Of two snapshots: one record is two objects where another process has written the file. */
function isEqual(a: RepositoryRecord | undefined, b: RepositoryRecord | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && encodeRecord(a) === encodeRecord(b));
}

function placeName({ path }: RepositoryRecord): string {
  return path.slice('repos/'.length);
}

function isSameRecord(a: RepositoryRecord, b: RepositoryRecord): boolean {
  return (
    a.name === b.name &&
    a.url === b.url &&
    a.trackingRef === b.trackingRef &&
    a.trusted === b.trusted &&
    sameTexts(a.metadata, b.metadata)
  );
}

function sameTexts(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && a[key] === b[key])
  );
}

/** Clocks go backwards; the times of one record do not. */
function laterThan(time: string): string {
  const now = new Date().toISOString();
  return now > time ? now : time;
}

function mergeTexts(
  old: Readonly<Record<string, string>>,
  patch: Readonly<Record<string, string | null>>,
): Record<string, string> {
  const merged = new Map(Object.entries(old));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else merged.set(key, value);
  }
  return checkTexts(Object.fromEntries(merged));
}

function checkTexts(texts: Readonly<Record<string, string>>): Record<string, string> {
  for (const [key, value] of Object.entries(texts)) {
    if (typeof value !== 'string') {
      throw new Git2dbError(
        'USAGE',
        `metadata ${JSON.stringify(key)}: expected a string, found ${typeof value}`,
      );
    }
  }
  return Object.fromEntries(Object.entries(texts));
}

/** What `input` asks for and `record` has otherwise, for a person; undefined: nothing. */
export function findDifference(record: RepositoryRecord, input: AskedRecord): string | undefined {
  const id = input.id === undefined ? undefined : findRepoId(input.id);
  if (id !== undefined && id !== record.id) return `the id ${record.id}, not ${id}`;
  if (input.name !== undefined && input.name !== record.name) {
    return `the name ${JSON.stringify(record.name)}, not ${JSON.stringify(input.name)}`;
  }
  if (input.url !== undefined) {
    const wanted = parseRemoteUrl(input.url);
    const has = record.url === undefined ? undefined : canonicalUrl(record.url);
    if (has !== wanted.canonical) return `the URL ${record.url ?? '(none)'}, not ${wanted.url}`;
  }
  if (input.path !== undefined && input.path !== record.path)
    return `the place ${record.path}, not ${input.path}`;
  if (input.trackingRef !== undefined && input.trackingRef !== record.trackingRef) {
    return `the tracking ref ${record.trackingRef ?? '(none)'}, not ${input.trackingRef}`;
  }
  if (input.trusted !== undefined && input.trusted !== record.trusted) {
    return record.trusted ? 'trust, which is not wanted' : 'no trust';
  }
  if (input.metadata !== undefined && !sameTexts(input.metadata, record.metadata)) return 'other metadata';
  return undefined;
}

/** Throws for an entry that is there already with other data than `input`. */
export function checkSame(record: RepositoryRecord, input: AskedRecord): void {
  const difference = findDifference(record, input);
  if (difference === undefined) return;
  const message =
    `${JSON.stringify(record.name)} (${record.id}) is registered already, with ${difference}: ` +
    'change that with update, or use another name';
  if (input.name === record.name)
    throw new NameError('NAME_TAKEN', message, { data: { id: record.id, difference } });
  throw new Git2dbError('REFUSED', message, { data: { id: record.id, difference } });
}
