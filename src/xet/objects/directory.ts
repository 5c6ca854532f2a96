/**
 * The files of a directory as objects: a copy of a bucket, or a store that is read by the code that reads buckets.
 * Writers of one process at a time are kept apart; between processes an object is put where there is none by
 * link(2), which is safe, and one is replaced under a lock file.
 */
import { randomBytes } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { access, link, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeDirectories } from '../../make-directories.ts';
import { errnoOf, Git2dbError } from '../errors.ts';
import { throwIfAborted } from '../store/aborted.ts';
import {
  type ListedObject,
  type ObjectBody,
  type ObjectHead,
  type ObjectOptions,
  type ObjectPart,
  type ObjectStore,
  tooLong,
  type WholeOptions,
} from './objects.ts';

/** Files on their way to their name. */
const TEMPORARY = '.new-';
const LOCK_WAIT_MS = 60_000;
/** A lock is held for one rename. */
const STALE_LOCK_MS = 30_000;

export class DirectoryObjects implements ObjectStore {
  readonly place: string;
  readonly isReadOnly: boolean;
  readonly canList: boolean = true;

  private constructor(root: string, isReadOnly: boolean) {
    this.place = root;
    this.isReadOnly = isReadOnly;
  }

  /** Throws REMOTE_MISSING if there is no such directory. */
  static async open(root: string): Promise<DirectoryObjects> {
    try {
      await access(root, constants.R_OK | constants.X_OK);
    } catch (error) {
      throw new Git2dbError(
        'REMOTE_MISSING',
        `cannot read the directory ${root}: ${(error as Error).message}`,
        {
          cause: error,
        },
      );
    }
    const isReadOnly = await access(root, constants.W_OK).then(
      () => false,
      () => true,
    );
    return new DirectoryObjects(root, isReadOnly);
  }

  async head(key: string): Promise<ObjectHead | undefined> {
    return absent(async () => headOf(await stat(this.#path(key), { bigint: true })));
  }

  async read(
    key: string,
    start: number,
    end: number,
    options?: ObjectOptions,
  ): Promise<ObjectPart | undefined> {
    return this.#read(key, () => [start, end], options);
  }

  async readTail(key: string, length: number, options?: ObjectOptions): Promise<ObjectPart | undefined> {
    return this.#read(key, (size) => [Math.max(0, size - length), size], options);
  }

  async readWhole(key: string, options: WholeOptions): Promise<ObjectPart | 'unchanged' | undefined> {
    if (options.unless !== undefined && (await this.head(key))?.etag === options.unless) return 'unchanged';
    return this.#read(
      key,
      (size) => {
        if (size > options.limit) throw tooLong(this.#path(key), options.limit);
        return [0, size];
      },
      options,
    );
  }

  async putIfAbsent(key: string, body: ObjectBody, options?: ObjectOptions): Promise<boolean> {
    const path = this.#path(key);
    return this.#written(path, body, options, async (temporary) => {
      try {
        await link(temporary, path);
        return true;
      } catch (error) {
        if (errnoOf(error) === 'EEXIST') return false;
        throw error;
      }
    });
  }

  async replace(
    key: string,
    body: ObjectBody,
    etag: string | undefined,
    options?: ObjectOptions,
  ): Promise<string | undefined> {
    const path = this.#path(key);
    return this.#written(path, body, options, async (temporary) => {
      const release = await lock(`${path}.lock`, options?.signal);
      try {
        if ((await this.head(key))?.etag !== etag) return undefined;
        await rename(temporary, path);
        return (await this.head(key))?.etag;
      } finally {
        await release();
      }
    });
  }

  async delete(key: string): Promise<void> {
    await rm(this.#path(key), { force: true });
  }

  async *list(prefix: string, options?: ObjectOptions): AsyncGenerator<ListedObject> {
    const directory = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    for (const name of (await absent(() => readdir(join(this.place, directory)))) ?? []) {
      throwIfAborted(options?.signal);
      const key = `${directory}${name}`;
      if (!key.startsWith(prefix) || name.startsWith(TEMPORARY) || name.endsWith('.lock')) continue;
      const found = await absent(() => stat(this.#path(key)));
      if (found?.isDirectory()) yield* this.list(`${key}/`, options);
      else if (found !== undefined) yield { key, size: found.size, modifiedMs: found.mtimeMs };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #path(key: string): string {
    return join(this.place, key);
  }

  async #read(
    key: string,
    range: (size: number) => [number, number],
    options?: ObjectOptions,
  ): Promise<ObjectPart | undefined> {
    throwIfAborted(options?.signal);
    return absent(async () => {
      // Not waiting for the writer of a pipe.
      const file = await open(this.#path(key), constants.O_RDONLY | constants.O_NONBLOCK);
      try {
        const found = await file.stat({ bigint: true });
        if (!found.isFile())
          throw new Git2dbError('REMOTE_INVALID', `${this.#path(key)} is no regular file: remove it`);
        const head = headOf(found);
        const [start, end] = range(head.size);
        const bytes = Buffer.allocUnsafeSlow(Math.max(0, Math.min(end, head.size) - start));
        for (let done = 0; done < bytes.length; ) {
          const { bytesRead } = await file.read(bytes, done, bytes.length - done, start + done);
          if (bytesRead === 0) throw new Git2dbError('REMOTE_INVALID', `${this.#path(key)} became shorter`);
          done += bytesRead;
        }
        return { ...head, bytes };
      } finally {
        await file.close();
      }
    });
  }

  /** Writes the body under a temporary name beside `path`, and removes that after `publish`. */
  async #written<T>(
    path: string,
    body: ObjectBody,
    options: ObjectOptions | undefined,
    publish: (temporary: string) => Promise<T>,
  ): Promise<T> {
    const temporary = join(dirname(path), `${TEMPORARY}${randomBytes(8).toString('hex')}`);
    try {
      makeDirectories(dirname(path));
      const file = await open(temporary, 'wx', 0o666);
      try {
        for await (const piece of body.stream()) {
          throwIfAborted(options?.signal);
          for (let done = 0; done < piece.length; ) done += (await file.write(piece, done)).bytesWritten;
        }
        await file.datasync();
      } finally {
        await file.close();
      }
      return await publish(temporary);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === undefined || error instanceof Git2dbError || (error as Error).name === 'AbortError')
        throw error;
      const code = errno === 'ENOSPC' || errno === 'EDQUOT' ? 'DISK_FULL' : 'STORE_UNWRITABLE';
      throw new Git2dbError(code, `cannot write ${path}: ${(error as Error).message}`, { cause: error });
    } finally {
      await rm(temporary, { force: true });
    }
  }
}

function headOf({ size, mtimeNs, ino }: BigIntStats): ObjectHead {
  return { size: Number(size), etag: `${ino}-${mtimeNs}-${size}` };
}

async function lock(path: string, signal?: AbortSignal): Promise<() => Promise<void>> {
  const deadline = Date.now() + LOCK_WAIT_MS;
  for (;;) {
    try {
      await (await open(path, 'wx')).close();
      return () => rm(path, { force: true });
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
    const held = await absent(() => stat(path));
    if (held !== undefined && Date.now() - held.mtimeMs > STALE_LOCK_MS) await rm(path, { force: true });
    else if (Date.now() > deadline) {
      throw new Git2dbError(
        'STORE_UNWRITABLE',
        `${path} is held by another process; remove it if there is none`,
      );
    } else await sleep(5, undefined, signal === undefined ? {} : { signal });
  }
}

async function absent<T>(action: () => Promise<T>): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    throw error;
  }
}
