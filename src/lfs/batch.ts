/**
 * The messages of the Git LFS batch API (git-lfs, docs/api/batch.md), and what is believed of them:
 *
 *     POST <endpoint>/objects/batch
 *     {"operation":"download","transfers":["basic"],"ref":{"name":"refs/heads/main"},
 *      "objects":[{"oid":"<SHA-256>","size":123}],"hash_algo":"sha256"}
 *
 *     {"transfer":"basic","objects":[{"oid":"…","size":123,"actions":{"download":
 *      {"href":"https://…","header":{"…":"…"}}}},{"oid":"…","error":{"code":404,"message":"…"}}]}
 */
import { Git2dbError } from '../xet/errors.ts';
import type { LfsOperation } from './endpoint.ts';
import type { LfsObject } from './objects.ts';

export const LFS_JSON = 'application/vnd.git-lfs+json';
/** Objects in one question. */
export const BATCH_SIZE = 100;
/** An answer of more bytes is not read. */
export const MAX_BATCH_ANSWER = 8 << 20;

const MAX_HEADERS = 64;
const MAX_HEADER = 65536;
const MAX_HREF = 65536;

export type LfsTransfer = 'basic' | 'xet';

export interface LfsAction {
  readonly href: string;
  readonly header: Readonly<Record<string, string>>;
}

export interface BatchObject extends LfsObject {
  readonly upload: LfsAction | undefined;
  readonly download: LfsAction | undefined;
  readonly verify: LfsAction | undefined;
  /** True: the actions need no credentials besides their own headers. */
  readonly authenticated: boolean;
  readonly error: { readonly code: number; readonly message: string } | undefined;
}

export interface BatchAnswer {
  readonly transfer: LfsTransfer;
  /** In the order of the question. */
  readonly objects: readonly BatchObject[];
}

export interface BatchQuestion {
  readonly operation: LfsOperation;
  readonly objects: readonly LfsObject[];
  readonly transfers: readonly LfsTransfer[];
  /** Full name of the ref that is pushed or fetched, where one is known. */
  readonly ref: string | undefined;
}

export function encodeBatch({ operation, objects, transfers, ref }: BatchQuestion): Buffer {
  return Buffer.from(
    JSON.stringify({
      operation,
      transfers,
      ...(ref === undefined ? {} : { ref: { name: ref } }),
      objects: objects.map(({ sha256, size }) => ({ oid: sha256, size })),
      hash_algo: 'sha256',
    }),
  );
}

/** Throws REMOTE_INVALID. Objects that nobody asked for are passed over; one that is not answered has an error. */
export function decodeBatch(answer: unknown, question: BatchQuestion): BatchAnswer {
  if (!isRecord(answer)) throw invalid('is no JSON object');
  const { transfer = 'basic', objects, hash_algo: algorithm } = answer;
  if (transfer !== 'basic' && transfer !== 'xet') throw invalid(`chose the transfer ${quoted(transfer)}`);
  if (!question.transfers.includes(transfer))
    throw invalid(`chose the transfer ${transfer}, which was not offered`);
  if (algorithm !== undefined && algorithm !== 'sha256' && algorithm !== 'sha_256')
    throw invalid(`names objects by ${quoted(algorithm)}, not by SHA-256`);
  if (!Array.isArray(objects)) throw invalid('has no list of objects');
  const byName = new Map<string, Record<string, unknown>>();
  for (const object of objects) {
    if (!isRecord(object) || typeof object.oid !== 'string') throw invalid('has an object without oid');
    if (!byName.has(object.oid)) byName.set(object.oid, object);
  }
  return {
    transfer,
    objects: question.objects.map((asked) => decodeObject(byName.get(asked.sha256), asked)),
  };
}

function decodeObject(found: Record<string, unknown> | undefined, asked: LfsObject): BatchObject {
  const none = {
    ...asked,
    upload: undefined,
    download: undefined,
    verify: undefined,
    authenticated: false,
    error: undefined,
  };
  if (found === undefined)
    return { ...none, error: { code: 404, message: 'the server did not answer for it' } };
  if (isRecord(found.error)) {
    const { code, message } = found.error;
    return {
      ...none,
      error: {
        code: typeof code === 'number' ? code : 500,
        message: typeof message === 'string' ? message : 'the server gave no reason',
      },
    };
  }
  if (typeof found.size === 'number' && found.size !== asked.size) {
    const message = `the server says ${found.size} bytes, the pointer ${asked.size}`;
    return { ...none, error: { code: 422, message } };
  }
  const actions = isRecord(found.actions) ? found.actions : isRecord(found._links) ? found._links : {};
  return {
    ...none,
    upload: decodeAction(actions.upload),
    download: decodeAction(actions.download),
    verify: decodeAction(actions.verify),
    authenticated: found.authenticated === true,
  };
}

function decodeAction(action: unknown): LfsAction | undefined {
  if (action === undefined || action === null) return undefined;
  if (!isRecord(action) || typeof action.href !== 'string') throw invalid('has an action without href');
  const { href } = action;
  if (href.length > MAX_HREF || !/^https?:\/\//i.test(href) || !URL.canParse(href))
    throw invalid(`has an action at ${quoted(href)}, which is no http(s) URL`);
  const header: Record<string, string> = Object.create(null);
  const entries = isRecord(action.header) ? Object.entries(action.header) : [];
  if (entries.length > MAX_HEADERS) throw invalid(`has an action with ${entries.length} headers`);
  for (const [name, value] of entries) {
    if (typeof value !== 'string' || value.length > MAX_HEADER)
      throw invalid(`has an odd header ${quoted(name)}`);
    // Nothing that could end the header, or begin another request.
    if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) || !/^[\t\x20-\x7e\x80-\xff]*$/.test(value))
      throw invalid(`has an odd header ${quoted(name)}`);
    header[name] = value;
  }
  return { href, header };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function quoted(value: unknown): string {
  return (JSON.stringify(value) ?? 'nothing').replace(/\p{C}/gu, ' ').slice(0, 100);
}

function invalid(what: string): Git2dbError {
  return new Git2dbError('REMOTE_INVALID', `the LFS server's batch answer ${what}`);
}
