/** What a layer holds before it is mounted, told as paths and what is there. */
import { bytes } from './driver.ts';

export interface Metadata {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly xattrs?: Readonly<Record<string, string>>;
  /** Nanoseconds; the layer's old time unless given. */
  readonly times?: readonly [atime: string, mtime: string];
}

export type LayerNode = Metadata &
  (
    | { readonly type: 'directory' }
    | {
        readonly type: 'file';
        /** Pieces and where they begin; what is between them are holes. */
        readonly data: readonly (readonly [offset: number, content: string])[];
        readonly size?: number;
      }
    | { readonly type: 'symlink'; readonly target: string }
    /** Another name of a file of the same layer that stands before it. */
    | { readonly type: 'link'; readonly target: string }
    | { readonly type: 'fifo' | 'socket' }
    | { readonly type: 'char' | 'block'; readonly device: readonly [major: number, minor: number] }
  );

/** Paths without a slash in front; a string is a file with that content. Directories above come by themselves. */
export type LayerSpec = Readonly<Record<string, LayerNode | string>>;

export function file(content: string | Uint8Array, metadata: Metadata = {}): LayerNode {
  return { type: 'file', data: [[0, bytes(content)]], ...metadata };
}

export function sparseFile(
  size: number,
  data: readonly (readonly [number, string])[],
  metadata: Metadata = {},
): LayerNode {
  return { type: 'file', size, data, ...metadata };
}

export function directory(metadata: Metadata = {}): LayerNode {
  return { type: 'directory', ...metadata };
}

export function symlink(target: string, metadata: Metadata = {}): LayerNode {
  return { type: 'symlink', target: bytes(target), ...metadata };
}

export function hardLink(target: string): LayerNode {
  return { type: 'link', target };
}

export function fifo(metadata: Metadata = {}): LayerNode {
  return { type: 'fifo', ...metadata };
}

export function device(type: 'char' | 'block', major: number, minor: number): LayerNode {
  return { type, device: [major, minor] };
}

/** The form that the kernel writes and reads. */
export function whiteout(): LayerNode {
  return device('char', 0, 0);
}

/** A directory that hides those of its name below. */
export function opaque(namespace: string, metadata: Metadata = {}): LayerNode {
  return directory({ ...metadata, xattrs: { ...metadata.xattrs, [`${namespace}.opaque`]: 'y' } });
}

/**
 * Times of everything in a layer: 2001, with nanoseconds. The access time is older than the modification,
 * so that `relatime` would renew it with the first read.
 */
export const OLD_ATIME = '978307200123456789';
export const OLD_MTIME = '981173106987654321';

/** As the driver's `build` takes it, below `prefix`. */
export function entriesOf(spec: LayerSpec, prefix = ''): object[] {
  return Object.entries(spec).map(([path, node]) => {
    const entry = typeof node === 'string' ? file(node) : node;
    const target = entry.type === 'link' ? { target: bytes(prefix + entry.target) } : {};
    return { ...entry, ...target, path: bytes(prefix + path) };
  });
}

export function timesOf(spec: LayerSpec, prefix = ''): Record<string, readonly [string, string]> {
  const times: Record<string, readonly [string, string]> = {};
  for (const [path, node] of Object.entries(spec)) {
    if (typeof node !== 'string' && node.times) times[bytes(prefix + path)] = node.times;
  }
  return times;
}

/** `struct posix_acl_xattr`: version 2, then tag, permissions and id of each entry. */
export function acl(...entries: readonly (readonly [tag: number, perm: number, id?: number])[]): string {
  const buffer = Buffer.alloc(4 + 8 * entries.length);
  buffer.writeUInt32LE(2);
  for (const [i, [tag, perm, id = 0xffffffff]] of entries.entries()) {
    buffer.writeUInt16LE(tag, 4 + 8 * i);
    buffer.writeUInt16LE(perm, 6 + 8 * i);
    buffer.writeUInt32LE(id, 8 + 8 * i);
  }
  return buffer.toString('latin1');
}
