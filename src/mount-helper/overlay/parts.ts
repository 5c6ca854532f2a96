/**
 * The directories of layers that nodes are made of, open as long as there is room.
 *
 * A part knows its layer, the part above it and its name there, so it can be opened again at any time by
 * one-component steps. Only a limited number of them is open at once: the longest unused is closed. Parts
 * of the upper move when their directory is renamed; those of lower layers never do.
 */
import { ENOENT, ENOTDIR } from '../system/errno.ts';
import type { DiskDirectory } from './disk-layer.ts';
import type { Layer, LayerDirectory } from './layer.ts';
import { cStringOf, type Name } from './names.ts';

export class Part {
  /** Number of the layer, topmost 0. */
  readonly layer: number;
  /** Undefined for the root of the layer. */
  parent: Part | undefined;
  name: Name;
  /** `.wh.` names in it hide what is below. */
  readonly readsNames: boolean;
  /** Empty files with the `whiteout` attribute in it hide what is below. */
  readsAttributes = false;
  /** Open now. */
  directory: LayerDirectory | undefined;
  /** It is not closed to make room: no name leads to it any more. */
  isPinned = false;
  lastUse = 0;
  slot = -1;

  constructor(layer: number, parent: Part | undefined, name: Name, readsNames: boolean) {
    this.layer = layer;
    this.parent = parent;
    this.name = name;
    this.readsNames = readsNames;
  }
}

export class Parts {
  readonly layers: readonly Layer[];
  /** One for each layer. */
  readonly roots: readonly Part[];
  readonly #open: (Part | undefined)[];
  #hand = 0;
  #time = 0;

  /** `capacity`: how many may be open, at least 64. Those of the last requests always stay. */
  constructor(layers: readonly Layer[], capacity: number) {
    this.layers = layers;
    this.roots = layers.map((layer, index) => new Part(index, undefined, '', layer.readsWhiteoutNames));
    this.#open = new Array(Math.max(64, capacity)).fill(undefined);
  }

  child(parent: Part, name: Name): Part {
    return new Part(parent.layer, parent, name, parent.readsNames);
  }

  /** The directory, or `-errno`. It is valid for the request at hand. */
  open(part: Part): LayerDirectory | number {
    part.lastUse = ++this.#time;
    if (part.directory !== undefined) return part.directory;
    let opened: LayerDirectory | number;
    if (part.parent === undefined) {
      opened = this.layers[part.layer]!.openRoot();
    } else {
      const above = this.open(part.parent);
      if (typeof above === 'number') return above;
      opened = above.openDirectory(cStringOf(part.name));
      // A directory in our books that is something else by now was changed behind our back.
      if (opened === -ENOTDIR) return -ENOENT;
    }
    if (typeof opened !== 'number') this.#keep(part, opened);
    return opened;
  }

  /** The descriptor (O_PATH) of a part of the upper, or `-errno`. */
  fd(part: Part): number {
    const directory = this.open(part);
    return typeof directory === 'number' ? directory : (directory as DiskDirectory).fd;
  }

  /** Closes it; it may be opened again. */
  close(part: Part): void {
    if (part.slot >= 0) this.#open[part.slot] = undefined;
    part.slot = -1;
    part.directory?.release();
    part.directory = undefined;
  }

  /** Keeps it open until `close`. It is about to lose its name. */
  pin(part: Part): number {
    const opened = this.open(part);
    if (typeof opened === 'number') return opened;
    if (part.slot >= 0) this.#open[part.slot] = undefined;
    part.slot = -1;
    part.isPinned = true;
    return 0;
  }

  closeAll(): void {
    for (const part of this.#open) if (part !== undefined) this.close(part);
  }

  #keep(part: Part, directory: LayerDirectory): void {
    part.directory = directory;
    if (part.isPinned) return;
    const slots = this.#open;
    const size = slots.length;
    // What was used in the last `size / 2` openings stays; in a full ring some other is always older.
    const old = this.#time - (size >> 1);
    for (let step = 0; step <= size; step++) {
      const at = this.#hand;
      this.#hand = at + 1 === size ? 0 : at + 1;
      const held = slots[at];
      if (held !== undefined) {
        if (held.lastUse > old) continue;
        this.close(held);
      }
      slots[at] = part;
      part.slot = at;
      return;
    }
  }
}
