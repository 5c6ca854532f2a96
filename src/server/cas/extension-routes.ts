/** What a server of ours offers beyond the CAS API (docs/format/cas-extensions.md). */
import {
  decodeHashes,
  encodeChunkRuns,
  encodeHashes,
  MAX_CHUNKS_ASKED,
  MAX_FILES_ASKED,
  MAX_SHA256S_ASKED,
  serverAnswer,
} from '../../xet/cas/protocol.ts';
import { HASH_SIZE, ZERO_HASH } from '../../xet/hash/xet-hash.ts';
import { ShardBuilder } from '../../xet/shard/builder.ts';
import { MAX_SHARD_UPLOAD } from '../../xet/shard/format.ts';
import type { ChunkRun, StoreFile } from '../../xet/store/store.ts';
import type { ServerContext } from '../context.ts';
import type { Exchange } from '../exchange.ts';
import { HttpError } from '../http-error.ts';
import type { Route } from '../router.ts';
import { TimeSlice } from '../time-slice.ts';

/** Chunks and files looked up before others get their turn. */
const CHUNKS_AT_ONCE = 2048;
const FILES_AT_ONCE = 512;

export function extensionRoutes(context: ServerContext): Route[] {
  const { store } = context;

  async function files(exchange: Exchange): Promise<void> {
    const hashes = await readHashes(exchange, MAX_FILES_ASKED);
    context.metrics.storeOperation('findFiles');
    const found: StoreFile[] = [];
    const slice = new TimeSlice();
    for (let at = 0; at < hashes.length; at += FILES_AT_ONCE) {
      const batch = await store.findFiles(hashes.slice(at, at + FILES_AT_ONCE), { signal: exchange.signal });
      for (const file of batch) if (file !== undefined) found.push(file);
      await slice.pause();
    }
    // A shard has verification hashes for all of its files or for none.
    const areVerified = found.every(({ verification }) => verification !== undefined);
    const builder = new ShardBuilder();
    for (const { fileHash, terms, verification, sha256 } of found) {
      builder.addFile({
        fileHash,
        terms,
        ...(areVerified && verification !== undefined ? { verification } : {}),
        ...(sha256 === undefined ? {} : { sha256 }),
      });
      if (builder.size({ footer: false }) > MAX_SHARD_UPLOAD) {
        throw new HttpError(413, 'the answer is too long: ask for fewer files', {}, 'LIMIT_EXCEEDED');
      }
    }
    exchange.bytes(builder.build({ footer: false }), 'application/octet-stream');
  }

  async function chunks(exchange: Exchange): Promise<void> {
    const body = await exchange.readBody(MAX_CHUNKS_ASKED * HASH_SIZE);
    splitHashes(body, MAX_CHUNKS_ASKED);
    context.metrics.storeOperation('findChunks');
    const runs: ChunkRun[] = [];
    const slice = new TimeSlice();
    const step = CHUNKS_AT_ONCE * HASH_SIZE;
    for (let at = 0; at < body.length; at += step) {
      const found = await store.findChunks(body.subarray(at, at + step), { signal: exchange.signal });
      for (const run of found) runs.push({ ...run, at: run.at + at / HASH_SIZE });
      await slice.pause();
    }
    exchange.bytes(encodeChunkRuns(runs), 'application/octet-stream');
  }

  async function sha256s(exchange: Exchange): Promise<void> {
    const hashes = await readHashes(exchange, MAX_SHA256S_ASKED);
    context.metrics.storeOperation('findSha256s');
    const found = await store.findSha256s(
      hashes.map((hash) => Buffer.from(hash).toString('hex')),
      { signal: exchange.signal },
    );
    exchange.bytes(encodeHashes(found.map((hash) => hash ?? ZERO_HASH)), 'application/octet-stream');
  }

  const binary = { body: 'application/octet-stream', answers: [200, 400, 413] } as const;
  return [
    {
      name: 'git2db',
      method: 'GET',
      pattern: '/v1/git2db',
      access: 'read',
      summary: 'Tells that this server is one of ours',
      answers: [200],
      handle: (exchange) => exchange.json(serverAnswer()),
    },
    {
      name: 'git2db.files',
      method: 'POST',
      pattern: '/v1/git2db/files',
      access: 'read',
      summary: 'Which of these files are known, and of what they are made, as a shard',
      ...binary,
      handle: files,
    },
    {
      name: 'git2db.chunks',
      method: 'POST',
      pattern: '/v1/git2db/chunks',
      access: 'read',
      summary: 'Where the chunks of a file are',
      ...binary,
      handle: chunks,
    },
    {
      name: 'git2db.sha256s',
      method: 'POST',
      pattern: '/v1/git2db/sha256s',
      access: 'read',
      summary: 'The file hash for each SHA-256',
      ...binary,
      handle: sha256s,
    },
  ];
}

async function readHashes(exchange: Exchange, most: number): Promise<Uint8Array[]> {
  return splitHashes(await exchange.readBody(most * HASH_SIZE), most);
}

function splitHashes(body: Uint8Array, most: number): Uint8Array[] {
  if (body.length % HASH_SIZE !== 0) throw new HttpError(400, `expected hashes of ${HASH_SIZE} bytes each`);
  return decodeHashes(body, most);
}
