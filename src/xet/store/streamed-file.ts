/**
 * A file that is written from its start to its end while what it holds still comes: the disk takes it meanwhile, so
 * that there is little left to wait for when the last byte has come.
 */
import type { FileHandle } from 'node:fs/promises';
import type { Fsync } from './publish.ts';

/** Bytes after which the disk is given what has come. */
const SYNC_BYTES = 16 << 20;

export class StreamedFile {
  readonly #file: FileHandle;
  readonly #isSynced: boolean;
  #size = 0;
  #given = 0;
  #giving: Promise<void> | undefined;

  /** `file` stays the caller's to close, after `settle` or `finish`. */
  constructor(file: FileHandle, fsync: Fsync | undefined) {
    this.#file = file;
    this.#isSynced = fsync !== 'none';
  }

  get size(): number {
    return this.#size;
  }

  /** Resolves when `bytes` are the caller's again. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, this.#size);
      done += bytesWritten;
      this.#size += bytesWritten;
    }
    if (!this.#isSynced || this.#giving !== undefined || this.#size - this.#given < SYNC_BYTES) return;
    this.#given = this.#size;
    this.#giving = this.#file
      .datasync()
      // What is wrong with the disk is told by `finish`, or by the next write.
      .catch(() => {})
      .finally(() => {
        this.#giving = undefined;
      });
  }

  /** All of it is on stable storage, unless nothing is to be. */
  async finish(): Promise<void> {
    await this.settle();
    if (this.#isSynced) await this.#file.datasync();
  }

  /** Waits for what is under way. */
  async settle(): Promise<void> {
    await this.#giving;
  }
}
