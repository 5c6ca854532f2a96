/**
 * A CAS in memory behind real HTTP, that does what tests tell it to: speak the standard protocol or git2db's
 * extensions too, sign its URLs, break connections, lie. What is sent to it is checked as a server must.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { ExecutionContext } from 'ava';
import {
  decodeHashes,
  encodeChunkRuns,
  formatShardEvent,
  MAX_CHUNKS_ASKED,
  MAX_FILES_ASKED,
  serverAnswer,
} from '../../../src/xet/cas/protocol.ts';
import {
  type ByteRange,
  formatContentRange,
  MultipartWriter,
  parseRange,
} from '../../../src/xet/cas/range.ts';
import { type FetchRange, formatReconstruction } from '../../../src/xet/cas/reconstruction.ts';
import { Git2dbError } from '../../../src/xet/errors.ts';
import { formatHash, parseHash } from '../../../src/xet/hash/xet-hash.ts';
import { ShardBuilder } from '../../../src/xet/shard/builder.ts';
import type { FileRecord, Term } from '../../../src/xet/shard/file-info.ts';
import { Shard } from '../../../src/xet/shard/shard.ts';
import { validateShardForUpload } from '../../../src/xet/shard/validate.ts';
import { validateXorb } from '../../../src/xet/xorb/chunk-range.ts';
import { encodeFooter, type XorbFooter } from '../../../src/xet/xorb/format.ts';

export interface ServedXorb {
  readonly footer: XorbFooter;
  /** Records and footer. */
  bytes: Uint8Array;
}

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly bodyBytes: number;
}

/** What is done to one answer. */
export interface Fault {
  /** Which requests: method and path. */
  readonly on: RegExp;
  /** How often; default once. */
  times?: number;
  /** Instead of the answer. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** The connection is reset after that many bytes of the answer's body, headers for all of it sent. */
  readonly resetAfter?: number;
  /** Ends the request before any answer, after its body was read, or after that many bytes of it. */
  readonly drop?: 'unread' | 'read';
  /** Changes the bytes of the answer; its length is told as it was before. */
  readonly change?: (body: Buffer) => Uint8Array;
  /** Changes the bytes; the length is told as it is. */
  readonly rewrite?: (body: Buffer) => Uint8Array;
  /** The body comes a byte at a time, with pauses. */
  readonly dribbleMs?: number;
  /** Nothing is ever answered. */
  readonly hang?: boolean;
}

export interface CasServerOptions {
  /** Default true: as `git2db serve`. */
  readonly extensions?: boolean;
  /** Reconstructions that are there; default both. */
  readonly reconstructions?: readonly (1 | 2)[];
  /** Default true. */
  readonly shardsV2?: boolean;
  /** Default true: ranges of a URL are answered together. */
  readonly multipart?: boolean;
  /** Only this token is taken. */
  token?: string;
  readonly tls?: { readonly key: string; readonly cert: string };
  /** Chunk hashes of dedup answers are keyed with it. */
  readonly key?: Uint8Array;
  /** Default true. */
  readonly head?: boolean;
  /** Each range in an entry of its own, to be asked for as it is and no other way. */
  readonly signsRanges?: boolean;
}

interface Answer {
  status: number;
  headers: Record<string, string>;
  body: Buffer;
}

export class CasServer {
  readonly options: CasServerOptions;
  readonly asked: Asked[] = [];
  readonly xorbs = new Map<string, ServedXorb>();
  readonly files = new Map<string, FileRecord>();
  readonly faults: Fault[] = [];
  /** Bytes of all bodies that were answered. */
  sent = 0;
  /** URLs of other signatures are refused. */
  signature = 1;
  /** Files are always told of as a whole. */
  ignoresRanges = false;
  /** Where data URLs point, if not here. */
  dataUrl: string | undefined;
  url = '';
  #server: Server | undefined;

  constructor(options: CasServerOptions = {}) {
    this.options = options;
  }

  static async start(t: ExecutionContext, options: CasServerOptions = {}): Promise<CasServer> {
    const server = new CasServer(options);
    await server.listen();
    t.teardown(() => server.close());
    return server;
  }

