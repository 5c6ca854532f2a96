/** A file that holds an upload until it was checked. */
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, rm, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf } from '../../xet/errors.ts';
import { StreamedFile } from '../../xet/store/streamed-file.ts';

const PIECE = 1 << 20;

export interface SpoolOptions {
  /** Keeps its name until it is closed, so that a store can take it as it is. Otherwise it is gone with the process. */
  readonly isNamed?: boolean;
}

export class Spool {
  readonly path: string;
  readonly #isNamed: boolean;
  #file: FileHandle | undefined;
  #written: StreamedFile | undefined;

  /** `directory`, where nobody else can enter, is made when the first byte is written. */
  constructor(directory: string, { isNamed = false }: SpoolOptions = {}) {
    this.path = join(directory, `upload-${randomBytes(8).toString('hex')}`);
    this.#isNamed = isNamed;
  }

  get size(): number {
    return this.#written?.size ?? 0;
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.#written === undefined) {
      this.#file = await this.#open();
      // What a store takes has to be on stable storage before it is told of.
      this.#written = new StreamedFile(this.#file, this.#isNamed ? 'batch' : 'none');
    }
    await this.#written.write(bytes);
  }

  /** All of it from the start; each piece is the reader's to keep. */
  async *read(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < this.size; ) {
      const piece = Buffer.allocUnsafe(Math.min(PIECE, this.size - at));
      const { bytesRead } = await (this.#file as FileHandle).read(piece, 0, piece.length, at);
      if (bytesRead === 0) throw new Error('the file of an upload is shorter than what was written to it');
      at += bytesRead;
      yield piece.subarray(0, bytesRead);
    }
  }

  async close(): Promise<void> {
    if (this.#file === undefined) return;
    await this.#written?.settle();
    await this.#file.close();
    if (this.#isNamed) await rm(this.path, { force: true });
  }

  async #open(): Promise<FileHandle> {
    // The mode is that of what a store publishes: it may become that.
    const mode = this.#isNamed ? 0o666 : 0o600;
    let file: FileHandle;
    try {
      file = await open(this.path, 'wx+', mode);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      await makeDirectory(dirname(this.path));
      file = await open(this.path, 'wx+', mode);
    }
    if (!this.#isNamed) await unlink(this.path);
    return file;
  }
}

/** Uploads that begin at once all find that it is missing. */
async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
  }
}
