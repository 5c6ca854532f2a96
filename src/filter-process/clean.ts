/**
 * Clean: content -> pointer. A pointer stays what it is, so cleaning twice is cleaning once; and where git has a foreign
 * pointer of the same content, that is the answer.
 */
import { createHash, type Hash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { formatLfsPointer, parseLooseLfsPointer } from '../xet/pointer/lfs-pointer.ts';
import { POINTER_MAX, sniffPointer } from '../xet/pointer/sniff.ts';
import { formatPointer } from '../xet/pointer/xet-pointer.ts';
import type { FileUpload } from '../xet/file-upload.ts';
import type { Content } from './content.ts';
import type { FilterContext } from './filter-context.ts';
import type { Room } from './pkt-input.ts';
import type { CleanJob } from './session.ts';

export function beginClean(context: FilterContext, path: Buffer): CleanJob {
  return context.kind === 'xet' ? new XetClean(context, path) : new LfsClean(context, path);
}

class XetClean implements CleanJob {
  readonly #context: FilterContext;
  readonly #path: Buffer;
  readonly #content: Content;
  readonly #upload: FileUpload;

  constructor(context: FilterContext, path: Buffer) {
    this.#context = context;
    this.#path = path;
    this.#content = context.content;
    this.#upload = this.#content.uploader.begin(sizeHint(path));
  }

  room(): Room {
    return this.#upload.room();
  }

  advance(count: number): void {
    this.#upload.advance(count);
  }

  finish(): Uint8Array | Promise<Uint8Array> {
    const head = this.#upload.head(POINTER_MAX);
    if (head !== undefined) {
      if (head.length === 0) return Buffer.alloc(0);
      const pointer = sniffPointer(head);
      if (pointer !== undefined) {
        const bytes = Buffer.from(head);
        this.#upload.abort();
        this.#content.register();
        return pointer.kind === 'xet' ? formatPointer(pointer.hash, pointer.size) : bytes;
      }
    }
    const { hash, size } = this.#upload.finish();
    // Before the pointer is given, and not sooner: this has made the store if there was none.
    this.#content.register();
    return this.#pointerFor(hash, size);
  }

  abort(): void {
    this.#upload.abort();
  }

  #pointerFor(hash: string, size: number): Buffer | Promise<Buffer> {
    return this.#context.staged.answer(this.#path, formatPointer(hash, size), (staged) => {
      const pointer = sniffPointer(staged);
      if (pointer === undefined || pointer.kind === 'lfs' || pointer.kind === 'xet') return false;
      return pointer.hash === hash && (pointer.size === undefined || pointer.size === size);
    });
  }
}

/** As XetClean, for LFS pointers: the SHA-256 is computed of the same bytes, and the store finds the file by it. */
class LfsClean implements CleanJob {
  readonly #context: FilterContext;
  readonly #path: Buffer;
  readonly #content: Content;
  readonly #upload: FileUpload;
  readonly #hash: Hash = createHash('sha256');
  #room: Room | undefined;

  constructor(context: FilterContext, path: Buffer) {
    this.#context = context;
    this.#path = path;
    this.#content = context.content;
    this.#upload = this.#content.uploader.begin(sizeHint(path));
  }

  room(): Room {
    this.#room = this.#upload.room();
    return this.#room;
  }

  advance(count: number): void {
    const { bytes, offset } = this.#room as Room;
    this.#hash.update(bytes.subarray(offset, offset + count));
    this.#upload.advance(count);
  }

  finish(): Uint8Array | Promise<Uint8Array> {
    const head = this.#upload.head(POINTER_MAX);
    if (head?.length === 0) return Buffer.alloc(0);
    if (head !== undefined && (parseLooseLfsPointer(head) ?? sniffPointer(head)) !== undefined) {
      const bytes = Buffer.from(head);
      this.#upload.abort();
      this.#content.register();
      return bytes;
    }
    const sha256 = this.#hash.digest('hex');
    const { size } = this.#upload.finish({ sha256 });
    // Before the pointer is given, and not sooner: this has made the store if there was none.
    this.#content.register();
    return this.#pointerFor(sha256, size);
  }

  abort(): void {
    this.#upload.abort();
  }

  /** A pointer that git-lfs reads and would write otherwise today stays as it is in git. */
  #pointerFor(sha256: string, size: number): Buffer | Promise<Buffer> {
    return this.#context.staged.answer(this.#path, formatLfsPointer(sha256, size), (staged) => {
      const pointer = parseLooseLfsPointer(staged);
      return pointer?.sha256 === sha256 && pointer.size === size && !pointer.hasExtensions;
    });
  }
}

/** The size of the file at `path`, if that is what is being cleaned. Only a hint. */
function sizeHint(path: Buffer): number {
  try {
    return lstatSync(path).size;
  } catch {
    return 0;
  }
}
