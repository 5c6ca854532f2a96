/**
 * A bucket of any S3-compatible service. Objects whose name says what is in them are put where there is none; the
 * one that changes, the catalog's HEAD, is replaced on condition of its ETag. What services do with these
 * conditions differs, which is noted where it matters.
 */

import { Readable } from 'node:stream';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import { backOff, type Clock, SYSTEM_CLOCK } from '../cas/retry.ts';
import { Git2dbError } from '../errors.ts';
import { throwIfAborted } from '../store/aborted.ts';
import { tooLong } from './memory.ts';
import type {
  ListedObject,
  ObjectBody,
  ObjectHead,
  ObjectOptions,
  ObjectPart,
  ObjectStore,
  WholeOptions,
} from './objects.ts';
import { parseS3Address, type S3Address } from './s3-address.ts';
import { explain, isAbsent, isRefusedByCondition, isTransient, nameOf, statusOf } from './s3-error.ts';

const RETRIES = 6;
/** Without a byte either way. */
const IDLE_TIMEOUT_MS = 60_000;
const CONNECT_TIMEOUT_MS = 15_000;
/** Requests at once; each has a connection. */
const MAX_SOCKETS = 64;
/** Parts of a multipart upload. */
const PART_BYTES = 8 << 20;

const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

type Sdk = typeof import('@aws-sdk/client-s3');

export interface S3Options {
  readonly clock?: Clock;
  /** Retries of a request that failed for a reason that may pass. Default 6. */
  readonly retries?: number;
  /** Instead of those of the environment and the profile; for tests. */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

/** Loads the SDK. Asks nothing yet. Throws URL_INVALID or INVALID_CONFIG. */
export async function openS3(url: string, options: S3Options = {}): Promise<S3Objects> {
  const address = parseS3Address(url);
  const sdk = await import('@aws-sdk/client-s3');
  const config: S3ClientConfig = {
    forcePathStyle: address.pathStyle,
    ...(address.endpoint !== undefined && { endpoint: address.endpoint }),
    // Services of others take any region in the signature.
    ...(address.region !== undefined && { region: address.region }),
    ...(address.region === undefined && address.endpoint !== undefined && { region: 'us-east-1' }),
    ...(options.credentials !== undefined && { credentials: options.credentials }),
    // Else bodies are sent in a framing that many services do not know.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // Tried again here: a body has to be made anew.
    maxAttempts: 1,
    // It would write to the console.
    logger: SILENT,
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: IDLE_TIMEOUT_MS,
      httpAgent: { maxSockets: MAX_SOCKETS, keepAlive: true },
      httpsAgent: { maxSockets: MAX_SOCKETS, keepAlive: true },
    },
  };
  return new S3Objects(
    sdk,
    quietly(() => new sdk.S3Client(config)),
    address,
    options,
  );
}

export class S3Objects implements ObjectStore {
  readonly place: string;
  readonly isReadOnly: boolean = false;
  readonly canList: boolean = true;
  readonly #sdk: Sdk;
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #clock: Clock;
  readonly #retries: number;
  /** Set once the service has refused a body for its size. */
  #needsParts = false;

  constructor(sdk: Sdk, client: S3Client, { bucket, prefix }: S3Address, options: S3Options) {
    this.#sdk = sdk;
    this.#client = client;
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#retries = options.retries ?? RETRIES;
    this.place = `s3://${bucket}/${prefix}`.replace(/\/$/, '');
  }

