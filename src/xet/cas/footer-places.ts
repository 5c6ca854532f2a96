/**
 * Xorbs of a server that shows them byte by byte, as git2db's own does: their footers tell where records are
 * (docs/format/cas-extensions.md). Where records end is remembered for the xorbs that were looked at last.
 */
import { FormatError, Git2dbError } from '../errors.ts';
import { merkleRoot } from '../hash/merkle.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import type { ChunkRange } from '../store/store.ts';
import { lengthsOf } from '../xorb/ends.ts';
import {
  type DecodedFooter,
  decodeFooter,
  MAX_FOOTER_LENGTH,
  readFooterLength,
  type XorbFooter,
} from '../xorb/format.ts';
import { untilAborted } from './abort.ts';
import type { HttpClient, HttpResponse } from './http.ts';
import { ROUTES } from './protocol.ts';
import { type ByteRange, formatRange, parseContentRange } from './range.ts';
import type { FetchedRanges } from './range-body.ts';
import type { PlacedRange, RecordSource } from './record-reader.ts';
import type { Clock } from './retry.ts';
import type { TokenSource } from './token.ts';

/** Enough for the footer of nearly every xorb: 1,600 chunks. */
const TAIL = 65536;
/** Chunks whose places are remembered, 4 bytes each. */
const MAX_REMEMBERED = 4 << 20;
/** A larger range is read in pieces, at the same time. */
const PIECE_BYTES = 8 << 20;

export interface CasAccess {
  readonly http: HttpClient;
  /** Without a slash at its end. */
  readonly casUrl: string;
  readonly token: TokenSource | undefined;
  readonly clock: Clock;
  /** For messages. */
  readonly place: string;
}

export class FooterPlaces implements RecordSource {
  readonly maxRanges = 100;
  readonly place: string;
  readonly clock: Clock;
  readonly #access: CasAccess;
  readonly #recordEnds = new Map<string, Uint32Array>();
  #remembered = 0;
  readonly #reading = new Map<string, Promise<Uint32Array>>();

  constructor(access: CasAccess) {
    this.#access = access;
    this.place = access.place;
    this.clock = access.clock;
  }

