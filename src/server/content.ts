/** Contents of files by their SHA-256: how Git LFS and the Hub name them. */
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Git2dbError } from '../xet/errors.ts';
import { formatHash, parseHash } from '../xet/hash/xet-hash.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import type { CallOptions, ServableStore, StoreFile } from '../xet/store/store.ts';
import { pushFiles } from '../xet/transfer/push.ts';
import { readRange } from '../xet/transfer/range.ts';
import { Uploader } from '../xet/upload.ts';
import type { Readable } from './cas/send-ranges.ts';

export const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

export interface NamedContent {
  /** 64 digits. */
  readonly sha256: string;
  /** Bytes. */
  readonly size: number;
}

export type Found = NamedContent & { readonly file: StoreFile };

/** Those of `wanted` that the store can give, by their SHA-256; the size is the store's. */
export async function findContents(
  store: ServableStore,
  sha256s: readonly string[],
  options: CallOptions,
): Promise<ReadonlyMap<string, Found>> {
  const found = new Map<string, Found>();
  const hashes = await store.findSha256s(sha256s, options);
  const known = sha256s.flatMap((sha256, i) => {
    const hash = hashes[i];
    return hash === undefined || sha256 === EMPTY_SHA256 ? [] : [{ sha256, hash }];
  });
  const files = await store.findFiles(
    known.map(({ hash }) => hash),
    options,
  );
  for (const [i, { sha256 }] of known.entries()) {
    const file = files[i];
    if (file !== undefined) found.set(sha256, { sha256, size: file.size, file });
  }
  if (sha256s.includes(EMPTY_SHA256)) {
    const file = { fileHash: new Uint8Array(32), terms: [], size: 0 };
    found.set(EMPTY_SHA256, { sha256: EMPTY_SHA256, size: 0, file });
  }
  return found;
}

/** Every chunk is proved before it is given out; a whole file also by its SHA-256, before its last piece. */
export function readableContent(store: ServableStore, content: Found, options: CallOptions): Readable {
  const { file, size, sha256 } = content;
  return {
    size,
    async *read(start, end) {
      const pieces = readRange(store, file.fileHash, start, end, options);
      if (start > 0 || end < size) {
        yield* pieces;
        return;
      }
      const hash = createHash('sha256');
      let last: Uint8Array | undefined;
      for await (const piece of pieces) {
        hash.update(piece);
        if (last !== undefined) yield last;
        last = piece;
      }
      if (size > 0 && hash.digest('hex') !== sha256) {
        throw new Git2dbError(
          'CONTENT_DAMAGED',
          `file ${formatHash(file.fileHash)} is registered under the SHA-256 ${sha256}, which it has not`,
        );
      }
      if (last !== undefined) yield last;
    },
  };
}

/**
 * Cuts a content into chunks and puts it into the store: first into one of its own in `directory`, so that
 * nothing of a broken upload gets into the other. INVALID_POINTER if it is not what `expected` says.
 */
export async function storeContent(
  store: ServableStore,
  directory: string,
  pieces: AsyncIterable<Uint8Array>,
  expected: NamedContent,
  { signal }: CallOptions,
): Promise<void> {
  const root = await mkdtemp(join(directory, 'object-'));
  const local = new LocalStore(root);
  try {
    const uploader = new Uploader(local, { compression: 'auto', fsync: 'none' });
    const upload = uploader.begin(expected.size);
    const digest = createHash('sha256');
    try {
      for await (const piece of pieces) {
        if (upload.size + piece.length > expected.size) throw notAsSaid(expected, 'more bytes');
        digest.update(piece);
        upload.write(piece);
      }
    } catch (error) {
      upload.abort();
      throw error;
    }
    const sha256 = digest.digest('hex');
    if (upload.size !== expected.size || sha256 !== expected.sha256) {
      const found = `${upload.size} bytes with the SHA-256 ${sha256}`;
      upload.abort();
      throw notAsSaid(expected, found);
    }
    if (expected.size === 0) {
      upload.abort();
      return;
    }
    const { hash } = upload.finish({ sha256 });
    await uploader.seal();
    const wanted = { hash: parseHash(hash), size: expected.size, sha256 };
    const { files } = await pushFiles(new LocalStore(root), store, [wanted], { signal });
    if (files[0]?.error !== undefined) throw files[0].error;
  } finally {
    local.close();
    await rm(root, { recursive: true, force: true });
  }
}

function notAsSaid({ sha256, size }: NamedContent, found: string): Git2dbError {
  return new Git2dbError(
    'INVALID_POINTER',
    `expected ${size} bytes with the SHA-256 ${sha256}, the upload has ${found}`,
  );
}