  async head(key: string, options: ObjectOptions = {}): Promise<ObjectHead | undefined> {
    const { HeadObjectCommand } = this.#sdk;
    return this.#absent(async () => {
      const { ContentLength, ETag } = await this.#try('looking for', key, options, (signal) =>
        this.#client.send(new HeadObjectCommand(this.#name(key)), { abortSignal: signal }),
      );
      if (ContentLength === undefined) throw this.#invalid(key, 'the answer tells no size');
      return { size: ContentLength, etag: ETag };
    });
  }

  async read(
    key: string,
    start: number,
    end: number,
    options: ObjectOptions = {},
  ): Promise<ObjectPart | undefined> {
    if (end <= start) {
      const head = await this.head(key, options);
      return head && { ...head, bytes: Buffer.alloc(0) };
    }
    return this.#get(key, `bytes=${start}-${end - 1}`, end - start, options);
  }

  async readTail(key: string, length: number, options: ObjectOptions = {}): Promise<ObjectPart | undefined> {
    return this.#get(key, `bytes=-${length}`, length, options);
  }

  async readWhole(key: string, options: WholeOptions): Promise<ObjectPart | 'unchanged' | undefined> {
    const { GetObjectCommand } = this.#sdk;
    const { unless, limit } = options;
    try {
      return await this.#absent(() =>
        this.#try('reading', key, options, async (signal) => {
          const answer = await this.#client.send(
            new GetObjectCommand({
              ...this.#name(key),
              ...(unless !== undefined && { IfNoneMatch: unless }),
            }),
            { abortSignal: signal },
          );
          const bytes = await this.#collect(key, answer.Body, limit, answer.ContentLength);
          return { bytes, size: bytes.length, etag: answer.ETag };
        }),
      );
    } catch (error) {
      if (statusOf(causeOf(error)) === 304) return 'unchanged';
      throw error;
    }
  }

  async putIfAbsent(key: string, body: ObjectBody, options: ObjectOptions = {}): Promise<boolean> {
    if (this.#needsParts && body.length > PART_BYTES) return this.#putInParts(key, body, options);
    try {
      return (await this.#put(key, body, { IfNoneMatch: '*' }, options)) !== undefined;
    } catch (error) {
      if (!isTooLarge(causeOf(error)) || body.length <= PART_BYTES) throw error;
      this.#needsParts = true;
      return this.#putInParts(key, body, options);
    }
  }

  async replace(
    key: string,
    body: ObjectBody,
    etag: string | undefined,
    options: ObjectOptions = {},
  ): Promise<string | undefined> {
    if (etag === undefined) return this.#put(key, body, { IfNoneMatch: '*' }, options);
    const replaced = await this.#put(key, body, { IfMatch: etag }, options);
    if (replaced !== undefined || !/^".*"$/.test(etag)) return replaced;
    // Some services compare without the quotes. Both forms are refused where the object has changed, so this
    // cannot overwrite a newer one; and who does not understand this form answers 400.
    try {
      return await this.#put(key, body, { IfMatch: etag.slice(1, -1) }, options);
    } catch (error) {
      if (statusOf(causeOf(error)) === 400) return undefined;
      throw error;
    }
  }

  async delete(key: string, options: ObjectOptions = {}): Promise<void> {
    const { DeleteObjectCommand } = this.#sdk;
    await this.#absent(() =>
      this.#try('deleting', key, options, (signal) =>
        this.#client.send(new DeleteObjectCommand(this.#name(key)), { abortSignal: signal }),
      ),
    );
  }

  async *list(prefix: string, options: ObjectOptions = {}): AsyncGenerator<ListedObject> {
    const { ListObjectsV2Command } = this.#sdk;
    let token: string | undefined;
    do {
      const page = await this.#try('listing', prefix, options, (signal) =>
        this.#client.send(
          new ListObjectsV2Command({
            Bucket: this.#bucket,
            Prefix: `${this.#prefix}${prefix}`,
            ...(token !== undefined && { ContinuationToken: token }),
          }),
          { abortSignal: signal },
        ),
      );
      for (const { Key, Size, LastModified } of page.Contents ?? []) {
        if (Key === undefined || !Key.startsWith(this.#prefix)) continue;
        yield {
          key: Key.slice(this.#prefix.length),
          size: Size ?? 0,
          modifiedMs: LastModified?.getTime() ?? Date.now(),
        };
      }
      const next = page.IsTruncated === true ? page.NextContinuationToken : undefined;
      if (next !== undefined && next === token) throw this.#invalid(prefix, 'its list does not go on');
      token = next;
    } while (token !== undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.destroy();
  }

  async #get(
    key: string,
    range: string,
    limit: number,
    options: ObjectOptions,
  ): Promise<ObjectPart | undefined> {
    const { GetObjectCommand } = this.#sdk;
    try {
      return await this.#absent(() =>
        this.#try('reading', key, options, async (signal) => {
          const answer = await this.#client.send(new GetObjectCommand({ ...this.#name(key), Range: range }), {
            abortSignal: signal,
          });
          const total = /\/(\d{1,15})$/.exec(answer.ContentRange ?? '')?.[1];
          const size = total === undefined ? answer.ContentLength : Number(total);
          if (size === undefined) throw this.#invalid(key, 'the answer tells no size');
          // Without a Content-Range the whole object comes, which is right only if it is no longer.
          const bytes = await this.#collect(key, answer.Body, limit, answer.ContentLength);
          const promised = answer.ContentLength ?? bytes.length;
          if (bytes.length !== promised) throw shortBody(bytes.length, promised);
          return { bytes, size, etag: answer.ETag };
        }),
      );
    } catch (error) {
      const cause = causeOf(error);
      if (statusOf(cause) !== 416 && nameOf(cause) !== 'InvalidRange') throw error;
      const head = await this.head(key, options);
      return head && { ...head, bytes: Buffer.alloc(0) };
    }
  }

  /** The ETag; undefined where the condition does not hold. */
  async #put(
    key: string,
    body: ObjectBody,
    condition: { readonly IfNoneMatch?: string; readonly IfMatch?: string },
    options: ObjectOptions,
  ): Promise<string | undefined> {
    const { PutObjectCommand } = this.#sdk;
    let isAgain = false;
    try {
      const answer = await this.#try('writing', key, options, async (signal) => {
        // A try whose answer was lost may have succeeded.
        if (
          isAgain &&
          condition.IfNoneMatch !== undefined &&
          (await this.#hasSize(key, body.length, options))
        ) {
          return { ETag: '' };
        }
        isAgain = true;
        return this.#sendBody(body, signal, (stream, abortSignal) =>
          this.#client.send(
            new PutObjectCommand({
              ...this.#name(key),
              Body: stream,
              ContentLength: body.length,
              ...condition,
            }),
            { abortSignal },
          ),
        );
      });
      return answer.ETag ?? '';
    } catch (error) {
      const cause = causeOf(error);
      if (isRefusedByCondition(cause)) return undefined;
      // The object with this ETag is gone.
      if (condition.IfMatch !== undefined && isAbsent(cause)) return undefined;
      throw error;
    }
  }

  async #hasSize(key: string, size: number, options: ObjectOptions): Promise<boolean> {
    return (await this.head(key, options))?.size === size;
  }

  /**
   * For services, or proxies before them, that take no large bodies. A multipart upload replaces what is there
   * even where it is told not to, on some services; so it is begun only where there is nothing.
   */
  async #putInParts(key: string, body: ObjectBody, options: ObjectOptions): Promise<boolean> {
    if ((await this.head(key, options)) !== undefined) return false;
    const sdk = this.#sdk;
    const name = this.#name(key);
    const { UploadId } = await this.#try('writing', key, options, (signal) =>
      this.#client.send(new sdk.CreateMultipartUploadCommand(name), { abortSignal: signal }),
    );
    if (UploadId === undefined) throw this.#invalid(key, 'the answer names no upload');
    try {
      const parts: { PartNumber: number; ETag: string | undefined }[] = [];
      for await (const bytes of inParts(body)) {
        const PartNumber = parts.length + 1;
        const { ETag } = await this.#try('writing', key, options, (signal) =>
          this.#client.send(new sdk.UploadPartCommand({ ...name, UploadId, PartNumber, Body: bytes }), {
            abortSignal: signal,
          }),
        );
        parts.push({ PartNumber, ETag });
      }
      await this.#try('writing', key, options, (signal) =>
        this.#client.send(
          new sdk.CompleteMultipartUploadCommand({
            ...name,
            UploadId,
            MultipartUpload: { Parts: parts },
            IfNoneMatch: '*',
          }),
          { abortSignal: signal },
        ),
      );
      return true;
    } catch (error) {
      await this.#client
        .send(new sdk.AbortMultipartUploadCommand({ ...name, UploadId }))
        .catch(() => undefined);
      if (isRefusedByCondition(causeOf(error))) return false;
      throw error;
    }
  }

  /** A failure of the body itself is told as it is, and not as one of the connection. */
  async #sendBody<T>(
    body: ObjectBody,
    signal: AbortSignal,
    send: (stream: Readable | Uint8Array, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const source = body.stream();
    if (Array.isArray(source)) return send(Buffer.concat(source as Uint8Array[]), signal);
    let failure: { readonly error: unknown } | undefined;
    // The SDK would wait for the rest of a body that has failed.
    const stop = new AbortController();
    const stream = Readable.from(source, { objectMode: false, highWaterMark: 1 << 20 });
    stream.on('error', (error) => {
      failure = { error };
      stop.abort();
    });
    try {
      return await send(stream, AbortSignal.any([signal, stop.signal]));
    } catch (error) {
      if (failure !== undefined) throw new BodyFailure(failure.error);
      throw error;
    } finally {
      stream.destroy();
    }
  }

  /** `promised`: bytes that are to come, as far as the answer tells. */
  async #collect(key: string, body: unknown, limit: number, promised: number | undefined): Promise<Buffer> {
    const stream = body as Readable;
    // Put where they belong as they come: a list of pieces would be in memory twice when they are joined.
    let bytes: Buffer = Buffer.allocUnsafeSlow(Math.min(limit, promised ?? 0));
    let size = 0;
    try {
      for await (const piece of stream as AsyncIterable<Buffer>) {
        if (size + piece.length > limit) throw tooLong(`${this.place}/${key}`, limit);
        if (size + piece.length > bytes.length) bytes = grown(bytes, size, size + piece.length);
        piece.copy(bytes, size);
        size += piece.length;
      }
    } finally {
      stream.destroy();
    }
    return bytes.subarray(0, size);
  }

  /** Runs `action`, again where that may help. Throws errors for a person, with the SDK's in `cause`. */
  async #try<T>(
    what: string,
    key: string,
    { signal }: ObjectOptions,
    action: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const never = new AbortController().signal;
    for (let attempt = 0; ; attempt++) {
      throwIfAborted(signal);
      try {
        return await action(signal ?? never);
      } catch (error) {
        throwIfAborted(signal);
        if (error instanceof BodyFailure) throw error.cause;
        if (!isTransient(error) || attempt >= this.#retries)
          throw explain(error, what, `${this.place}/${key}`);
        await this.#clock.sleep(backOff(attempt, this.#clock), signal);
      }
    }
  }

  async #absent<T>(action: () => Promise<T>): Promise<T | undefined> {
    try {
      return await action();
    } catch (error) {
      if (isAbsent(causeOf(error))) return undefined;
      throw error;
    }
  }

  #name(key: string): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.#bucket, Key: `${this.#prefix}${key}` };
  }

  #invalid(key: string, found: string): Git2dbError {
    return new Git2dbError('REMOTE_INVALID', `${this.place}/${key}: ${found}; is this an S3 service?`);
  }
}

