/** Which repositories of a list are wanted. */
import type { RepositoryRecord } from './metadata.ts';
import { parseRemoteUrl } from './remote-url.ts';
import { canonicalUrl } from './snapshot.ts';

/** All that is given must hold. */
export interface RepositoryFilter {
  /** A part of the name, in any case. */
  readonly name?: string | undefined;
  /** Any form of the URL. */
  readonly url?: string | undefined;
  readonly adopted?: boolean | undefined;
  readonly bare?: boolean | undefined;
  readonly trusted?: boolean | undefined;
  /** Entries the repository's own metadata must have. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
}

/** Throws URL_INVALID. */
export function matches(record: RepositoryRecord, filter: RepositoryFilter): boolean {
  const { name, url, metadata } = filter;
  if (name !== undefined && !record.name.toLowerCase().includes(name.toLowerCase())) return false;
  if (url !== undefined) {
    const wanted = parseRemoteUrl(url).canonical;
    if (record.url === undefined || canonicalUrl(record.url) !== wanted) return false;
  }
  for (const flag of ['adopted', 'bare', 'trusted'] as const) {
    if (filter[flag] !== undefined && record[flag] !== filter[flag]) return false;
  }
  return Object.entries(metadata ?? {}).every(
    ([key, value]) => Object.hasOwn(record.metadata, key) && record.metadata[key] === value,
  );
}
