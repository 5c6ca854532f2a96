/**
 * Being registered with a store of this machine for as long as something is done there that gc must wait for.
 * All that is done at the same time shares one registration, so that one which lasts never keeps gc waiting.
 */
import { LocalStore } from './local-store.ts';
import { StoreWriter, type WriterOptions } from './writer.ts';

export class SharedRegistration {
  readonly #root: string;
  readonly #options: WriterOptions;
  #users = 0;
  #current: { readonly store: LocalStore; readonly writer: StoreWriter } | undefined;

  constructor(root: string, options: WriterOptions) {
    this.#root = root;
    this.#options = options;
  }

  /**
   * Runs `action` with the directory of a registered writer, for temporary files: what is left in it goes with
   * it. Makes the store where there is none. Throws STORE_UNWRITABLE, STORE_UNSUPPORTED, and what `action` throws.
   */
  async use<T>(action: (directory: string) => Promise<T>): Promise<T> {
    this.#users++;
    try {
      return await action(this.#register());
    } finally {
      this.#users--;
      if (this.#users === 0) await this.#leave();
    }
  }

  #register(): string {
    if (this.#current === undefined) {
      const store = new LocalStore(this.#root);
      try {
        this.#current = { store, writer: StoreWriter.open(store, this.#options) };
      } catch (error) {
        store.close();
        throw error;
      }
    }
    return this.#current.writer.directory;
  }

  async #leave(): Promise<void> {
    const left = this.#current;
    this.#current = undefined;
    if (left === undefined) return;
    try {
      // Also completes what writers left that died.
      await left.writer.seal();
    } finally {
      left.store.close();
    }
  }
}
