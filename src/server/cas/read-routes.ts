/** The reading half of the CAS API (Xet protocol, "CAS API"): reconstructions, xorbs, dedup queries, files. */

import { randomBytes } from 'node:crypto';
import { isObject } from '../../xet/cas/protocol.ts';
import { parseRange } from '../../xet/cas/range.ts';
import {
  formatBatch,
  formatReconstruction,
  type Reconstruction,
  type ReconstructionVersion,
} from '../../xet/cas/reconstruction.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { formatHash, HASH_SIZE, hashesEqual, isZeroHash, parseHash } from '../../xet/hash/xet-hash.ts';
import { ShardBuilder } from '../../xet/shard/builder.ts';
import type { Term } from '../../xet/shard/file-info.ts';
import type { StoreFile } from '../../xet/store/store.ts';
import { lengthsOf } from '../../xet/xorb/ends.ts';
import type { XorbFooter } from '../../xet/xorb/format.ts';
import type { ServerContext } from '../context.ts';
import type { Exchange } from '../exchange.ts';
import { HttpError } from '../http-error.ts';
import type { Route } from '../router.ts';
import { DATA_URL_SECONDS, makeDataUrl, readDataUrl } from './data-url.ts';
import { FetchPlan } from './reconstruct.ts';
import { sendByRange, sendRanges } from './send-ranges.ts';

/** Files of one batch question. */
const MAX_BATCH = 1000;
/** How long what a dedup answer says may be used, seconds. */
const DEDUP_SECONDS = 7 * 86400;
/** Chunks of a dedup answer: hashing them with the key of the answer takes some tens of milliseconds. */
const MAX_DEDUP_CHUNKS = 16384;

export function readRoutes(context: ServerContext): Route[] {
  const { store } = context;

  function entryUrl(exchange: Exchange) {
    const expires = Math.floor(context.now() / 1000) + DATA_URL_SECONDS;
    return (xorb: string, ranges: readonly { readonly byteStart: number; readonly byteEnd: number }[]) =>
      makeDataUrl(context.keys.dataUrls, exchange.base, xorb, ranges, expires);
  }

  async function findFile(exchange: Exchange, hash: Uint8Array): Promise<StoreFile> {
    if (isZeroHash(hash)) return { fileHash: hash, terms: [], size: 0 };
    context.metrics.storeOperation('findFiles');
    const [file] = await store.findFiles([hash], { signal: exchange.signal });
    if (file !== undefined) return file;
    throw new HttpError(404, `file ${formatHash(hash)} is not known here`, {}, 'CONTENT_MISSING');
  }

  async function reconstruction(exchange: Exchange, version: ReconstructionVersion): Promise<void> {
    const file = await findFile(exchange, parseHash(exchange.param('file')));
    const range = fileRange(exchange, file.size);
    const plan = new FetchPlan(store, { signal: exchange.signal });
    const part = await plan.add(file, range.start, range.end);
    const answer: Reconstruction = { ...part, xorbs: plan.entries(entryUrl(exchange)) };
    exchange.json(formatReconstruction(answer, version));
  }

  async function batch(exchange: Exchange, hashes: readonly string[]): Promise<void> {
    if (hashes.length > MAX_BATCH)
      throw new HttpError(400, `at most ${MAX_BATCH} files are answered at a time`);
    const wanted = hashes.map(parseHash);
    const found = await store.findFiles(wanted, { signal: exchange.signal });
    const plan = new FetchPlan(store, { signal: exchange.signal });
    const files = new Map<string, readonly Term[]>();
    for (const [i, hash] of wanted.entries()) {
      const file = isZeroHash(hash) ? { fileHash: hash, terms: [], size: 0 } : found[i];
      if (file === undefined) continue;
      files.set(formatHash(hash), (await plan.add(file, 0, file.size)).terms);
    }
    if (files.size === 0 && wanted.length > 0) throw new HttpError(404, 'none of these files is known here');
    exchange.json(formatBatch(files, plan.entries(entryUrl(exchange))));
  }

  async function xorbSource(exchange: Exchange, xorb: Uint8Array) {
    const { signal } = exchange;
    const size = await store.xorbSize(xorb, { signal });
    if (size === undefined) {
      throw new HttpError(404, `xorb ${formatHash(xorb)} is not here`, {}, 'CONTENT_MISSING');
    }
    // The footer is checked before the first byte goes out: what is damaged is not served.
    await store.readFooter(xorb, { signal });
    context.metrics.storeOperation('readXorb');
    return { size, read: (start: number, end: number) => store.readXorb(xorb, start, end, { signal }) };
  }

  async function xorb(exchange: Exchange): Promise<void> {
    await sendByRange(exchange, await xorbSource(exchange, parseHash(exchange.param('xorb'))));
  }

  async function data(exchange: Exchange): Promise<void> {
    const name = exchange.param('xorb');
    const now = Math.floor(context.now() / 1000);
    const allowed = readDataUrl(context.keys.dataUrls, name, exchange.query, now);
    const source = await xorbSource(exchange, parseHash(name));
    const ranges =
      parseRange(exchange.header('range'), source.size) ?? (allowed.length === 1 ? allowed : undefined);
    const isAllowed = ranges?.every(({ start, end }) =>
      allowed.some((range) => range.start <= start && end <= range.end),
    );
    if (isAllowed !== true) {
      throw new HttpError(403, 'this address is for some ranges of bytes only: ask for them with Range');
    }
    await sendRanges(exchange, source, ranges, { 'Cache-Control': 'private, max-age=3600' });
  }

  async function chunk(exchange: Exchange): Promise<void> {
    const hash = parseHash(exchange.param('chunk'));
    context.metrics.storeOperation('findXorbsOfChunk');
    const footers = await store.findXorbsOfChunk(hash, { signal: exchange.signal });
    if (footers.length === 0) throw new HttpError(404, 'nothing is known of this chunk');
    const created = Math.floor(context.now() / 1000);
    const builder = new ShardBuilder();
    for (const { xorbHash, hashes, rawEnds, recordEnds } of nearest(footers, hash)) {
      const lengths = lengthsOf(rawEnds);
      builder.addXorb({ xorbHash, hashes, lengths, storedBytes: recordEnds.at(-1) ?? 0 });
    }
    const shard = builder.build({
      key: randomBytes(HASH_SIZE),
      createdAt: created,
      keyExpiry: created + DEDUP_SECONDS,
    });
    exchange.bytes(shard, 'application/octet-stream');
  }

  return [
    {
      name: 'reconstruction.v2',
      method: 'GET',
      pattern: '/v2/reconstructions/{file}',
      access: 'read',
      summary: 'Of which chunks a file, or a range of its bytes, is made, and where these are',
      answers: [200, 400, 404, 416],
      handle: (exchange) => reconstruction(exchange, 2),
    },
    {
      name: 'reconstruction.v1',
      method: 'GET',
      pattern: '/v1/reconstructions/{file}',
      access: 'read',
      summary: 'The same with one address for each range',
      answers: [200, 400, 404, 416],
      handle: (exchange) => reconstruction(exchange, 1),
    },
    {
      name: 'reconstruction.batch',
      method: 'GET',
      pattern: '/v1/reconstructions',
      access: 'read',
      summary: 'Reconstructions of several files, named by file_id parameters',
      answers: [200, 400, 404],
      handle: (exchange) => batch(exchange, exchange.query.getAll('file_id')),
    },
    {
      name: 'reconstruction.batch.post',
      method: 'POST',
      pattern: '/v1/reconstructions',
      access: 'read',
      summary: 'Reconstructions of several files, named in a JSON list',
      body: 'application/json',
      answers: [200, 400, 404],
      handle: async (exchange) => batch(exchange, batchHashes(await exchange.readJson())),
    },
    {
      name: 'chunk',
      method: 'GET',
      pattern: '/v1/chunks/{prefix}/{chunk}',
      access: 'read',
      summary: 'Global dedup: xorbs with this chunk, and near ones, as a shard of keyed hashes',
      answers: [200, 400, 404],
      handle: chunk,
    },
    {
      name: 'xorb.head',
      method: 'HEAD',
      pattern: '/v1/xorbs/{prefix}/{xorb}',
      access: 'read',
      summary: 'Whether a xorb is there, and its stored size',
      answers: [200, 400, 404],
      handle: xorb,
    },
    {
      name: 'xorb.get',
      method: 'GET',
      pattern: '/v1/xorbs/{prefix}/{xorb}',
      access: 'read',
      summary: 'Bytes of a stored xorb, its footer included; one or several ranges',
      answers: [200, 206, 400, 404, 416],
      handle: xorb,
    },
    {
      name: 'data',
      method: 'GET',
      pattern: '/v1/data/{xorb}',
      access: 'open',
      summary: 'Ranges of a xorb by a signed address out of a reconstruction',
      answers: [206, 400, 403, 404, 416],
      handle: data,
    },
    {
      name: 'file.head',
      method: 'HEAD',
      pattern: '/v1/files/{file}',
      access: 'read',
      summary: 'Whether a file is known, and its size',
      answers: [200, 400, 404],
      handle: async (exchange) => {
        const { size } = await findFile(exchange, parseHash(exchange.param('file')));
        exchange.empty(200, { 'Content-Length': size });
      },
    },
  ];
}

