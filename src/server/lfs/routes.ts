/**
 * Git LFS (its API documents: batch, basic transfers, locking) for the repositories: objects are chunked into the
 * store, and given out whole. An upload may choose the transfer `xet` (the Hub's): then chunks go to the CAS.
 */
import { randomUUID } from 'node:crypto';
import { isObject, tokenHeaders } from '../../xet/cas/protocol.ts';
import { demand } from '../access.ts';
import { sendByRange } from '../cas/send-ranges.ts';
import { issueCasToken } from '../cas-token.ts';
import { findContents, type NamedContent, readableContent, storeContent } from '../content.ts';
import type { ServerContext } from '../context.ts';
import type { Exchange } from '../exchange.ts';
import { type BareRepository, checkRepositoryName, type Repositories } from '../git/repositories.ts';
import { HttpError } from '../http-error.ts';
import type { Route } from '../router.ts';
import type { TokenScope } from '../token.ts';

const TYPE = 'application/vnd.git-lfs+json';
const MAX_OBJECTS = 1000;
const OID = /^[0-9a-f]{64}$/;

interface BatchQuestion {
  readonly operation: 'upload' | 'download';
  readonly transfers: readonly string[];
  readonly objects: readonly NamedContent[];
}

export function lfsRoutes(context: ServerContext, repositories: Repositories): Route[] {
  const { store } = context;

  async function open(exchange: Exchange, scope: TokenScope): Promise<BareRepository> {
    const name = checkRepositoryName(exchange.param('repository'));
    demand(exchange, scope, name);
    return scope === 'write' ? repositories.getOrCreate(name) : repositories.get(name);
  }

  async function batch(exchange: Exchange): Promise<void> {
    // Who may not even read is told so before the body is looked at.
    demand(exchange, 'read', checkRepositoryName(exchange.param('repository')));
    const question = parseBatch(await exchange.readJson());
    const isUpload = question.operation === 'upload';
    const scope = isUpload ? 'write' : 'read';
    const repository = await open(exchange, scope);
    const found = await findContents(
      store,
      question.objects.map(({ sha256 }) => sha256),
      { signal: exchange.signal },
    );
    const isXet = isUpload && question.transfers.includes('xet');
    const root = `${exchange.base}/${repository.name}.git/info`;
    const token = issueCasToken(context, exchange, scope, repository.name);
    const session = randomUUID();
    const expires = { expires_at: new Date(token.exp * 1000).toISOString() };
    const basicHeader = { Authorization: `Bearer ${token.accessToken}` };

    function answerFor({ sha256, size }: NamedContent): unknown {
      const object = { oid: sha256, size };
      const here = found.get(sha256);
      if (here !== undefined && here.size !== size) {
        const message = `this object has ${here.size} bytes, not ${size}`;
        return { ...object, error: { code: 422, message } };
      }
      const href = `${root}/lfs/objects/${sha256}`;
      if (!isUpload) {
        if (here === undefined) return { ...object, error: { code: 404, message: 'the object is not here' } };
        return {
          ...object,
          authenticated: true,
          actions: { download: { href, header: basicHeader, ...expires } },
        };
      }
      if (here !== undefined) return object;
      if (isXet) {
        const header = { ...tokenHeaders(token), 'X-Xet-Session-Id': session };
        return {
          ...object,
          actions: { upload: { href: `${root}/xet/token?scope=write`, header, ...expires } },
        };
      }
      const verify = { href: `${root}/lfs/verify`, header: basicHeader, ...expires };
      return {
        ...object,
        authenticated: true,
        actions: { upload: { href, header: basicHeader, ...expires }, verify },
      };
    }

    sendLfs(exchange, {
      transfer: isXet ? 'xet' : 'basic',
      objects: question.objects.map(answerFor),
      hash_algo: 'sha256',
    });
  }

  async function download(exchange: Exchange): Promise<void> {
    await open(exchange, 'read');
    const sha256 = oidOf(exchange.param('oid'));
    const { signal } = exchange;
    const content = (await findContents(store, [sha256], { signal })).get(sha256);
    if (content === undefined) throw new HttpError(404, `object ${sha256} is not here`);
    await sendByRange(exchange, readableContent(store, content, { signal }), { ETag: `"${sha256}"` });
  }

  async function upload(exchange: Exchange): Promise<void> {
    await open(exchange, 'write');
    const sha256 = oidOf(exchange.param('oid'));
    const size = exchange.contentLength;
    if (size === undefined) throw new HttpError(411, 'the size of an object is needed: send Content-Length');
    const { signal } = exchange;
    const limit = context.limits.maxObject;
    await context.objectSlots.run(signal, () =>
      storeContent(store, context.runDirectory, exchange.body(limit), { sha256, size }, { signal }),
    );
    exchange.empty(200);
  }

  async function verify(exchange: Exchange): Promise<void> {
    await open(exchange, 'read');
    const wanted = contentOf(await exchange.readJson());
    const { sha256, size } = wanted;
    const content = (await findContents(store, [sha256], { signal: exchange.signal })).get(sha256);
    if (content === undefined) throw new HttpError(404, `object ${sha256} is not here`);
    if (content.size !== size)
      throw new HttpError(422, `object ${sha256} has ${content.size} bytes, not ${size}`);
    sendLfs(exchange, {});
  }

  const base = '/{repository...}/info/lfs';
  const json = { body: TYPE, access: 'handler' } as const;
  return [
    {
      name: 'lfs.batch',
      method: 'POST',
      pattern: `${base}/objects/batch`,
      summary: 'Which objects are here, and how the others are moved',
      answers: [200, 404, 422],
      ...json,
      handle: batch,
    },
    {
      name: 'lfs.verify',
      method: 'POST',
      pattern: `${base}/verify`,
      summary: 'Whether an object has arrived',
      answers: [200, 404, 422],
      ...json,
      handle: verify,
    },
    {
      name: 'lfs.download',
      method: 'GET',
      pattern: `${base}/objects/{oid}`,
      access: 'handler',
      summary: 'The content of an object',
      answers: [200, 206, 404, 416],
      handle: download,
    },
    {
      name: 'lfs.upload',
      method: 'PUT',
      pattern: `${base}/objects/{oid}`,
      access: 'handler',
      summary: 'Uploads an object',
      body: 'application/octet-stream',
      answers: [200, 400, 404, 411],
      handle: upload,
    },
    {
      name: 'lfs.locks.verify',
      method: 'POST',
      pattern: `${base}/locks/verify`,
      summary: 'No file is locked: this server keeps no locks',
      answers: [200, 404],
      ...json,
      handle: async (exchange) => {
        await open(exchange, 'write');
        sendLfs(exchange, { ours: [], theirs: [] });
      },
    },
    {
      name: 'lfs.locks.list',
      method: 'GET',
      pattern: `${base}/locks`,
      access: 'handler',
      summary: 'The empty list of locks',
      answers: [200, 404],
      handle: async (exchange) => {
        await open(exchange, 'read');
        sendLfs(exchange, { locks: [] });
      },
    },
  ];
}

