/**
 * The answer to one request, as packets. The one rule: `status=success` goes out with the first byte of
 * content and not before, so that a conversion which fails early is answered by `status=error` alone.
 * Once content has been sent it can only be retracted, by the list that follows it.
 */

import type { PktOutput } from './pkt-output.ts';

const PATHNAME = Buffer.from('pathname=');

/** Where a converter puts content. Both methods throw OutputClosed when git has gone away. */
export interface ContentOutput {
  /** Appends to the content. Keeps a reference: `bytes` must not change until sync(), or the answer's end. */
  content(bytes: Uint8Array): void;
  /** Sends what was given so far; its memory may be used again. Costs a system call and a short packet. */
  sync(): void;
}

export type AnswerStatus = 'success' | 'delayed' | 'error';

export class Answer implements ContentOutput {
  readonly #output: PktOutput;
  readonly #writtenBefore: number;
  #begun = false;
  #status: AnswerStatus | undefined;

  constructor(output: PktOutput) {
    this.#output = output;
    this.#writtenBefore = output.written;
  }

  /** What git was told in the end; undefined while the answer is incomplete. */
  get status(): AnswerStatus | undefined {
    return this.#status;
  }

  /** Bytes sent so far, packet headers and status lines included. */
  get size(): number {
    return this.#output.written - this.#writtenBefore;
  }

  content(bytes: Uint8Array): void {
    if (this.#status) throw new Error('content was written after the end of its answer');
    if (bytes.length === 0) return;
    this.#begin();
    this.#output.content(bytes);
  }

  sync(): void {
    this.#output.sync();
  }

  /** Completes an answer that is content, be it empty. */
  endContent(): void {
    this.#begin();
    this.#output.end();
    this.#output.flush();
    this.#complete('success');
  }

  /** The whole answer of a smudge that git is to ask for again. */
  delayed(): void {
    this.#output.list(['status=delayed']);
    this.#complete('delayed');
  }

  /** The whole answer to list_available_blobs. */
  available(paths: readonly Uint8Array[]): void {
    this.#output.list(paths.map((path) => Buffer.concat([PATHNAME, path])));
    this.#output.list(['status=success']);
    this.#complete('success');
  }

  /** Instead of the above, or after some content: git is to use none of it. */
  fail(): void {
    this.#output.discard();
    // What has been sent are whole packets of content. It ends here, and the second list takes it back.
    if (this.size > 0) this.#output.flush();
    this.#failed();
  }

  /** The same for list_available_blobs, whose status always follows a list of paths. */
  failAvailable(): void {
    this.#output.discard();
    this.#output.flush();
    this.#failed();
  }

  #failed(): void {
    this.#output.list(['status=error']);
    this.#complete('error');
  }

  #begin(): void {
    if (!this.#begun) this.#output.list(['status=success']);
    this.#begun = true;
  }

  #complete(status: AnswerStatus): void {
    this.#status = status;
    this.#output.sync();
  }
}
