/**
 * The nodes that the kernel knows, and what has to be known of them.
 *
 * A node is one file or directory of the merged tree, whatever names it has and wherever its data lies.
 * The kernel counts its references (`lookups`); a node is dropped when there are none and nothing of ours
 * needs it. Its number is never given to another node, so there are no generations.
 *
 * A directory holds its known children by name. A file that has or had more names is also found by the
 * inode behind it, so that all hard links are one node. A copied-up file with siblings in the lower layer is found by both its inodes.
 */
import type { Job } from '../fuse/file-system.ts';
import { S_IFDIR } from '../system/statx.ts';
import type { FileHandle } from './handle-table.ts';
import type { Name } from './names.ts';
import type { Part } from './parts.ts';

export const ROOT = 1;

/** What identifies an inode of a layer: see `inode-numbers.ts`. */
export type InodeKey = number | bigint;

/** One of a node's names. */
export interface Link {
  parent: Node;
  name: Name;
  /** The upper has an entry for this very name. */
  inUpper: boolean;
}

/** Where a file is in a layer that is never written. */
export interface LowerFile {
  readonly part: Part;
  readonly name: Name;
}

/** What only directories have. */
export interface Directory {
  /** Topmost first; if the upper has a part of it, that is the first. */
  parts: Part[];
  readonly children: Map<Name, Node>;
  /** Changes whenever a child may be found elsewhere than before. */
  version: number;
  /** The upper part is marked: entries in it may keep the inode number of where they came from. */
  isImpure: boolean;
  /** Entries of the upper part show other numbers than their own, though that is not on record. */
  hasForeignNumbers: boolean;
  /** Where the lower parts are looked for, if not under the same name: a path from the root, or a name. */
  redirect: string | undefined;
  /** What new entries inherit, once asked for; `newEntryMode` is -1 before. */
  newEntryMode: number;
  newEntryGid: number;
  hasDefaultAcl: boolean;
}

/** What few nodes have: made when it is first needed, for there may be hundreds of thousands of nodes. */
class Rare {
  links: Link[] | undefined;
  data: LowerFile | undefined;
  isDataMissing = false;
  lowerKey: InodeKey | undefined;
  extraLinks = 0;
  job: Job | undefined;
  jobRequest = 0;
  cutRequest = -1;
  failure: { readonly request: number; readonly code: number } | undefined;
}

export class Node {
  readonly id: number;
  /** S_IF*. */
  readonly type: number;
  /** As stat(2) shows it, from the first look to the last. */
  ino: bigint;
  lookups = 0;
  /** The name it is reached by; for a file one that is in the upper, if it is there at all. */
  parent: Node | undefined;
  name: Name;
  /** The object itself is in the upper. For directories: the first part is the upper's. */
  inUpper: boolean;
  /** Of a file that is not in the upper. */
  lower: LowerFile | undefined;
  /** It has no name any more. */
  isOrphan = false;
  /** Keeps an orphan's inode, or the one that gave a directory its number: a descriptor, or -1. */
  anchor = -1;
  key: InodeKey | undefined;
  /** It had or may have names that are not known here. */
  hasSiblings = false;
  /** `ino` is not that of the inode in the upper: the origin is on record, or should be. */
  hasOrigin = false;
  /** The upper's directory that names it has not been synced since it was named. */
  isNameUnsynced = false;
  readonly directory: Directory | undefined;
  handles: FileHandle[] | undefined;
  /** Open handles of a directory. */
  openDirectories = 0;
  private rare: Rare | undefined;
  /** The id that all opens in passthrough mode share, while there are any. */
  backingId = 0;
  backingOpens = 0;
  wasPassthrough = false;

  constructor(id: number, type: number, ino: bigint, parent: Node | undefined, name: Name, parts?: Part[]) {
    this.id = id;
    this.type = type;
    this.ino = ino;
    this.parent = parent;
    this.name = name;
    this.inUpper = false;
    this.directory =
      type === S_IFDIR
        ? {
            parts: parts ?? [],
            children: new Map(),
            version: 0,
            isImpure: false,
            hasForeignNumbers: false,
            redirect: undefined,
            newEntryMode: -1,
            newEntryGid: 0,
            hasDefaultAcl: false,
          }
        : undefined;
  }

  private get more(): Rare {
    this.rare ??= new Rare();
    return this.rare;
  }

