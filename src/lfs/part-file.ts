/**
 * A download that is not complete yet: `<SHA-256>.part` in a directory of its own, so that what came before an
 * interruption need not come again. Who works on it has it under a name of its own, `<SHA-256>.<pid>.part`, taken by
 * a rename, which one process wins; that of a process that is gone is taken over.
 */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { makeDirectories } from '../make-directories.ts';
import { errnoOf } from '../xet/errors.ts';
import { unwritable } from '../xet/store/unwritable.ts';
import type { DownloadSink } from './basic.ts';

export class PartFile implements DownloadSink {
  readonly path: string;
  readonly #directory: string;
  readonly #sha256: string;
  readonly #fd: number;
  #position: number;

  /** Opens what there is of the object, or begins it. Throws STORE_UNWRITABLE or DISK_FULL. */
  constructor(directory: string, sha256: string) {
    this.#directory = directory;
    this.#sha256 = sha256;
    this.path = join(directory, `${sha256}.${process.pid}.part`);
    try {
      makeDirectories(directory);
      this.#claim();
      this.#fd = openSync(this.path, 'a+', 0o666);
      this.#position = fstatSync(this.#fd).size;
    } catch (error) {
      throw unwritable(directory, error);
    }
  }

  get position(): number {
    return this.#position;
  }

  write(bytes: Buffer): void {
    try {
      for (let done = 0; done < bytes.length; ) {
        const count = writeSync(this.#fd, bytes, done, bytes.length - done);
        done += count;
        this.#position += count;
      }
    } catch (error) {
      throw unwritable(this.#directory, error);
    }
  }

  reset(): void {
    ftruncateSync(this.#fd, 0);
    this.#position = 0;
  }

  /** Leaves it for the next one. */
  keep(): void {
    closeSync(this.#fd);
    renameSync(this.path, join(this.#directory, `${this.#sha256}.part`));
  }

  remove(): void {
    closeSync(this.#fd);
    rmSync(this.path, { force: true });
  }

  /** Takes over what somebody has left. */
  #claim(): void {
    const left = readdirSync(this.#directory).filter((name) => this.#isLeft(name));
    for (const name of left) {
      try {
        renameSync(join(this.#directory, name), this.path);
        return;
      } catch (error) {
        // Another process was faster.
        if (errnoOf(error) !== 'ENOENT') throw error;
      }
    }
  }

  #isLeft(name: string): boolean {
    if (name === `${this.#sha256}.part`) return true;
    const owner = name.startsWith(`${this.#sha256}.`) ? /\.(\d+)\.part$/.exec(name)?.[1] : undefined;
    return owner !== undefined && Number(owner) !== process.pid && !isAlive(Number(owner));
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}

/** The same for an object that fits in memory. */
export class MemorySink implements DownloadSink {
  #pieces: Buffer[] = [];
  #position = 0;

  get position(): number {
    return this.#position;
  }

  write(bytes: Buffer): void {
    this.#pieces.push(bytes);
    this.#position += bytes.length;
  }

  reset(): void {
    this.#pieces = [];
    this.#position = 0;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#pieces, this.#position);
  }
}