/** The SDK tells users of this version of Node to get a newer one, which is not for it to say. */
function quietly<T>(action: () => T): T {
  const name = 'AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED';
  const before = process.env[name];
  process.env[name] = 'true';
  try {
    return action();
  } finally {
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  }
}

/** Carries what the maker of a body threw past the retries. */
class BodyFailure extends Error {
  constructor(cause: unknown) {
    super('the body failed', { cause });
  }
}

function causeOf(error: unknown): unknown {
  return error instanceof Git2dbError ? error.cause : error;
}

function grown(bytes: Buffer, used: number, size: number): Buffer {
  const larger = Buffer.allocUnsafeSlow(Math.max(2 * bytes.length, size));
  bytes.copy(larger, 0, 0, used);
  return larger;
}

function isTooLarge(error: unknown): boolean {
  return statusOf(error) === 413 || nameOf(error) === 'EntityTooLarge';
}

function shortBody(found: number, promised: number): Error {
  return Object.assign(new Error(`${found} bytes came of ${promised}`), { code: 'ECONNRESET' });
}

/** The body in pieces of PART_BYTES, the last one shorter. */
async function* inParts(body: ObjectBody): AsyncGenerator<Buffer> {
  let pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of body.stream()) {
    pieces.push(new Uint8Array(piece));
    size += piece.length;
    if (size < PART_BYTES) continue;
    const whole = Buffer.concat(pieces, size);
    let at = 0;
    for (; size - at >= PART_BYTES; at += PART_BYTES) yield whole.subarray(at, at + PART_BYTES);
    pieces = at === size ? [] : [whole.subarray(at)];
    size -= at;
  }
  if (size > 0) yield Buffer.concat(pieces, size);
}
