/**
 * What every transfer between the store of this machine and one that is elsewhere has in common: what is asked,
 * what becomes of each file, and what is told meanwhile.
 */
import type { Git2dbError } from '../errors.ts';
import type { FilePart } from './file-part.ts';

/** A file to be moved. */
export interface WantedFile {
  /** File hash, 32 bytes. */
  readonly hash: Uint8Array;
  /** Bytes, where a pointer says so: a file of another size is refused. */
  readonly size?: number | undefined;
  /** 64 digits, where an LFS pointer says so: goes into the records of the store that the file comes to. */
  readonly sha256?: string | undefined;
}

/** `present`: the other side had it, nothing was moved for it. `moved`: it is there now. */
export type Outcome = 'present' | 'moved' | 'failed';

export interface FileOutcome {
  readonly hash: Uint8Array;
  readonly outcome: Outcome;
  /** Bytes; undefined where nobody could tell. */
  readonly size: number | undefined;
  /** Why it failed. */
  readonly error?: Git2dbError | undefined;
}

/**
 * What a transfer tells while it runs. `bytes` are of content: of `total`, so many are dealt with, those that
 * need not be moved included; `wireBytes` are those that were moved. A total grows while files are looked up.
 */
export type TransferEvent =
  | { readonly kind: 'bytes'; readonly bytes: number; readonly total: number; readonly wireBytes: number }
  | { readonly kind: 'file'; readonly file: FileOutcome };

export interface TransferOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: TransferEvent) => void) | undefined;
  /** Told of each file as soon as it is dealt with: a fetched one can be read by every process from then on. */
  readonly onFile?: ((file: FileOutcome) => void) | undefined;
  /** Told of a file that is being fetched, as far as it can be read; a second try of it begins anew. */
  readonly onPart?: ((file: WantedFile, part: FilePart) => void) | undefined;
}

export interface TransferResult {
  /** One for each file asked for, in that order. */
  readonly files: readonly FileOutcome[];
  /** Bytes of content of the files that were moved. */
  readonly contentBytes: number;
  /** Bytes of chunk records that were moved; none for what was hard-linked. */
  readonly wireBytes: number;
}
