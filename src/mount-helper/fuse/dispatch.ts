/**
 * One request in, one reply out: reads the frame, calls the file system, writes the answer. Works on
 * buffers alone; the device is `loop.ts`'s business.
 */
import { EFBIG, EINVAL, EIO, ENOSYS, ENOTTY } from '../system/errno.ts';
import {
  decodeAttributesChange,
  type Frame,
  getUint64,
  hasFixedPart,
  isWhole,
  opcodeOf,
  stringEnd,
} from './decode.ts';
import { ContentRequests, type ContentSender, REPLIED } from './dispatch-content.ts';
import { NameRequests, openFlags } from './dispatch-names.ts';
import { type AttributesChange, type Caller, DEFERRED, type FileSystem } from './file-system.ts';
import { answerInit, INIT_REPLY_SIZE, type InitWishes, MAX_TRANSFER, type Session } from './init.ts';
import * as op from './opcodes.ts';
import { FATTR_SIZE, PATH_MAX, REPLY_HEADER, REQUEST_HEADER } from './protocol.ts';
import { empty, Reply } from './reply.ts';

/** No reply is to be written. DEFERRED (negative) is the other special result of `dispatch`. */
export const NO_REPLY = 0;

const BODY = REQUEST_HEADER;
/** What the kernel allows as one value, and as a list of names. */
const XATTR_SIZE_MAX = 65536;
const SETXATTR_EXTENDED = 16;
const SETXATTR_PLAIN = 8;
const NOTHING = new Uint8Array(0);

/** What the dispatcher tells of, and asks of, its surroundings. */
export interface DispatchHooks {
  readonly wishes: InitWishes;
  /** Sends what large READs ask for past this process; undefined: they are read and written like all others. */
  readonly content?: ContentSender;
  /** INIT succeeded: the mount answers from now on. */
  onInit(session: Session): void;
  /** The request `unique` was interrupted by its caller. */
  onInterrupt(unique: number): void;
  /** A method threw or answered what makes no sense; the caller gets EIO. */
  onFault(opcode: number, error: unknown): void;
}

/** Room for every request: the largest WRITE behind its header; the kernel insists on a page for it. */
export const REQUEST_BUFFER_SIZE = MAX_TRANSFER + 4096;

