/**
 * The footers of xorbs that are objects elsewhere: read once, proven, and the ones used last kept; and which xorbs
 * were seen to be there lately.
 */
import { FormatError, Git2dbError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import { mapParallel } from '../map-parallel.ts';
import type { ObjectStore } from '../objects/objects.ts';
import { decodeFooter, readFooterLength, readRawEnds, type XorbFooter } from '../xorb/format.ts';
import { throwIfAborted } from './aborted.ts';
import { damagedXorb, FooterCache, isDamage, missingXorb, provenFooter } from './footers.ts';
import { xorbKey } from './layout.ts';
import { xorbsMissing } from './shard-intake.ts';
import { MAX_RECORD_BYTES } from './xorb-intake.ts';

const FOOTER_BYTES = 24 << 20;
/** Read first: footers of up to 1,600 chunks, which is nearly all. */
const FIRST_TAIL = 65536;
/** Footers read at once. */
const PARALLEL = 16;
/** How long a xorb that was seen counts as there. */
const SEEN_MS = 10 * 60 * 1000;

export class ObjectFooters {
  readonly #objects: ObjectStore;
  readonly #now: () => number;
  readonly #footers = new FooterCache(FOOTER_BYTES);
  readonly #reading = new Map<string, Promise<XorbFooter>>();
  /** When a xorb was last put, or found to be there. */
  readonly #seen = new Map<string, number>();

  /** `now`: in ms. */
  constructor(objects: ObjectStore, now: () => number) {
    this.#objects = objects;
    this.#now = now;
  }

  /** Throws CONTENT_MISSING or CONTENT_DAMAGED. */
  get(xorbHash: Uint8Array): Promise<XorbFooter> {
    const name = formatHash(xorbHash);
    const known = this.#footers.get(name);
    if (known !== undefined) return Promise.resolve(known);
    let reading = this.#reading.get(name);
    if (reading === undefined) {
      // Not by the caller's signal: others may wait for it.
      reading = this.#readFooter(name, new Uint8Array(xorbHash)).finally(() => this.#reading.delete(name));
      this.#reading.set(name, reading);
    }
    return reading;
  }

  /** Undefined where it is gone or damaged. */
  async find(xorbHash: Uint8Array): Promise<XorbFooter | undefined> {
    try {
      return await this.get(xorbHash);
    } catch (error) {
      if (isDamage(error) || (error instanceof Git2dbError && error.code === 'CONTENT_MISSING'))
        return undefined;
      throw error;
    }
  }

  /** Those of many; undefined where they are gone or damaged. */
  findAll(xorbHashes: Iterable<Uint8Array>): Promise<(XorbFooter | undefined)[]> {
    return mapParallel([...xorbHashes], PARALLEL, (xorbHash) => this.find(xorbHash));
  }

  /** As `find`, of a xorb that is there now. */
  findPresent(xorbHash: Uint8Array): Promise<XorbFooter | undefined> {
    return this.#findSeen(formatHash(xorbHash), xorbHash, 0);
  }

  /** Of all these xorbs, by their names, if they were there lately. Throws CONTENT_MISSING. */
  async getPresent(
    xorbs: ReadonlyMap<string, Uint8Array>,
    signal?: AbortSignal,
  ): Promise<Map<string, XorbFooter>> {
    const footers = new Map<string, XorbFooter>();
    const missing: string[] = [];
    await mapParallel([...xorbs], PARALLEL, async ([name, xorbHash]) => {
      throwIfAborted(signal);
      const footer = await this.#findSeen(name, xorbHash, SEEN_MS);
      if (footer === undefined) missing.push(name);
      else footers.set(name, footer);
    });
    if (missing.length > 0) throw xorbsMissing(missing, this.#objects.place);
    return footers;
  }

  /** What is there under this name has changed, or may have. */
  forget(name: string): void {
    this.#footers.delete(name);
  }

  /** Takes note that a xorb is there. */
  see(name: string): void {
    this.#seen.delete(name);
    this.#seen.set(name, this.#now());
    for (const [oldest, at] of this.#seen) {
      if (this.#now() - at < SEEN_MS) break;
      this.#seen.delete(oldest);
    }
  }

  /** As `find`, of a xorb that was there less than `maxAgeMs` ago. */
  async #findSeen(name: string, xorbHash: Uint8Array, maxAgeMs: number): Promise<XorbFooter | undefined> {
    const seenAt = this.#seen.get(name) ?? Number.NEGATIVE_INFINITY;
    if (this.#now() - seenAt >= maxAgeMs) {
      if (this.#footers.get(name) !== undefined && (await this.#objects.head(xorbKey(name))) === undefined) {
        this.#footers.delete(name);
        return undefined;
      }
    }
    const footer = await this.find(xorbHash);
    if (footer !== undefined) this.see(name);
    return footer;
  }

  async #readFooter(name: string, xorbHash: Uint8Array): Promise<XorbFooter> {
    const key = xorbKey(name);
    try {
      let part = await this.#objects.readTail(key, FIRST_TAIL);
      if (part === undefined) throw missingXorb(name, this.#objects.place);
      const length = readFooterLength(part.bytes);
      if (length > part.bytes.length && part.bytes.length < part.size) {
        part = await this.#objects.readTail(key, length);
        if (part === undefined) throw missingXorb(name, this.#objects.place);
      }
      const decoded = decodeFooter(part.bytes, part.size);
      const rawEnds = decoded.rawEnds ?? (await this.#readRawEnds(key, decoded.recordEnds));
      const { count, hashes, recordEnds } = decoded;
      const footer = provenFooter(
        { xorbHash: decoded.xorbHash, count, hashes, recordEnds, rawEnds },
        xorbHash,
        this.#objects.place,
      );
      this.#footers.set(name, footer);
      return footer;
    } catch (error) {
      if (error instanceof FormatError) throw damagedXorb(name, this.#objects.place, error.message, error);
      throw error;
    }
  }

  /** Of an old footer, which does not tell: the records do. */
  async #readRawEnds(key: string, recordEnds: Uint32Array): Promise<Uint32Array> {
    const size = recordEnds.at(-1) ?? 0;
    if (size > MAX_RECORD_BYTES) throw new FormatError('INVALID_XORB', `records of ${size} bytes`, 0);
    const part = await this.#objects.read(key, 0, size);
    const bytes = part?.bytes ?? Buffer.alloc(0);
    return readRawEnds(recordEnds, (offset) => bytes.subarray(offset));
  }
}
