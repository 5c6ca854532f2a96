/** A growing array of bytes. */
export class ByteList {
  #bytes: Buffer;
  #length = 0;

  constructor(capacity: number) {
    this.#bytes = Buffer.allocUnsafe(capacity);
  }

  get length(): number {
    return this.#length;
  }

  append(source: Uint8Array, offset: number, length: number): void {
    if (this.#length + length > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(2 * this.#bytes.length, this.#length + length));
      this.#bytes.copy(larger, 0, 0, this.#length);
      this.#bytes = larger;
    }
    this.#bytes.set(source.subarray(offset, offset + length), this.#length);
    this.#length += length;
  }

  truncate(length: number): void {
    this.#length = Math.min(length, this.#length);
  }

  /** A view that is valid until the next append. */
  slice(start = 0, end = this.#length): Buffer {
    return this.#bytes.subarray(start, Math.min(end, this.#length));
  }
}
