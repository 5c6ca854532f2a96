/**
 * Files that need not be written anew where the file system can share their blocks (FICLONE): those of a
 * donor whose index vouches for the very blob that is wanted.
 *
 * A layer with the same settings has what git would write. A main checkout may have been written under
 * other settings than today's: of its files only those count that git stores as they are, and whose size
 * is that of the blob.
 */
import {
  type BigIntStats,
  constants,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { type IndexEntry, MODE_REGULAR, MODE_TYPE_MASK, ownEntries } from '../../git/index-file/entry.ts';
import { findExtension, type IndexView, readIndex } from '../../git/index-file/format.ts';
import { writeStatData } from '../../git/index-file/stat-data.ts';
import { splitZ } from '../../git/records.ts';
import { FormatError } from '../../xet/errors.ts';
import { checkAborted } from '../errors.ts';
import { elsewhere, readTreeIntoIndex } from './checkout.ts';
import type { DriverContext } from './driver.ts';
import { closestLayer } from './layer-base.ts';
import { hashSizeOf, readLayerIndex, writeLayerIndex } from './layer-index.ts';
import type { LayerKey } from './layer-key.ts';

export interface CloneTarget {
  readonly workTree: string;
  readonly index: string;
  /** Undefined: the repository itself. */
  readonly gitDir?: string | undefined;
}

/** A file that is known to hold what a checkout would write. */
interface Donor {
  find(path: string, oid: string, mode: number): Buffer | undefined;
}

const BATCH = 256;
const CONVERSION_ATTRIBUTES = ['text', 'crlf', 'eol', 'ident', 'filter', 'working-tree-encoding'];

/** Whether files of `from` can be cloned into `to`, by doing it. Both are directories that exist. */
export function clonesBetween(from: string, to: string): boolean {
  const name = `.git2db-clone-${process.pid}-${Date.now().toString(36)}`;
  const [source, target] = [join(from, name), join(to, `${name}.copy`)];
  try {
    // A file of some blocks: one without any is cloned by nothing at all.
    writeFileSync(source, Buffer.alloc(65_536, 0x61), { flag: 'wx', mode: 0o600 });
    copyFileSync(source, target, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
    return true;
  } catch {
    return false;
  } finally {
    rmSync(source, { force: true });
    rmSync(target, { force: true });
  }
}

/**
 * Puts all files that a donor has into `target.workTree`, and an index there that vouches for them. Does
 * nothing where nothing can be cloned. Returns how many files were.
 */
export async function cloneFromDonor(
  context: DriverContext,
  key: LayerKey,
  target: CloneTarget,
): Promise<number> {
  const { place, signal } = context;
  if (!clonesBetween(target.workTree, target.workTree)) return 0;
  await readTreeIntoIndex(place, { ...target, tree: key.tree, signal });
  const wanted = readLayerIndex(target.index, hashSizeOf(key.tree));
  const donors = [layerDonor(context, key, wanted), await checkoutDonor(context, key, wanted, target)].filter(
    (donor) => donor !== undefined,
  );
  let cloned = 0;
  if (donors.length > 0) cloned = await cloneFiles(wanted, donors, target.workTree, signal);
  if (cloned > 0) writeLayerIndex(target.index, wanted);
  return cloned;
}

async function cloneFiles(
  wanted: IndexView,
  donors: readonly Donor[],
  workTree: string,
  signal: AbortSignal | undefined,
): Promise<number> {
  let count = 0;
  let cloned = 0;
  const made = new Set<string>();
  // Before the second in which the index is written, or git would not trust it.
  const past = Math.floor(Date.now() / 1000) - 2;
  for (const entry of ownEntries(wanted)) {
    if (++count % BATCH === 0) {
      checkAborted(signal, 'cloning files');
      await turn();
    }
    if ((entry.mode & MODE_TYPE_MASK) !== MODE_REGULAR) continue;
    const name = entry.path.toString('latin1');
    for (const donor of donors) {
      const source = donor.find(name, entry.oid, entry.mode);
      if (source === undefined) continue;
      const path = Buffer.concat([Buffer.from(`${workTree}/`), entry.path]);
      const above = dirname(name);
      if (!made.has(above)) {
        mkdirSync(Buffer.concat([Buffer.from(`${workTree}/`), Buffer.from(above, 'latin1')]), {
          recursive: true,
        });
        made.add(above);
      }
      if (!cloneOne(source, path, entry)) continue;
      utimesSync(path, past, past);
      writeStatData(wanted.bytes, entry.offset, lstatSync(path, { bigint: true }));
      cloned++;
      break;
    }
  }
  return cloned;
}

/** False, and nothing there, when it could not be cloned, or was changed meanwhile. */
function cloneOne(source: Buffer, path: Buffer, entry: IndexEntry): boolean {
  try {
    const before = statSync(source, { bigint: true });
    copyFileSync(source, path, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
    const after = statSync(source, { bigint: true });
    const isSame =
      before.ino === after.ino && before.ctimeNs === after.ctimeNs && before.mtimeNs === after.mtimeNs;
    const isExecutable = (entry.mode & 0o100) !== 0;
    if (isSame && ((Number(after.mode) & 0o100) !== 0) === isExecutable) return true;
  } catch {
    // Gone, or on another file system: git writes it.
  }
  rmSync(path, { force: true });
  return false;
}

// ---- a layer ---------------------------------------------------------------------------------

function layerDonor({ home }: DriverContext, key: LayerKey, wanted: IndexView): Donor | undefined {
  const layer = closestLayer(home, key, wanted);
  if (layer === undefined) return undefined;
  // Under other attributes the same blob may be another file.
  if (JSON.stringify(layer.record.attributes.files) !== JSON.stringify(key.attributes.files))
    return undefined;
  const files = new Map<string, IndexEntry>();
  const view = readLayerIndex(layer.index, hashSizeOf(key.tree));
  for (const entry of ownEntries(view)) files.set(entry.path.toString('latin1'), entry);
  return {
    find(path, oid, mode) {
      const entry = files.get(path);
      if (entry === undefined || entry.oid !== oid || entry.mode !== mode) return undefined;
      return layer.trees
        .map((tree) => Buffer.concat([Buffer.from(`${tree}/`), entry.path]))
        .find((file) => lstatSync(file, { throwIfNoEntry: false })?.isFile() === true);
    },
  };
}

// ---- the main checkout -----------------------------------------------------------------------

async function checkoutDonor(
  { place, signal }: DriverContext,
  key: LayerKey,
  wanted: IndexView,
  target: CloneTarget,
): Promise<Donor | undefined> {
  const workTree = place.workTree;
  const file = join(place.commonDir, 'index');
  if (workTree === undefined || !existsSync(file)) return undefined;
  const index = readDonorIndex(file, key);
  if (index === undefined) return undefined;
  const raw = await storedAsTheyAre(place, wanted, target, signal);
  const sizes = await blobSizes(place, key.tree, signal);
  const files = new Map<string, IndexEntry>();
  for (const entry of ownEntries(index.view)) files.set(entry.path.toString('latin1'), entry);
  return {
    find(path, oid, mode) {
      const entry = files.get(path);
      if (entry === undefined || entry.oid !== oid || entry.mode !== mode || !raw.has(path)) return undefined;
      const isSettled = entry.stage === 0 && !entry.assumeValid && !entry.skipWorktree && !entry.intentToAdd;
      if (!isSettled || entry.mtimeSeconds >= index.timeSeconds) return undefined;
      const source = Buffer.concat([Buffer.from(`${workTree}/`), entry.path]);
      const stat = lstatSync(source, { bigint: true, throwIfNoEntry: false });
      if (stat === undefined || !stat.isFile() || stat.size !== sizes.get(oid)) return undefined;
      return isStatClean(entry, stat) ? source : undefined;
    },
  };
}

function readDonorIndex(file: string, key: LayerKey): { view: IndexView; timeSeconds: number } | undefined {
  try {
    const { mtimeNs } = statSync(file, { bigint: true });
    const view = readIndex(readFileSync(file), hashSizeOf(key.tree));
    // Of a split index most entries are elsewhere.
    if (findExtension(view, 'link') !== undefined) return undefined;
    return { view, timeSeconds: Number(mtimeNs / 1_000_000_000n) };
  } catch (error) {
    if (error instanceof FormatError) return undefined;
    throw error;
  }
}

/** All nine fields, whatever core.checkStat says. */
function isStatClean(entry: IndexEntry, stat: BigIntStats): boolean {
  const now = Buffer.alloc(40);
  writeStatData(now, 0, stat);
  const noted = entry.bytes.subarray(entry.offset, entry.offset + 40);
  // At 24 stands the mode, which the caller has compared; git writes no device numbers it would check.
  const spans: readonly (readonly [number, number])[] = [
    [0, 16],
    [20, 24],
    [28, 40],
  ];
  return spans.every(([start, end]) => now.subarray(start, end).equals(noted.subarray(start, end)));
}

/** Paths (latin1) that no attribute and no setting converts. */
async function storedAsTheyAre(
  place: DriverContext['place'],
  wanted: IndexView,
  target: CloneTarget,
  signal: AbortSignal | undefined,
): Promise<ReadonlySet<string>> {
  const paths: Buffer[] = [];
  const raw = new Set<string>();
  for (const entry of ownEntries(wanted)) {
    paths.push(Buffer.from(entry.path), Buffer.alloc(1));
    raw.add(entry.path.toString('latin1'));
  }
  const { stdout } = await place.git(['check-attr', '--cached', '-z', '--stdin', ...CONVERSION_ATTRIBUTES], {
    ...elsewhere(place, { ...target, signal }),
    input: Buffer.concat(paths),
  });
  const fields = [...splitZ(stdout)].map((field) => field.toString('latin1'));
  for (let i = 0; i + 2 < fields.length; i += 3) {
    const [path, name, value] = fields.slice(i, i + 3) as [string, string, string];
    const converts = name === 'text' ? value !== 'unspecified' && value !== 'unset' : value !== 'unspecified';
    if (converts) raw.delete(path);
  }
  const autocrlf = await place.git(['config', '--get', 'core.autocrlf'], { okStatus: [0, 1], signal });
  const setting = autocrlf.stdout.toString().trim();
  return setting === '' || setting === 'false' ? raw : new Set();
}

async function blobSizes(
  place: DriverContext['place'],
  tree: string,
  signal: AbortSignal | undefined,
): Promise<Map<string, bigint>> {
  const { stdout } = await place.git(['ls-tree', '-r', '-l', '-z', '--full-tree', '--end-of-options', tree], {
    signal,
  });
  const sizes = new Map<string, bigint>();
  for (const line of splitZ(stdout)) {
    const [, , oid, size] = line.toString('latin1', 0, 140).split(/[ \t]+/);
    if (oid !== undefined && /^\d+$/.test(size ?? '')) sizes.set(oid, BigInt(size!));
  }
  return sizes;
}
