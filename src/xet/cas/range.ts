/**
 * Ranges of HTTP (RFC 9110, section 14), for both ends. On the wire the last byte is named, in memory ranges are
 * half-open. Several ranges travel as multipart/byteranges (section 14.6):
 *
 *     { --B CRLF  Content-Type: ... CRLF  Content-Range: bytes a-b/total CRLF  CRLF  bytes  CRLF }  --B-- CRLF
 */
import { randomBytes } from 'node:crypto';
import { Git2dbError } from '../errors.ts';

/** Bytes [start, end). */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** More ranges than that in one request are refused by everybody; ours sends fewer. */
export const MAX_RANGES = 1024;

/**
 * What a `Range` header asks of something of `size` bytes. Undefined: everything (no header, or one that is not
 * understood, which HTTP ignores). An empty list: nothing of it can be given (416). Ends are clamped, ranges that
 * begin at or after the end are left out, numbers of any length are read.
 */
export function parseRange(header: string | undefined, size: number): ByteRange[] | undefined {
  const match = header === undefined ? null : /^\s*bytes\s*=(.*)$/i.exec(header);
  if (match === null) return undefined;
  const specs = (match[1] as string).split(',').map((spec) => spec.trim());
  if (specs.length > MAX_RANGES) return undefined;
  const ranges: ByteRange[] = [];
  let isNamed = false;
  for (const spec of specs) {
    if (spec === '') continue;
    const parts = /^(\d*)\s*-\s*(\d*)$/.exec(spec);
    if (parts === null || (parts[1] === '' && parts[2] === '')) return undefined;
    const [, first = '', last = ''] = parts;
    isNamed = true;
    const range =
      first === ''
        ? { start: Math.max(0, size - clampedNumber(last)), end: size }
        : { start: clampedNumber(first), end: last === '' ? size : Math.min(size, clampedNumber(last) + 1) };
    if (first !== '' && last !== '' && BigInt(last) < BigInt(first)) return undefined;
    if (range.start < range.end) ranges.push(range);
  }
  return isNamed ? ranges : undefined;
}

/** Numbers that no size reaches are all the same. */
function clampedNumber(digits: string): number {
  return Math.min(Number(digits), Number.MAX_SAFE_INTEGER - 1);
}

/** `bytes=a-b,c-d`; none of them empty. */
export function formatRange(ranges: readonly ByteRange[]): string {
  return `bytes=${ranges.map(({ start, end }) => `${start}-${end - 1}`).join(',')}`;
}

export interface ContentRange extends ByteRange {
  /** Size of the whole; undefined if the sender does not know. */
  readonly total: number | undefined;
}

/** `bytes a-b/total`; undefined if it is anything else. */
export function parseContentRange(header: string | undefined): ContentRange | undefined {
  const match =
    header === undefined ? null : /^\s*bytes\s+(\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)\s*$/i.exec(header);
  if (match === null) return undefined;
  const start = Number(match[1]);
  const end = Number(match[2]) + 1;
  const total = match[3] === '*' ? undefined : Number(match[3]);
  const isSafe = Number.isSafeInteger(end) && (total === undefined || Number.isSafeInteger(total));
  return isSafe && start < end && end <= (total ?? end) ? { start, end, total } : undefined;
}

export function formatContentRange({ start, end }: ByteRange, total: number): string {
  return `bytes ${start}-${end - 1}/${total}`;
}

/** Writes a body of multipart/byteranges; its parts in the order of `ranges`. */
export class MultipartWriter {
  readonly contentType: string;
  /** Of the whole body, parts and their headers. */
  readonly contentLength: number;
  /** After the last part. */
  readonly tail: Buffer;
  readonly #heads: readonly Buffer[];

  constructor(ranges: readonly ByteRange[], total: number, partType = 'application/octet-stream') {
    const boundary = randomBytes(15).toString('hex');
    this.contentType = `multipart/byteranges; boundary=${boundary}`;
    this.#heads = ranges.map((range, i) =>
      Buffer.from(
        `${i === 0 ? '' : '\r\n'}--${boundary}\r\nContent-Type: ${partType}\r\n` +
          `Content-Range: ${formatContentRange(range, total)}\r\n\r\n`,
      ),
    );
    this.tail = Buffer.from(`\r\n--${boundary}--\r\n`);
    const headBytes = this.#heads.reduce((sum, head) => sum + head.length, 0);
    const bytes = ranges.reduce((sum, { start, end }) => sum + end - start, 0);
    this.contentLength = headBytes + bytes + this.tail.length;
  }

  /** What goes before the bytes of part `i`. */
  head(i: number): Buffer {
    return this.#heads[i] as Buffer;
  }
}

