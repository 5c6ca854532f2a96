/**
 * The messages of the CAS API (Xet protocol, "CAS API") and of git2db's extensions to it
 * (docs/format/cas-extensions.md), as both ends write and read them. Nothing here opens a connection. Decoders
 * throw REMOTE_INVALID and trust no count, no number and no hash.
 */
import { Git2dbError } from '../errors.ts';
import { formatHash, HASH_SIZE, isHashString, parseHash } from '../hash/xet-hash.ts';
import type { ChunkRun } from '../store/store.ts';
import { MAX_XORB_CHUNKS } from '../xorb/format.ts';

export const XORB_PREFIX = 'default';

/** Paths below the base of a CAS. Hashes: 32 bytes. */
export const ROUTES = {
  reconstruction: (version: 1 | 2, fileHash: Uint8Array) =>
    `/v${version}/reconstructions/${formatHash(fileHash)}`,
  chunk: (chunkHash: Uint8Array) => `/v1/chunks/${XORB_PREFIX}/${formatHash(chunkHash)}`,
  xorb: (xorbHash: Uint8Array) => `/v1/xorbs/${XORB_PREFIX}/${formatHash(xorbHash)}`,
  shards: (version: 1 | 2) => `/v${version}/shards`,
  extensions: () => '/v1/git2db',
  files: () => '/v1/git2db/files',
  chunks: () => '/v1/git2db/chunks',
  sha256s: () => '/v1/git2db/sha256s',
} as const;

/** Most hashes in one question. */
export const MAX_FILES_ASKED = 32768;
export const MAX_CHUNKS_ASKED = 65536;
export const MAX_SHA256S_ASKED = 32768;

// --- What server is this?

export const SERVER_NAME = 'git2db';
export const PROTOCOL_VERSION = 1;

/** What `GET /v1/git2db` answers. */
export function serverAnswer(): { readonly server: string; readonly protocol: number } {
  return { server: SERVER_NAME, protocol: PROTOCOL_VERSION };
}

export function isServerAnswer(value: unknown): boolean {
  return isObject(value) && value.server === SERVER_NAME && value.protocol === PROTOCOL_VERSION;
}

/** What `GET <git url>/info/xet` answers. */
export interface XetInfo {
  readonly casUrl: string;
  readonly tokenUrl: string;
}

export function formatXetInfo({ casUrl, tokenUrl }: XetInfo): unknown {
  return { ...serverAnswer(), casUrl, tokenUrl };
}

/** Undefined if it is the answer of something else. */
export function parseXetInfo(value: unknown): XetInfo | undefined {
  if (!isServerAnswer(value)) return undefined;
  const { casUrl, tokenUrl } = value as Record<string, unknown>;
  return { casUrl: checkedHttpUrl(casUrl, 'casUrl'), tokenUrl: checkedHttpUrl(tokenUrl, 'tokenUrl') };
}

// --- Tokens

export interface TokenAnswer {
  readonly accessToken: string;
  readonly casUrl: string;
  /** Seconds since 1970. */
  readonly exp: number;
}

const MAX_TOKEN = 64000;

/** From the JSON of a token endpoint. */
export function parseTokenAnswer(value: unknown): TokenAnswer {
  if (!isObject(value)) throw invalid('a token', 'an object with accessToken, casUrl and exp');
  const { accessToken, casUrl, exp } = value;
  if (
    typeof accessToken !== 'string' ||
    accessToken.length > MAX_TOKEN ||
    !/^[\x21-\x7e]+$/.test(accessToken)
  ) {
    throw invalid('a token', 'an accessToken of printable characters');
  }
  if (typeof exp !== 'number' || !Number.isSafeInteger(exp) || exp < 0) {
    throw invalid('a token', 'a time of expiry in whole seconds');
  }
  return { accessToken, casUrl: checkedHttpUrl(casUrl, 'casUrl'), exp };
}

/** The same three values as headers. */
export function tokenHeaders({ accessToken, casUrl, exp }: TokenAnswer): Readonly<Record<string, string>> {
  return {
    'X-Xet-Cas-Url': casUrl,
    'X-Xet-Access-Token': accessToken,
    'X-Xet-Token-Expiration': String(exp),
  };
}

/** From headers (names in any case), as a Git LFS batch answer has them; undefined if they are not there. */
export function tokenFromHeaders(headers: Readonly<Record<string, string>>): TokenAnswer | undefined {
  const byName = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const accessToken = byName.get('x-xet-access-token');
  const casUrl = byName.get('x-xet-cas-url');
  if (accessToken === undefined || casUrl === undefined) return undefined;
  return parseTokenAnswer({
    accessToken,
    casUrl,
    exp: Number(byName.get('x-xet-token-expiration') ?? 'none'),
  });
}

// --- Lists of hashes: 32 bytes each, one after the other

/** The hashes in `body`, as views; throws LIMIT_EXCEEDED for more than `most`. */
export function decodeHashes(body: Uint8Array, most: number): Uint8Array[] {
  if (body.length % HASH_SIZE !== 0) throw invalid('a list of hashes', `a multiple of ${HASH_SIZE} bytes`);
  const count = body.length / HASH_SIZE;
  if (count > most) {
    throw new Git2dbError('LIMIT_EXCEEDED', `${count} hashes in one question; at most ${most} are answered`);
  }
  return Array.from({ length: count }, (_, i) => body.subarray(i * HASH_SIZE, (i + 1) * HASH_SIZE));
}

