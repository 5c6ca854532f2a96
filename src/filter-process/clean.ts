/**
 * Clean: content -> pointer. A pointer stays what it is, so cleaning twice is cleaning once; and where git has a foreign
 * pointer of the same content, that is the answer.
 */
import { createHash, type Hash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import type { FileUpload } from '../xet/file-upload.ts';
import { formatLfsPointer, parseLooseLfsPointer } from '../xet/pointer/lfs-pointer.ts';
import { POINTER_MAX, sniffPointer } from '../xet/pointer/sniff.ts';
import { formatPointer } from '../xet/pointer/xet-pointer.ts';
import type { Content } from './content.ts';
import type { FilterContext } from './filter-context.ts';
import type { Room } from './pkt-input.ts';
import type { CleanJob } from './session.ts';

export function beginClean(context: FilterContext, path: Buffer): CleanJob {
  return context.kind === 'xet' ? new XetClean(context, path) : new LfsClean(context, path);
}

/** What content that is stored now is to be in git. */
interface Stored {
  readonly pointer: Buffer;
  /** Whether a pointer that git has at this path is one of the same content, and stays as it is. */
  readonly isSame: (staged: Buffer) => boolean;
}

abstract class Clean implements CleanJob {
  readonly #context: FilterContext;
  readonly #path: Buffer;
  readonly #content: Content;
  protected readonly upload: FileUpload;

  constructor(context: FilterContext, path: Buffer) {
    this.#context = context;
    this.#path = path;
    this.#content = context.content;
    this.upload = this.#content.uploader.begin(sizeHint(path));
  }

  /** What is answered for content that is a pointer already; undefined for any other. */
  protected abstract pointerOf(head: Uint8Array): Buffer | undefined;

  /** Ends the upload. */
  protected abstract store(): Stored;

  room(): Room {
    return this.upload.room();
  }

  advance(count: number): void {
    this.upload.advance(count);
  }

  finish(): Uint8Array | Promise<Uint8Array> {
    const head = this.upload.head(POINTER_MAX);
    if (head?.length === 0) return Buffer.alloc(0);
    const known = head && this.pointerOf(head);
    if (known !== undefined) {
      this.upload.abort();
      this.#content.register();
      return known;
    }
    const { pointer, isSame } = this.store();
    // Before the pointer is given, and not sooner: this has made the store if there was none.
    this.#content.register();
    return this.#context.staged.answer(this.#path, pointer, isSame);
  }

  abort(): void {
    this.upload.abort();
  }
}

class XetClean extends Clean {
  protected override pointerOf(head: Uint8Array): Buffer | undefined {
    const pointer = sniffPointer(head);
    return pointer?.kind === 'xet' ? formatPointer(pointer.hash, pointer.size) : pointer && Buffer.from(head);
  }

  protected override store(): Stored {
    const { hash, size } = this.upload.finish();
    return {
      pointer: formatPointer(hash, size),
      isSame: (staged) => {
        const pointer = sniffPointer(staged);
        if (pointer === undefined || pointer.kind === 'lfs' || pointer.kind === 'xet') return false;
        return pointer.hash === hash && (pointer.size === undefined || pointer.size === size);
      },
    };
  }
}

/** For LFS pointers: the SHA-256 is computed of the same bytes, and the store finds the file by it. */
class LfsClean extends Clean {
  readonly #hash: Hash = createHash('sha256');
  #room: Room | undefined;

  override room(): Room {
    this.#room = super.room();
    return this.#room;
  }

  override advance(count: number): void {
    const { bytes, offset } = this.#room as Room;
    this.#hash.update(bytes.subarray(offset, offset + count));
    super.advance(count);
  }

  protected override pointerOf(head: Uint8Array): Buffer | undefined {
    return (parseLooseLfsPointer(head) ?? sniffPointer(head)) && Buffer.from(head);
  }

  protected override store(): Stored {
    const sha256 = this.#hash.digest('hex');
    const { size } = this.upload.finish({ sha256 });
    return {
      pointer: formatLfsPointer(sha256, size),
      // One that git-lfs reads and would write otherwise today.
      isSame: (staged) => {
        const pointer = parseLooseLfsPointer(staged);
        return pointer?.sha256 === sha256 && pointer.size === size && !pointer.hasExtensions;
      },
    };
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
