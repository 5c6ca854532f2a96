/**
 * The first requests of a mount would be answered by code that was never run, ten times slower than after
 * some thousands of them. So the server answers requests of its own making in the moments between its
 * saying that the mount is ready and the first request: an overlay of its own, whose one layer is the
 * directory of this program, is listed and looked at. It reads names and attributes there, and nothing
 * else; no layer of the mount is touched.
 */
import { createFrame, getUint64 } from './decode.ts';
import { Dispatcher } from './dispatch.ts';
import { ENTRY_SIZE } from './encode.ts';
import type { FileSystem } from './file-system.ts';
import type { Leisure } from './loop.ts';
import * as op from './opcodes.ts';
import { REPLY_HEADER, REQUEST_HEADER, ROOT_NODE } from './protocol.ts';

const BODY = REQUEST_HEADER;
const LISTING_BYTES = 32768;
const DIRENT_NAME = 24;
/** What is worth optimising is by then. */
const ENOUGH_MS = 80;

export class WarmUp implements Leisure {
  readonly #fileSystem: FileSystem;
  readonly #dispatcher: Dispatcher;
  readonly #frame = createFrame(BODY + 512);
  readonly #names: Uint8Array[] = [];
  #begin = 0;

  /** Takes the file system over. */
  constructor(fileSystem: FileSystem) {
    this.#fileSystem = fileSystem;
    this.#dispatcher = new Dispatcher(fileSystem, {
      wishes: { posixAcl: false, passthrough: false },
      onInit() {},
      onInterrupt() {},
      onFault() {},
    });
  }

  /** Some requests, of a millisecond at most. */
  step(): boolean {
    if (this.#begin === 0) this.#begin = performance.now();
    this.#list();
    for (const name of this.#names) this.#lookUp(name);
    return performance.now() - this.#begin < ENOUGH_MS;
  }

  end(): void {
    this.#fileSystem.destroy();
  }

  #list(): void {
    const { view } = this.#frame;
    view.setUint32(BODY, 0, true);
    if (this.#ask(op.OPENDIR, ROOT_NODE, 8) < 0) return;
    const handle = getUint64(this.#reply, REPLY_HEADER);
    this.#putHandle(handle);
    view.setUint32(BODY + 8, 0, true);
    view.setUint32(BODY + 12, 0, true);
    view.setUint32(BODY + 16, LISTING_BYTES, true);
    this.#takeEntries(this.#ask(op.READDIRPLUS, ROOT_NODE, 40));
    this.#putHandle(handle);
    this.#ask(op.RELEASEDIR, ROOT_NODE, 24);
  }

  /** Learns the names, the first time, and forgets the nodes, so that they are made anew. */
  #takeEntries(length: number): void {
    const reply = this.#reply;
    const isFirst = this.#names.length === 0;
    const nodes: number[] = [];
    for (let at = REPLY_HEADER; at < length; ) {
      const node = reply.getUint32(at, true);
      const nameLength = reply.getUint32(at + ENTRY_SIZE + 16, true);
      const name = at + ENTRY_SIZE + DIRENT_NAME;
      if (node !== 0) nodes.push(node);
      if (node !== 0 && isFirst) this.#names.push(this.#dispatcher.reply.slice(name, name + nameLength));
      at = name + ((nameLength + 7) & ~7);
    }
    for (const node of nodes) this.#forget(node);
  }

  #lookUp(name: Uint8Array): void {
    this.#frame.bytes.set(name, BODY);
    this.#frame.bytes[BODY + name.length] = 0;
    if (this.#ask(op.LOOKUP, ROOT_NODE, name.length + 1) < 0) return;
    const node = this.#reply.getUint32(REPLY_HEADER, true);
    this.#putHandle(0);
    this.#ask(op.GETATTR, node, 16);
    this.#forget(node);
  }

  #forget(node: number): void {
    this.#frame.view.setUint32(BODY, 1, true);
    this.#frame.view.setUint32(BODY + 4, 0, true);
    this.#ask(op.FORGET, node, 8);
  }

  #putHandle(handle: number): void {
    this.#frame.view.setUint32(BODY, handle >>> 0, true);
    this.#frame.view.setUint32(BODY + 4, Math.floor(handle / 0x100000000), true);
  }

  /** Length of the reply, or -1 for none and for errors. */
  #ask(opcode: number, node: number, bodyLength: number): number {
    const { view } = this.#frame;
    this.#frame.length = BODY + bodyLength;
    view.setUint32(0, BODY + bodyLength, true);
    view.setUint32(4, opcode, true);
    view.setUint32(16, node, true);
    const length = this.#dispatcher.dispatch(this.#frame);
    return length > 0 && this.#reply.getInt32(4, true) === 0 ? length : -1;
  }

  get #reply(): DataView {
    return this.#dispatcher.replyView;
  }
}
