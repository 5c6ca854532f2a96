/**
 * What must be read to get a file back: its terms cut into windows, each one read of consecutive
 * records of one xorb. Planning proves that the chunk list is the file's: the hashes in the xorbs'
 * footers, put together, must give the file hash. Reading then proves each chunk by its hash.
 */
import { Git2dbError, messageOf } from '../errors.ts';
import { fileHash } from '../hash/merkle.ts';
import { verificationHash } from '../hash/verification.ts';
import { formatHash } from '../hash/xet-hash.ts';
import { ByteList } from '../store/byte-list.ts';
import type { StoredFile, StoredTerm } from '../store/local-store.ts';
import { recordStart, type XorbSource } from '../store/xorb-source.ts';
import { CHUNK_HEADER_SIZE, MAX_RAW_CHUNK } from '../xorb/chunk-record.ts';
import { rawBytesBetween } from '../xorb/ends.ts';

/** Raw bytes of a window at most; also the most that is verified before any of it is given out. */
export const WINDOW_RAW = 2 << 20;
/** Chunks of a window at most; small chunks make small windows. */
export const WINDOW_CHUNKS = 512;
/** Bytes of a window's records at most: those of others may be longer than their content. */
export const WINDOW_STORED = WINDOW_RAW + MAX_RAW_CHUNK + CHUNK_HEADER_SIZE * WINDOW_CHUNKS;

export interface Window {
  readonly term: StoredTerm;
  /** Chunks [start, end) of the term's xorb. */
  readonly start: number;
  readonly end: number;
  readonly rawBytes: number;
  /** Offset of the window's first byte in the file. */
  readonly fileOffset: number;
  /** Proof of the term's chunk list, and the xorb that it was last compared with. */
  readonly proof: Uint8Array;
  readonly proven: XorbSource;
}

export interface ReadPlan {
  readonly size: number;
  readonly terms: readonly StoredTerm[];
  /** Proof of each term's chunk list, to compare when a xorb is opened again. */
  readonly proofs: readonly Uint8Array[];
  /** Looks the file up once more: gc may have copied its chunks to other xorbs since. */
  readonly again?: (() => ReadPlan) | undefined;
}

/**
 * Opens every xorb of the file once and checks the whole chunk list. Throws CONTENT_MISSING when a
 * xorb is not there, CONTENT_DAMAGED when the lists do not make this file.
 */
export function planFile(file: StoredFile): ReadPlan {
  // A wrong description may name any number of chunks: only what is there takes memory.
  const hashes = new ByteList(32 * Math.min(64, file.terms[0] === undefined ? 0 : chunkCount(file.terms[0])));
  const lengths: number[] = [];
  const proofs: Uint8Array[] = [];
  for (const term of file.terms) {
    const source = openTerm(term);
    hashes.append(source.hashes, 32 * term.start, 32 * (term.end - term.start));
    for (let i = term.start; i < term.end; i++) lengths.push(rawBytesBetween(source, i, i + 1));
    proofs.push(verificationHash(source.hashes, term.start, term.end));
  }
  const found = fileHash(hashes.slice(), lengths, lengths.length);
  if (Buffer.compare(found, file.hash) !== 0) {
    throw new Git2dbError(
      'CONTENT_DAMAGED',
      `the stored chunk list makes file ${formatHash(found)}, not ${formatHash(file.hash)}: ${suspect(file, proofs)} is damaged; ` +
        'run `git2db xet fsck`',
      { data: { file: formatHash(file.hash) } },
    );
  }
  return { size: file.size, terms: file.terms, proofs };
}

function chunkCount(term: StoredTerm): number {
  return term.end - term.start;
}

/** Whose fault a wrong chunk list is: the shard has a proof of each term's chunks, too. */
function suspect({ terms, record, shard }: StoredFile, proofs: readonly Uint8Array[]): string {
  const wrong = record?.verification?.findIndex(
    (proof, i) => Buffer.compare(proof, proofs[i] as Uint8Array) !== 0,
  );
  const term = wrong === undefined ? undefined : terms[wrong];
  if (term !== undefined) return openTerm(term).path;
  return shard === undefined ? 'the journal of a writer' : `shard ${shard}`;
}

