/**
 * Chunks that a CAS has already, by its global dedup queries (Xet protocol, "Shard", dedup answers): asked for are
 * the first chunk, and chunks whose hash is a multiple of 1024. An answer lists xorbs near the chunk, mostly with
 * keyed hashes, and covers many chunks that need no question of their own.
 */
import { Git2dbError } from '../errors.ts';
import { hmac } from '../hash/keys.ts';
import { HASH_SIZE } from '../hash/xet-hash.ts';
import { Shard } from '../shard/shard.ts';
import type { ChunkRun } from '../store/store.ts';
import { MAX_XORB_CHUNKS } from '../xorb/format.ts';
import type { CasAccess } from './footer-places.ts';
import { ROUTES } from './protocol.ts';

const SAMPLING = 1024;
const PARALLEL = 8;
/** Of a whole xorb and its neighbours. */
const MAX_ANSWER = 16 << 20;
/** Keys that answers have come with: a server has one, and a new one now and then. */
const MAX_KEYS = 8;
/** Chunks that are remembered from answers. */
const MAX_KNOWN = 1 << 19;

interface Place {
  readonly xorbHash: Uint8Array;
  readonly index: number;
}

/** Chunks of the answers under one key, by their (keyed) hashes. */
interface Answers {
  readonly key: Uint8Array | undefined;
  readonly places: Map<string, Place>;
}

export class DedupQueries {
  readonly #access: CasAccess;
  readonly #answers = new Map<string, Answers>();
  #known = 0;
  #isOffered = true;

  constructor(access: CasAccess) {
    this.#access = access;
  }

  /** Best effort: an answer that cannot be had or used is no hit. */
  async find(hashes: Uint8Array, signal: AbortSignal | undefined): Promise<ChunkRun[]> {
    const count = hashes.length / HASH_SIZE;
    const asked: number[] = [];
    for (let i = 0; i < count; i++) if (i === 0 || isSampled(hashes, i)) asked.push(i);
    // The first one alone: its answer may cover the others.
    for (let at = 0; at < asked.length && this.#isOffered; ) {
      const batch: number[] = [];
      const most = at === 0 ? 1 : PARALLEL;
      for (; at < asked.length && batch.length < most; at++) {
        const chunk = asked[at] as number;
        if (this.#lookUp(hashes, chunk) === undefined) batch.push(chunk);
      }
      await Promise.all(
        batch.map((i) => this.#ask(hashes.slice(i * HASH_SIZE, (i + 1) * HASH_SIZE), signal)),
      );
    }
    return this.#runs(hashes, count);
  }

  async #ask(chunkHash: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const { http, casUrl, token, clock } = this.#access;
    try {
      const response = await http.request({
        method: 'GET',
        url: `${casUrl}${ROUTES.chunk(chunkHash)}`,
        token,
        signal,
        // A server that is busy has better to do.
        accept: [200, 404, 429, 501],
      });
      if (response.status !== 200) {
        await response.discard();
        if (response.status === 501) this.#isOffered = false;
        return;
      }
      const shard = Shard.open(await response.bytes(MAX_ANSWER));
      if ((shard.footer?.keyExpiry ?? Number.POSITIVE_INFINITY) * 1000 > clock.now()) this.#learn(shard);
    } catch (error) {
      // A server that is gone, or does not let us in, will not take what is sent without this, either.
      const code = error instanceof Git2dbError ? error.code : undefined;
      if (code !== 'INVALID_SHARD' && code !== 'REMOTE_INVALID') throw error;
    }
  }

  #learn(shard: Shard): void {
    const id = shard.key === undefined ? '' : keyOf(shard.key, 0);
    let answers = this.#answers.get(id);
    if (answers === undefined) {
      if (this.#answers.size === MAX_KEYS) return;
      answers = { key: shard.key?.slice(), places: new Map() };
      this.#answers.set(id, answers);
    }
    for (const { xorbHash, hashes, lengths } of shard.xorbs()) {
      if (lengths.length > MAX_XORB_CHUNKS) continue;
      const own = xorbHash.slice();
      for (let index = 0; index < lengths.length && this.#known < MAX_KNOWN; index++) {
        const hash = keyOf(hashes, index * HASH_SIZE);
        if (answers.places.has(hash)) continue;
        answers.places.set(hash, { xorbHash: own, index });
        this.#known++;
      }
    }
  }

  #lookUp(hashes: Uint8Array, chunk: number): Place | undefined {
    for (const { key, places } of this.#answers.values()) {
      const at = chunk * HASH_SIZE;
      const hash = key === undefined ? hashes : hmac(hashes.subarray(at, at + HASH_SIZE), key);
      const place = places.get(keyOf(hash, key === undefined ? at : 0));
      if (place !== undefined) return place;
    }
    return undefined;
  }

  #runs(hashes: Uint8Array, count: number): ChunkRun[] {
    const runs: ChunkRun[] = [];
    let open: { at: number; count: number; xorbHash: Uint8Array; start: number } | undefined;
    for (let at = 0; at < count; at++) {
      const place = this.#known === 0 ? undefined : this.#lookUp(hashes, at);
      if (place === undefined) {
        open = undefined;
      } else if (
        open !== undefined &&
        open.xorbHash === place.xorbHash &&
        open.start + open.count === place.index
      ) {
        open.count++;
      } else {
        open = { at, count: 1, xorbHash: place.xorbHash, start: place.index };
        runs.push(open);
      }
    }
    return runs;
  }
}

/** The u64 in the last 8 bytes, little-endian, modulo 1024. */
function isSampled(hashes: Uint8Array, chunk: number): boolean {
  const at = chunk * HASH_SIZE + 24;
  return (((hashes[at] as number) | ((hashes[at + 1] as number) << 8)) & (SAMPLING - 1)) === 0;
}

/** 128 bits of a hash are enough to tell chunks apart by chance; what is wrong all the same, the server refuses. */
function keyOf(bytes: Uint8Array, at: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, 16).toString('latin1');
}
