/**
 * The format of `.git2db/metadata.json`: what a registry knows of its repositories. docs/registry-format.md
 * is the same for readers. UTF-8 JSON, one repository a line:
 *
 *     {"version":1,"registryId":"<uuid>","root":"/last/known/root","generation":7,"repositories":[
 *     {"id":"<uuid>","name":"org/model","url":"https://host/org/model","path":"repos/org/model",...},
 *     ...
 *     ]}
 *
 * `generation` grows by one with every change. Keys that this version does not know are kept, in the whole
 * and in each repository. Version 0 had the repositories in an object by their ids and absolute paths, and
 * neither id, root nor generation of its own; it is read, and written as version 1 at the next change.
 * This file decodes and encodes; metadata-file.ts reads and writes.
 */
import { randomUUID } from 'node:crypto';
import { isAbsolute } from 'node:path';
import { FormatError } from '../xet/errors.ts';
import { findFieldOffset, syntaxErrorOffset } from './json-offset.ts';
import { decodeText, type Field, FieldReader, invalid, type Json } from './metadata-fields.ts';
import { upgradeFromVersion0 } from './metadata-version0.ts';
import { isOwnPath } from './own-path.ts';
import { findRepoId, isRepoId, type RepoId } from './repo-id.ts';
import { findNameFault } from './repository-name.ts';

export const METADATA_VERSION = 1;

/** Keys of a newer writer of the same version: kept as they are. */
export const unknownKeys: unique symbol = Symbol('keys of the file that are not known');

export interface RepositoryRecord {
  readonly id: RepoId;
  /** Unique, also for file systems that do not tell cases apart; may hold one `/`. */
  readonly name: string;
  /** Without secrets. */
  readonly url: string | undefined;
  /** Relative to the registry's root (`repos/x`); absolute for adopted ones. */
  readonly path: string;
  /** Registered where it was, and not ours to delete. */
  readonly adopted: boolean;
  readonly bare: boolean;
  /** Whether hooks and programs of the repository's own configuration may run. */
  readonly trusted: boolean;
  /** The branch of a remote that is followed, such as `origin/main`. */
  readonly trackingRef: string | undefined;
  /** ISO 8601, UTC. */
  readonly createdAt: string;
  readonly updatedAt: string;
  /** The caller's own. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly [unknownKeys]?: Readonly<Record<string, unknown>>;
}

export interface RegistryMetadata {
  readonly registryId: string;
  /** Where the registry was when it was last written to. */
  readonly root: string;
  readonly generation: number;
  /** The journal whose change this is, when it was one that can be undone. */
  readonly transaction: string | undefined;
  readonly repositories: readonly RepositoryRecord[];
  readonly [unknownKeys]?: Readonly<Record<string, unknown>>;
}

export function emptyMetadata(root: string): RegistryMetadata {
  return { registryId: randomUUID(), root, generation: 0, transaction: undefined, repositories: [] };
}

export interface DecodeOptions {
  /** For messages. */
  readonly file: string;
  /** Where the registry is now. */
  readonly root: string;
}

/** The version of the file and what it says. Throws REGISTRY_INVALID with the offset of what is wrong. */
export function decodeMetadata(
  bytes: Uint8Array,
  { file, root }: DecodeOptions,
): { readonly version: number; readonly metadata: RegistryMetadata } {
  const text = decodeText(bytes, file);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const found = error instanceof Error ? error.message : String(error);
    throw invalid(file, text, syntaxErrorOffset(text), `expected JSON, found: ${found}`);
  }
  const reader = new FieldReader(file, text);
  const whole = reader.object(value, []);
  const version = reader.integer(whole.version, ['version']);
  if (version > METADATA_VERSION) {
    throw new FormatError(
      'REGISTRY_INVALID',
      `${file} is of version ${version}; this git2db knows version ${METADATA_VERSION} and older: use a newer git2db`,
      findFieldOffset(text, ['version']) ?? 0,
      { data: { file, version } },
    );
  }
  const current = version === 0 ? upgradeFromVersion0(whole, reader, root) : whole;
  return { version, metadata: readMetadata(current, reader, version === 0) };
}

