/**
 * What a server's reconstructions have told: where the chunks of xorbs lie, and at which URLs they can be had. Of
 * both so much is kept as there is room for; what is dropped can be asked for again.
 */
import { formatHash } from '../hash/xet-hash.ts';
import { PlaceList } from './place-list.ts';
import type { ByteRange } from './range.ts';
import type { FetchRange, Reconstruction } from './reconstruction.ts';

/** Characters of URLs that are kept. */
const MAX_URLS = 16 << 20;
/** Questions whose answers are remembered, some hundred bytes each. */
const MAX_BLOCKS = 1 << 17;

/** One question for a reconstruction, and the URLs of its answer as long as they are kept. */
export interface Block {
  readonly id: number;
  readonly fileHash: Uint8Array;
  readonly range: ByteRange;
  /** By number of the entry. */
  urls: readonly string[] | undefined;
  /** Xorbs that it has places of. */
  xorbs: readonly string[];
  /** Where the answer came from. */
  answeredBy: string;
  refreshing: Promise<void> | undefined;
}

interface Place extends FetchRange {
  readonly block: Block;
  /** Number of the entry in the block. */
  readonly entry: number;
}

export class ReconstructionAnswers {
  readonly #places = new Map<string, PlaceList<Place>>();
  /** Blocks with URLs, the one used longest ago first. */
  readonly #fresh = new Map<Block, number>();
  #urlLength = 0;
  readonly #blocks = new Map<string, Block>();
  #blockCount = 0;

  /** Undefined if no answer has told of the xorb. */
  placesIn(xorbHash: Uint8Array): PlaceList<Place> | undefined {
    return this.#places.get(formatHash(xorbHash));
  }

  /** Takes an answer; `answeredBy`: the URL that it came from. What was known of the same question is forgotten. */
  learn(fileHash: Uint8Array, range: ByteRange, { xorbs }: Reconstruction, answeredBy: string): void {
    const block = this.#block(fileHash, range, answeredBy);
    this.#forget(block);
    block.xorbs = [...xorbs.keys()];
    const urls: string[] = [];
    for (const [xorb, entries] of xorbs) {
      const places = this.#places.get(xorb) ?? new PlaceList();
      for (const { url, ranges } of entries) {
        for (const range of ranges) places.add({ ...range, block, entry: urls.length });
        urls.push(url);
      }
      this.#places.set(xorb, places);
    }
    this.#keep(block, urls);
  }

  /** The same for the same question: what is asked again and again does not grow. */
  #block(fileHash: Uint8Array, range: ByteRange, answeredBy: string): Block {
    const name = `${formatHash(fileHash)} ${range.start} ${range.end}`;
    const known = this.#blocks.get(name);
    if (known !== undefined) {
      known.answeredBy = answeredBy;
      return known;
    }
    const [oldest] = this.#blocks;
    if (oldest !== undefined && this.#blocks.size >= MAX_BLOCKS) {
      this.#blocks.delete(oldest[0]);
      this.#forget(oldest[1]);
    }
    const block: Block = {
      id: this.#blockCount++,
      fileHash: fileHash.slice(),
      range,
      urls: undefined,
      xorbs: [],
      answeredBy,
      refreshing: undefined,
    };
    this.#blocks.set(name, block);
    return block;
  }

  #forget(block: Block): void {
    for (const xorb of block.xorbs) {
      if (this.#places.get(xorb)?.remove((place) => place.block === block)) this.#places.delete(xorb);
    }
    block.xorbs = [];
    this.drop(block);
  }

  /** The same question was answered again: ranges that the new answer does not have stay without URL. */
  renew(block: Block, { xorbs }: Reconstruction, answeredBy: string): void {
    block.answeredBy = answeredBy;
    const urls: string[] = [];
    for (const [xorb, entries] of xorbs) {
      const numbers = new Map<string, number>();
      for (const place of this.#places.get(xorb) ?? []) {
        if (place.block === block) numbers.set(rangeName(place), place.entry);
      }
      for (const { url, ranges } of entries) {
        for (const range of ranges) {
          const number = numbers.get(rangeName(range));
          if (number !== undefined) urls[number] = url;
        }
      }
    }
    this.#keep(block, urls);
  }

  #keep(block: Block, urls: readonly string[]): void {
    this.drop(block);
    const length = urls.reduce((sum, url) => sum + url.length, 0);
    block.urls = urls;
    this.#fresh.set(block, length);
    this.#urlLength += length;
    for (const [oldest] of this.#fresh) {
      if (this.#urlLength <= MAX_URLS || oldest === block) break;
      this.drop(oldest);
    }
  }

  /** Its URLs are dropped later than those of others. */
  use(block: Block): void {
    const length = this.#fresh.get(block);
    if (length === undefined) return;
    this.#fresh.delete(block);
    this.#fresh.set(block, length);
  }

  /** Its URLs are no good any more. */
  drop(block: Block): void {
    this.#urlLength -= this.#fresh.get(block) ?? 0;
    this.#fresh.delete(block);
    block.urls = undefined;
  }
}

function rangeName({ start, end, byteStart, byteEnd }: FetchRange): string {
  return `${start} ${end} ${byteStart} ${byteEnd}`;
}