/** The boundary of a multipart/byteranges body; undefined if `contentType` is of something else. */
export function multipartBoundary(contentType: string | undefined): string | undefined {
  if (contentType === undefined || !/^\s*multipart\/byteranges\s*;/i.test(contentType)) return undefined;
  const match = /;\s*boundary\s*=\s*(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))/i.exec(contentType);
  return match?.[1] ?? match?.[2];
}

/** Bytes of the whole from `offset` on. */
export interface RangePiece {
  readonly offset: number;
  readonly bytes: Buffer;
}

const MAX_PART_HEAD = 4096;
const MAX_PREAMBLE = 4096;

/**
 * The bytes of a multipart/byteranges body as they come, each with its place in the whole. Parts are as long as
 * their Content-Range says, and may come in any order. Throws REMOTE_INVALID where the body breaks its form.
 */
export async function* readMultipart(
  body: AsyncIterable<Buffer>,
  boundary: string,
): AsyncGenerator<RangePiece, void, undefined> {
  const delimiter = Buffer.from(`--${boundary}`);
  const reader = new PieceReader(body);
  try {
    // What stands before the first delimiter is to be ignored; it is a line end at most.
    await reader.skipTo(delimiter, MAX_PREAMBLE);
    for (let parts = 0; ; parts++) {
      // After the last part comes `--`, and a line end that some leave out.
      if (await reader.startsWith('--')) return;
      const after = await reader.line(MAX_PART_HEAD);
      if (after.trim() !== '' || parts > MAX_RANGES) throw broken('a part that does not begin as one');
      let range: ContentRange | undefined;
      for (let size = 0; ; ) {
        const line = await reader.line(MAX_PART_HEAD - size);
        if (line === '') break;
        size += line.length + 2;
        const header = /^content-range\s*:(.*)$/i.exec(line);
        if (header !== null) range = parseContentRange(header[1]);
      }
      if (range === undefined) throw broken('a part without Content-Range');
      for (let { start: offset } = range; offset < range.end; ) {
        const bytes = await reader.take(range.end - offset);
        yield { offset, bytes };
        offset += bytes.length;
      }
      await reader.expect(Buffer.concat([Buffer.from('\r\n'), delimiter]));
    }
  } finally {
    await reader.close();
  }
}

/** `isShort`: what came was in order, and the rest may be asked for. */
function broken(what: string, isShort = false): Git2dbError {
  return new Git2dbError('REMOTE_INVALID', `the server's multipart answer has ${what}`, {
    data: { transient: isShort },
  });
}

/** Pieces of a stream, looked at byte by byte where needed. */
class PieceReader {
  readonly #pieces: AsyncIterator<Buffer>;
  #held: Buffer = Buffer.alloc(0);

  constructor(body: AsyncIterable<Buffer>) {
    this.#pieces = body[Symbol.asyncIterator]();
  }

  async close(): Promise<void> {
    await this.#pieces.return?.();
  }

  /** 1 to `most` bytes. */
  async take(most: number): Promise<Buffer> {
    while (this.#held.length === 0) await this.#more();
    const taken = this.#held.subarray(0, most);
    this.#held = this.#held.subarray(taken.length);
    return taken;
  }

  /** Up to the next line end, without it. */
  async line(most: number): Promise<string> {
    for (let from = 0; ; ) {
      const end = this.#held.indexOf('\n', from);
      if (end >= 0) {
        const line = this.#held.toString('latin1', 0, end);
        this.#held = this.#held.subarray(end + 1);
        return line.endsWith('\r') ? line.slice(0, -1) : line;
      }
      if (this.#held.length > most) throw broken('a line that is too long');
      from = this.#held.length;
      await this.#more();
    }
  }

  /** Looks at the next bytes, and takes none. */
  async startsWith(text: string): Promise<boolean> {
    while (this.#held.length < text.length) await this.#more();
    return this.#held.toString('latin1', 0, text.length) === text;
  }

  async expect(bytes: Buffer): Promise<void> {
    while (this.#held.length < bytes.length) await this.#more();
    if (!this.#held.subarray(0, bytes.length).equals(bytes))
      throw broken('a part that is longer than it says');
    this.#held = this.#held.subarray(bytes.length);
  }

  async skipTo(bytes: Buffer, most: number): Promise<void> {
    for (;;) {
      const at = this.#held.indexOf(bytes);
      if (at >= 0) {
        this.#held = this.#held.subarray(at + bytes.length);
        return;
      }
      if (this.#held.length > most) throw broken('no boundary');
      await this.#more();
    }
  }

  async #more(): Promise<void> {
    const next = await this.#pieces.next();
    if (next.done === true) throw broken('no end', true);
    this.#held = this.#held.length === 0 ? next.value : Buffer.concat([this.#held, next.value]);
  }
}
