/**
 * What a push has learned of tries that came to nothing: which files are to be planned once more, and what of the
 * other store's answers is not to be believed then.
 */
import type { Git2dbError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import type { Ledger } from './ledger.ts';
import type { WantedFile } from './transfer.ts';

export class SecondTries {
  readonly #ledger: Ledger;
  #again: WantedFile[] = [];
  /** How often a file has failed for a reason that may pass. */
  readonly #attempts = new Map<string, number>();
  /** Xorbs that the other store has lost. */
  readonly #lost = new Set<string>();
  /** Files whose terms were refused: registered alone, and without believing where chunks are said to be. */
  readonly #doubted = new Set<string>();

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  /** Files to be planned once more; they are forgotten here. */
  take(): WantedFile[] {
    return this.#again.splice(0);
  }

  /** The file has failed: it is planned once more, or ends so. Twice is enough. */
  add(wanted: WantedFile, size: number, error: Git2dbError): void {
    const name = formatHash(wanted.hash);
    const attempts = (this.#attempts.get(name) ?? 0) + 1;
    this.#attempts.set(name, attempts);
    if (attempts >= 2) this.#ledger.settle(wanted, 'failed', size, error);
    else this.#again.push(wanted);
  }

  /** The failure was that of other files: it is planned once more, however often that was so. */
  addInnocent(wanted: WantedFile): void {
    this.#again.push(wanted);
  }

  /** True if the file has failed before. */
  has({ hash }: WantedFile): boolean {
    return this.#attempts.has(formatHash(hash));
  }

  doubt({ hash }: WantedFile): void {
    this.#doubted.add(formatHash(hash));
  }

  isDoubted({ hash }: WantedFile): boolean {
    return this.#doubted.has(formatHash(hash));
  }

  lose(xorbHash: Uint8Array): void {
    this.#lost.add(formatHash(xorbHash));
  }

  isLost(xorbHash: Uint8Array): boolean {
    return this.#lost.has(formatHash(xorbHash));
  }
}
