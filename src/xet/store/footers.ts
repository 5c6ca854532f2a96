/** Footers of xorbs that stores show to others: proven, and a bounded number of them kept. */
import { FormatError, Git2dbError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import type { XorbFooter } from '../xorb/format.ts';
import { provesItself } from './xorb-intake.ts';

/** Bytes of a chunk in a footer. */
const CHUNK_BYTES = 40;

/** The footers used last, by xorb. */
export class FooterCache {
  readonly #maxBytes: number;
  readonly #footers = new Map<string, XorbFooter>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get(name: string): XorbFooter | undefined {
    const footer = this.#footers.get(name);
    if (footer === undefined) return undefined;
    this.#footers.delete(name);
    this.#footers.set(name, footer);
    return footer;
  }

  set(name: string, footer: XorbFooter): void {
    this.delete(name);
    this.#footers.set(name, footer);
    this.#bytes += CHUNK_BYTES * footer.count;
    for (const [oldest] of this.#footers) {
      if (this.#bytes <= this.#maxBytes || this.#footers.size === 1) break;
      this.delete(oldest);
    }
  }

  delete(name: string): void {
    const footer = this.#footers.get(name);
    if (footer === undefined) return;
    this.#footers.delete(name);
    this.#bytes -= CHUNK_BYTES * footer.count;
  }

  clear(): void {
    this.#footers.clear();
    this.#bytes = 0;
  }
}

/** Returns `footer` if it proves the name under which it was found. Throws CONTENT_DAMAGED. */
export function provenFooter(footer: XorbFooter, xorbHash: Uint8Array, place: string): XorbFooter {
  const name = formatHash(xorbHash);
  if (formatHash(footer.xorbHash) === name && provesItself(footer)) return footer;
  throw damagedXorb(name, place, 'the chunk list in its footer has another Merkle root');
}

export function damagedXorb(name: string, place: string, found: string, cause?: unknown): Git2dbError {
  return new Git2dbError(
    'CONTENT_DAMAGED',
    `xorb ${name} in ${place} is damaged: ${found}; restore it, or store what it held again`,
    { cause, data: { xorb: name } },
  );
}

export function missingXorb(name: string, place: string): Git2dbError {
  return new Git2dbError('CONTENT_MISSING', `xorb ${name} is not in ${place}`, { data: { xorb: name } });
}

/** Errors that mean: it is there, and cannot be used. */
export function isDamage(error: unknown): boolean {
  return error instanceof FormatError || (error instanceof Git2dbError && error.code === 'CONTENT_DAMAGED');
}