  /** Proved against the hash of the xorb; undefined for a footer of an old version, which proves nothing. */
  async readFooter(xorbHash: Uint8Array, signal: AbortSignal | undefined): Promise<XorbFooter | undefined> {
    const { tail, size } = await this.#readTail(xorbHash, TAIL, signal);
    let footer: DecodedFooter;
    try {
      const length = readFooterLength(tail);
      const whole = length <= tail.length ? tail : (await this.#readTail(xorbHash, length, signal)).tail;
      footer = decodeFooter(whole, size);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      throw this.#damaged(xorbHash, error.message, error);
    }
    if (!hashesEqual(footer.xorbHash, 0, xorbHash, 0)) {
      throw this.#damaged(xorbHash, `its footer is that of xorb ${formatHash(footer.xorbHash)}`);
    }
    if (footer.rawEnds !== undefined) {
      const { rawEnds } = footer;
      const lengths = lengthsOf(rawEnds);
      const found = merkleRoot(footer.hashes, lengths, footer.count);
      if (!hashesEqual(found, 0, xorbHash, 0)) {
        throw this.#damaged(xorbHash, `the chunks in its footer make xorb ${formatHash(found)}`);
      }
    }
    this.#remember(formatHash(xorbHash), footer.recordEnds);
    return footer.rawEnds === undefined ? undefined : footer;
  }

  async locate(range: ChunkRange, signal: AbortSignal): Promise<readonly PlacedRange[]> {
    const { xorbHash, start, end } = range;
    const ends = await this.#endsOf(xorbHash, signal);
    if (end > ends.length) {
      throw new Git2dbError(
        'CONTENT_DAMAGED',
        `xorb ${formatHash(xorbHash)} in ${this.place} has ${ends.length} chunks; chunks [${start}, ${end}) were asked for`,
      );
    }
    const group = formatHash(xorbHash);
    const placed: PlacedRange[] = [];
    for (let from = start; from < end; ) {
      const byteStart = from === 0 ? 0 : (ends[from - 1] as number);
      let to = from + 1;
      while (to < end && (ends[to] as number) - byteStart <= PIECE_BYTES) to++;
      placed.push({
        xorbHash,
        start: from,
        end: to,
        from,
        to,
        byteStart,
        byteEnd: ends[to - 1] as number,
        group,
      });
      from = to;
    }
    return placed;
  }

  async fetch(
    { xorbHash }: PlacedRange,
    ranges: readonly ByteRange[],
    signal: AbortSignal,
  ): Promise<FetchedRanges> {
    return { response: await this.#request(xorbHash, formatRange(ranges), signal), ranges };
  }

  forget(xorbHash: Uint8Array): void {
    this.#forget(formatHash(xorbHash));
  }

  async #request(
    xorbHash: Uint8Array,
    range: string,
    signal: AbortSignal | undefined,
  ): Promise<HttpResponse> {
    const { http, casUrl, token } = this.#access;
    const response = await http.request({
      method: 'GET',
      url: `${casUrl}${ROUTES.xorb(xorbHash)}`,
      headers: { range },
      token,
      signal,
      accept: [200, 206, 404, 416],
    });
    if (response.status < 300) return response;
    await response.discard();
    this.#forget(formatHash(xorbHash));
    if (response.status === 404) {
      throw new Git2dbError('CONTENT_MISSING', `xorb ${formatHash(xorbHash)} is not in ${this.place}`, {
        data: { xorb: formatHash(xorbHash) },
      });
    }
    throw this.#damaged(xorbHash, 'it is shorter than its footer says');
  }

  /** Its last bytes, `length` of them or all there are. */
  async #readTail(
    xorbHash: Uint8Array,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly tail: Uint8Array; readonly size: number }> {
    const response = await this.#request(xorbHash, `bytes=-${length}`, signal);
    const tail = await response.bytes(MAX_FOOTER_LENGTH);
    const range = parseContentRange(response.headers['content-range']);
    if (response.status === 200) return { tail, size: tail.length };
    const isTail =
      range?.total !== undefined && range.end === range.total && range.end - range.start === tail.length;
    if (!isTail || range.total === undefined) {
      throw new Git2dbError(
        'REMOTE_INVALID',
        `xorb ${formatHash(xorbHash)} in ${this.place}: the server gave something else than the last ${length} bytes that were asked for`,
      );
    }
    return { tail, size: range.total };
  }

  async #endsOf(xorbHash: Uint8Array, signal: AbortSignal): Promise<Uint32Array> {
    const name = formatHash(xorbHash);
    const known = this.#recordEnds.get(name);
    if (known !== undefined) {
      this.#recordEnds.delete(name);
      this.#recordEnds.set(name, known);
      return known;
    }
    const reading = this.#reading.get(name) ?? this.#readEnds(xorbHash, name);
    this.#reading.set(name, reading);
    return untilAborted(reading, signal);
  }

  /** For all who wait: one that stops waiting stops nothing. */
  async #readEnds(xorbHash: Uint8Array, name: string): Promise<Uint32Array> {
    try {
      await this.readFooter(xorbHash, undefined);
      return this.#recordEnds.get(name) as Uint32Array;
    } finally {
      this.#reading.delete(name);
    }
  }

  #remember(name: string, ends: Uint32Array): void {
    this.#forget(name);
    this.#recordEnds.set(name, ends);
    this.#remembered += ends.length;
    for (const [oldest] of this.#recordEnds) {
      if (this.#remembered <= MAX_REMEMBERED || oldest === name) break;
      this.#forget(oldest);
    }
  }

  #forget(name: string): void {
    this.#remembered -= this.#recordEnds.get(name)?.length ?? 0;
    this.#recordEnds.delete(name);
  }

  #damaged(xorbHash: Uint8Array, found: string, cause?: unknown): Git2dbError {
    const name = formatHash(xorbHash);
    return new Git2dbError(
      'CONTENT_DAMAGED',
      `xorb ${name} in ${this.place} is damaged: ${found}; its operator must run \`git2db xet fsck\` there`,
      { cause, data: { xorb: name } },
    );
  }
}
