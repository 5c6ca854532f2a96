/**
 * The key of a layer: what its files are a function of. The tree's oid covers blobs, modes and the
 * attributes inside the tree; all else that git looks at when it checks out goes into the fingerprint.
 *
 *     <tree oid>-<first 24 hex digits of SHA-256 over the lines below>
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import { splitZ } from '../../git/records.ts';
import { gitVersion } from '../../git/version.ts';
import { errnoOf, Git2dbError } from '../../xet/errors.ts';
import type { DriverContext } from './driver.ts';
import type { Settings } from './settings.ts';

export interface LayerKey {
  /** Name of the layer's directory. */
  readonly name: string;
  readonly tree: string;
  readonly fingerprint: string;
  readonly attributes: TreeAttributes;
  /** A filter may leave pointers where content is missing, and put the content there another time. */
  readonly mayBePartial: boolean;
}

/** The files of a tree that say how its other files are converted. */
export interface TreeAttributes {
  /** Path and blob of each `.gitattributes`, in the order of the tree. */
  readonly files: readonly (readonly [path: string, oid: string])[];
  /** Filters they name, sorted. */
  readonly filters: readonly string[];
}

/** Settings that change what a checkout writes. */
const CONVERSION_KEYS = [
  'core.autocrlf',
  'core.eol',
  'core.symlinks',
  'core.filemode',
  'core.safecrlf',
  'core.sharedrepository',
  'core.checkroundtripencoding',
  'core.bigfilethreshold',
  'extensions.objectformat',
];
/** Settings and variables by which known filters leave pointers where content should be. */
const FILTER_KEYS: Readonly<Record<string, RegExp>> = {
  xet: /^xet\.(skipsmudge|onmissing)$/,
  lfs: /^lfs\.(fetchinclude|fetchexclude|skipdownloaderrors)$/,
};
const FILTER_VARIABLES = ['GIT2DB_SKIP_SMUDGE', 'GIT_LFS_SKIP_SMUDGE', 'GIT_LFS_SKIP_DOWNLOAD_ERRORS'];
const FINGERPRINT_DIGITS = 24;
const LARGEST_ATTRIBUTES_FILE = 100 * 1024 * 1024;

export async function layerKey(
  { place, home, signal }: DriverContext,
  tree: string,
  settings: Settings,
): Promise<LayerKey> {
  const attributes = knownAttributes(home.layers, tree) ?? (await treeAttributes(place, tree, signal));
  const outside = [
    join(place.commonDir, 'info', 'attributes'),
    userAttributesFile(settings, place.env),
    ...(!place.env.GIT_ATTR_NOSYSTEM ? ['/etc/gitattributes'] : []),
  ].map((file) => (file === undefined ? undefined : readIfThere(file)));
  const filters = new Set(attributes.filters);
  for (const text of outside) for (const name of filtersNamedIn(text ?? '')) filters.add(name);

  const lines = [
    'layer 1',
    `git ${await gitVersion()}`,
    `umask ${process.umask().toString(8)} euid ${process.geteuid?.()}`,
    `trusted ${place.trusted}`,
    ...CONVERSION_KEYS.map((key) => `${key}=${settings.get(key) ?? ''}`),
    ...outside.map((text) => (text === undefined ? '-' : digest(text))),
  ];
  for (const name of [...filters].sort()) {
    lines.push(`filter ${JSON.stringify(name)}`);
    for (const [key, value] of settings.below(`filter.${name}.`)) {
      lines.push(`${key}=${JSON.stringify(value ?? null)}`);
      if (/\.(process|smudge)$/.test(key) && value) lines.push(programIdentity(value, place.env.PATH ?? ''));
    }
    for (const [key, value] of settings.entries()) {
      if (FILTER_KEYS[name]?.test(key)) lines.push(`${key}=${JSON.stringify(value ?? null)}`);
    }
  }
  if (filters.size > 0) {
    for (const name of FILTER_VARIABLES) lines.push(`${name}=${JSON.stringify(place.env[name] ?? null)}`);
  }
  const fingerprint = digest(lines.join('\n')).slice(0, FINGERPRINT_DIGITS);
  const mayBePartial = filters.size > 0 && mayLeavePointers(settings, place.env);
  return { name: `${tree}-${fingerprint}`, tree, fingerprint, attributes, mayBePartial };
}

/** Who wants pointers in any case gets them by a key of its own: nothing that comes later completes those. */
function mayLeavePointers(settings: Settings, env: NodeJS.ProcessEnv): boolean {
  const isSkipped = settings.isTrue('xet.skipsmudge') || FILTER_VARIABLES.some((name) => isOn(env[name]));
  return settings.get('xet.onmissing') === 'pointer' && !isSkipped;
}

function isOn(value: string | undefined): boolean {
  return value !== undefined && !/^(?:0|false|no|off|)$/i.test(value);
}

