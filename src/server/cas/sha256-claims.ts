/**
 * A shard may say which SHA-256 a file has, and Git LFS and the Hub find files by it. Nothing else proves that,
 * so the content is read once before the shard is registered: whoever uploads something else under the SHA-256
 * of a file that is to come would make that file unreachable for everybody.
 */
import { createHash } from 'node:crypto';
import { Git2dbError } from '../../xet/errors.ts';
import { formatHash, hashesEqual, isZeroHash } from '../../xet/hash/xet-hash.ts';
import type { FileRecord } from '../../xet/shard/file-info.ts';
import { Shard } from '../../xet/shard/shard.ts';
import type { CallOptions, ServableStore, Store } from '../../xet/store/store.ts';
import { readRange } from '../../xet/transfer/range.ts';

/** Throws INVALID_SHARD for a claim that is wrong, CONTENT_MISSING where a xorb was not uploaded. */
export async function checkSha256Claims(
  store: ServableStore,
  shard: Uint8Array,
  options: CallOptions & { readonly onProgress: (done: number, total: number) => void },
): Promise<void> {
  const claims: (FileRecord & { readonly sha256: string })[] = [];
  for (const file of Shard.openUpload(shard).files()) {
    const { sha256 } = file;
    // Some writers store zeros for what they do not know.
    if (sha256 === undefined || /^0+$/.test(sha256) || isZeroHash(file.fileHash)) continue;
    claims.push({ ...file, sha256 });
  }
  const known = await store.findSha256s(
    claims.map(({ sha256 }) => sha256),
    options,
  );
  for (const [i, file] of claims.entries()) {
    options.onProgress(i, claims.length);
    const registered = known[i];
    // Somebody has proved just this already.
    if (registered !== undefined && hashesEqual(registered, 0, file.fileHash, 0)) continue;
    const found = await sha256Of(store, file, options);
    if (found === file.sha256) continue;
    throw new Git2dbError(
      'INVALID_SHARD',
      `file ${formatHash(file.fileHash)} is said to have the SHA-256 ${file.sha256}; its content has ${found}`,
    );
  }
}

async function sha256Of(store: ServableStore, file: FileRecord, options: CallOptions): Promise<string> {
  const size = file.terms.reduce((sum, { rawBytes }) => sum + rawBytes, 0);
  const hash = createHash('sha256');
  try {
    for await (const piece of readRange(withFile(store, file, size), file.fileHash, 0, size, options)) {
      hash.update(piece);
    }
  } catch (error) {
    if (!(error instanceof Git2dbError) || error.code !== 'REMOTE_INVALID') throw error;
    throw new Git2dbError('INVALID_SHARD', error.message, { cause: error });
  }
  return hash.digest('hex');
}

/** The store as it will be when `file` is registered, as far as reading that file goes. */
function withFile(store: ServableStore, file: FileRecord, size: number): Store {
  return Object.create(store, {
    findFiles: { value: async () => [{ ...file, size }] },
    readFooter: { value: (...args: Parameters<Store['readFooter']>) => store.readFooter(...args) },
    readRecords: { value: (...args: Parameters<Store['readRecords']>) => store.readRecords(...args) },
    place: { value: store.place },
  }) as Store;
}
