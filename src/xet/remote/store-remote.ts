/** A store as a remote. */
import type { LocalStore } from '../store/local-store.ts';
import type { CallOptions, Store } from '../store/store.ts';
import { fetchFiles } from '../transfer/fetch.ts';
import { missingFiles } from '../transfer/missing.ts';
import { pushFiles } from '../transfer/push.ts';
import type { TransferResult, WantedFile } from '../transfer/transfer.ts';
import type { FetchOptions, Remote, SendOptions } from './remote.ts';

export class StoreRemote implements Remote {
  readonly store: Store;

  /** Closes the store when it is closed itself. */
  constructor(store: Store) {
    this.store = store;
  }

  get place(): string {
    return this.store.place;
  }

  get isReadOnly(): boolean {
    return this.store.isReadOnly;
  }

  missing(files: readonly WantedFile[], options: CallOptions = {}): Promise<WantedFile[]> {
    return missingFiles(this.store, files, options);
  }

  send(local: LocalStore, files: readonly WantedFile[], options: SendOptions = {}): Promise<TransferResult> {
    return pushFiles(local, this.store, files, options);
  }

  fetch(local: LocalStore, files: readonly WantedFile[], options: FetchOptions): Promise<TransferResult> {
    return fetchFiles(local, this.store, files, options);
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.store[Symbol.asyncDispose]();
  }
}
