/** Which bytes of which xorbs make a part of a file: terms cut to a range, and the ranges merged per xorb. */
import type { FetchEntry, FetchRange, Reconstruction } from '../../xet/cas/reconstruction.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { formatHash } from '../../xet/hash/xet-hash.ts';
import type { Term } from '../../xet/shard/file-info.ts';
import type { CallOptions, ServableStore, StoreFile } from '../../xet/store/store.ts';
import type { XorbFooter } from '../../xet/xorb/format.ts';
import { TimeSlice } from '../time-slice.ts';
import { splitForUrls } from './data-url.ts';

/** More terms than that in one answer would be tens of MiB of JSON. */
const MAX_TERMS = 50_000;

export interface Part {
  readonly offsetIntoFirstRange: number;
  readonly terms: readonly Term[];
}

/** Collects the ranges of one or several files, for one answer. */
export class FetchPlan {
  readonly #store: ServableStore;
  readonly #options: CallOptions;
  readonly #ranges = new Map<string, FetchRange[]>();
  readonly #slice = new TimeSlice();
  #terms = 0;

  constructor(store: ServableStore, options: CallOptions) {
    this.#store = store;
    this.#options = options;
  }

  /** Bytes [start, end) of `file`. LIMIT_EXCEEDED beyond MAX_TERMS; CONTENT_MISSING where a xorb is gone. */
  async add(file: StoreFile, start: number, end: number): Promise<Part> {
    const terms: Term[] = [];
    let offsetIntoFirstRange = 0;
    let termStart = 0;
    for (const term of file.terms) {
      const termEnd = termStart + term.rawBytes;
      if (termEnd > start && termStart < end) {
        if (++this.#terms > MAX_TERMS) {
          throw new Git2dbError(
            'LIMIT_EXCEEDED',
            `this part of the file is made of more than ${MAX_TERMS} terms: ask for less at a time`,
          );
        }
        const footer = await this.#footer(term);
        const cut = cutTerm(term, footer, termStart, start, end);
        if (terms.length === 0) offsetIntoFirstRange = start - cut.start;
        terms.push(cut.term);
        this.#addRange(cut.term, footer);
      }
      termStart = termEnd;
      if (termStart >= end) break;
    }
    return { offsetIntoFirstRange, terms };
  }

  /** `makeUrl` gives the address of some ranges of a xorb. */
  entries(makeUrl: (xorb: string, ranges: readonly FetchRange[]) => string): Reconstruction['xorbs'] {
    const entries = new Map<string, FetchEntry[]>();
    for (const [xorb, ranges] of this.#ranges) {
      const lists = splitForUrls(merge(ranges));
      entries.set(
        xorb,
        lists.map((list) => ({ url: makeUrl(xorb, list), ranges: list })),
      );
    }
    return entries;
  }

  async #footer(term: Term): Promise<XorbFooter> {
    await this.#slice.pause();
    const footer = await this.#store.readFooter(term.xorbHash, this.#options);
    if (footer !== undefined && term.end <= footer.count) return footer;
    throw new Git2dbError(
      'CONTENT_DAMAGED',
      `a file names chunks [${term.start}, ${term.end}) of xorb ${formatHash(term.xorbHash)}, which it has not`,
    );
  }

  #addRange({ xorbHash, start, end }: Term, { recordEnds }: XorbFooter): void {
    const name = formatHash(xorbHash);
    let ranges = this.#ranges.get(name);
    if (ranges === undefined) {
      ranges = [];
      this.#ranges.set(name, ranges);
    }
    const byteStart = start === 0 ? 0 : (recordEnds[start - 1] as number);
    ranges.push({ start, end, byteStart, byteEnd: recordEnds[end - 1] as number });
  }
}

/** The chunks of a term, which begins at `termStart` of the file, that overlap [start, end). */
function cutTerm(
  term: Term,
  { rawEnds }: XorbFooter,
  termStart: number,
  start: number,
  end: number,
): { readonly term: Term; readonly start: number } {
  const before = (chunk: number) => (chunk === 0 ? 0 : (rawEnds[chunk - 1] as number));
  const base = termStart - before(term.start);
  let first = term.start;
  let last = term.end;
  if (termStart < start) while (base + before(first + 1) <= start) first++;
  if (termStart + term.rawBytes > end) while (base + before(last - 1) >= end) last--;
  const cut = { xorbHash: term.xorbHash, start: first, end: last, rawBytes: before(last) - before(first) };
  return { term: cut, start: base + before(first) };
}

/** Sorted by start; those that touch or overlap are one. */
function merge(ranges: readonly FetchRange[]): FetchRange[] {
  const merged: FetchRange[] = [];
  for (const range of ranges.toSorted((a, b) => a.start - b.start)) {
    const last = merged.at(-1);
    if (last === undefined || range.start > last.end) merged.push(range);
    else if (range.end > last.end) {
      merged[merged.length - 1] = { ...last, end: range.end, byteEnd: range.byteEnd };
    }
  }
  return merged;
}
