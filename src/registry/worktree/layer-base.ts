/** Which of the layers there are is closest to a tree, and what of it can be used. */

import { ownEntries } from '../../git/index-file/entry.ts';
import type { IndexView } from '../../git/index-file/format.ts';
import { splitZ } from '../../git/records.ts';
import { errnoOf, FormatError } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';
import { elsewhere } from './checkout.ts';
import type { WorktreeHome } from './driver.ts';
import { hashSizeOf, isFileEntry, type KnownFile, knownFiles, readLayerIndex } from './layer-index.ts';
import { fingerprintOf, type LayerKey } from './layer-key.ts';
import { DEEPEST, findLayer, findPartialLayer, type Layer, listLayers } from './layer-store.ts';

/** The attributes that git looks at when it writes a file. */
const CONVERSION_ATTRIBUTES = ['text', 'crlf', 'eol', 'ident', 'filter', 'working-tree-encoding'];
/** Indexes that are compared, the newest layers first. */
const CANDIDATES = 16;
/** A delta must save at least this part of its base, or a layer of its own is better. */
const LEAST_SHARED = 0.5;
/** What one layer more costs at each look-up, as a part of the whole. */
const COST_OF_DEPTH = 0.001;

/** The layer over which `wanted` needs the fewest bytes; undefined: none is close. */
export function closestLayer(home: WorktreeHome, key: LayerKey, wanted: IndexView): Layer | undefined {
  const partial = key.mayBePartial ? findPartialLayer(home, key.name) : undefined;
  if (partial !== undefined && partial.record.depth < DEEPEST) return partial;
  const files = knownFiles(wanted);
  let best: { layer: Layer; score: number } | undefined;
  const candidates = listLayers(home)
    .map((name) => findLayer(home, name))
    .filter((layer) => layer !== undefined)
    .filter(({ name, record }) => fingerprintOf(record.completes ?? name) === key.fingerprint)
    .filter(({ name, record }) => record.depth < DEEPEST && name !== key.name)
    .sort((a, b) => (a.record.createdAt < b.record.createdAt ? 1 : -1))
    .slice(0, CANDIDATES);
  for (const layer of candidates) {
    const view = readIfSound(layer, key);
    if (view === undefined) continue;
    const { shared, total } = compare(view, files);
    if (shared < total * LEAST_SHARED) continue;
    const score = shared - total * COST_OF_DEPTH * layer.record.depth;
    if (best === undefined || score > best.score) best = { layer, score };
  }
  return best?.layer;
}

function readIfSound(layer: Layer, key: LayerKey): IndexView | undefined {
  try {
    return readLayerIndex(layer.index, hashSizeOf(key.tree));
  } catch (error) {
    if (error instanceof FormatError || errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** In bytes, every file counting at least a block. */
function compare(view: IndexView, wanted: ReadonlyMap<string, KnownFile>): { shared: number; total: number } {
  let shared = 0;
  let total = 0;
  for (const entry of ownEntries(view)) {
    const size = Math.max(entry.size, 4096);
    total += size;
    const other = wanted.get(entry.path.toString('latin1'));
    if (other !== undefined && other.oid === entry.oid && other.mode === entry.mode) shared += size;
  }
  return { shared, total };
}

/**
 * Paths (as latin1) that are the same blob in both indexes and may still be different files, because other
 * attributes hold for them. None where the two trees have the same `.gitattributes`.
 */
export async function convertedOtherwise(
  place: GitPlace,
  before: { readonly index: string; readonly view: IndexView; readonly key: Pick<LayerKey, 'attributes'> },
  after: { readonly index: string; readonly view: IndexView; readonly key: Pick<LayerKey, 'attributes'> },
  emptyTree: string,
  signal: AbortSignal | undefined,
): Promise<ReadonlySet<string>> {
  const same = JSON.stringify(before.key.attributes.files) === JSON.stringify(after.key.attributes.files);
  if (same) return new Set();
  const wanted = knownFiles(after.view);
  const paths: Buffer[] = [];
  for (const entry of ownEntries(before.view)) {
    const other = wanted.get(entry.path.toString('latin1'));
    if (other?.oid === entry.oid && isFileEntry(entry)) paths.push(Buffer.from(entry.path), NUL);
  }
  if (paths.length === 0) return new Set();
  const input = Buffer.concat(paths);
  const [old, fresh] = await Promise.all(
    [before.index, after.index].map((index) => attributesOf(place, index, emptyTree, input, signal)),
  );
  const changed = new Set<string>();
  for (const [path, values] of old!) if (fresh!.get(path) !== values) changed.add(path);
  return changed;
}

const NUL = Buffer.alloc(1);

/** Path to all values, in the order of the attributes. */
async function attributesOf(
  place: GitPlace,
  index: string,
  workTree: string,
  input: Buffer,
  signal: AbortSignal | undefined,
): Promise<Map<string, string>> {
  const { stdout } = await place.git(['check-attr', '--cached', '-z', '--stdin', ...CONVERSION_ATTRIBUTES], {
    ...elsewhere(place, { workTree, index, signal }),
    input,
  });
  const found = new Map<string, string>();
  const fields = [...splitZ(stdout)].map((field) => field.toString('latin1'));
  for (let i = 0; i + 2 < fields.length; i += 3) {
    const path = fields[i]!;
    found.set(path, `${found.get(path) ?? ''}${fields[i + 1]}=${fields[i + 2]};`);
  }
  return found;
}
