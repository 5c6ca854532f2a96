/** Metadata as they were before they had a generation: read, and written anew as they are now. */
import { randomUUID } from 'node:crypto';
import { isAbsolute, join, relative, sep } from 'node:path';
import type { Field, FieldReader, Json } from './metadata-fields.ts';
import { isOwnPath } from './own-path.ts';
import { storedUrl } from './remote-url.ts';

/**
 * Version 0: {"version":0,"repositories":{"<id>":{"name","url","path","trackingRef","createdAt","metadata"}}},
 * `path` absolute. What lies in `repos/` of where the registry is now was cloned, all else adopted.
 */
export function upgradeFromVersion0(whole: Json, reader: FieldReader, root: string): Json {
  const { repositories, version: _, ...others } = whole;
  const entries = Object.entries(reader.object(repositories, ['repositories']));
  const taken = new Set(entries.map(([, entry]) => (entry as { name?: unknown } | null)?.name));
  return {
    ...others,
    registryId: randomUUID(),
    root,
    generation: 0,
    repositories: entries.map(([id, value]) => {
      const at: Field = ['repositories', id];
      const entry = reader.object(value, at);
      const absolute = reader.text(entry.path, [...at, 'path']);
      const inside = relative(root, absolute).split(sep).join('/');
      const owned = isOwnPath(inside);
      const createdAt = entry.createdAt ?? new Date(0).toISOString();
      return {
        ...entry,
        id,
        name: entry.name ?? freeName(id, taken),
        url: typeof entry.url === 'string' ? storedUrl(entry.url) : undefined,
        path: owned ? inside : isAbsolute(absolute) ? absolute : join(root, absolute),
        adopted: !owned,
        createdAt,
        updatedAt: entry.updatedAt ?? createdAt,
        metadata: entry.metadata ?? {},
      };
    }),
  };
}

/** Names were optional once. */
function freeName(id: string, taken: Set<unknown>): string {
  const name = `repository-${id.slice(0, 8)}`;
  const unique = taken.has(name) ? `repository-${id.replaceAll('-', '')}` : name;
  taken.add(unique);
  return unique;
}
