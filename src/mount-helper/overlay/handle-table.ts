/** Open files and directories, by the small numbers that the kernel gives back to us. */

import type { Node } from './inode-table.ts';
import type { LayerFile } from './layer.ts';
import type { Listing } from './readdir.ts';

/** An open file. */
export class FileHandle {
  readonly node: Node;
  /** O_ACCMODE and O_SYNC bits of the descriptor. */
  readonly flags: number;
  /** The descriptor with the content, or -1: then `file` reads it. */
  fd: number;
  /** The file of a lower layer; undefined when `fd` is one of the upper. */
  file: LayerFile | undefined;
  /** The kernel reads and writes by itself. */
  readonly isPassthrough: boolean;

  constructor(node: Node, flags: number, fd: number, file: LayerFile | undefined, isPassthrough: boolean) {
    this.node = node;
    this.flags = flags;
    this.fd = fd;
    this.file = file;
    this.isPassthrough = isPassthrough;
  }
}

/** An open directory. */
export class DirectoryHandle {
  readonly node: Node;
  /** Made when reading begins, and again when it begins anew. */
  listing: Listing | undefined;

  constructor(node: Node) {
    this.node = node;
  }
}

export class HandleTable {
  readonly #handles: (FileHandle | DirectoryHandle | undefined)[] = [undefined];
  readonly #free: number[] = [];
  readonly #count: Int32Array;

  /** `count`, one number: how many are open, for another thread to look at. */
  constructor(count: Int32Array = new Int32Array(1)) {
    this.#count = count;
  }

  add(handle: FileHandle | DirectoryHandle): number {
    Atomics.add(this.#count, 0, 1);
    const id = this.#free.pop() ?? this.#handles.length;
    this.#handles[id] = handle;
    return id;
  }

  file(id: number): FileHandle | undefined {
    const handle = this.#handles[id];
    return handle instanceof FileHandle ? handle : undefined;
  }

  directory(id: number): DirectoryHandle | undefined {
    const handle = this.#handles[id];
    return handle instanceof DirectoryHandle ? handle : undefined;
  }

  remove(id: number): void {
    if (this.#handles[id] === undefined) return;
    this.#handles[id] = undefined;
    Atomics.sub(this.#count, 0, 1);
    this.#free.push(id);
  }

  *files(): IterableIterator<FileHandle> {
    for (const handle of this.#handles) if (handle instanceof FileHandle) yield handle;
  }
}
