/**
 * A bucket of any S3-compatible service. Objects whose name says what is in them are put where there is none; the
 * one that changes, the catalog's HEAD, is replaced on condition of its ETag. What services do with these
 * conditions differs, which is noted where it matters.
 */
import {
  emptyPart,
  type ListedObject,
  type ObjectBody,
  type ObjectHead,
  type ObjectOptions,
  type ObjectPart,
  type ObjectStore,
  type WholeOptions,
} from './objects.ts';
import { collectAnswer, sendBody, shortBody } from './s3-body.ts';
import { causeOf, S3Bucket, type S3Options } from './s3-bucket.ts';
import { isAbsent, isRefusedByCondition, nameOf, statusOf } from './s3-error.ts';
import { PART_BYTES, putInParts } from './s3-multipart.ts';

/** Loads the SDK. Asks nothing yet. Throws URL_INVALID or INVALID_CONFIG. */
export async function openS3(url: string, options: S3Options = {}): Promise<S3Objects> {
  return new S3Objects(await S3Bucket.open(url, options));
}

export class S3Objects implements ObjectStore {
  readonly place: string;
  readonly isReadOnly: boolean = false;
  readonly canList: boolean = true;
  readonly #bucket: S3Bucket;
  /** Set once the service has refused a body for its size. */
  #needsParts = false;

  constructor(bucket: S3Bucket) {
    this.#bucket = bucket;
    this.place = bucket.place;
  }

  async head(key: string, options: ObjectOptions = {}): Promise<ObjectHead | undefined> {
    const { HeadObjectCommand } = this.#bucket.sdk;
    return this.#bucket.absent(async () => {
      const { ContentLength, ETag } = await this.#bucket.try('looking for', key, options, (signal) =>
        this.#bucket.client.send(new HeadObjectCommand(this.#bucket.keyed(key)), { abortSignal: signal }),
      );
      if (ContentLength === undefined) throw this.#bucket.invalid(key, 'the answer tells no size');
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
      return head && emptyPart(head);
    }
    return this.#get(key, `bytes=${start}-${end - 1}`, end - start, options);
  }

  async readTail(key: string, length: number, options: ObjectOptions = {}): Promise<ObjectPart | undefined> {
    return this.#get(key, `bytes=-${length}`, length, options);
  }

  async readWhole(key: string, options: WholeOptions): Promise<ObjectPart | 'unchanged' | undefined> {
    const { GetObjectCommand } = this.#bucket.sdk;
    const { unless, limit } = options;
    try {
      return await this.#bucket.absent(() =>
        this.#bucket.try('reading', key, options, async (signal) => {
          const answer = await this.#bucket.client.send(
            new GetObjectCommand({
              ...this.#bucket.keyed(key),
              ...(unless !== undefined && { IfNoneMatch: unless }),
            }),
            { abortSignal: signal },
          );
          const bytes = await collectAnswer(`${this.place}/${key}`, answer.Body, limit, answer.ContentLength);
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
    const { DeleteObjectCommand } = this.#bucket.sdk;
    await this.#bucket.absent(() =>
      this.#bucket.try('deleting', key, options, (signal) =>
        this.#bucket.client.send(new DeleteObjectCommand(this.#bucket.keyed(key)), { abortSignal: signal }),
      ),
    );
  }

  async *list(prefix: string, options: ObjectOptions = {}): AsyncGenerator<ListedObject> {
    const { ListObjectsV2Command } = this.#bucket.sdk;
    let token: string | undefined;
    do {
      const page = await this.#bucket.try('listing', prefix, options, (signal) =>
        this.#bucket.client.send(
          new ListObjectsV2Command({
            Bucket: this.#bucket.name,
            Prefix: `${this.#bucket.prefix}${prefix}`,
            ...(token !== undefined && { ContinuationToken: token }),
          }),
          { abortSignal: signal },
        ),
      );
      for (const { Key, Size, LastModified } of page.Contents ?? []) {
        if (Key === undefined || !Key.startsWith(this.#bucket.prefix)) continue;
        yield {
          key: Key.slice(this.#bucket.prefix.length),
          size: Size ?? 0,
          modifiedMs: LastModified?.getTime() ?? Date.now(),
        };
      }
      const next = page.IsTruncated === true ? page.NextContinuationToken : undefined;
      if (next !== undefined && next === token) throw this.#bucket.invalid(prefix, 'its list does not go on');
      token = next;
    } while (token !== undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#bucket.client.destroy();
  }

  async #get(
    key: string,
    range: string,
    limit: number,
    options: ObjectOptions,
  ): Promise<ObjectPart | undefined> {
    const { GetObjectCommand } = this.#bucket.sdk;
    try {
      return await this.#bucket.absent(() =>
        this.#bucket.try('reading', key, options, async (signal) => {
          const answer = await this.#bucket.client.send(
            new GetObjectCommand({ ...this.#bucket.keyed(key), Range: range }),
            { abortSignal: signal },
          );
          const total = /\/(\d{1,15})$/.exec(answer.ContentRange ?? '')?.[1];
          const size = total === undefined ? answer.ContentLength : Number(total);
          if (size === undefined) throw this.#bucket.invalid(key, 'the answer tells no size');
          // Without a Content-Range the whole object comes, which is right only if it is no longer.
          const bytes = await collectAnswer(`${this.place}/${key}`, answer.Body, limit, answer.ContentLength);
          const promised = answer.ContentLength ?? bytes.length;
          if (bytes.length !== promised) throw shortBody(bytes.length, promised);
          return { bytes, size, etag: answer.ETag };
        }),
      );
    } catch (error) {
      const cause = causeOf(error);
      if (statusOf(cause) !== 416 && nameOf(cause) !== 'InvalidRange') throw error;
      const head = await this.head(key, options);
      return head && emptyPart(head);
    }
  }

  /** The ETag; undefined where the condition does not hold. */
  async #put(
    key: string,
    body: ObjectBody,
    condition: { readonly IfNoneMatch?: string; readonly IfMatch?: string },
    options: ObjectOptions,
  ): Promise<string | undefined> {
    const { PutObjectCommand } = this.#bucket.sdk;
    let isAgain = false;
    try {
      const answer = await this.#bucket.try('writing', key, options, async (signal) => {
        // A try whose answer was lost may have succeeded.
        if (
          isAgain &&
          condition.IfNoneMatch !== undefined &&
          (await this.#hasSize(key, body.length, options))
        ) {
          return { ETag: '' };
        }
        isAgain = true;
        return sendBody(body, signal, (stream, abortSignal) =>
          this.#bucket.client.send(
            new PutObjectCommand({
              ...this.#bucket.keyed(key),
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

  /** Puts where there is nothing: on some services an upload in parts replaces even what it is told not to. */
  async #putInParts(key: string, body: ObjectBody, options: ObjectOptions): Promise<boolean> {
    if ((await this.head(key, options)) !== undefined) return false;
    return putInParts(this.#bucket, key, body, options);
  }
}

function isTooLarge(error: unknown): boolean {
  return statusOf(error) === 413 || nameOf(error) === 'EntityTooLarge';
}
