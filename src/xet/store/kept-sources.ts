/** Xorbs that stay open from one file to the next: the ones used last, and those that somebody reads. */
import { closeSource, type XorbSource } from './xorb-source.ts';

/** So many, unless more are being read. */
const MAX_SOURCES = 64;

export class KeptSources {
  /** The one used last stands last. */
  readonly #sources = new Map<string, XorbSource>();

  get(name: string): XorbSource | undefined {
    const source = this.#sources.get(name);
    if (source === undefined) return undefined;
    this.#sources.delete(name);
    this.#sources.set(name, source);
    return source;
  }

  /** Takes over what was opened; returns it. */
  keep(name: string, source: XorbSource): XorbSource {
    for (const [other, old] of this.#sources) {
      if (this.#sources.size < MAX_SOURCES) break;
      this.#closeUnlessRead(other, old);
    }
    this.#sources.set(name, source);
    return source;
  }

  /** Closes those that nobody reads. */
  forget(): void {
    for (const [name, source] of this.#sources) this.#closeUnlessRead(name, source);
  }

  /** Closes all. */
  close(): void {
    for (const source of this.#sources.values()) closeSource(source);
    this.#sources.clear();
  }

  #closeUnlessRead(name: string, source: XorbSource): void {
    if (source.pins > 0) return;
    this.#sources.delete(name);
    closeSource(source);
  }
}
