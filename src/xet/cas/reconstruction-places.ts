/**
 * Files and xorbs of any CAS, as reconstructions tell of them: which terms a file has, and at which URLs the bytes
 * are. URLs expire; then the same reconstruction is asked for again. A huge file is asked for in blocks.
 */
import { Git2dbError } from '../errors.ts';
import { formatHash, hashesEqual, isZeroHash } from '../hash/xet-hash.ts';
import type { Term } from '../shard/file-info.ts';
import type { ChunkRange, StoreFile } from '../store/store.ts';
import { MAX_RAW_CHUNK } from '../xorb/chunk-record.ts';
import { untilAborted } from './abort.ts';
import type { CasAccess } from './footer-places.ts';
import { invalid, ROUTES } from './protocol.ts';
import { type ByteRange, formatRange, multipartBoundary } from './range.ts';
import type { FetchedRanges } from './range-body.ts';
import { parseReconstruction, type Reconstruction, type ReconstructionVersion } from './reconstruction.ts';
import { type Block, ReconstructionAnswers } from './reconstruction-answers.ts';
import type { PlacedRange, RecordSource } from './record-reader.ts';
import type { Clock } from './retry.ts';

/** Bytes of a file that are asked for at once. */
const BLOCK = 1 << 30;
/** JSON of a block whose terms are a few chunks each. */
const MAX_ANSWER = 64 << 20;
const MAX_REFRESHES = 3;

interface KnownPlace extends PlacedRange {
  readonly block: Block;
  readonly entry: number;
}

/** A piece of a file that begins and ends with chunks. */
export interface FilePart {
  readonly terms: readonly Term[];
  /** Where in the file the first of them begins. */
  readonly offset: number;
  /** Where in the file the last of them ends. */
  readonly end: number;
}

export class ReconstructionPlaces implements RecordSource {
  readonly place: string;
  readonly clock: Clock;
  readonly #access: CasAccess;
  readonly #answers = new ReconstructionAnswers();
  #version: ReconstructionVersion | undefined;
  #hasMultipart = true;

  constructor(access: CasAccess) {
    this.#access = access;
    this.place = access.place;
    this.clock = access.clock;
  }

  get maxRanges(): number {
    return this.#hasMultipart ? 100 : 1;
  }

  /** Undefined for a file that the server does not know. */
  async findFile(fileHash: Uint8Array, signal: AbortSignal | undefined): Promise<StoreFile | undefined> {
    // Nothing is needed for the empty file.
    if (isZeroHash(fileHash)) return { fileHash: fileHash.slice(), terms: [], size: 0 };
    const terms: Term[] = [];
    let size = 0;
    for (;;) {
      const asked = { start: size, end: size + BLOCK };
      const part = await this.findPart(fileHash, asked, signal);
      if (part === undefined && size === 0) return undefined;
      const hasIgnoredRange = part !== undefined && size > 0 && startsLike(part.terms, terms);
      if (part === undefined || part.terms.length === 0 || hasIgnoredRange) break;
      if (part.offset !== size)
        throw invalid('a reconstruction', `terms that begin at byte ${size}, as asked for`);
      appendTerms(terms, part.terms);
      size = part.end;
      // Less than a block is the end; far more is an answer that knows no ranges.
      if (size < asked.end || size > asked.end + MAX_RAW_CHUNK) break;
    }
    return { fileHash: fileHash.slice(), terms, size };
  }

  /** What the bytes [start, end) of a file are made of; no terms beyond its end, undefined for an unknown file. */
  async findPart(
    fileHash: Uint8Array,
    range: ByteRange,
    signal: AbortSignal | undefined,
  ): Promise<FilePart | undefined> {
    const answer = await this.#ask(fileHash, range, signal);
    if (answer === undefined) return undefined;
    if (answer === 'past the end') return { terms: [], offset: range.start, end: range.start };
    const { reconstruction, url } = answer;
    this.#answers.learn(fileHash, range, reconstruction, url);
    const { terms, offsetIntoFirstRange } = reconstruction;
    const offset = range.start - offsetIntoFirstRange;
    return { terms, offset, end: terms.reduce((sum, { rawBytes }) => sum + rawBytes, offset) };
  }

  async locate({ xorbHash, start, end }: ChunkRange): Promise<readonly PlacedRange[]> {
    const places = this.#answers.placesIn(xorbHash);
    const placed: KnownPlace[] = [];
    for (let at = start; at < end; ) {
      const best = places?.find(at, end, ({ block }) => block.urls !== undefined);
      if (best === undefined) {
        throw new Git2dbError(
          'CONTENT_MISSING',
          `chunk ${at} of xorb ${formatHash(xorbHash)}: ${this.place} has told of no file with it`,
          { data: { xorb: formatHash(xorbHash) } },
        );
      }
      const { block, entry, start: from, end: to, byteStart, byteEnd } = best;
      const group = `${block.id}/${entry}`;
      placed.push({
        xorbHash,
        start: at,
        end: Math.min(end, to),
        from,
        to,
        byteStart,
        byteEnd,
        group,
        block,
        entry,
      });
      at = to;
    }
    return placed;
  }

