/** The progress of a transfer on a terminal. */
import type { TransferEvent } from '../xet/transfer/transfer.ts';
import type { Output, Progress } from './output.ts';

export class TransferBar {
  readonly #output: Output;
  readonly #label: string;
  #bar: Progress | undefined;
  #total = 0;
  #done = 0;

  constructor(output: Output, label: string) {
    this.#output = output;
    this.#label = label;
  }

  show(event: TransferEvent): void {
    if (event.kind !== 'bytes') return;
    // A total that has grown is a new bar; what was done before counts in it.
    if (this.#bar === undefined || event.total > this.#total) {
      this.#bar?.finish();
      this.#total = event.total;
      this.#bar = this.#output.progress(this.#label, 'bytes', event.total);
      this.#bar.advance(event.bytes);
    } else {
      this.#bar.advance(Math.max(0, event.bytes - this.#done));
    }
    this.#done = event.bytes;
  }

  /** So many bytes of an amount that is not known. */
  add(bytes: number): void {
    this.#bar ??= this.#output.progress(this.#label, 'bytes');
    this.#bar.advance(bytes);
  }

  finish(): void {
    this.#bar?.finish();
    this.#bar = undefined;
  }
}
