/**
 * Files that go from one directory to another on the same file system: their xorbs get a second name instead of
 * being copied. Each xorb is read and verified first, all of it, as damage would come along with the chunks that
 * are not of these files, and be found there by the next who has them.
 *
 * Not where it would cost space: a xorb of which little is wanted, or whose chunks are mostly there, is not linked;
 * its files go the general way.
 */
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { Downloader } from '../download.ts';
import { Git2dbError } from '../errors.ts';
import { merkleRoot } from '../hash/merkle.ts';
import { verificationHash } from '../hash/verification.ts';
import { hashesEqual } from '../hash/xet-hash.ts';
import { openTerm, planFile, type ReadPlan } from '../reconstruct/plan.ts';
import { adoptFile } from '../store/adopt.ts';
import { DirectoryStore } from '../store/directory-store.ts';
import type { LocalStore, StoredFile, StoredTerm } from '../store/local-store.ts';
import type { Store } from '../store/store.ts';
import type { StoreWriter } from '../store/writer.ts';
import { rawBytesBetween } from '../store/xorb-source.ts';
import { digestOf, readWindows } from './local-content.ts';
import type { WantedFile } from './transfer.ts';

/** A xorb of which less than this part is wanted and new is not linked. */
const WORTH = 0.5;

/** The directory behind a store, if links can go between it and `local`. */
export function linkableStore(local: LocalStore, remote: Store): LocalStore | undefined {
  if (!(remote instanceof DirectoryStore)) return undefined;
  return deviceOf(local.root) === deviceOf(remote.local.root) ? remote.local : undefined;
}

/** The number of the file system that a directory is in, or will be. */
function deviceOf(path: string): number | undefined {
  for (let at = path; ; at = dirname(at)) {
    const stat = statSync(at, { throwIfNoEntry: false });
    if (stat !== undefined || dirname(at) === at) return stat?.dev;
  }
}

export interface LinkOptions {
  readonly signal?: AbortSignal | undefined;
  /** Compute the SHA-256 of files that come without. */
  readonly withSha256?: boolean | undefined;
  /** The file is committed to the writer. */
  readonly onLinked: (file: WantedFile, size: number) => void;
}

/** Links those of `files` for which that is worth while from one store to another; returns the others. */
export async function linkFiles(
  from: LocalStore,
  to: LocalStore,
  writer: StoreWriter,
  files: readonly WantedFile[],
  options: LinkOptions,
): Promise<WantedFile[]> {
  const downloader = new Downloader(from);
  const sealed = new Map<WantedFile, StoredFile>();
  for (const wanted of files) {
    const file = findSealed(from, wanted);
    if (file !== undefined) sealed.set(wanted, file);
  }
  const worth = xorbsWorthLinking(to, [...sealed.values()]);
  const whole = new Map<string, boolean>();
  const isWhole = async (term: StoredTerm) => {
    const known =
      whole.get(term.name) ?? (to.hasXorb(term.name) || (await verifyXorb(downloader, term, options)));
    whole.set(term.name, known);
    return known;
  };
  const others: WantedFile[] = [];
  for (const wanted of files) {
    const file = sealed.get(wanted);
    try {
      let isFit = file?.terms.every(({ name }) => worth.has(name)) ?? false;
      for (const term of file?.terms ?? []) isFit &&= await isWhole(term);
      if (isFit && file !== undefined) {
        const plan = planFile(file);
        adoptFile(to, writer, from, file, await sha256Of(downloader, wanted, file, plan, options));
        options.onLinked(wanted, file.size);
        continue;
      }
    } catch (error) {
      // Told, or mended, by the general way.
      if (!(error instanceof Git2dbError) || error.code === 'STORE_UNWRITABLE') throw error;
    }
    others.push(wanted);
  }
  return others;
}

function findSealed(store: LocalStore, { hash, size }: WantedFile): StoredFile | undefined {
  for (const file of store.findFiles(hash)) {
    if (file.shard !== undefined && (size === undefined || file.size === size)) return file;
  }
  return undefined;
}

/** Names of xorbs that are there already, or of which enough is wanted that is not. */
function xorbsWorthLinking(to: LocalStore, files: readonly StoredFile[]): Set<string> {
  const wanted = new Map<string, number>();
  const total = new Map<string, number>();
  for (const term of files.flatMap((file) => file.terms)) {
    if (to.hasXorb(term.name)) {
      wanted.set(term.name, 1);
      total.set(term.name, 1);
      continue;
    }
    try {
      const source = openTerm(term);
      let bytes = 0;
      for (let i = term.start; i < term.end; i++) {
        if (to.findChunk(source.hashes, 32 * i).length === 0) bytes += rawBytesBetween(source, i, i + 1);
      }
      wanted.set(term.name, (wanted.get(term.name) ?? 0) + bytes);
      total.set(term.name, rawBytesBetween(source, 0, source.count));
    } catch (error) {
      if (!(error instanceof Git2dbError)) throw error;
    }
  }
  return new Set(
    [...wanted.keys()].filter((name) => (wanted.get(name) ?? 0) >= WORTH * (total.get(name) ?? 0)),
  );
}

/** Reads all of a term's xorb, and proves that its chunk list has its name. False where anything is wrong with it. */
async function verifyXorb(
  downloader: Downloader,
  { name, xorbHash, open }: StoredTerm,
  { signal }: LinkOptions,
): Promise<boolean> {
  try {
    const source = open();
    const { count, hashes } = source;
    const lengths = Uint32Array.from({ length: count }, (_, i) => rawBytesBetween(source, i, i + 1));
    const root = merkleRoot(hashes, lengths, count);
    if (xorbHash === undefined || !hashesEqual(root, 0, xorbHash, 0)) return false;
    const rawBytes = rawBytesBetween(source, 0, count);
    const terms = [{ name, xorbHash, start: 0, end: count, rawBytes, open }];
    const plan: ReadPlan = { size: rawBytes, terms, proofs: [verificationHash(hashes, 0, count)] };
    for await (const _ of readWindows(downloader, plan, signal));
    return true;
  } catch (error) {
    if (error instanceof Git2dbError) return false;
    throw error;
  }
}

async function sha256Of(
  downloader: Downloader,
  wanted: WantedFile,
  file: StoredFile,
  plan: ReadPlan,
  { withSha256, signal }: LinkOptions,
): Promise<string | undefined> {
  const known = wanted.sha256 ?? file.record?.sha256;
  if (known !== undefined || withSha256 !== true) return known;
  return digestOf(downloader, plan, signal);
}
