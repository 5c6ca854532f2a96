/**
 * Files that Git LFS left as pointers in history. Their contents are in `<common git dir>/lfs/objects` when git-lfs
 * has fetched them, and among the chunks of the store when we have; each is checked against its SHA-256 before
 * anybody gets it.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { guardMethods } from '../../arguments.ts';
import { checkRevision } from '../../git/ref-name.ts';
import { errnoOf, Git2dbError, messageOf } from '../../xet/errors.ts';
import { formatLfsPointer, type LfsPointer, parseLfsPointer } from '../../xet/pointer/lfs-pointer.ts';
import type { GitPlace } from '../git-place.ts';

export interface LfsFile {
  /** From the top of the repository. */
  readonly path: Buffer;
  readonly oid: string;
  readonly sha256: string;
  readonly size: number;
}

/** A text of this many bytes is no LFS pointer. */
const POINTER_END = 1024;

export class LfsFacet {
  readonly #place: GitPlace;

  constructor(place: GitPlace) {
    this.#place = place;
  }

  /** Undefined for content that is no pointer; `bytes` is the whole of it. */
  parse(bytes: Uint8Array): LfsPointer | undefined {
    return bytes.length >= POINTER_END ? undefined : parseLfsPointer(Buffer.from(bytes).toString('latin1'));
  }

  /** Throws INVALID_POINTER. */
  format(sha256: string, size: number): Buffer {
    return formatLfsPointer(sha256, size);
  }

  /** Files that are LFS pointers in a commit or tree, in git's order. Throws REF_INVALID. */
  async lsFiles(options: { readonly ref?: string; readonly signal?: AbortSignal } = {}): Promise<LfsFile[]> {
    const { ref = 'HEAD', signal } = options;
    checkRevision(ref);
    const entries = await this.#place.linesZ(
      ['ls-tree', '-r', '-z', '-l', '--full-tree', '--end-of-options', ref],
      { signal },
    );
    const small: { path: Buffer; oid: string }[] = [];
    for (const entry of entries) {
      const tab = entry.indexOf(0x09);
      const [mode, type, oid, size] = entry.subarray(0, tab).toString('latin1').split(/ +/);
      // A symbolic link's target is no pointer, whatever it looks like.
      if (type !== 'blob' || mode === '120000' || Number(size) >= POINTER_END) continue;
      small.push({ path: entry.subarray(tab + 1), oid: oid! });
    }
    const pointers = new Map<string, LfsPointer>();
    const oids = new Set(small.map(({ oid }) => oid));
    for await (const { name, object } of this.#place.objects.readMany(oids)) {
      const pointer = object === undefined ? undefined : this.parse(object.body);
      if (pointer !== undefined) pointers.set(name, pointer);
    }
    return small.flatMap(({ path, oid }) => {
      const pointer = pointers.get(oid);
      return pointer === undefined ? [] : [{ path, oid, sha256: pointer.sha256, size: pointer.size }];
    });
  }

  /**
   * The content that the pointer `bytes` names, from what git-lfs has fetched, here or for a repository that this one
   * borrows from, or from chunks, also those of remotes on this machine. Throws INVALID_POINTER, CONTENT_MISSING or
   * CONTENT_DAMAGED: nobody gets a pointer's text for content.
   */
  async load(bytes: Uint8Array, options: { readonly signal?: AbortSignal } = {}): Promise<Buffer> {
    const pointer = this.parse(bytes);
    if (pointer === undefined) {
      throw new Git2dbError(
        'INVALID_POINTER',
        'expected a Git LFS pointer, found something else: give the whole of a file that was not smudged',
      );
    }
    if (pointer.size === 0) return Buffer.alloc(0);
    try {
      return await this.#loadObject(pointer, options);
    } catch (error) {
      const code = error instanceof Git2dbError ? error.code : undefined;
      if (code !== 'CONTENT_MISSING' && code !== 'CONTENT_DAMAGED') throw error;
      const found = await this.#loadChunks(pointer, options);
      if (found === undefined) throw error;
      return found;
    }
  }

  /** Undefined where the store has nothing of this SHA-256. */
  async #loadChunks(
    { sha256, size }: LfsPointer,
    { signal }: { readonly signal?: AbortSignal },
  ): Promise<Buffer | undefined> {
    const [{ largeFileSurroundings }, { LocalContent }] = await Promise.all([
      import('./xet.ts'),
      import('../../lfs/local-content.ts'),
    ]);
    const content = LocalContent.open(await largeFileSurroundings(this.#place), () => {});
    try {
      if (!content.has({ sha256, size })) return undefined;
      const pieces: Uint8Array[] = [];
      for (const piece of content.read({ sha256, size })) {
        signal?.throwIfAborted();
        pieces.push(piece);
      }
      return Buffer.concat(pieces, size);
    } finally {
      await content.close();
    }
  }

  async #loadObject(
    { sha256, size }: LfsPointer,
    options: { readonly signal?: AbortSignal },
  ): Promise<Buffer> {
    const path = join(
      this.#place.commonDir,
      'lfs',
      'objects',
      sha256.slice(0, 2),
      sha256.slice(2, 4),
      sha256,
    );
    const pieces: Buffer[] = [];
    const hash = createHash('sha256');
    let length = 0;
    try {
      for await (const piece of createReadStream(path, { end: size, signal: options.signal })) {
        pieces.push(piece as Buffer);
        hash.update(piece as Buffer);
        length += (piece as Buffer).length;
      }
    } catch (cause) {
      if (errnoOf(cause) !== 'ENOENT') throw cause;
      throw new Git2dbError(
        'CONTENT_MISSING',
        `the content (${size} bytes, SHA-256 ${sha256}) is neither in the store nor at ${path}: fetch it with "git2db xet fetch", or "git lfs fetch"`,
        {
          cause,
          data: { sha256, size, path, reason: messageOf(cause) },
        },
      );
    }
    if (length !== size || hash.digest('hex') !== sha256) {
      throw new Git2dbError(
        'CONTENT_DAMAGED',
        `${path} does not hold the ${size} bytes of SHA-256 ${sha256}: delete it and fetch it again with "git lfs fetch"`,
        {
          data: { sha256, size, path, found: length },
        },
      );
    }
    return Buffer.concat(pieces, length);
  }
}

guardMethods(
  LfsFacet,
  { lsFiles: ['options?'], load: ['bytes:bytes', 'options?'] },
  { parse: ['bytes:bytes'], format: ['sha256', 'size:number'] },
);