  /** Further names, of hard links. */
  get links(): Link[] | undefined {
    return this.rare?.links;
  }
  set links(links: Link[] | undefined) {
    if (links !== undefined || this.rare !== undefined) this.more.links = links;
  }

  /** Where a file's data is if the upper has only its metadata (`metacopy`), or another layer has. */
  get data(): LowerFile | undefined {
    return this.rare?.data;
  }
  set data(file: LowerFile | undefined) {
    if (file !== undefined || this.rare !== undefined) this.more.data = file;
  }

  /** There is metadata without data anywhere: damage, and EIO. */
  get isDataMissing(): boolean {
    return this.rare?.isDataMissing ?? false;
  }
  set isDataMissing(isMissing: boolean) {
    if (isMissing || this.rare !== undefined) this.more.isDataMissing = isMissing;
  }

  /** Of the lower inode that a copied-up hard link came from. */
  get lowerKey(): InodeKey | undefined {
    return this.rare?.lowerKey;
  }
  set lowerKey(key: InodeKey | undefined) {
    if (key !== undefined || this.rare !== undefined) this.more.lowerKey = key;
  }

  /** Names that the inode behind does not count (positive), or counts though they are gone. */
  get extraLinks(): number {
    return this.rare?.extraLinks ?? 0;
  }
  set extraLinks(count: number) {
    this.more.extraLinks = count;
  }

  /** Copy-up that is under way. */
  get job(): Job | undefined {
    return this.rare?.job;
  }
  set job(job: Job | undefined) {
    if (job !== undefined || this.rare !== undefined) this.more.job = job;
  }

  /** The request that began it. */
  get jobRequest(): number {
    return this.rare?.jobRequest ?? 0;
  }
  set jobRequest(request: number) {
    this.more.jobRequest = request;
  }

  /** The request for which it was copied up without its end, which is to be cut off. */
  get cutRequest(): number {
    return this.rare?.cutRequest ?? -1;
  }
  set cutRequest(request: number) {
    if (request >= 0 || this.rare !== undefined) this.more.cutRequest = request;
  }

  /** How it ended, for that request to tell. */
  get failure(): { readonly request: number; readonly code: number } | undefined {
    return this.rare?.failure;
  }
  set failure(failure: { readonly request: number; readonly code: number } | undefined) {
    if (failure !== undefined || this.rare !== undefined) this.more.failure = failure;
  }
}

export class InodeTable {
  readonly #nodes = new Map<number, Node>();
  readonly #byKey = new Map<InodeKey, Node>();
  readonly #onDrop: (node: Node) => void;
  #lastId = ROOT;

  /** `onDrop` closes what a node holds. */
  constructor(root: Node, onDrop: (node: Node) => void) {
    this.#nodes.set(ROOT, root);
    root.lookups = 1;
    this.#onDrop = onDrop;
  }

  get size(): number {
    return this.#nodes.size;
  }

  get(id: number): Node | undefined {
    return this.#nodes.get(id);
  }

  all(): IterableIterator<Node> {
    return this.#nodes.values();
  }

  /** Some node may be found by its inode. */
  get hasKeys(): boolean {
    return this.#byKey.size > 0;
  }

  byKey(key: InodeKey): Node | undefined {
    return this.#byKey.get(key);
  }

