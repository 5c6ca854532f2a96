/**
 * The seam between those who know which files are wanted (a push, a fetch, a checkout) and the places that hold
 * them: a store anywhere, or the Hugging Face Hub.
 */
import type { LocalStore } from '../store/local-store.ts';
import type { CallOptions } from '../store/store.ts';
import type { WriterOptions } from '../store/writer.ts';
import type { TransferOptions, TransferResult, WantedFile } from '../transfer/transfer.ts';

export interface SendOptions extends TransferOptions {
  /** Compute the SHA-256 of files that come without: the Hub and LFS servers find files by it. */
  readonly withSha256?: boolean | undefined;
}

export interface FetchOptions extends TransferOptions {
  readonly writer: WriterOptions;
}

export interface Remote extends AsyncDisposable {
  /** For messages: a directory or URL without user, token or query. */
  readonly place: string;
  readonly isReadOnly: boolean;

  /** Those of `files` that are not there. */
  missing(files: readonly WantedFile[], options?: CallOptions): Promise<WantedFile[]>;

  /** Sends files of `local`; what is there already costs a question. */
  send(local: LocalStore, files: readonly WantedFile[], options?: SendOptions): Promise<TransferResult>;

  /** Fetches files into `local`; what is complete there costs nothing. */
  fetch(local: LocalStore, files: readonly WantedFile[], options: FetchOptions): Promise<TransferResult>;
}
