/**
 * Blobs under keys (`xorbs/ab/<hash>`, `catalog/HEAD`): what a bucket, a web server, a directory and a test have
 * in common. Absence is a value here. All calls may be made at once.
 *
 * Errors: AUTH_FAILED, REMOTE_FORBIDDEN, REMOTE_MISSING (no such bucket), NETWORK (after all retries),
 * REMOTE_INVALID, DISK_FULL, STORE_UNWRITABLE; AbortError for `signal`.
 */
import { Git2dbError } from '../errors.ts';
import { throwIfAborted } from '../store/aborted.ts';

export interface ObjectOptions {
  readonly signal?: AbortSignal | undefined;
}

/** A body that is made anew for each try. */
export interface ObjectBody {
  /** Bytes. */
  readonly length: number;
  readonly stream: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

export interface ObjectHead {
  /** Bytes. */
  readonly size: number;
  /** Changes with the content. Undefined where the store tells none. */
  readonly etag: string | undefined;
}

/** Some bytes of an object, and what the whole is. */
export interface ObjectPart extends ObjectHead {
  /** Nobody else's. */
  readonly bytes: Buffer;
}

export interface ListedObject {
  readonly key: string;
  readonly size: number;
  /** In ms since 1970. */
  readonly modifiedMs: number;
}

export interface WholeOptions extends ObjectOptions {
  /** REMOTE_INVALID if the object has more bytes. */
  readonly limit: number;
  /** `unchanged` is the answer while the object has this ETag. */
  readonly unless?: string | undefined;
}

export interface ObjectStore extends AsyncDisposable {
  /** For messages: without user, token or query. */
  readonly place: string;
  readonly isReadOnly: boolean;
  readonly canList: boolean;

  head(key: string, options?: ObjectOptions): Promise<ObjectHead | undefined>;

  /** Bytes [start, end), as far as the object has them; an empty part if it ends before `start`. */
  read(key: string, start: number, end: number, options?: ObjectOptions): Promise<ObjectPart | undefined>;

  /** The last `length` bytes, or all if there are fewer. */
  readTail(key: string, length: number, options?: ObjectOptions): Promise<ObjectPart | undefined>;

  readWhole(key: string, options: WholeOptions): Promise<ObjectPart | 'unchanged' | undefined>;

  /** False if there is one already, which stays as it is. */
  putIfAbsent(key: string, body: ObjectBody, options?: ObjectOptions): Promise<boolean>;

  /**
   * Puts the object in the place of that with this ETag; without one, where there is none. The new ETag, or
   * undefined if there is another one by now.
   */
  replace(
    key: string,
    body: ObjectBody,
    etag: string | undefined,
    options?: ObjectOptions,
  ): Promise<string | undefined>;

  /** Also if it is not there. */
  delete(key: string, options?: ObjectOptions): Promise<void>;

  /** All objects whose keys begin so, in any order. */
  list(prefix: string, options?: ObjectOptions): AsyncIterable<ListedObject>;
}

export function bodyOf(bytes: Uint8Array): ObjectBody {
  return { length: bytes.length, stream: () => [bytes] };
}

/** All bytes of a body. */
export async function collectBody(body: ObjectBody, signal?: AbortSignal): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of body.stream()) {
    throwIfAborted(signal);
    pieces.push(new Uint8Array(piece));
  }
  return Buffer.concat(pieces);
}

/** None of the bytes of an object. */
export function emptyPart(head: ObjectHead): ObjectPart {
  return { ...head, bytes: Buffer.alloc(0) };
}

/** `name`: of the object, for messages. */
export function tooLong(name: string, limit: number): Git2dbError {
  return new Git2dbError('REMOTE_INVALID', `${name} has more than the ${limit} bytes that are possible here`);
}