/**
 * Windows of the plan in file order; made one after the other, so that a huge file costs no memory. Where
 * a xorb has gone in the meantime the file is looked up again, and read on from there: a file is always
 * the same list of chunks, whatever xorbs they are in.
 */
export function* windowsOf(plan: ReadPlan): Generator<Window> {
  let fileOffset = 0;
  let tried = -1;
  for (let current = plan; ; ) {
    try {
      for (const window of windowsFrom(current, fileOffset)) {
        fileOffset += window.rawBytes;
        yield window;
      }
      return;
    } catch (error) {
      const isMissing = error instanceof Git2dbError && error.code === 'CONTENT_MISSING';
      if (!isMissing || current.again === undefined || tried === fileOffset) throw error;
      tried = fileOffset;
      current = current.again();
    }
  }
}

/** Those that begin at `offset`, the end of some chunk, or later. */
function* windowsFrom(plan: ReadPlan, offset: number): Generator<Window> {
  let fileOffset = 0;
  for (const [i, term] of plan.terms.entries()) {
    if (fileOffset + term.rawBytes <= offset) {
      fileOffset += term.rawBytes;
      continue;
    }
    const proof = plan.proofs[i] as Uint8Array;
    let proven: XorbSource | undefined;
    for (let start = term.start; start < term.end; ) {
      proven = openProven(term, proof, proven);
      if (fileOffset < offset) {
        fileOffset += rawBytesBetween(proven, start, start + 1);
        start++;
        continue;
      }
      let end = start + 1;
      while (end < term.end && fitsInWindow(proven, start, end + 1)) end++;
      const rawBytes = rawBytesBetween(proven, start, end);
      yield { term, start, end, rawBytes, fileOffset, proof, proven };
      fileOffset += rawBytes;
      start = end;
    }
  }
}

function fitsInWindow(source: XorbSource, start: number, end: number): boolean {
  return (
    end - start <= WINDOW_CHUNKS &&
    rawBytesBetween(source, start, end) <= WINDOW_RAW &&
    recordStart(source, end) - recordStart(source, start) <= WINDOW_STORED
  );
}

/** The xorb to read a window from, with the chunk list that the plan was made with. */
export function openWindow({ term, proof, proven }: Window): XorbSource {
  return openProven(term, proof, proven);
}

/** The term's xorb. Where it is not the one that was `proven`, it must have the same chunk list. */
function openProven(term: StoredTerm, proof: Uint8Array, proven: XorbSource | undefined): XorbSource {
  const source = openTerm(term);
  if (
    source !== proven &&
    Buffer.compare(verificationHash(source.hashes, term.start, term.end), proof) !== 0
  ) {
    throw new Git2dbError('CONTENT_DAMAGED', `${source.path} changed while it was read`, {
      data: { xorb: term.name },
    });
  }
  return source;
}

/** The term's xorb, with room for the term's chunks. */
export function openTerm(term: StoredTerm): XorbSource {
  let source: XorbSource;
  try {
    source = term.open();
  } catch (error) {
    if (error instanceof Git2dbError && error.code === 'CONTENT_MISSING') throw error;
    if ((error as { code?: string }).code === 'ENOENT') {
      throw new Git2dbError('CONTENT_MISSING', `xorb ${term.name} is not there: ${messageOf(error)}`, {
        cause: error,
      });
    }
    throw new Git2dbError(
      'CONTENT_DAMAGED',
      `xorb ${term.name}: ${messageOf(error)}; run \`git2db xet fsck\``,
      {
        cause: error,
        data: { xorb: term.name },
      },
    );
  }
  if (term.end > source.count || rawBytesBetween(source, term.start, term.end) !== term.rawBytes) {
    throw new Git2dbError(
      'CONTENT_DAMAGED',
      `${source.path}: a file needs chunks [${term.start}, ${term.end}) of ${term.rawBytes} bytes, which this xorb of ` +
        `${source.count} chunks does not have; run \`git2db xet fsck\``,
      { data: { xorb: term.name } },
    );
  }
  return source;
}

/** Offset and length of a window's records in its xorb. */
export function storedRange(
  source: XorbSource,
  window: Window,
): { readonly offset: number; readonly length: number } {
  const offset = recordStart(source, window.start);
  return { offset, length: (source.recordEnds[window.end - 1] as number) - offset };
}
