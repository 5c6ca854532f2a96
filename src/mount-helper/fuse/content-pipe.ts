/**
 * Answers to large READs whose bytes never pass through this process: the kernel moves the pages of the
 * file into a pipe, behind the reply's header, and from there into its own cache (splice(2)); one copy
 * instead of two.
 *
 * The header comes first and names the length, so the file is asked for its size before. Should it be cut
 * off in between, what is in the pipe is thrown away and the answer takes the ordinary way.
 */

import { raisePipeCapacity } from '../../native/pipe-capacity.ts';
import { ENODEV, ENOENT } from '../system/errno.ts';
import { type Pipe, pipe, splice } from '../system/kernel.ts';
import { close, lseek, SEEK_END, write } from '../system/libc.ts';
import { REPLY_HEADER } from './protocol.ts';

const PAGE_SIZE = 4096;
/** What a READ of a MiB needs, with the header and pages that are begun and not filled. */
const WANTED_CAPACITY = 2 << 20;
const SPLICE_F_NONBLOCK = 2;

/** Nothing was sent: the answer has to take the ordinary way. */
export const NOT_SENT = -1;

export class ContentPipe {
  /** READs below this many bytes are cheaper to copy. */
  readonly leastBytes = 32 << 10;
  /** Those above this do not fit; -1 where the system gives no pipe. */
  mostBytes = -1;
  readonly #device: number;
  /** Empty between replies. */
  #pipe: Pipe = { from: -1, to: -1 };

  constructor(device: number) {
    this.#device = device;
    this.#open();
  }

  #open(): void {
    const opened = pipe();
    this.mostBytes = -1;
    if (typeof opened === 'number') return;
    this.#pipe = opened;
    this.mostBytes = raisePipeCapacity(opened.to, WANTED_CAPACITY) - 2 * PAGE_SIZE;
  }

  /** Something was left in the pipe: a new one is cheaper than an account of what. */
  #renew(outcome: number): number {
    close(this.#pipe.from);
    close(this.#pipe.to);
    this.#open();
    return outcome;
  }

  /**
   * Sends `[offset, offset + size)` of a file, or what of it is there, behind `header`, in which the
   * length is filled in. Returns the length of the reply, NOT_SENT, or `-errno` when nobody waits for it
   * any more. The position of `fd` changes.
   */
  send(header: Uint8Array, view: DataView, fd: number, offset: number, size: number): number {
    const count = Math.min(size, lseek(fd, 0, SEEK_END) - offset);
    if (count < this.leastBytes) return NOT_SENT;
    const length = REPLY_HEADER + count;
    const { from, to } = this.#pipe;
    view.setUint32(0, length, true);
    if (write(to, header, 0, REPLY_HEADER) !== REPLY_HEADER) return this.#renew(NOT_SENT);
    for (let moved = 0; moved < count; ) {
      const taken = splice(fd, offset + moved, to, count - moved, SPLICE_F_NONBLOCK);
      if (taken <= 0) return this.#renew(NOT_SENT);
      moved += taken;
    }
    const sent = splice(from, -1, this.#device, length, 0);
    if (sent >= 0) return sent;
    // The caller or the mount has gone; anything else is worth another try.
    return this.#renew(sent === -ENOENT || sent === -ENODEV ? sent : NOT_SENT);
  }
}