  /** The URLs of an answer are good for some time: when one is refused, the same question is asked once more. */
  async fetch(
    placed: PlacedRange,
    wanted: readonly ByteRange[],
    signal: AbortSignal,
  ): Promise<FetchedRanges> {
    const { block, entry, xorbHash, byteStart, byteEnd } = placed as KnownPlace;
    let ranges = wanted;
    for (let refreshes = 0; ; refreshes++) {
      const urls = block.urls;
      const url = urls?.[entry];
      if (url === undefined) {
        if (refreshes > MAX_REFRESHES) throw invalid('a reconstruction', 'the same xorbs as before');
        await this.#refresh(block, signal);
        continue;
      }
      this.#answers.use(block);
      const response = await this.#access.http.request({
        method: 'GET',
        url,
        namedBy: block.answeredBy,
        headers: { range: formatRange(ranges) },
        accept: refreshes < MAX_REFRESHES ? [200, 206, 403, 404, 416] : [200, 206, 404, 416],
        signal,
      });
      if (response.status < 300) {
        if (ranges.length > 1 && multipartBoundary(response.headers['content-type']) === undefined) {
          this.#hasMultipart = false;
        }
        return { response, ranges };
      }
      await response.discard();
      if (response.status !== 403) throw this.#gone(xorbHash, response.status);
      if (block.urls === urls) this.#answers.drop(block);
      // A URL may be good for the ranges in the answer alone, and not for a part of one.
      if (refreshes > 0) {
        if (ranges.length > 1) this.#hasMultipart = false;
        ranges = [{ start: byteStart, end: byteEnd }];
      }
    }
  }

  async #ask(
    fileHash: Uint8Array,
    { start, end }: ByteRange,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly reconstruction: Reconstruction; readonly url: string } | 'past the end' | undefined> {
    const { http, casUrl, token } = this.#access;
    for (const version of this.#version === undefined ? ([2, 1] as const) : [this.#version]) {
      const response = await http.request({
        method: 'GET',
        url: `${casUrl}${ROUTES.reconstruction(version, fileHash)}`,
        headers: { range: formatRange([{ start, end }]), accept: 'application/json' },
        token,
        signal,
        accept: [200, 206, 404, 416, 501],
      });
      const { status } = response;
      if (status < 300) {
        const reconstruction = parseReconstruction(await response.json(MAX_ANSWER), version);
        this.#version = version;
        return { reconstruction, url: response.url };
      }
      await response.discard();
      if (status === 416) {
        this.#version = version;
        return 'past the end';
      }
      if (status === 501 && version === 2) this.#version = 1;
      else if (status === 501) throw invalid('the server', 'one that tells of what files are made');
    }
    return undefined;
  }

  /** Asks once for all who wait. Ranges that the new answer does not have stay without URL. */
  async #refresh(block: Block, signal: AbortSignal): Promise<void> {
    block.refreshing ??= this.#askAgain(block).finally(() => {
      block.refreshing = undefined;
    });
    await untilAborted(block.refreshing, signal);
  }

  async #askAgain(block: Block): Promise<void> {
    const answer = await this.#ask(block.fileHash, block.range, undefined);
    if (answer === undefined || answer === 'past the end') {
      throw new Git2dbError(
        'CONTENT_MISSING',
        `file ${formatHash(block.fileHash)} is not in ${this.place} any more`,
      );
    }
    this.#answers.renew(block, answer.reconstruction, answer.url);
  }

  #gone(xorbHash: Uint8Array, status: number): Git2dbError {
    const name = formatHash(xorbHash);
    return status === 404
      ? new Git2dbError('CONTENT_MISSING', `xorb ${name} is not in ${this.place}`, { data: { xorb: name } })
      : new Git2dbError(
          'CONTENT_DAMAGED',
          `xorb ${name} in ${this.place} is shorter than the server says; its operator must see to that`,
          { data: { xorb: name } },
        );
  }
}

/** Adds terms to a list; the first may go on where the last one ended. */
function appendTerms(terms: Term[], more: readonly Term[]): void {
  const last = terms.at(-1);
  const first = more[0];
  const goesOn =
    last !== undefined &&
    first !== undefined &&
    last.end === first.start &&
    hashesEqual(last.xorbHash, 0, first.xorbHash, 0);
  if (goesOn) terms[terms.length - 1] = { ...last, end: first.end, rawBytes: last.rawBytes + first.rawBytes };
  for (const term of goesOn ? more.slice(1) : more) terms.push(term);
}

/** Whether a later part is the beginning of the file once more. */
function startsLike(part: readonly Term[], terms: readonly Term[]): boolean {
  if (part.length < terms.length) return false;
  return terms.every((term, i) => {
    const other = part[i] as Term;
    return (
      other.start === term.start && other.end === term.end && hashesEqual(other.xorbHash, 0, term.xorbHash, 0)
    );
  });
}
