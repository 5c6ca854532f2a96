/**
 * `http.<url>.<name>`: settings for some URLs only (git-config, "http.<url>.*"). The value whose URL fits best
 * counts: a host without wildcards before one with, then the longer path, then one with a user; the later one
 * of equals. A setting without URL fits all URLs, worst.
 */

interface Entry {
  readonly key: string;
  readonly value: string | undefined;
}

/** Undefined: not set. A `value` of undefined: a key written without `=`. */
export type ConfigValue = { readonly value: string | undefined } | undefined;

/** `name` in lower case. */
export function valueForUrl(entries: Iterable<Entry>, name: string, url: URL): ConfigValue {
  let best: { readonly value: string | undefined } | undefined;
  let bestRank = -1;
  for (const { key, value } of entries) {
    if (!key.startsWith('http.') || !key.endsWith(`.${name}`)) continue;
    const pattern = key.slice('http.'.length, -name.length - 1);
    const rank = key === `http.${name}` ? 0 : rankOf(pattern, url);
    if (rank === undefined || rank < bestRank) continue;
    best = { value };
    bestRank = rank;
  }
  return best;
}

/** How well `url` fits the pattern, from 1; undefined: not at all. */
function rankOf(pattern: string, url: URL): number | undefined {
  const match = /^(https?):\/\/(?:([^@/]*)@)?([^/:[\]]+|\[[^\]]*\])(?::(\d+))?(\/.*)?$/i.exec(pattern);
  if (match === null) return undefined;
  const [, scheme = '', user, host = '', port, path = '/'] = match;
  if (`${scheme.toLowerCase()}:` !== url.protocol) return undefined;
  if (portOf(port, scheme) !== portOf(url.port, scheme)) return undefined;
  if (user !== undefined && decodeUser(user) !== decodeUser(url.username)) return undefined;
  const labels = host.toLowerCase().split('.');
  const found = url.hostname.split('.');
  if (labels.length !== found.length) return undefined;
  if (!labels.every((label, i) => label === '*' || label === found[i])) return undefined;
  const prefix = path.endsWith('/') ? path.slice(0, -1) : path;
  if (url.pathname !== prefix && !url.pathname.startsWith(`${prefix}/`)) return undefined;
  const hostRank = host.replaceAll('*', '').length;
  return 1 + hostRank * 1e6 + Math.min(prefix.length, 1e5) * 2 + (user === undefined ? 0 : 1);
}

function portOf(port: string | undefined, scheme: string): string {
  if (port !== undefined && port !== '') return String(Number(port));
  return scheme.toLowerCase() === 'https' ? '443' : '80';
}

function decodeUser(text: string): string {
  const user = text.replace(/:.*$/, '');
  try {
    return decodeURIComponent(user);
  } catch {
    return user;
  }
}