export function encodeHashes(hashes: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(hashes.length * HASH_SIZE);
  for (const [i, hash] of hashes.entries()) bytes.set(hash, i * HASH_SIZE);
  return bytes;
}

// --- Where chunks are: records of 48 bytes

const RUN_SIZE = 48;

/** Longest answer to a question of that many chunks. */
export function maxRunBytes(chunkCount: number): number {
  return chunkCount * RUN_SIZE;
}

export function encodeChunkRuns(runs: readonly ChunkRun[]): Uint8Array {
  const bytes = new Uint8Array(runs.length * RUN_SIZE);
  const view = new DataView(bytes.buffer);
  for (const [i, { at, count, xorbHash, start }] of runs.entries()) {
    const offset = i * RUN_SIZE;
    view.setUint32(offset, at, true);
    view.setUint32(offset + 4, count, true);
    bytes.set(xorbHash, offset + 8);
    view.setUint32(offset + 40, start, true);
  }
  return bytes;
}

/** Runs over a list of `chunkCount` chunks, ascending, none overlapping; hashes are copies. */
export function decodeChunkRuns(bytes: Uint8Array, chunkCount: number): ChunkRun[] {
  if (bytes.length % RUN_SIZE !== 0) throw invalid('the places of chunks', `a multiple of ${RUN_SIZE} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const runs: ChunkRun[] = [];
  let free = 0;
  for (let offset = 0; offset < bytes.length; offset += RUN_SIZE) {
    const at = view.getUint32(offset, true);
    const count = view.getUint32(offset + 4, true);
    const start = view.getUint32(offset + 40, true);
    if (at < free || count < 1 || at + count > chunkCount || start + count > MAX_XORB_CHUNKS) {
      throw invalid(
        'the places of chunks',
        'runs in order, within the list that was asked for and within a xorb',
      );
    }
    free = at + count;
    runs.push({ at, count, xorbHash: bytes.slice(offset + 8, offset + 8 + HASH_SIZE), start });
  }
  return runs;
}

// --- Progress of a shard upload: one JSON object a line

export type ShardEvent =
  | { readonly type: 'validating'; readonly verified: number; readonly total: number }
  | { readonly type: 'committing'; readonly stage: string }
  | { readonly type: 'result'; readonly result?: number }
  /** `code`: of the error, where the server is one of ours. */
  | {
      readonly type: 'error';
      readonly message: string;
      readonly retryable?: boolean;
      readonly code?: string;
    };

export const MAX_EVENT_LINE = 1048576;

export function formatShardEvent(event: ShardEvent): string {
  return `${JSON.stringify(event)}\n`;
}

/** Undefined for a kind of line that is not known. */
export function parseShardEvent(line: string): ShardEvent | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw invalid('the progress of an upload', 'one JSON object a line');
  }
  if (!isObject(value)) throw invalid('the progress of an upload', 'one JSON object a line');
  switch (value.type) {
    case 'validating':
      return { type: 'validating', verified: countOf(value.verified), total: countOf(value.total) };
    case 'committing':
      return { type: 'committing', stage: String(value.stage).slice(0, 100) };
    case 'result':
      return { type: 'result', ...(value.result === undefined ? {} : { result: countOf(value.result) }) };
    case 'error': {
      const message = typeof value.message === 'string' ? value.message.slice(0, 1000) : 'no reason given';
      const code = typeof value.code === 'string' ? { code: value.code } : {};
      return { type: 'error', message, retryable: value.retryable === true, ...code };
    }
    default:
      return undefined;
  }
}

/** Of `POST /v1/shards`: whether something of it was new. */
export function parseShardResult(value: unknown): boolean {
  if (!isObject(value) || (value.result !== 0 && value.result !== 1)) {
    throw invalid('the result of a shard upload', '{"result": 0} or {"result": 1}');
  }
  return value.result === 1;
}

/** Of `POST /v1/xorbs/...`: false if it was there. */
export function parseXorbResult(value: unknown): boolean {
  if (!isObject(value) || typeof value.was_inserted !== 'boolean') {
    throw invalid('the result of a xorb upload', '{"was_inserted": true} or false');
  }
  return value.was_inserted;
}

// --- Small things

export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A whole number from 0 on that is exact. */
export function countOf(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw invalid('a number', 'a whole number that is not negative');
  }
  return value;
}

export function hashOf(value: unknown): Uint8Array {
  if (typeof value !== 'string' || !isHashString(value)) throw invalid('a hash', '64 hexadecimal digits');
  return parseHash(value);
}

/** An absolute http(s) URL without user and password. */
export function checkedHttpUrl(value: unknown, name: string): string {
  if (typeof value === 'string' && value.length <= MAX_TOKEN && URL.canParse(value)) {
    const { protocol, username, password } = new URL(value);
    if ((protocol === 'http:' || protocol === 'https:') && username === '' && password === '') return value;
  }
  throw invalid(name, 'an http:// or https:// URL without user and password');
}

export function invalid(what: string, expected: string): Git2dbError {
  return new Git2dbError(
    'REMOTE_INVALID',
    `the server's answer breaks the protocol: ${what}: expected ${expected}`,
  );
}
