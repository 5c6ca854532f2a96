/**
 * The files behind a static web server as objects: they can be read, and not be listed. Where the server gives
 * no ranges the file is read as a whole, and the last one kept, since its other parts will be asked for next.
 */
import type { HttpClient, HttpResponse } from '../cas/http.ts';
import { nameUrl } from '../cas/http-error.ts';
import { formatRange, parseContentRange } from '../cas/range.ts';
import { Git2dbError } from '../errors.ts';
import { MAX_FOOTER_LENGTH, MAX_XORB_BYTES } from '../xorb/format.ts';
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

/** Largest file that is read as a whole because it cannot be read in parts: a full xorb. */
const MAX_WHOLE = MAX_XORB_BYTES + MAX_FOOTER_LENGTH + 65536;
const MISSING = [404, 410];

/** The HTTP door, as far as it is used here. */
export type Requester = Pick<HttpClient, 'request'>;

export class HttpObjects implements ObjectStore {
  readonly place: string;
  readonly isReadOnly: boolean = true;
  readonly canList: boolean = false;
  readonly #http: Requester;
  readonly #base: string;
  /** The file read as a whole last. */
  #whole: { readonly key: string; readonly part: Promise<ObjectPart | undefined> } | undefined;

  /** `url`: of the directory. `http` stays the caller's. */
  constructor(http: Requester, url: string) {
    this.#http = http;
    this.#base = url.replace(/\/+$/, '');
    this.place = nameUrl(this.#base);
  }

  async head(key: string, { signal }: ObjectOptions = {}): Promise<ObjectHead | undefined> {
    const response = await this.#http.request({
      method: 'HEAD',
      url: this.#url(key),
      accept: [200, ...MISSING],
      signal,
    });
    await response.discard();
    if (response.status !== 200) return undefined;
    const size = Number(response.headers['content-length'] ?? Number.NaN);
    if (!Number.isSafeInteger(size) || size < 0) throw this.#invalid(key, 'does not tell its size');
    return { size, etag: response.headers.etag };
  }

  async read(
    key: string,
    start: number,
    end: number,
    options?: ObjectOptions,
  ): Promise<ObjectPart | undefined> {
    return this.#readRange(key, `bytes=${start}-${end - 1}`, (size) => [start, Math.min(end, size)], options);
  }

  async readTail(key: string, length: number, options?: ObjectOptions): Promise<ObjectPart | undefined> {
    return this.#readRange(key, `bytes=-${length}`, (size) => [Math.max(0, size - length), size], options);
  }

  async readWhole(key: string, options: WholeOptions): Promise<ObjectPart | 'unchanged' | undefined> {
    const { limit, unless, signal } = options;
    const response = await this.#http.request({
      method: 'GET',
      url: this.#url(key),
      headers: unless === undefined ? {} : { 'if-none-match': unless },
      accept: [200, 304, ...MISSING],
      signal,
    });
    if (response.status === 200) return wholeOf(response, limit);
    await response.discard();
    return response.status === 304 ? 'unchanged' : undefined;
  }

  putIfAbsent(_key: string, _body: ObjectBody): Promise<boolean> {
    return Promise.reject(this.#readOnly());
  }

  replace(_key: string, _body: ObjectBody): Promise<string | undefined> {
    return Promise.reject(this.#readOnly());
  }

  delete(_key: string): Promise<void> {
    return Promise.reject(this.#readOnly());
  }

  // biome-ignore lint/correctness/useYield: a web server lists nothing
  async *list(): AsyncGenerator<ListedObject> {
    throw new Git2dbError('REMOTE_INVALID', `the files at ${this.place} cannot be listed`);
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #readRange(
    key: string,
    range: string,
    rangeOf: (size: number) => readonly [number, number],
    { signal }: ObjectOptions = {},
  ): Promise<ObjectPart | undefined> {
    if (this.#whole?.key === key) return cut(await this.#whole.part, rangeOf);
    const response = await this.#http.request({
      method: 'GET',
      url: this.#url(key),
      headers: { range },
      accept: [200, 206, 416, ...MISSING],
      signal,
    });
    if (response.status === 206) return this.#part(key, response, rangeOf);
    if (response.status === 200) {
      // All of it is on its way: others who want parts of it wait for that.
      const part = this.#readAll(key, response);
      this.#whole = { key, part };
      part.catch(() => {
        if (this.#whole?.part === part) this.#whole = undefined;
      });
      return cut(await part, rangeOf);
    }
    await response.discard();
    if (response.status !== 416) return undefined;
    const head = await this.head(key, { signal });
    return head && emptyPart(head);
  }

  async #part(
    key: string,
    response: HttpResponse,
    rangeOf: (size: number) => readonly [number, number],
  ): Promise<ObjectPart> {
    const found = parseContentRange(response.headers['content-range']);
    const [start, end] = found?.total === undefined ? [0, 0] : rangeOf(found.total);
    if (found?.total === undefined || found.start !== start || found.end !== end) {
      await response.discard();
      throw this.#invalid(
        key,
        `answers with another range than ${formatRange([{ start, end: Math.max(end, start + 1) }])}`,
      );
    }
    const bytes = await response.bytes(end - start);
    if (bytes.length !== end - start)
      throw this.#invalid(key, `answers with ${bytes.length} bytes of ${end - start}`);
    return { bytes, size: found.total, etag: response.headers.etag };
  }

  async #readAll(key: string, response: HttpResponse): Promise<ObjectPart> {
    const declared = Number(response.headers['content-length'] ?? 0);
    if (declared > MAX_WHOLE) {
      await response.discard();
      throw this.#invalid(
        key,
        `has ${declared} bytes and is given as a whole only; the web server must support Range requests`,
      );
    }
    return wholeOf(response, MAX_WHOLE);
  }

  #url(key: string): string {
    return `${this.#base}/${key}`;
  }

  #invalid(key: string, found: string): Git2dbError {
    return new Git2dbError('REMOTE_INVALID', `${nameUrl(this.#url(key))} ${found}`);
  }

  #readOnly(): Git2dbError {
    return new Git2dbError(
      'STORE_UNWRITABLE',
      `${this.place} is a plain web server, which only gives files: write to the directory or bucket behind it`,
    );
  }
}

async function wholeOf(response: HttpResponse, limit: number): Promise<ObjectPart> {
  const bytes = await response.bytes(limit);
  return { bytes, size: bytes.length, etag: response.headers.etag };
}

function cut(
  part: ObjectPart | undefined,
  rangeOf: (size: number) => readonly [number, number],
): ObjectPart | undefined {
  if (part === undefined) return undefined;
  const [start, end] = rangeOf(part.size);
  return { ...part, bytes: Buffer.from(part.bytes.subarray(start, Math.max(start, end))) };
}
