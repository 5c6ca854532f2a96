/** The remotes of a repository, read from its own configuration file without starting git. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseConfigText } from '../git/config-text.ts';

export interface RemoteSettings {
  readonly remotes: ReadonlyMap<string, { readonly url: string | undefined }>;
  /** What the branch HEAD is on follows, such as `origin/main`. */
  readonly trackingRef: string | undefined;
}

/** No file: no remotes. Includes are not followed: what git2db sets is in the file itself. */
export function readRemotes(commonDir: string): RemoteSettings {
  const remotes = new Map<string, { url: string | undefined }>();
  const branch = /^ref: refs\/heads\/(.+?)\s*$/.exec(readText(join(commonDir, 'HEAD')))?.[1];
  let [remote, merge]: (string | undefined)[] = [];
  for (const { key, value } of parseConfigText(readText(join(commonDir, 'config')))) {
    const name = /^remote\.(.+)\.[a-z]+$/s.exec(key)?.[1];
    if (name !== undefined) {
      const entry = remotes.get(name) ?? { url: undefined };
      // Git fetches from the first of several.
      if (key === `remote.${name}.url`) entry.url ??= value;
      remotes.set(name, entry);
    }
    if (key === `branch.${branch}.remote`) remote = value;
    if (key === `branch.${branch}.merge`) merge = /^refs\/heads\/(.+)$/.exec(value ?? '')?.[1];
  }
  const trackingRef =
    remote === undefined || merge === undefined || remote === '.' ? undefined : `${remote}/${merge}`;
  return { remotes, trackingRef };
}

/** The remote that a repository's URL belongs to: that of its tracking ref, `origin`, or the only one. */
export function remoteNameOf(trackingRef: string | undefined, { remotes }: RemoteSettings): string {
  const followed = [...remotes.keys()]
    .filter((name) => trackingRef?.startsWith(`${name}/`))
    .sort((a, b) => b.length - a.length)[0];
  if (followed !== undefined) return followed;
  if (remotes.has('origin') || remotes.size !== 1) return 'origin';
  return remotes.keys().next().value!;
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