  /** A node with its first name. */
  add(type: number, ino: bigint, parent: Node, name: Name, parts?: Part[]): Node {
    const node = new Node(++this.#lastId, type, ino, parent, name, parts);
    this.#nodes.set(node.id, node);
    parent.directory!.children.set(name, node);
    return node;
  }

  /** A file of the upper that has no name yet. */
  addNameless(type: number, ino: bigint): Node {
    const node = new Node(++this.#lastId, type, ino, undefined, '');
    node.isOrphan = true;
    node.inUpper = true;
    this.#nodes.set(node.id, node);
    return node;
  }

  setKey(node: Node, key: InodeKey): void {
    if (node.key !== undefined && this.#byKey.get(node.key) === node) this.#byKey.delete(node.key);
    node.key = key;
    this.#byKey.set(key, node);
  }

  /** The key so far is that of a lower inode with more names: the node stays to be found by it. */
  keepLowerKey(node: Node): void {
    node.lowerKey = node.key;
    node.key = undefined;
  }

  /** One more name. The first of a node without any becomes the one it is reached by. */
  addLink(node: Node, parent: Node, name: Name, inUpper: boolean): void {
    parent.directory!.children.set(name, node);
    if (node.parent === undefined) {
      node.parent = parent;
      node.name = name;
      node.isOrphan = false;
      return;
    }
    if (node.parent === parent && node.name === name) return;
    const known = findLink(node, parent, name);
    if (known !== undefined) known.inUpper = inUpper;
    else if (node.links !== undefined) node.links.push({ parent, name, inUpper });
    else node.links = [{ parent, name, inUpper }];
  }

  /**
   * Takes a name away. True if it was the last one that is known: then the node is an orphan, and no
   * longer found by its inode, whose number may be used anew, unless there can be further names. Names
   * that the upper has no entry for do not keep a file of the upper.
   */
  removeLink(node: Node, parent: Node, name: Name): boolean {
    dropChild(parent, name, node);
    if (node.parent !== parent || node.name !== name) {
      node.links = node.links?.filter((link) => link.parent !== parent || link.name !== name);
      return false;
    }
    const links = node.links ?? [];
    const next = links.find((link) => link.inUpper || !node.inUpper);
    if (next !== undefined) {
      node.parent = next.parent;
      node.name = next.name;
      node.links = links.filter((link) => link !== next);
      return false;
    }
    for (const link of links) dropChild(link.parent, link.name, node);
    node.links = undefined;
    node.parent = undefined;
    node.isOrphan = true;
    if (!node.hasSiblings) this.#dropKeys(node);
    return true;
  }

  /** Makes one of the names of a lower file the one it is reached by. */
  makeFirst(node: Node, parent: Node, name: Name): void {
    const link = findLink(node, parent, name);
    if (link === undefined || node.parent === undefined) return;
    link.parent = node.parent;
    link.name = node.name;
    node.parent = parent;
    node.name = name;
  }

  /** The node is called otherwise now. Nothing may be known under the new name. */
  move(node: Node, parent: Node, name: Name, newParent: Node, newName: Name): void {
    parent.directory!.children.delete(name);
    newParent.directory!.children.set(newName, node);
    if (node.parent === parent && node.name === name) {
      node.parent = newParent;
      node.name = newName;
      return;
    }
    const link = findLink(node, parent, name);
    if (link === undefined) return;
    link.parent = newParent;
    link.name = newName;
    link.inUpper = true;
  }

  forget(id: number, lookups: number): void {
    const node = this.#nodes.get(id);
    if (node === undefined) return;
    node.lookups = Math.max(0, node.lookups - lookups);
    if (node.lookups === 0) this.dropIfUnused(node);
  }

  /**
   * Drops the node, unless the kernel, an open file, work under way or a child needs it. A copied-up hard
   * link stays as long as it has a name: its siblings in the lower layer would part from it.
   */
  dropIfUnused(node: Node): void {
    for (let at: Node | undefined = node; at !== undefined; ) {
      if (at.lookups > 0 || at.id === ROOT || at.job !== undefined) return;
      if (at.handles !== undefined && at.handles.length > 0) return;
      if (at.openDirectories > 0) return;
      if (at.directory !== undefined && at.directory.children.size > 0) return;
      if (at.lowerKey !== undefined && !at.isOrphan) return;
      if (!this.#nodes.delete(at.id)) return;
      this.#dropKeys(at);
      const parent: Node | undefined = at.parent;
      if (parent !== undefined) dropChild(parent, at.name, at);
      for (const link of at.links ?? []) {
        dropChild(link.parent, link.name, at);
        if (link.parent !== parent) this.dropIfUnused(link.parent);
      }
      this.#onDrop(at);
      at = parent;
    }
  }

  #dropKeys(node: Node): void {
    for (const key of [node.key, node.lowerKey]) {
      if (key !== undefined && this.#byKey.get(key) === node) this.#byKey.delete(key);
    }
    node.key = undefined;
    node.lowerKey = undefined;
  }
}

export function findLink(node: Node, parent: Node, name: Name): Link | undefined {
  if (node.links === undefined) return undefined;
  for (const link of node.links) if (link.parent === parent && link.name === name) return link;
  return undefined;
}

function dropChild(parent: Node, name: Name, node: Node): void {
  const { children } = parent.directory!;
  if (children.get(name) === node) children.delete(name);
}