export class Dispatcher {
  readonly #fileSystem: FileSystem;
  readonly #hooks: DispatchHooks;
  readonly #out = new Reply();
  readonly #caller: Caller = { uid: 0, gid: 0, pid: 0 };
  readonly #change: AttributesChange = {
    valid: 0,
    handle: -1,
    size: 0,
    atime: 0,
    atimeNs: 0,
    mtime: 0,
    mtimeNs: 0,
    mode: 0,
    uid: 0,
    gid: 0,
  };
  readonly #names: NameRequests;
  readonly #contents: ContentRequests;
  #session: Session | undefined;

  constructor(fileSystem: FileSystem, hooks: DispatchHooks) {
    this.#fileSystem = fileSystem;
    this.#hooks = hooks;
    this.#names = new NameRequests(fileSystem, this.#out, this.#caller);
    this.#contents = new ContentRequests(fileSystem, this.#out, hooks.content);
  }

  /** `dispatch` leaves the reply in its first bytes. */
  get reply(): Uint8Array {
    return this.#out.bytes;
  }

  /** The same bytes. */
  get replyView(): DataView {
    return this.#out.view;
  }

  /**
   * Handles one request. Returns the length of the reply, NO_REPLY, or DEFERRED: then the same frame is to
   * be given again later. Never throws.
   */
  dispatch(frame: Frame): number {
    // Without a header there is nobody to answer.
    if (frame.length < REQUEST_HEADER) return NO_REPLY;
    const opcode = opcodeOf(frame);
    let code: number;
    try {
      code = isWhole(frame) ? this.#answer(frame, opcode) : -EIO;
    } catch (error) {
      this.#hooks.onFault(opcode, error);
      code = -EIO;
    }
    if (code === DEFERRED) return DEFERRED;
    if (code === REPLIED) return NO_REPLY;
    if (op.hasNoReply(opcode)) return NO_REPLY;
    if (!this.#out.isSensible(code)) {
      this.#hooks.onFault(opcode, new RangeError(`an answer of ${code}`));
      code = -EIO;
    }
    return this.#out.finish(frame, code);
  }

  /** A reply that only says `-errno`, for a request that is not dispatched. Returns its length. */
  refuse(frame: Frame, code: number): number {
    return this.#out.finish(frame, code);
  }

  /** Leaves the body in the reply; returns its length, `-errno` or DEFERRED. */
  #answer(frame: Frame, opcode: number): number {
    if (!hasFixedPart(frame, opcode)) return -EINVAL;
    const request = frame.view;
    const node = getUint64(request, 16);
    const caller = this.#caller;
    caller.uid = request.getUint32(24, true);
    caller.gid = request.getUint32(28, true);
    caller.pid = request.getUint32(32, true);

    switch (opcode) {
      case op.LOOKUP:
      case op.UNLINK:
      case op.RMDIR:
        return this.#names.one(frame, opcode, node);
      case op.FORGET:
        this.#fileSystem.forget(node, getUint64(request, BODY));
        return 0;
      case op.BATCH_FORGET:
        return this.#batchForget(frame);
      case op.GETATTR: {
        const handle = (request.getUint32(BODY, true) & 1) !== 0 ? getUint64(request, BODY + 8) : -1;
        return this.#out.attributesBody(this.#fileSystem.getattr(node, handle, this.#out.attributes));
      }
      case op.SETATTR:
        return this.#setattr(request, node);
      case op.READLINK:
        return this.#fileSystem.readlink(
          node,
          this.#out.bytes.subarray(REPLY_HEADER, REPLY_HEADER + PATH_MAX),
        );
      case op.SYMLINK:
      case op.MKNOD:
      case op.MKDIR:
      case op.LINK:
        return this.#names.make(frame, opcode, node);
      case op.RENAME:
        return this.#names.rename(frame, node, BODY + 8, 0);
      case op.RENAME2:
        return this.#names.rename(frame, node, BODY + 16, request.getUint32(BODY + 8, true));
      case op.OPEN: {
        const flags = openFlags(request, BODY, BODY + 4);
        return this.#out.openBody(this.#fileSystem.open(node, flags, caller, this.#out.open));
      }
      case op.OPENDIR:
        return this.#out.openBody(this.#fileSystem.opendir(node, caller, this.#out.open));
      case op.CREATE:
      case op.TMPFILE:
        return this.#names.create(frame, opcode, node);
      case op.READ:
        return this.#contents.read(frame);
      case op.WRITE:
        return this.#contents.write(frame);
      case op.READDIR:
        return this.#contents.readdir(request, false);
      case op.READDIRPLUS:
        return this.#contents.readdir(request, true);
      case op.STATFS:
        return this.#out.statisticsBody(this.#fileSystem.statfs(this.#out.statistics));
      case op.RELEASE:
        this.#fileSystem.release(getUint64(request, BODY));
        return 0;
      case op.RELEASEDIR:
        this.#fileSystem.releasedir(getUint64(request, BODY));
        return 0;
      case op.FLUSH:
        return empty(this.#fileSystem.flush(getUint64(request, BODY)));
      case op.FSYNC:
        return empty(this.#fileSystem.fsync(getUint64(request, BODY), isDataOnly(request)));
      case op.FSYNCDIR:
        return empty(this.#fileSystem.fsyncdir(getUint64(request, BODY), isDataOnly(request)));
      case op.SETXATTR:
        return this.#setxattr(frame, node);
      case op.GETXATTR:
      case op.LISTXATTR:
        return this.#getxattr(frame, opcode, node);
      case op.REMOVEXATTR: {
        const end = stringEnd(frame, BODY);
        if (end < 0) return -EINVAL;
        return empty(this.#fileSystem.removexattr(node, frame.bytes.subarray(BODY, end - 1), caller));
      }
      case op.FALLOCATE:
        return this.#contents.fallocate(request);
      case op.LSEEK:
        return this.#contents.lseek(request);
      case op.COPY_FILE_RANGE:
      case op.COPY_FILE_RANGE_64:
        return this.#contents.copyFileRange(request, opcode);
      case op.INIT:
        return this.#init(frame);
      case op.INTERRUPT:
        this.#hooks.onInterrupt(getUint64(request, BODY));
        return 0;
      case op.DESTROY:
        this.#fileSystem.destroy();
        return 0;
      case op.NOTIFY_REPLY:
        return 0;
      case op.IOCTL:
        return -ENOTTY;
      default:
        // The kernel remembers, and does not ask again.
        return -ENOSYS;
    }
  }

  #init(frame: Frame): number {
    const session = answerInit(frame, this.#out.view, this.#hooks.wishes);
    if (typeof session === 'number') return session;
    this.#session = session;
    this.#hooks.onInit(session);
    return INIT_REPLY_SIZE;
  }

  #batchForget(frame: Frame): number {
    const view = frame.view;
    const first = BODY + 8;
    const count = Math.min(view.getUint32(BODY, true), Math.floor((frame.length - first) / 16));
    for (let i = 0, at = first; i < count; i++, at += 16) {
      this.#fileSystem.forget(getUint64(view, at), getUint64(view, at + 8));
    }
    return 0;
  }

  #setattr(request: DataView, node: number): number {
    const change = this.#change;
    decodeAttributesChange(request, change);
    if ((change.valid & FATTR_SIZE) !== 0 && !Number.isSafeInteger(change.size)) return -EFBIG;
    return this.#out.attributesBody(
      this.#fileSystem.setattr(node, change, this.#caller, this.#out.attributes),
    );
  }

  #setxattr(frame: Frame, node: number): number {
    const request = frame.view;
    const isExtended = this.#session?.hasSetxattrExtension ?? true;
    const start = BODY + (isExtended ? SETXATTR_EXTENDED : SETXATTR_PLAIN);
    const end = stringEnd(frame, start);
    const size = request.getUint32(BODY, true);
    if (end < 0 || size > frame.length - end) return -EINVAL;
    const name = frame.bytes.subarray(start, end - 1);
    const value = frame.bytes.subarray(end, end + size);
    const flags = request.getUint32(BODY + 4, true);
    const more = isExtended ? request.getUint32(BODY + 8, true) : 0;
    return empty(this.#fileSystem.setxattr(node, name, value, flags, more, this.#caller));
  }

  #getxattr(frame: Frame, opcode: number, node: number): number {
    const size = Math.min(frame.view.getUint32(BODY, true), XATTR_SIZE_MAX);
    const out = size === 0 ? NOTHING : this.#out.bytes.subarray(REPLY_HEADER, REPLY_HEADER + size);
    let code: number;
    if (opcode === op.LISTXATTR) {
      code = this.#fileSystem.listxattr(node, out, this.#caller);
    } else {
      const end = stringEnd(frame, BODY + 8);
      if (end < 0) return -EINVAL;
      code = this.#fileSystem.getxattr(node, frame.bytes.subarray(BODY + 8, end - 1), out);
    }
    return size === 0 ? this.#out.countBody(code) : code;
  }
}

function isDataOnly(request: DataView): boolean {
  return (request.getUint32(BODY + 8, true) & 1) !== 0;
}
