/** Requests that name entries of directories: `dispatch.ts` hands them on to here. */
import { EINVAL, ENAMETOOLONG } from '../system/errno.ts';
import { type Frame, getUint64, nameEnd, stringEnd } from './decode.ts';
import type { Caller, FileSystem } from './file-system.ts';
import * as op from './opcodes.ts';
import { OPEN_KILL_SUIDGID, PATH_MAX, REQUEST_HEADER } from './protocol.ts';
import { empty, type Reply } from './reply.ts';

const BODY = REQUEST_HEADER;
const KILL_SUIDGID = 1;

/** Each method leaves the body in the reply and returns its length, `-errno` or DEFERRED. */
export class NameRequests {
  readonly #fileSystem: FileSystem;
  readonly #out: Reply;
  readonly #caller: Caller;

  /** `caller` is that of the request at hand. */
  constructor(fileSystem: FileSystem, out: Reply, caller: Caller) {
    this.#fileSystem = fileSystem;
    this.#out = out;
    this.#caller = caller;
  }

  /** LOOKUP, UNLINK, RMDIR. */
  one(frame: Frame, opcode: number, parent: number): number {
    const end = nameEnd(frame, BODY);
    if (end < 0) return end;
    const name = frame.bytes.subarray(BODY, end - 1);
    if (opcode === op.LOOKUP) {
      return this.#out.entryBody(this.#fileSystem.lookup(parent, name, this.#caller, this.#out.entry));
    }
    if (opcode === op.UNLINK) return empty(this.#fileSystem.unlink(parent, name, this.#caller));
    return empty(this.#fileSystem.rmdir(parent, name, this.#caller));
  }

  /** SYMLINK, MKNOD, MKDIR, LINK: all answer with the new entry. */
  make(frame: Frame, opcode: number, parent: number): number {
    const { view: request, bytes } = frame;
    const fixed = opcode === op.MKNOD ? 16 : opcode === op.SYMLINK ? 0 : 8;
    const start = BODY + fixed;
    const end = nameEnd(frame, start);
    if (end < 0) return end;
    const name = bytes.subarray(start, end - 1);
    const caller = this.#caller;
    const entry = this.#out.entry;
    switch (opcode) {
      case op.MKNOD: {
        const mode = request.getUint32(BODY, true);
        const rdev = request.getUint32(BODY + 4, true);
        const umask = request.getUint32(BODY + 8, true);
        return this.#out.entryBody(this.#fileSystem.mknod(parent, name, mode, rdev, umask, caller, entry));
      }
      case op.MKDIR: {
        const mode = request.getUint32(BODY, true);
        const umask = request.getUint32(BODY + 4, true);
        return this.#out.entryBody(this.#fileSystem.mkdir(parent, name, mode, umask, caller, entry));
      }
      case op.LINK:
        return this.#out.entryBody(
          this.#fileSystem.link(getUint64(request, BODY), parent, name, caller, entry),
        );
      default: {
        const targetEnd = stringEnd(frame, end);
        if (targetEnd < 0 || targetEnd === end + 1) return -EINVAL;
        if (targetEnd - end > PATH_MAX) return -ENAMETOOLONG;
        const target = bytes.subarray(end, targetEnd - 1);
        return this.#out.entryBody(this.#fileSystem.symlink(parent, name, target, caller, entry));
      }
    }
  }

  /** `start`: where the first name is. */
  rename(frame: Frame, parent: number, start: number, flags: number): number {
    const newParent = getUint64(frame.view, BODY);
    const end = nameEnd(frame, start);
    if (end < 0) return end;
    const newEnd = nameEnd(frame, end);
    if (newEnd < 0) return newEnd;
    const name = frame.bytes.subarray(start, end - 1);
    const newName = frame.bytes.subarray(end, newEnd - 1);
    return empty(this.#fileSystem.rename(parent, name, newParent, newName, flags, this.#caller));
  }

  /** CREATE and TMPFILE. */
  create(frame: Frame, opcode: number, parent: number): number {
    const request = frame.view;
    const flags = openFlags(request, BODY, BODY + 12);
    const mode = request.getUint32(BODY + 4, true);
    const umask = request.getUint32(BODY + 8, true);
    const entry = this.#out.entry;
    let code: number;
    if (opcode === op.TMPFILE) {
      code = this.#fileSystem.tmpfile(parent, flags, mode, umask, this.#caller, entry, this.#out.open);
    } else {
      const end = nameEnd(frame, BODY + 16);
      if (end < 0) return end;
      const name = frame.bytes.subarray(BODY + 16, end - 1);
      code = this.#fileSystem.create(parent, name, flags, mode, umask, this.#caller, entry, this.#out.open);
    }
    return this.#out.createdBody(code);
  }
}

/** `at`: O_* flags, `moreAt`: the flags of the protocol. */
export function openFlags(request: DataView, at: number, moreAt: number): number {
  const flags = request.getUint32(at, true) & 0x3fffffff;
  return (request.getUint32(moreAt, true) & KILL_SUIDGID) !== 0 ? flags | OPEN_KILL_SUIDGID : flags;
}