/** The bytes of a file that says `metadata`. */
export function encodeMetadata(metadata: RegistryMetadata): Buffer {
  const { registryId, root, generation, transaction, repositories } = metadata;
  const head = JSON.stringify({
    version: METADATA_VERSION,
    registryId,
    root,
    generation,
    ...(transaction === undefined ? {} : { transaction }),
    ...metadata[unknownKeys],
  });
  // By name, as lists are wanted: who reads them has nothing to sort.
  const lines = [...repositories].sort((a, b) => (a.name < b.name ? -1 : 1)).map(encodeRecord);
  const body = lines.length === 0 ? '' : `\n${lines.join(',\n')}\n`;
  return Buffer.from(`${head.slice(0, -1)},"repositories":[${body}]}\n`);
}

const encodedRecords = new WeakMap<RepositoryRecord, string>();

/** Records are never changed in place, so the line of each is made once. */
export function encodeRecord(record: RepositoryRecord): string {
  let line = encodedRecords.get(record);
  if (line === undefined) {
    const { [unknownKeys]: others, ...known } = record;
    line = JSON.stringify({ ...inOrder(known), ...others });
    encodedRecords.set(record, line);
  }
  return line;
}

/** The same record has the same line, whoever has put it together. */
function inOrder(known: RepositoryRecord): Record<string, unknown> {
  const { id, name, url, path, adopted, bare, trusted, trackingRef, createdAt, updatedAt, metadata } = known;
  return { id, name, url, path, adopted, bare, trusted, trackingRef, createdAt, updatedAt, metadata };
}

const METADATA_KEYS = new Set(['version', 'registryId', 'root', 'generation', 'transaction', 'repositories']);
const RECORD_KEYS = new Set([
  'id',
  'name',
  'url',
  'path',
  'adopted',
  'bare',
  'trusted',
  'trackingRef',
  'createdAt',
  'updatedAt',
  'metadata',
]);

/** `upgraded`: places in the value are not those in the text. */
function readMetadata(whole: Json, reader: FieldReader, upgraded: boolean): RegistryMetadata {
  const list = whole.repositories;
  if (!Array.isArray(list)) throw reader.wrong(['repositories'], 'an array', list);
  const byId = new Map<string, RepositoryRecord>();
  const byName = new Map<string, RepositoryRecord>();
  const repositories = new Array<RepositoryRecord>(list.length);
  for (let index = 0; index < list.length; index++) {
    const entry = list[index];
    const whereIs = (): Field => ['repositories', upgraded ? String(entry?.id) : index];
    const record = soundRecord(entry) ?? readRecord(entry, whereIs(), reader);
    byId.set(record.id, record);
    byName.set(record.name, record);
    // That it was there already shows in the size alone: asking before costs as much again.
    if (byId.size <= index) throw reader.fault(whereIs(), `two repositories have the id ${record.id}`);
    if (byName.size <= index) throw reader.fault(whereIs(), `two repositories have the name ${record.name}`);
    repositories[index] = record;
  }
  indexes.set(repositories, { byId, byName });
  const others = rest(whole, METADATA_KEYS);
  const registryId = reader.text(whole.registryId, ['registryId']);
  if (findRepoId(registryId) === undefined) throw reader.wrong(['registryId'], 'a UUID', registryId);
  const root = reader.text(whole.root, ['root']);
  if (!isAbsolute(root)) throw reader.wrong(['root'], 'an absolute path', root);
  return {
    registryId,
    root,
    generation: reader.integer(whole.generation, ['generation']),
    transaction:
      whole.transaction === undefined ? undefined : reader.text(whole.transaction, ['transaction']),
    repositories,
    ...(others === undefined ? {} : { [unknownKeys]: others }),
  };
}

/** What finds a record among many. */
export interface RecordIndex {
  readonly byId: ReadonlyMap<string, RepositoryRecord>;
  readonly byName: ReadonlyMap<string, RepositoryRecord>;
}

const indexes = new WeakMap<readonly RepositoryRecord[], RecordIndex>();