/** What the `Range` header asks of a file. An end behind the file's is the file's; 416 for a start there. */
function fileRange(exchange: Exchange, size: number): { readonly start: number; readonly end: number } {
  const header = exchange.header('range');
  const ranges = parseRange(header, size);
  if (ranges === undefined) return { start: 0, end: size };
  const [range, ...others] = ranges;
  if (others.length > 0) throw new HttpError(400, 'one range of bytes of a file at a time');
  if (range !== undefined) return range;
  // Of an empty file everything from its start on may be asked for: nothing.
  if (size === 0 && /^\s*bytes\s*=\s*0*0-/i.test(header ?? '')) return { start: 0, end: 0 };
  throw new HttpError(416, `the file has ${size} bytes`, { 'Content-Range': `bytes */${size}` });
}

function batchHashes(body: unknown): string[] {
  if (!Array.isArray(body)) throw new HttpError(400, 'expected a list of {"prefix", "hash"}');
  return body.map((entry: unknown) => {
    if (isObject(entry) && typeof entry.hash === 'string') return entry.hash;
    throw new HttpError(400, 'expected a list of {"prefix", "hash"}');
  });
}

/** Those with the chunk first, then the others, as many as an answer takes. */
function nearest(footers: readonly XorbFooter[], chunkHash: Uint8Array): XorbFooter[] {
  const holds = ({ hashes, count }: XorbFooter) => {
    for (let i = 0; i < count; i++) if (hashesEqual(hashes, i * HASH_SIZE, chunkHash, 0)) return true;
    return false;
  };
  const [having, others] = [footers.filter(holds), footers.filter((footer) => !holds(footer))];
  if (having.length === 0) throw new Git2dbError('CONTENT_MISSING', 'the chunk is not where it was');
  let room = MAX_DEDUP_CHUNKS;
  return [...having, ...others].filter(({ count }, i) => {
    if (i > 0 && count > room) return false;
    room -= count;
    return true;
  });
}
