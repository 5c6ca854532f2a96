/** The writing half of the CAS API: xorbs and shards, checked whole before anything of them is stored. */
import { formatShardEvent, type ShardEvent } from '../../xet/cas/protocol.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { parseHash } from '../../xet/hash/xet-hash.ts';
import { MAX_SHARD_UPLOAD } from '../../xet/shard/format.ts';
import { MAX_XORB_UPLOAD, XorbCheck } from '../../xet/xorb/stream-check.ts';
import type { ServerContext } from '../context.ts';
import type { Exchange } from '../exchange.ts';
import { HttpError, httpErrorOf } from '../http-error.ts';
import type { Route } from '../router.ts';
import { checkSha256Claims } from './sha256-claims.ts';
import { Spool } from './spool.ts';

/** A shard of somebody who sends a footer, too. */
const MAX_SHARD_BODY = MAX_SHARD_UPLOAD + 4096;
/** Bytes; that of a new file of 1 GiB has less than 1 MiB. */
const SMALL_SHARD = 4 * 1024 * 1024;
/** The last line is said again this often while nothing new is to be told. */
const REPEAT_MS = 15_000;

export function writeRoutes(context: ServerContext): Route[] {
  const { store, limits } = context;

  async function putXorb(exchange: Exchange): Promise<void> {
    if (exchange.param('prefix') !== 'default')
      throw new HttpError(400, 'xorbs are uploaded under "default"');
    const hash = parseHash(exchange.param('xorb'));
    const { signal } = exchange;
    const isNew = await context.xorbSlots.run(signal, async () => {
      const spool = new Spool(context.spoolDirectory(), { isNamed: true });
      const check = new XorbCheck((records) => spool.write(records));
      try {
        const limit = Math.min(limits.maxUpload, MAX_XORB_UPLOAD);
        await exchange.consume(limit, (piece) => check.push(piece));
        const footer = await check.finish(hash);
        context.metrics.storeOperation('putXorb');
        return await store.putXorb({ footer, records: () => spool.read(), file: spool.path }, { signal });
      } finally {
        await check.settle();
        await spool.close();
      }
    });
    exchange.json({ was_inserted: isNew });
  }

  /** `tell`: of progress. True if something of it was new. */
  async function register(exchange: Exchange, tell: (event: ShardEvent) => void): Promise<boolean> {
    const { signal } = exchange;
    const spool = new Spool(context.runDirectory);
    try {
      for await (const piece of exchange.body(Math.min(limits.maxUpload, MAX_SHARD_BODY)))
        await spool.write(piece);
      // Large ones one at a time: a shard is up to 64 MiB, and what is made of it as much again.
      const slots = spool.size > SMALL_SHARD ? context.largeSlots : context.smallSlots;
      return await slots.run(signal, async () => {
        const bytes = (await concat(spool)).subarray(0, MAX_SHARD_UPLOAD);
        await checkSha256Claims(store, bytes, {
          signal,
          onProgress: (verified, total) => tell({ type: 'validating', verified, total }),
        });
        tell({ type: 'committing', stage: 'uploading' });
        context.metrics.storeOperation('putShard');
        return store.putShard(bytes, { signal });
      });
    } finally {
      await spool.close();
    }
  }

  async function putShard(exchange: Exchange): Promise<void> {
    const isNew = await register(exchange, () => {});
    exchange.json({ result: isNew ? 1 : 0 });
  }

  async function putShardTelling(exchange: Exchange): Promise<void> {
    let last: ShardEvent = { type: 'validating', verified: 0, total: 1 };
    const write = (event: ShardEvent) => {
      last = event;
      if (!exchange.response.headersSent) exchange.head(200, { 'Content-Type': 'application/x-ndjson' });
      const line = formatShardEvent(event);
      exchange.bytesOut += line.length;
      if (!exchange.response.destroyed) exchange.response.write(line);
    };
    const timer = setInterval(() => write(last), REPEAT_MS);
    let toldAt = 0;
    try {
      const isNew = await register(exchange, (event) => {
        const now = performance.now();
        if (event.type === 'validating' && now - toldAt < 100) return;
        toldAt = now;
        write(event);
      });
      write({ type: 'result', result: isNew ? 1 : 0 });
    } catch (error) {
      if (!exchange.response.headersSent) throw error;
      const { answer } = httpErrorOf(error);
      const code = error instanceof Git2dbError ? { code: error.code } : {};
      write({ type: 'error', message: answer.message, retryable: answer.status >= 500, ...code });
    } finally {
      clearInterval(timer);
    }
    exchange.response.end();
  }

  return [
    {
      name: 'xorb.put',
      method: 'POST',
      pattern: '/v1/xorbs/{prefix}/{xorb}',
      access: 'write',
      summary: 'Uploads a xorb, with or without its footer',
      body: 'application/octet-stream',
      answers: [200, 400, 413],
      handle: putXorb,
    },
    {
      name: 'shard.v1',
      method: 'POST',
      pattern: '/v1/shards',
      access: 'write',
      summary: 'Registers files and xorbs',
      body: 'application/octet-stream',
      answers: [200, 400, 404, 413],
      handle: putShard,
    },
    {
      name: 'shard.v2',
      method: 'POST',
      pattern: '/v2/shards',
      access: 'write',
      summary: 'Registers files and xorbs, and tells of progress in lines of JSON',
      body: 'application/octet-stream',
      answers: [200, 400, 404, 413],
      handle: putShardTelling,
    },
  ];
}

async function concat(spool: Spool): Promise<Buffer> {
  const bytes = Buffer.alloc(spool.size);
  let at = 0;
  for await (const piece of spool.read()) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}