/** Of a list that is not changed any more; one that was read has its index from its checking. */
export function indexOf(repositories: readonly RepositoryRecord[]): RecordIndex {
  let index = indexes.get(repositories);
  if (index === undefined) {
    const byId = new Map<string, RepositoryRecord>();
    const byName = new Map<string, RepositoryRecord>();
    for (const record of repositories) {
      byId.set(record.id, record);
      byName.set(record.name, record);
    }
    index = { byId, byName };
    indexes.set(repositories, index);
  }
  return index;
}

/**
 * `entry` itself, if it is a record as we write it, with nothing to be corrected, left out or complained of:
 * of ten thousand none need be copied.
 */
function soundRecord(entry: Json & { readonly metadata?: unknown }): RepositoryRecord | undefined {
  if (typeof entry !== 'object' || entry === null) return undefined;
  const { id, name, path, metadata } = entry;
  if (typeof id !== 'string' || !isRepoId(id)) return undefined;
  if (typeof name !== 'string' || findNameFault(name) !== undefined) return undefined;
  if (typeof path !== 'string' || path.includes('\0')) return undefined;
  const { adopted, bare, trusted, createdAt, updatedAt } = entry;
  if (typeof adopted !== 'boolean' || typeof bare !== 'boolean' || typeof trusted !== 'boolean')
    return undefined;
  if (adopted ? !isAbsolute(path) : path !== `repos/${name}` && !isOwnPath(path)) return undefined;
  if (typeof createdAt !== 'string' || typeof updatedAt !== 'string') return undefined;
  if (typeof metadata !== 'object' || metadata === null || Array.isArray(metadata)) return undefined;
  for (const key in metadata) if (typeof (metadata as Json)[key] !== 'string') return undefined;
  // Where one is missing, the record says so.
  if (typeof entry.url !== 'string' || typeof entry.trackingRef !== 'string') return undefined;
  // All that are known are there: with one more there is one that is not known.
  return Object.keys(entry).length === RECORD_KEYS.size ? (entry as unknown as RepositoryRecord) : undefined;
}

function readRecord(value: unknown, at: Field, reader: FieldReader): RepositoryRecord {
  const entry = reader.object(value, at);
  const idText = reader.text(entry.id, at, 'id');
  const id = findRepoId(idText);
  if (id === undefined) throw reader.wrong([...at, 'id'], 'a UUID', idText);
  const name = reader.text(entry.name, at, 'name');
  const fault = findNameFault(name);
  if (fault !== undefined) throw reader.fault([...at, 'name'], `the name ${JSON.stringify(name)} ${fault}`);
  const adopted = reader.flag(entry.adopted, at, 'adopted');
  const path = reader.text(entry.path, at, 'path');
  // A path that led out of repos/ would one day be deleted with its repository.
  const place = adopted ? isAbsolute(path) : path === `repos/${name}` || isOwnPath(path);
  if (!place || path.includes('\0')) {
    throw reader.wrong([...at, 'path'], adopted ? 'an absolute path' : 'repos/<name>', path);
  }
  const record = {
    id,
    name,
    url: reader.optionalText(entry.url, at, 'url'),
    path,
    adopted,
    bare: reader.flag(entry.bare, at, 'bare'),
    trusted: reader.flag(entry.trusted, at, 'trusted'),
    trackingRef: reader.optionalText(entry.trackingRef, at, 'trackingRef'),
    createdAt: reader.text(entry.createdAt, at, 'createdAt'),
    updatedAt: reader.text(entry.updatedAt, at, 'updatedAt'),
    metadata: reader.texts(entry.metadata, at, 'metadata'),
  };
  const others = rest(entry, RECORD_KEYS);
  return others === undefined ? record : { ...record, [unknownKeys]: others };
}

function rest(value: Json, known: ReadonlySet<string>): Json | undefined {
  let others: [string, unknown][] | undefined;
  for (const key in value) {
    if (known.has(key)) continue;
    others ??= [];
    others.push([key, value[key]]);
  }
  return others === undefined ? undefined : Object.fromEntries(others);
}
