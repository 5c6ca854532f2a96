/** The chunk lists of xorbs, read from their footers and proven; a few of them are kept. */
import { errnoOf, Git2dbError } from '../../errors.ts';
import { fileHash } from '../../hash/merkle.ts';
import { verificationHash } from '../../hash/verification.ts';
import { formatHash, HASH_SIZE, hashesEqual } from '../../hash/xet-hash.ts';
import type { FileRecord, Term } from '../../shard/file-info.ts';
import type { KnownXorb } from '../../shard/validate.ts';
import { ByteList } from '../byte-list.ts';
import { listOf, provesXorb } from '../fsck-xorb.ts';
import { closeSource, openXorbFile } from '../xorb-source.ts';

const MAX_LISTS = 64;

export class ChunkLists {
  readonly #pathOf: (name: string) => string;
  readonly #lists = new Map<string, KnownXorb>();

  constructor(pathOf: (name: string) => string) {
    this.#pathOf = pathOf;
  }

  /** Throws the errno of open, or INVALID_XORB. */
  get(xorbHash: Uint8Array): KnownXorb {
    const name = formatHash(xorbHash);
    const known = this.#lists.get(name);
    if (known !== undefined) return known;
    const path = this.#pathOf(name);
    const source = openXorbFile(path, xorbHash);
    const list = listOf(source);
    closeSource(source);
    if (!provesXorb(list, xorbHash)) {
      throw new Git2dbError('INVALID_XORB', `${path}: the footer's chunks have another Merkle root`);
    }
    if (this.#lists.size === MAX_LISTS) this.#lists.delete(this.#lists.keys().next().value as string);
    this.#lists.set(name, list);
    return list;
  }

  /** Throws what `get` throws, and INVALID_SHARD for a term that does not lie in its xorb. */
  verificationHash({ xorbHash, start, end }: Term): Uint8Array {
    const { hashes, lengths } = this.get(xorbHash);
    if (end > lengths.length) {
      throw new Git2dbError(
        'INVALID_SHARD',
        `a file needs chunks [${start}, ${end}) of xorb ${formatHash(xorbHash)}, which has ${lengths.length}`,
      );
    }
    return verificationHash(hashes, start, end);
  }

  /** True if the chunks that the record names make its file. */
  makeFile(record: FileRecord): boolean {
    const hashes = new ByteList(64 * HASH_SIZE);
    const lengths: number[] = [];
    try {
      for (const { xorbHash, start, end } of record.terms) {
        const list = this.get(xorbHash);
        if (end > list.lengths.length) return false;
        hashes.append(list.hashes, HASH_SIZE * start, HASH_SIZE * (end - start));
        for (let i = start; i < end; i++) lengths.push(list.lengths[i] as number);
      }
    } catch (error) {
      if (error instanceof Git2dbError || errnoOf(error) !== undefined) return false;
      throw error;
    }
    return hashesEqual(fileHash(hashes.slice(), lengths, lengths.length), 0, record.fileHash, 0);
  }
}
