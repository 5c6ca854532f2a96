/**
 * Which delayed paths git still waits for. Pure bookkeeping; git's side of the rules: a path may be
 * listed once only, only if it was delayed, and is then asked for again. A path is
 *
 *     waiting    answered with status=delayed, not yet named in a list of available paths
 *     listed     named in such a list; git will ask for it
 *     delivered  asked for: forgotten here
 *
 * Paths are raw bytes, not necessarily UTF-8, so the key is their latin1 string.
 */

interface Entry<T> {
  readonly path: Buffer;
  readonly value: T;
}

/** Delayed paths in the order git sent them, each with the value kept for its delivery. */
export class DelayQueue<T> {
  readonly #waiting = new Map<string, Entry<T>>();
  readonly #listed = new Map<string, Entry<T>>();

  /** Number of paths that were not listed yet. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Number of paths that were listed and not asked for yet. */
  get outstanding(): number {
    return this.#listed.size;
  }

  /** True if `path` was delayed and not delivered since. */
  has(path: Uint8Array): boolean {
    const key = keyOf(path);
    return this.#waiting.has(key) || this.#listed.has(key);
  }

  /** Delays `path`. If it is outstanding already the new value replaces the old and it waits anew. */
  add(path: Buffer, value: T): void {
    const key = keyOf(path);
    this.#listed.delete(key);
    this.#waiting.delete(key);
    this.#waiting.set(key, { path, value });
  }

  /** The values of the waiting paths, first delayed first. */
  *values(): Generator<T> {
    for (const entry of this.#waiting.values()) yield entry.value;
  }

  /**
   * Takes the waiting paths whose value is `ready` (all of them by default), at most `limit`, first
   * delayed first, as listed from now on.
   */
  list(ready: (value: T) => boolean = () => true, limit = Number.POSITIVE_INFINITY): Buffer[] {
    const paths: Buffer[] = [];
    for (const [key, entry] of this.#waiting) {
      if (paths.length >= limit) break;
      if (!ready(entry.value)) continue;
      this.#waiting.delete(key);
      this.#listed.set(key, entry);
      paths.push(entry.path);
    }
    return paths;
  }

  /** The value of an outstanding path; undefined if it is not outstanding. */
  get(path: Uint8Array): T | undefined {
    const key = keyOf(path);
    return (this.#listed.get(key) ?? this.#waiting.get(key))?.value;
  }

  /** Takes the value of an outstanding path out of the queue; undefined if it is not outstanding. */
  deliver(path: Uint8Array): T | undefined {
    const key = keyOf(path);
    const entry = this.#listed.get(key) ?? this.#waiting.get(key);
    this.#listed.delete(key);
    this.#waiting.delete(key);
    return entry?.value;
  }
}

function keyOf(path: Uint8Array): string {
  return Buffer.from(path.buffer, path.byteOffset, path.byteLength).toString('latin1');
}
