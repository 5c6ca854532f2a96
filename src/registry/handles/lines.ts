/** All whole lines that git wrote on stderr, without those of progress, which end in a carriage return. */
export class LineCollector {
  readonly #lines: string[] = [];
  #rest = '';

  take(piece: Buffer): void {
    const lines = (this.#rest + piece.toString('utf8')).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) this.#lines.push(line.slice(line.lastIndexOf('\r', line.length - 2) + 1));
  }

  all(): readonly string[] {
    return this.#rest === '' ? this.#lines : [...this.#lines, this.#rest];
  }
}
