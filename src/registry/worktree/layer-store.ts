/**
 * Layers on disk: read-only trees, each the checkout of one tree under one set of settings.
 *
 *     <home.layers>/<key>/tree        the files; of a delta only those that differ, with whiteouts
 *     <home.layers>/<key>/index       git's index of the whole tree, with stat data of these files
 *     <home.layers>/<key>/layer.json  what it is, and which layer a delta lies over
 *     <home.layers>/<key>/synced      there once all of it has reached the disk
 *     <home.layers>/.making-<key>.*   being made; whoever holds the key's lock may remove others'
 *     <home.layers>/.gone-*           being removed
 *     <home.layers>/.locks/<key>      held while it is made, or removed
 *
 * A layer appears by one rename, complete, and nothing below it is written again. Until `synced` is there
 * it is good for the boot that it was made in only: a crash of the machine may have cut its files short.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../../xet/errors.ts';
import type { WorktreeHome } from './driver.ts';
import type { TreeAttributes } from './layer-key.ts';

export interface LayerRecord {
  readonly version: 1;
  readonly name: string;
  readonly tree: string;
  readonly attributes: TreeAttributes;
  /** The layer that this delta lies over. */
  readonly base?: string | undefined;
  /** 1: complete by itself. */
  readonly depth: number;
  /** Of a layer with pointers whose content was not there: the name that the layer with all content has, or would have. */
  readonly completes?: string | undefined;
  /** Paths of these pointers, as latin1. */
  readonly pending?: readonly string[] | undefined;
  readonly bootId: string;
  readonly createdAt: string;
}

export interface Layer {
  readonly name: string;
  readonly directory: string;
  readonly index: string;
  readonly record: LayerRecord;
  /** What is mounted: the topmost tree first. */
  readonly trees: readonly string[];
}

export const DEEPEST = 8;

export function layerDirectory(home: WorktreeHome, name: string): string {
  return join(home.layers, name);
}

export function layerLock(home: WorktreeHome, name: string): string {
  return join(home.layers, '.locks', name);
}

export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
}

/** The layer, if it and all it lies over are there and can be relied on. */
export function findLayer(home: WorktreeHome, name: string): Layer | undefined {
  const trees: string[] = [];
  let first: LayerRecord | undefined;
  for (let next: string | undefined = name; next !== undefined; ) {
    const record = readLayerRecord(layerDirectory(home, next));
    if (record === undefined || trees.length >= DEEPEST || !isReliable(home, next, record)) return undefined;
    first ??= record;
    trees.push(join(layerDirectory(home, next), 'tree'));
    next = record.base;
  }
  const directory = layerDirectory(home, name);
  return { name, directory, index: join(directory, 'index'), record: first!, trees };
}

/** The newest layer that has all of `name` but some content. */
export function findPartialLayer(home: WorktreeHome, name: string): Layer | undefined {
  return listLayers(home)
    .filter((each) => readLayerRecord(layerDirectory(home, each))?.completes === name)
    .map((each) => findLayer(home, each))
    .filter((layer) => layer !== undefined)
    .sort((a, b) => (a.record.createdAt < b.record.createdAt ? 1 : -1))[0];
}

function isReliable(home: WorktreeHome, name: string, record: LayerRecord): boolean {
  const directory = layerDirectory(home, name);
  if (!existsSync(join(directory, 'tree')) || !existsSync(join(directory, 'index'))) return false;
  return record.bootId === bootId() || existsSync(join(directory, 'synced'));
}

/** Undefined where there is none, or none that can be read. */
export function readLayerRecord(directory: string): LayerRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(join(directory, 'layer.json'), 'utf8')) as Partial<LayerRecord>;
    const isSound =
      record.version === 1 &&
      typeof record.tree === 'string' &&
      typeof record.bootId === 'string' &&
      typeof record.depth === 'number' &&
      (record.base === undefined || isLayerName(record.base)) &&
      (record.completes === undefined || isLayerName(record.completes)) &&
      (record.pending === undefined || Array.isArray(record.pending));
    return isSound ? (record as LayerRecord) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || ['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? ''))
      return undefined;
    throw error;
  }
}

export function isLayerName(name: string): boolean {
  return /^[0-9a-f]{40,64}-[0-9a-f]{24}$/.test(name);
}

/** Names of all layers, usable or not. */
export function listLayers(home: WorktreeHome): string[] {
  return entriesOf(home.layers).filter(isLayerName);
}

export function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Layers whose way to the disk has begun in this process. */
const syncing = new Set<string>();

/** The mark is made by the process that has seen it done: a command has ended long before. */
const SYNC = 'umask 077 && sync --file-system "$1" && cd "$1" && : > synced';

/**
 * Brings a layer to the disk, beside everything else; nobody waits for it. Should that be interrupted, the next
 * one that uses the layer begins again.
 */
export function syncInBackground(layer: Layer): void {
  if (syncing.has(layer.directory) || existsSync(join(layer.directory, 'synced'))) return;
  syncing.add(layer.directory);
  const child = spawn('sh', ['-c', SYNC, 'sh', layer.directory], {
    stdio: 'ignore',
    cwd: '/',
    detached: true,
  });
  child.unref();
  child.once('error', () => {});
  child.once('exit', () => syncing.delete(layer.directory));
}