/** The name of a layer of `key` in which `pending` (paths, sorted) are pointers. */
export function partialName(key: LayerKey, pending: readonly string[]): string {
  const digits = digest([key.fingerprint, ...pending].join('\0')).slice(0, FINGERPRINT_DIGITS);
  return `${key.tree}-${digits}`;
}

export function fingerprintOf(layerName: string): string {
  return layerName.slice(layerName.lastIndexOf('-') + 1);
}

// ---- attributes ------------------------------------------------------------------------------

/** A layer of the same tree remembers them. */
function knownAttributes(layers: string, tree: string): TreeAttributes | undefined {
  let names: string[];
  try {
    names = readdirSync(layers);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  for (const name of names) {
    if (!name.startsWith(`${tree}-`)) continue;
    try {
      const { attributes } = JSON.parse(readFileSync(join(layers, name, 'layer.json'), 'utf8'));
      if (Array.isArray(attributes?.files) && Array.isArray(attributes?.filters)) return attributes;
    } catch {
      // Removed just now, or damaged: the tree is asked.
    }
  }
  return undefined;
}

async function treeAttributes(
  place: DriverContext['place'],
  tree: string,
  signal: AbortSignal | undefined,
): Promise<TreeAttributes> {
  const listed = await place.git(['ls-tree', '-r', '-z', '--full-tree', '--end-of-options', tree], {
    signal,
  });
  const files: [string, string][] = [];
  for (const line of splitZ(listed.stdout)) {
    const tab = line.indexOf(0x09);
    if (!line.subarray(Math.max(tab + 1, line.length - 14)).equals(ATTRIBUTES_NAME)) continue;
    const path = line.subarray(tab + 1);
    if (path.length > 14 && path[path.length - 15] !== 0x2f) continue;
    const [mode, , oid] = line.toString('latin1', 0, tab).split(' ');
    // Git does not follow a symbolic link here.
    if (mode !== '120000' && mode !== '160000') files.push([path.toString('latin1'), oid!]);
  }
  if (files.length === 0) return { files, filters: [] };
  const contents = await place.git(['cat-file', '--batch=%(objectsize)'], {
    input: `${[...new Set(files.map(([, oid]) => oid))].join('\n')}\n`,
    maxOutput: LARGEST_ATTRIBUTES_FILE,
    signal,
  });
  return { files, filters: [...new Set(filtersNamedIn(contents.stdout.toString('latin1')))].sort() };
}

const ATTRIBUTES_NAME = Buffer.from('.gitattributes');

/** Also names in comments, and of rules that match nothing: one filter too many only shares less. */
function* filtersNamedIn(text: string): Iterable<string> {
  for (const [, name] of text.matchAll(/\bfilter=([^\s]+)/g)) yield Buffer.from(name!, 'latin1').toString();
}

function userAttributesFile(settings: Settings, env: NodeJS.ProcessEnv): string | undefined {
  const set = settings.get('core.attributesfile');
  const { HOME, XDG_CONFIG_HOME } = env;
  if (set !== undefined) {
    if (set.startsWith('~/') && HOME !== undefined) return join(HOME, set.slice(2));
    return isAbsolute(set) ? set : undefined;
  }
  if (XDG_CONFIG_HOME) return join(XDG_CONFIG_HOME, 'git', 'attributes');
  return HOME === undefined ? undefined : join(HOME, '.config', 'git', 'attributes');
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'latin1');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES', 'EISDIR'].includes(errnoOf(error) ?? '')) return undefined;
    throw new Git2dbError('INVALID_CONFIG', `cannot read ${file}, which says how files are checked out`, {
      cause: error,
    });
  }
}

// ---- programs --------------------------------------------------------------------------------

/** The files that a command line names: of a script run by an interpreter it is the second word. */
function programIdentity(command: string, searchPath: string): string {
  const words = command.match(/'[^']*'|"[^"]*"|\S+/g) ?? [];
  const identities: string[] = [];
  for (const [i, quoted] of words.slice(0, 4).entries()) {
    const word = quoted.replace(/^(['"])(.*)\1$/, '$2');
    const file = i === 0 ? locate(word, searchPath) : isAbsolute(word) ? word : undefined;
    if (file === undefined) continue;
    try {
      const real = realpathSync(file);
      const { size, mtimeNs } = statSync(real, { bigint: true });
      identities.push(`${real} ${size} ${mtimeNs}`);
    } catch {
      identities.push(`${file} -`);
    }
  }
  return `program ${identities.join(' | ')}`;
}

function locate(word: string, searchPath: string): string | undefined {
  if (word.includes('/')) return word;
  return searchPath
    .split(delimiter)
    .map((directory) => join(directory, word))
    .find((file) => statSync(file, { throwIfNoEntry: false })?.isFile() === true);
}

function digest(text: string): string {
  return createHash('sha256').update(text, 'latin1').digest('hex');
}