function sendLfs(exchange: Exchange, value: unknown): void {
  exchange.bytes(Buffer.from(JSON.stringify(value)), TYPE);
}

function oidOf(text: string): string {
  if (OID.test(text)) return text;
  throw new HttpError(422, 'the name of an object is a SHA-256 of 64 lower-case digits');
}

function contentOf(value: unknown): NamedContent {
  if (
    isObject(value) &&
    typeof value.oid === 'string' &&
    Number.isSafeInteger(value.size) &&
    Number(value.size) >= 0
  ) {
    return { sha256: oidOf(value.oid), size: Number(value.size) };
  }
  throw new HttpError(422, 'an object has an oid and a size');
}

function parseBatch(body: unknown): BatchQuestion {
  if (!isObject(body) || !Array.isArray(body.objects))
    throw new HttpError(422, 'expected operation and objects');
  const { operation, objects, transfers = ['basic'], hash_algo: algorithm } = body;
  if (operation !== 'upload' && operation !== 'download') {
    throw new HttpError(422, 'the operation is upload or download');
  }
  // The Hub's clients write it with an underscore.
  if (algorithm !== undefined && algorithm !== 'sha256' && algorithm !== 'sha_256') {
    throw new HttpError(409, 'objects are named by their SHA-256 here');
  }
  if (objects.length > MAX_OBJECTS) throw new HttpError(413, `at most ${MAX_OBJECTS} objects at a time`);
  const known = Array.isArray(transfers) ? transfers.filter((each) => typeof each === 'string') : [];
  return { operation, transfers: known, objects: objects.map(contentOf) };
}