  async listen(): Promise<void> {
    const { tls } = this.options;
    const listener = (request: IncomingMessage, response: ServerResponse) =>
      void this.#serve(request, response);
    const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
    server.on('error', () => undefined);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    this.#server = server;
    this.url = `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server?.closeAllConnections();
    await new Promise((resolve) => this.#server?.close(resolve));
  }

  /** Requests whose method and path match. */
  count(pattern: RegExp): number {
    return this.asked.filter(({ method, path }) => pattern.test(`${method} ${path}`)).length;
  }

  addXorb(footer: XorbFooter, records: Uint8Array): void {
    const bytes = Buffer.concat([records, encodeFooter(footer)]);
    this.xorbs.set(formatHash(footer.xorbHash), { footer, bytes });
  }

  addFile(file: FileRecord): void {
    this.files.set(formatHash(file.fileHash), file);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = request;
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    const fault = this.#faultFor(`${method} ${url}`);
    if (fault?.drop === 'unread') {
      this.#note(request, 0);
      request.socket.destroy();
      return;
    }
    const pieces: Buffer[] = [];
    try {
      for await (const piece of request) pieces.push(piece as Buffer);
    } catch {
      this.#note(request, Buffer.concat(pieces).length);
      return;
    }
    const body = Buffer.concat(pieces);
    this.#note(request, body.length);
    if (fault?.hang === true) return;
    const answer = this.#faulty(fault, () => this.#answer(request, body));
    if (fault?.drop === 'read') {
      request.socket.destroy();
      return;
    }
    await this.#send(response, answer, fault, method);
  }

  #note({ method = '', url = '', headers }: IncomingMessage, bodyBytes: number): void {
    this.asked.push({ method, path: url, headers, bodyBytes });
  }

  #faultFor(name: string): Fault | undefined {
    const fault = this.faults.find(({ on, times = 1 }) => times > 0 && on.test(name));
    if (fault !== undefined) fault.times = (fault.times ?? 1) - 1;
    return fault;
  }

  #faulty(fault: Fault | undefined, answer: () => Answer): Answer {
    if (fault?.status === undefined) {
      const real = answer();
      if (fault?.rewrite !== undefined) real.body = Buffer.from(fault.rewrite(real.body));
      Object.assign(real.headers, fault?.headers);
      return real;
    }
    return { status: fault.status, headers: { ...fault.headers }, body: Buffer.from(fault.body ?? '') };
  }

  async #send(
    response: ServerResponse,
    { status, headers, body }: Answer,
    fault: Fault | undefined,
    method: string,
  ) {
    const length = headers['content-length'] ?? String(body.length);
    response.writeHead(status, { ...headers, 'content-length': length, 'x-request-id': 'r-1' });
    if (method === 'HEAD') {
      response.end();
      return;
    }
    const sent = fault?.change === undefined ? body : Buffer.from(fault.change(body));
    this.sent += sent.length;
    if (fault?.resetAfter !== undefined) {
      response.write(sent.subarray(0, fault.resetAfter), () =>
        setTimeout(() => response.socket?.resetAndDestroy(), 20),
      );
      return;
    }
    if (fault?.dribbleMs !== undefined) {
      for (const byte of sent) {
        if (response.destroyed) return;
        response.write(Buffer.of(byte));
        await new Promise((resolve) => setTimeout(resolve, fault.dribbleMs));
      }
    } else if (sent.length < Number(length)) {
      response.write(sent, () => response.socket?.end());
      return;
    } else response.write(sent);
    response.end();
  }

  #answer(request: IncomingMessage, body: Buffer): Answer {
    const { method = '', headers } = request;
    const url = new URL(request.url ?? '', this.url);
    const path = url.pathname;
    const { token, extensions = true } = this.options;
    if (path.startsWith('/data/')) return this.#data(url, headers.range);
    if (token !== undefined && headers.authorization !== `Bearer ${token}`) return text(401, 'who are you?');
    if (extensions && path === '/v1/git2db') return json(serverAnswer());
    if (extensions && method === 'POST' && path.startsWith('/v1/git2db/')) return this.#extension(path, body);
    const match =
      /^\/v([12])\/(reconstructions|xorbs\/default|chunks\/default|shards)(?:\/([0-9a-f]{64}))?$/.exec(path);
    if (match === null) return text(404, 'no such thing');
    const [, version, kind, hash = ''] = match;
    if (kind === 'reconstructions')
      return this.#reconstruction(Number(version) as 1 | 2, hash, headers.range);
    if (kind === 'chunks/default') return this.#dedup(hash);
    if (kind === 'shards')
      return version === '2' && this.options.shardsV2 === false
        ? text(404, 'no')
        : this.#shard(version, body);
    if (method === 'POST') return this.#xorb(hash, body);
    return this.#stored(hash, method, headers.range);
  }

  #extension(path: string, body: Buffer): Answer {
    if (path.endsWith('/files')) {
      const builder = new ShardBuilder();
      for (const hash of decodeHashes(body, MAX_FILES_ASKED)) {
        const file = this.files.get(formatHash(hash));
        if (file !== undefined) builder.addFile(file);
      }
      return bytes(builder.build({ footer: false }));
    }
    if (path.endsWith('/chunks'))
      return bytes(encodeChunkRuns(this.#findChunks(decodeHashes(body, MAX_CHUNKS_ASKED))));
    const found = decodeHashes(body, MAX_FILES_ASKED).map((sha256) => {
      const name = Buffer.from(sha256).toString('hex');
      return [...this.files.values()].find((file) => file.sha256 === name)?.fileHash ?? new Uint8Array(32);
    });
    return bytes(Buffer.concat(found));
  }

  #findChunks(hashes: readonly Uint8Array[]) {
    const places = new Map<string, { xorbHash: Uint8Array; start: number }>();
    for (const { footer } of this.xorbs.values()) {
      for (let i = 0; i < footer.count; i++) {
        places.set(formatHash(footer.hashes, 32 * i), { xorbHash: footer.xorbHash, start: i });
      }
    }
    return hashes.flatMap((hash, at) => {
      const place = places.get(formatHash(hash));
      return place === undefined ? [] : [{ at, count: 1, ...place }];
    });
  }

  #reconstruction(version: 1 | 2, hash: string, range: string | undefined): Answer {
    if (this.options.reconstructions?.includes(version) === false)
      return text(version === 2 ? 404 : 501, 'no');
    const file = this.files.get(hash);
    if (file === undefined) return text(404, 'no such file');
    const size = file.terms.reduce((sum, { rawBytes }) => sum + rawBytes, 0);
    const ranges = this.ignoresRanges ? undefined : parseRange(range, size);
    const asked = ranges?.[0];
    if (ranges !== undefined && asked === undefined && size > 0) return text(416, 'past the end');
    const { terms, offset } = this.#cut(file.terms, asked ?? { start: 0, end: size });
    const xorbs = new Map<string, { url: string; ranges: FetchRange[] }[]>();
    for (const { xorbHash, start, end } of terms) {
      const name = formatHash(xorbHash);
      const ends = this.#footer(name).recordEnds;
      const place = { start, end, byteStart: ends[start - 1] ?? 0, byteEnd: ends[end - 1] as number };
      const entries = xorbs.get(name) ?? [];
      const signed =
        this.options.signsRanges === true ? `&range=${place.byteStart}-${place.byteEnd - 1}` : '';
      const url = `${this.dataUrl ?? this.url}/data/${name}?sig=${this.signature}${signed}`;
      if (this.options.signsRanges === true || entries.length === 0) entries.push({ url, ranges: [] });
      entries.at(-1)?.ranges.push(place);
      xorbs.set(name, entries);
    }
    return json(formatReconstruction({ offsetIntoFirstRange: offset, terms, xorbs }, version));
  }

  /** Terms shrunk to the chunks that overlap the range. */
  #cut(all: readonly Term[], { start, end }: ByteRange): { terms: Term[]; offset: number } {
    const terms: Term[] = [];
    let at = 0;
    let offset = 0;
    for (const term of all) {
      const { rawEnds } = this.#footer(formatHash(term.xorbHash));
      let first = term.end;
      let last = term.start;
      let rawBytes = 0;
      for (let i = term.start; i < term.end; i++) {
        const length = (rawEnds[i] as number) - (rawEnds[i - 1] ?? 0);
        if (at + length > start && at < end) {
          if (terms.length === 0 && first === term.end) offset = Math.max(0, start - at);
          first = Math.min(first, i);
          last = i + 1;
          rawBytes += length;
        }
        at += length;
      }
      if (first < last) terms.push({ xorbHash: term.xorbHash, start: first, end: last, rawBytes });
    }
    return { terms, offset };
  }

  #footer(name: string): XorbFooter {
    return (this.xorbs.get(name) as ServedXorb).footer;
  }

  #dedup(hash: string): Answer {
    const [found] = this.#findChunks([parseHash(hash)]);
    if (found === undefined) return text(404, 'no hit');
    const footer = this.#footer(formatHash(found.xorbHash));
    const builder = new ShardBuilder();
    const lengths = footer.rawEnds.map((end, i) => end - (footer.rawEnds[i - 1] ?? 0));
    builder.addXorb({ xorbHash: footer.xorbHash, hashes: footer.hashes, lengths, storedBytes: 0 });
    const { key } = this.options;
    return bytes(
      builder.build({ ...(key === undefined ? {} : { key }), keyExpiry: (Date.now() / 1000 + 1000) | 0 }),
    );
  }

  #data(url: URL, range: string | undefined): Answer {
    if (url.searchParams.get('sig') !== String(this.signature)) return text(403, 'expired');
    const signed = url.searchParams.get('range');
    if (signed !== null && range !== `bytes=${signed}`) return text(403, 'not this range');
    return this.#stored(url.pathname.slice('/data/'.length), 'GET', range);
  }

  #stored(hash: string, method: string, range: string | undefined): Answer {
    const xorb = this.xorbs.get(hash);
    if (method === 'HEAD' && this.options.head === false) return text(405, 'no');
    if (xorb === undefined) return text(404, 'no such xorb');
    const { bytes: whole } = xorb;
    const ranges = parseRange(range, whole.length);
    if (ranges === undefined) return bytes(whole);
    const [first] = ranges;
    if (first === undefined) return text(416, 'past the end');
    if (ranges.length === 1 || this.options.multipart === false) {
      const part = bytes(whole.subarray(first.start, first.end), 206);
      part.headers['content-range'] = formatContentRange(first, whole.length);
      return part;
    }
    const writer = new MultipartWriter(ranges, whole.length);
    const parts = ranges.flatMap(({ start, end }, i) => [writer.head(i), whole.subarray(start, end)]);
    const body = Buffer.concat([...parts, writer.tail]);
    return { status: 206, headers: { 'content-type': writer.contentType }, body };
  }

  #xorb(hash: string, body: Buffer): Answer {
    if (this.xorbs.has(hash)) return json({ was_inserted: false });
    try {
      this.addXorb(validateXorb(body, parseHash(hash)), body);
    } catch (error) {
      return text(400, (error as Error).message);
    }
    return json({ was_inserted: true });
  }

  #shard(version: string | undefined, body: Buffer): Answer {
    let problem: Git2dbError | undefined;
    let isNew = false;
    try {
      const shard = Shard.openUpload(body);
      validateShardForUpload(shard, (hash) => {
        const footer = this.xorbs.get(formatHash(hash))?.footer;
        if (footer === undefined) return undefined;
        return {
          hashes: footer.hashes,
          lengths: footer.rawEnds.map((end, i) => end - (footer.rawEnds[i - 1] ?? 0)),
        };
      });
      for (const file of shard.files()) {
        isNew ||= !this.files.has(formatHash(file.fileHash));
        this.addFile(structuredClone(file));
      }
    } catch (error) {
      const { message } = error as Git2dbError;
      problem = new Git2dbError(/not uploaded/.test(message) ? 'CONTENT_MISSING' : 'INVALID_SHARD', message);
    }
    if (version === '1')
      return problem === undefined ? json({ result: isNew ? 1 : 0 }) : text(400, problem.message);
    const lines = [
      formatShardEvent({ type: 'validating', verified: 1, total: 1 }),
      '{"type":"news of another kind"}\n',
      problem === undefined
        ? formatShardEvent({ type: 'result', result: isNew ? 1 : 0 })
        : formatShardEvent({ type: 'error', message: problem.message, code: problem.code }),
    ];
    return {
      status: 200,
      headers: { 'content-type': 'application/x-ndjson' },
      body: Buffer.from(lines.join('')),
    };
  }
}

function json(value: unknown): Answer {
  return {
    status: 200,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify(value)),
  };
}

function bytes(body: Uint8Array, status = 200): Answer {
  return { status, headers: { 'content-type': 'application/octet-stream' }, body: Buffer.from(body) };
}

function text(status: number, body: string): Answer {
  return { status, headers: { 'content-type': 'text/plain' }, body: Buffer.from(body) };
}
