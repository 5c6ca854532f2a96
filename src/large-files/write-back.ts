/**
 * Large files on their way to the disk. The system would keep what is written in memory for half a minute,
 * and then, or when somebody asks for a sync, write it all at once: meanwhile the disk idles. Here it is
 * told to begin while the rest of the file is read and verified. Node has no sync_file_range(2), so a
 * thread of its pool waits in fdatasync(2).
 */
import { close, fdatasync, openSync } from 'node:fs';

/** Less is not worth a journal commit. */
const FLUSH_BYTES = 96 << 20;

export class WriteBack {
  #toCome: number;
  #path: Buffer | undefined;
  /** Bytes of the file at `#path` that the disk may not have. */
  #dirty = 0;
  #isBusy = false;

  /** `bytes`: how many will be written altogether. */
  constructor(bytes: number) {
    this.#toCome = bytes;
  }

  /**
   * `count` more bytes were written to the file at `path`. `onError` is called, perhaps after the file was closed,
   * when the disk does not take them: nobody else is told by the system. Returns whether the disk begins now.
   */
  wrote(path: Buffer, count: number, onError: (error: Error) => void): boolean {
    this.#toCome -= count;
    if (this.#path?.equals(path) !== true) {
      this.#path = path;
      this.#dirty = 0;
    }
    this.#dirty += count;
    // With less to come than to flush, a slow disk would make us wait for it at the end.
    if (this.#isBusy || this.#dirty < FLUSH_BYTES || this.#toCome < this.#dirty) return false;
    this.#dirty = 0;
    this.#isBusy = true;
    // A descriptor of its own, which nobody closes while the thread is on its way to it.
    const fd = openSync(path, 'r');
    fdatasync(fd, (error) => {
      this.#isBusy = false;
      close(fd);
      if (error !== null) onError(error);
    });
    return true;
  }
}
