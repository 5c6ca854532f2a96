/**
 * The reply under way: one buffer, and the objects in which the file system's answers travel to it, made
 * once and used for every request.
 */

import { emptyAttributes, emptyEntry } from './answers.ts';
import type { Frame } from './decode.ts';
import {
  ATTRIBUTES_ANSWER_SIZE,
  DirectoryEncoder,
  ENTRY_SIZE,
  encodeAttributesAnswer,
  encodeEntry,
  encodeOpen,
  encodeStatistics,
  OPEN_SIZE,
  putUint64,
} from './encode.ts';
import type { AttributesAnswer, FileSystemStatistics, OpenAnswer } from './file-system.ts';
import { MAX_TRANSFER } from './init.ts';
import { LARGEST_ERRNO, REPLY_HEADER } from './protocol.ts';

/** Room for every reply: the largest READ behind its header. */
export const REPLY_BUFFER_SIZE = REPLY_HEADER + MAX_TRANSFER;

/** Methods named for a body write it behind the header; all take what a method of the file system returned. */
export class Reply {
  /** Of REPLY_BUFFER_SIZE. */
  readonly bytes: Uint8Array = Buffer.alloc(REPLY_BUFFER_SIZE);
  readonly view = new DataView(this.bytes.buffer, this.bytes.byteOffset, REPLY_BUFFER_SIZE);
  readonly words = new Uint32Array(this.bytes.buffer, this.bytes.byteOffset, REPLY_BUFFER_SIZE / 4);
  readonly directory = new DirectoryEncoder(this.bytes);
  readonly entry = emptyEntry();
  readonly attributes: AttributesAnswer = { timeoutMs: 0, attributes: emptyAttributes() };
  readonly open: OpenAnswer = { handle: 0, flags: 0, backingId: 0 };
  readonly statistics: FileSystemStatistics = {
    blocks: 0,
    bfree: 0,
    bavail: 0,
    files: 0,
    ffree: 0,
    bsize: 0,
    namelen: 0,
    frsize: 0,
  };

  /** The length of a body that fits, or an error that the kernel takes. */
  isSensible(code: number): boolean {
    return code >= 0 ? code <= MAX_TRANSFER : code >= -LARGEST_ERRNO;
  }

  /** `code`: length of the body that is in place, or `-errno`; sensible. Returns the length of the reply. */
  finish(frame: Frame, code: number): number {
    const length = code < 0 ? REPLY_HEADER : REPLY_HEADER + code;
    this.putHeader(frame, length, code < 0 ? code : 0);
    return length;
  }

  putHeader(frame: Frame, length: number, error: number): void {
    const { words } = this;
    words[0] = length;
    words[1] = error;
    words[2] = frame.view.getUint32(8, true);
    words[3] = frame.view.getUint32(12, true);
  }

  entryBody(code: number): number {
    return code < 0 ? code : encodeEntry(this.words, REPLY_HEADER, this.entry);
  }

  attributesBody(code: number): number {
    if (code < 0) return code;
    encodeAttributesAnswer(this.words, REPLY_HEADER, this.attributes);
    return ATTRIBUTES_ANSWER_SIZE;
  }

  openBody(code: number): number {
    return code < 0 ? code : encodeOpen(this.words, REPLY_HEADER, this.open);
  }

  /** Of CREATE and TMPFILE. */
  createdBody(code: number): number {
    if (code < 0) return code;
    encodeEntry(this.words, REPLY_HEADER, this.entry);
    encodeOpen(this.words, REPLY_HEADER + ENTRY_SIZE, this.open);
    return ENTRY_SIZE + OPEN_SIZE;
  }

  statisticsBody(code: number): number {
    return code < 0 ? code : encodeStatistics(this.words, REPLY_HEADER, this.statistics);
  }

  /** u32 and 4 unused bytes: what WRITE, COPY_FILE_RANGE and the sizes of attributes are answered with. */
  countBody(code: number): number {
    if (code < 0) return code;
    this.words[REPLY_HEADER / 4] = code;
    this.words[REPLY_HEADER / 4 + 1] = 0;
    return 8;
  }

  offsetBody(code: number): number {
    if (code < 0) return code;
    putUint64(this.words, REPLY_HEADER, code);
    return 8;
  }
}

/** The answer has no body, whatever count a method returned. */
export function empty(code: number): number {
  return code > 0 ? 0 : code;
}
