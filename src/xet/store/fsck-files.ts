/**
 * Whether a stored file can be given back, without reading its bytes: its terms against the chunk lists
 * of the xorbs, and the chunks that were found to be bad.
 */
import { errnoOf, Git2dbError, messageOf } from '../errors.ts';
import { fileHash } from '../hash/merkle.ts';
import { verificationHash } from '../hash/verification.ts';
import { formatHash, HASH_SIZE, hashesEqual } from '../hash/xet-hash.ts';
import type { KnownXorb } from '../shard/validate.ts';
import { ByteList } from './byte-list.ts';
import { type BrokenXorb, type FileFault, lostRanges } from './fsck-damage.ts';
import { listOf } from './fsck-xorb.ts';
import type { StoredFile, StoredTerm } from './local-store.ts';

/** Faults that are told of one file; there may be thousands. */
const MAX_FAULTS = 16;

export interface Judgement {
  /** At most 16 of them; none: the file is whole. */
  readonly faults: readonly FileFault[];
  /** Names of the xorbs that are to blame. */
  readonly xorbs: readonly string[];
  /** True if every term lies in a xorb that can be relied on. */
  readonly isSound: boolean;
}

/** `broken` is looked at with every question: it may change between them. */
export class FileJudge {
  readonly #broken: ReadonlyMap<string, BrokenXorb>;

  constructor(broken: ReadonlyMap<string, BrokenXorb>) {
    this.#broken = broken;
  }

  /**
   * The chunk list of a term's xorb, undefined when nothing tells it. Throws CONTENT_MISSING, INVALID_XORB
   * or the errno of open.
   */
  listOf(term: StoredTerm): KnownXorb | undefined {
    const broken = this.#broken.get(term.name);
    return broken === undefined ? listOf(term.open()) : broken.list;
  }

  judge(file: StoredFile): Judgement {
    const faults: FileFault[] = [];
    const xorbs = new Set<string>();
    const hashes = new ByteList(HASH_SIZE * 64);
    const lengths: number[] = [];
    let isSound = true;
    let fileOffset = 0;
    const blame = (term: StoredTerm, fault: Omit<FileFault, 'xorb'>) => {
      xorbs.add(term.name);
      if (faults.length < MAX_FAULTS) faults.push({ ...fault, xorb: term.name });
    };
    const whole = (term: StoredTerm) => ({
      fileOffset,
      chunk: term.start,
      chunkEnd: term.end,
      offset: undefined,
    });
    for (const [i, term] of file.terms.entries()) {
      const broken = this.#broken.get(term.name);
      if (broken !== undefined) isSound = false;
      let list: KnownXorb | undefined;
      try {
        list = this.listOf(term);
      } catch (error) {
        blame(term, { ...whole(term), expected: `xorb ${term.name}`, found: absence(error) });
        fileOffset += term.rawBytes;
        continue;
      }
      if (list === undefined) {
        const { path } = broken as BrokenXorb;
        const found = path === undefined ? 'it is not there' : `${path} gives none of its chunks`;
        blame(term, { ...whole(term), expected: `xorb ${term.name}`, found });
        fileOffset += term.rawBytes;
        continue;
      }
      const rawBytes = list.lengths.subarray(term.start, term.end).reduce((sum, length) => sum + length, 0);
      if (term.end > list.lengths.length || rawBytes !== term.rawBytes) {
        const expected = `chunks [${term.start}, ${term.end}) of ${term.rawBytes} bytes, as ${nameOf(file)} says`;
        blame(term, {
          ...whole(term),
          expected,
          found: `a xorb of ${list.lengths.length} chunks, ${rawBytes} bytes there`,
        });
        fileOffset += term.rawBytes;
        continue;
      }
      const proof = file.record?.verification?.[i];
      if (
        proof !== undefined &&
        !hashesEqual(proof, 0, verificationHash(list.hashes, term.start, term.end), 0)
      ) {
        blame(term, {
          ...whole(term),
          expected: `chunks with verification hash ${formatHash(proof)}, as ${nameOf(file)} says`,
          found: formatHash(verificationHash(list.hashes, term.start, term.end)),
        });
      }
      if (broken !== undefined) blameChunks(term, broken, list, fileOffset, blame);
      hashes.append(list.hashes, HASH_SIZE * term.start, HASH_SIZE * (term.end - term.start));
      for (let chunk = term.start; chunk < term.end; chunk++) lengths.push(list.lengths[chunk] as number);
      fileOffset += rawBytes;
    }
    if (xorbs.size === 0) {
      const found = fileHash(hashes.slice(), lengths);
      if (!hashesEqual(found, 0, file.hash, 0)) {
        const expected = `chunks that make file ${formatHash(file.hash)}, as ${nameOf(file)} says`;
        const nowhere = {
          fileOffset: undefined,
          xorb: undefined,
          chunk: undefined,
          chunkEnd: undefined,
          offset: undefined,
        };
        faults.push({ ...nowhere, expected, found: `they make ${formatHash(found)}` });
        isSound = false;
      }
    }
    return { faults, xorbs: [...xorbs], isSound: isSound && faults.length === 0 };
  }
}

function blameChunks(
  term: StoredTerm,
  broken: BrokenXorb,
  list: KnownXorb,
  termOffset: number,
  blame: (term: StoredTerm, fault: Omit<FileFault, 'xorb'>) => void,
): void {
  for (const [chunk, chunkEnd] of lostRanges(broken, term.start, term.end)) {
    const before = list.lengths.subarray(term.start, chunk).reduce((sum, length) => sum + length, 0);
    const told = broken.damage.findLast((damage) => damage.chunk !== undefined && damage.chunk <= chunk);
    blame(term, {
      fileOffset: termOffset + before,
      chunk,
      chunkEnd,
      offset: told?.offset,
      expected: told?.expected ?? `chunk ${formatHash(list.hashes, HASH_SIZE * chunk)}`,
      found: told?.found ?? 'it is not there',
    });
  }
}

function nameOf({ shard }: StoredFile): string {
  return shard === undefined ? 'the journal of a writer' : `shard ${shard}`;
}

/** Why a xorb cannot be opened. Other errors are bugs. */
function absence(error: unknown): string {
  if (errnoOf(error) === undefined) throw error;
  const isMissing =
    errnoOf(error) === 'ENOENT' || (error instanceof Git2dbError && error.code === 'CONTENT_MISSING');
  return isMissing ? 'it is not there' : messageOf(error);
}
