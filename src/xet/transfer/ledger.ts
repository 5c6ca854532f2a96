/** Keeps the books of a transfer: what became of each file, and how far it has come. */
import { errnoOf, Git2dbError, messageOf } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import type { FilePart } from './file-part.ts';
import type { FileOutcome, Outcome, TransferOptions, TransferResult, WantedFile } from './transfer.ts';

export class Ledger {
  readonly #asked: readonly WantedFile[];
  readonly #outcomes = new Map<string, FileOutcome>();
  readonly #options: TransferOptions;
  /** Files that are asked for, each once; where one place says more of it than another, what it says. */
  readonly files: readonly WantedFile[];
  #total = 0;
  #bytes = 0;
  #contentBytes = 0;
  #wireBytes = 0;

  constructor(files: readonly WantedFile[], options: TransferOptions) {
    this.#asked = files;
    this.#options = options;
    const unique = new Map<string, WantedFile>();
    for (const file of files) {
      const name = formatHash(file.hash);
      const known = unique.get(name);
      unique.set(
        name,
        known === undefined
          ? file
          : { hash: file.hash, size: known.size ?? file.size, sha256: known.sha256 ?? file.sha256 },
      );
    }
    this.files = [...unique.values()];
  }

  /** So much content is to be dealt with, besides what was told before. */
  expect(bytes: number): void {
    this.#total += bytes;
  }

  /** So much of it is; negative when it turned out not to be. */
  advance(bytes: number): void {
    this.#bytes += bytes;
    this.#tell();
  }

  /** Bytes of records that were moved. */
  moved(wireBytes: number): void {
    this.#wireBytes += wireBytes;
  }

  #tell(): void {
    this.#options.onProgress?.({
      kind: 'bytes',
      bytes: this.#bytes,
      total: this.#total,
      wireBytes: this.#wireBytes,
    });
  }

  settle(file: WantedFile, outcome: Outcome, size: number | undefined, error?: Git2dbError): void {
    const told: FileOutcome = {
      hash: file.hash,
      outcome,
      size,
      ...(error === undefined ? {} : { error }),
    };
    this.#outcomes.set(formatHash(file.hash), told);
    if (outcome === 'moved') this.#contentBytes += size ?? 0;
    this.#options.onFile?.(told);
    this.#options.onProgress?.({ kind: 'file', file: told });
  }

  /** The next part of a file that is on its way can be read. */
  part(file: WantedFile, part: FilePart): void {
    this.#options.onPart?.(file, part);
  }

  isSettled(file: WantedFile): boolean {
    return this.#outcomes.has(formatHash(file.hash));
  }

  /** Nothing more can be done: all files that are not settled fail by this. */
  settleRest(error: Git2dbError): void {
    for (const file of this.files) if (!this.isSettled(file)) this.settle(file, 'failed', file.size, error);
  }

  result(): TransferResult {
    const files = this.#asked.map((file) => this.#outcomes.get(formatHash(file.hash)) as FileOutcome);
    return { files, contentBytes: this.#contentBytes, wireBytes: this.#wireBytes };
  }
}

/** Failures that are those of one file: the next may well succeed. */
const OF_A_FILE: ReadonlySet<string> = new Set([
  'CONTENT_MISSING',
  'CONTENT_DAMAGED',
  'INVALID_XORB',
  'INVALID_SHARD',
  'INVALID_LZ4',
  'INVALID_HASH',
  'REMOTE_INVALID',
  'LIMIT_EXCEEDED',
]);

export function isOfAFile(error: unknown): error is Git2dbError {
  return error instanceof Git2dbError && OF_A_FILE.has(error.code);
}

/** `error` as one that can be told; an AbortError, and what is a mistake in the program, is thrown on. */
export function tellable(error: unknown, place: string): Git2dbError {
  if (error instanceof Git2dbError) return error;
  const errno = errnoOf(error);
  if (errno === undefined || (error instanceof Error && error.name === 'AbortError')) throw error;
  const code = errno === 'EACCES' || errno === 'EPERM' ? 'REMOTE_FORBIDDEN' : 'NETWORK';
  return new Git2dbError(code, `cannot use ${place}: ${messageOf(error)}`, { cause: error });
}
