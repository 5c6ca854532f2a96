/** Requests on what is open, files and directories: `dispatch.ts` hands them on to here. */
import { EFBIG, EINVAL, ENXIO } from '../system/errno.ts';
import { NOT_SENT } from './content-pipe.ts';
import { type Frame, getUint64 } from './decode.ts';
import type { FileSystem } from './file-system.ts';
import { MAX_TRANSFER } from './init.ts';
import * as op from './opcodes.ts';
import { REPLY_HEADER, REQUEST_HEADER } from './protocol.ts';
import { empty, type Reply } from './reply.ts';

/** The reply has been written, by other means. */
export const REPLIED = -0x20000;

const BODY = REQUEST_HEADER;
/** What one call of the system moves at most. */
const COPY_MAX = 0x7ffff000;

/** See `ContentPipe`. */
export interface ContentSender {
  readonly leastBytes: number;
  readonly mostBytes: number;
  /** `header`: the reply's, complete but for its length. NOT_SENT: nothing happened. */
  send(header: Uint8Array, view: DataView, fd: number, offset: number, size: number): number;
}

/** Each method leaves the body in the reply and returns its length, `-errno`, DEFERRED or REPLIED. */
export class ContentRequests {
  readonly #fileSystem: FileSystem;
  readonly #out: Reply;
  readonly #content: ContentSender | undefined;

  constructor(fileSystem: FileSystem, out: Reply, content: ContentSender | undefined) {
    this.#fileSystem = fileSystem;
    this.#out = out;
    this.#content = content;
  }

  read(frame: Frame): number {
    const request = frame.view;
    const size = request.getUint32(BODY + 16, true);
    const offset = getUint64(request, BODY + 8);
    if (size > MAX_TRANSFER) return -EINVAL;
    // Nothing lies there, on any file system.
    if (offset > Number.MAX_SAFE_INTEGER) return 0;
    const handle = getUint64(request, BODY);
    const content = this.#content;
    if (content !== undefined && size >= content.leastBytes && size <= content.mostBytes) {
      const fd = this.#fileSystem.readDescriptor(handle);
      if (fd >= 0) {
        this.#out.putHeader(frame, REPLY_HEADER, 0);
        if (content.send(this.#out.bytes, this.#out.view, fd, offset, size) !== NOT_SENT) return REPLIED;
      }
    }
    return this.#fileSystem.read(handle, offset, size, this.#out.bytes, REPLY_HEADER);
  }

  write(frame: Frame): number {
    const request = frame.view;
    const size = request.getUint32(BODY + 16, true);
    const offset = getUint64(request, BODY + 8);
    const data = BODY + 40;
    if (size > frame.length - data) return -EINVAL;
    if (offset + size > Number.MAX_SAFE_INTEGER) return -EFBIG;
    const writeFlags = request.getUint32(BODY + 20, true);
    const handle = getUint64(request, BODY);
    return this.#out.countBody(this.#fileSystem.write(handle, offset, frame.bytes, data, size, writeFlags));
  }

  readdir(request: DataView, withEntries: boolean): number {
    const size = Math.min(request.getUint32(BODY + 16, true), MAX_TRANSFER);
    const directory = this.#out.directory;
    directory.begin(REPLY_HEADER, size, withEntries);
    const handle = getUint64(request, BODY);
    const code = this.#fileSystem.readdir(handle, getUint64(request, BODY + 8), withEntries, directory);
    // Entries that were taken count as looked up: they have to reach the kernel.
    return code < 0 && directory.length === 0 ? code : directory.length;
  }

  fallocate(request: DataView): number {
    const offset = getUint64(request, BODY + 8);
    const length = getUint64(request, BODY + 16);
    if (offset + length > Number.MAX_SAFE_INTEGER) return -EFBIG;
    const mode = request.getUint32(BODY + 24, true);
    return empty(this.#fileSystem.fallocate(getUint64(request, BODY), offset, length, mode));
  }

  lseek(request: DataView): number {
    const offset = getUint64(request, BODY + 8);
    if (offset > Number.MAX_SAFE_INTEGER) return -ENXIO;
    const whence = request.getUint32(BODY + 16, true);
    return this.#out.offsetBody(this.#fileSystem.lseek(getUint64(request, BODY), offset, whence));
  }

  copyFileRange(request: DataView, opcode: number): number {
    const fromOffset = getUint64(request, BODY + 8);
    const toOffset = getUint64(request, BODY + 32);
    const length = Math.min(getUint64(request, BODY + 40), COPY_MAX);
    if (Math.max(fromOffset, toOffset) + length > Number.MAX_SAFE_INTEGER) return -EFBIG;
    const copied = this.#fileSystem.copyFileRange(
      getUint64(request, BODY),
      fromOffset,
      getUint64(request, BODY + 24),
      toOffset,
      length,
    );
    return opcode === op.COPY_FILE_RANGE ? this.#out.countBody(copied) : this.#out.offsetBody(copied);
  }
}
