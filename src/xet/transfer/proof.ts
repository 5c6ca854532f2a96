/**
 * Whether another store provably holds a file, so that the content here may go. That it says so is not enough:
 * its records of the file must name chunks that make it, in xorbs that are there.
 */

import { Downloader } from '../download.ts';
import { Git2dbError } from '../errors.ts';
import { fileHash } from '../hash/merkle.ts';
import { verificationHash } from '../hash/verification.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import { ByteList } from '../store/byte-list.ts';
import type { LocalStore } from '../store/local-store.ts';
import type { CallOptions, Store, StoreFile } from '../store/store.ts';
import { rawBytesBetween } from '../xorb/ends.ts';
import type { XorbFooter } from '../xorb/format.ts';
import { throwIfAborted } from './abort.ts';
import { isOfAFile } from './ledger.ts';
import { FILES_AT_ONCE, findEach, isEmptyFile, slicesOf } from './missing.ts';
import { chunkListOf } from './push-plan.ts';
import type { WantedFile } from './transfer.ts';

/** Footers kept while files are gone through. */
const MAX_FOOTERS = 32;

/**
 * For each file undefined where `remote` holds it, else why that is not proved. Where the other store shows the
 * chunk lists of its xorbs, these must make the file. Where it does not, each xorb must be there, and each term
 * must fit the chunk list of the file here, which then is needed. Throws what makes the other store unusable.
 */
export async function proveHeld(
  local: LocalStore,
  remote: Store,
  files: readonly WantedFile[],
  options: CallOptions = {},
): Promise<(Git2dbError | undefined)[]> {
  const prover = new Prover(local, remote, options);
  const answers: (Git2dbError | undefined)[] = [];
  for (const slice of slicesOf(files, FILES_AT_ONCE)) {
    const found = await findEach(remote, slice, options);
    for (const [i, wanted] of slice.entries()) {
      throwIfAborted(options.signal);
      answers.push(isEmptyFile(wanted) ? undefined : await prover.doubt(wanted, found[i]));
    }
  }
  return answers;
}

class Prover {
  readonly #local: LocalStore;
  readonly #remote: Store;
  readonly #options: CallOptions;
  readonly #downloader: Downloader;
  readonly #footers = new Map<string, XorbFooter | undefined>();
  readonly #there = new Set<string>();

  constructor(local: LocalStore, remote: Store, options: CallOptions) {
    this.#local = local;
    this.#remote = remote;
    this.#options = options;
    this.#downloader = new Downloader(this.#local, { workers: 0 });
  }

  async doubt(
    wanted: WantedFile,
    stored: StoreFile | Git2dbError | undefined,
  ): Promise<Git2dbError | undefined> {
    const name = formatHash(wanted.hash);
    const refuse = (why: string) =>
      new Git2dbError(
        'CONTENT_MISSING',
        `file ${name} is not proved to be in ${this.#remote.place}: ${why}`,
        {
          data: { file: name },
        },
      );
    if (stored === undefined) return refuse('it is not known there');
    if (stored instanceof Git2dbError) return refuse(stored.message);
    if (wanted.size !== undefined && stored.size !== wanted.size) {
      return refuse(`it has ${stored.size} bytes there, and ${wanted.size} by its pointer`);
    }
    try {
      const why = await this.#byFooters(wanted, stored);
      return why === undefined ? undefined : refuse(why);
    } catch (error) {
      if (!isOfAFile(error)) throw error;
      return refuse(error.message);
    }
  }

  async #byFooters(wanted: WantedFile, stored: StoreFile): Promise<string | undefined> {
    const hashes = new ByteList(32 * 64);
    const lengths: number[] = [];
    for (const { xorbHash, start, end, rawBytes } of stored.terms) {
      const footer = await this.#footer(xorbHash);
      if (footer === undefined) return this.#byTerms(wanted, stored);
      if (end > footer.count || rawBytesBetween(footer, start, end) !== rawBytes) {
        return `xorb ${formatHash(xorbHash)} does not have the chunks that it needs`;
      }
      hashes.append(footer.hashes, 32 * start, 32 * (end - start));
      for (let i = start; i < end; i++) lengths.push(rawBytesBetween(footer, i, i + 1));
    }
    const found = fileHash(hashes.slice(), lengths, lengths.length);
    return hashesEqual(found, 0, wanted.hash, 0)
      ? undefined
      : `its chunks there make file ${formatHash(found)}`;
  }

  async #byTerms(wanted: WantedFile, { terms, verification }: StoreFile): Promise<string | undefined> {
    const list = chunkListOf(this.#downloader.plan(wanted.hash, wanted.size));
    let at = 0;
    for (const [i, { xorbHash, start, end, rawBytes }] of terms.entries()) {
      const next = at + (end - start);
      let size = 0;
      for (const length of list.lengths.subarray(at, next)) size += length;
      if (next > list.lengths.length || size !== rawBytes)
        return `term ${i} of it there is not what it is here`;
      const proof = verification?.[i];
      if (proof !== undefined && !hashesEqual(verificationHash(list.hashes, at, next), 0, proof, 0)) {
        return `term ${i} of it there has other chunks than here`;
      }
      if (!(await this.#hasXorb(xorbHash))) return `xorb ${formatHash(xorbHash)} is gone`;
      at = next;
    }
    return at === list.lengths.length ? undefined : 'it ends early there';
  }

  async #hasXorb(xorbHash: Uint8Array): Promise<boolean> {
    const name = formatHash(xorbHash);
    if (this.#there.has(name)) return true;
    const isThere = await this.#remote.hasXorb(xorbHash, this.#options);
    if (isThere) this.#there.add(name);
    return isThere;
  }

  async #footer(xorbHash: Uint8Array): Promise<XorbFooter | undefined> {
    const name = formatHash(xorbHash);
    if (this.#footers.has(name)) return this.#footers.get(name);
    const footer = await this.#remote.readFooter(xorbHash, this.#options);
    if (this.#footers.size >= MAX_FOOTERS) this.#footers.delete(this.#footers.keys().next().value as string);
    this.#footers.set(name, footer);
    return footer;
  }
}
