/**
 * Failures of HTTP as errors for a person: one line with method, host and path (no query, no token), what the
 * server said, and what to do. `data` has `status` where there was an answer, `transient` where the same request
 * may succeed later, and `retryAfterMs` where the server asked for a pause.
 */
import { STATUS_CODES } from 'node:http';
import { type ErrorCode, errnoOf, Git2dbError, messageOf } from '../errors.ts';
import { isTransientStatus } from './retry.ts';

const MAX_SERVER_TEXT = 200;
const MAX_PATH = 200;

/** `GET https://host/path`: what a request is called in messages. */
export function nameRequest(method: string, url: URL | string): string {
  return `${method} ${nameUrl(url)}`;
}

/** A URL without user, query and fragment. */
export function nameUrl(url: URL | string): string {
  const { origin, pathname } = typeof url === 'string' ? new URL(url) : url;
  const path = printable(pathname);
  return `${origin}${path.length > MAX_PATH ? `${path.slice(0, MAX_PATH)}...` : path}`;
}

export interface FailedAnswer {
  readonly method: string;
  readonly url: URL;
  readonly status: number;
  /** The server's words for it, cleaned. */
  readonly said?: string | undefined;
  /** The code of the error, where the server is one of ours. */
  readonly code?: ErrorCode | undefined;
  readonly requestId?: string | undefined;
  readonly retryAfterMs?: number | undefined;
  /** Whether we said who we are. */
  readonly isAuthorized: boolean;
  /** How often the request was made. */
  readonly attempts: number;
}

export function errorOfStatus(answer: FailedAnswer): Git2dbError {
  const { method, url, status, said, requestId, attempts, retryAfterMs } = answer;
  const name = STATUS_CODES[status];
  const details = [
    said === undefined ? '' : `: ${JSON.stringify(said)}`,
    requestId === undefined ? '' : ` (request ${requestId})`,
    attempts > 1 ? `, ${attempts} times` : '',
  ].join('');
  const [code, remedy] = meaningOf(answer);
  return new Git2dbError(
    code,
    `${nameRequest(method, url)}: the server answered ${status}${name === undefined ? '' : ` ${name}`}${details}; ${remedy}`,
    {
      data: {
        status,
        host: url.host,
        transient: isTransientStatus(status),
        ...(requestId === undefined ? {} : { requestId }),
        ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      },
    },
  );
}

/** Codes that are taken over from a server of ours, and what to do. */
const CODE_REMEDIES: Partial<Record<ErrorCode, string>> = {
  CONTENT_MISSING: 'content that it refers to is not there: send that first, or fetch it from elsewhere',
  CONTENT_DAMAGED: 'its copy is damaged: its operator must run `git2db xet fsck` there',
  INVALID_SHARD: 'what was sent did not arrive as it was, or is damaged here: run `git2db xet fsck`',
  INVALID_XORB: 'what was sent did not arrive as it was, or is damaged here: run `git2db xet fsck`',
  LIMIT_EXCEEDED: 'the server takes nothing that large: its limits must be raised',
  DISK_FULL: 'the server has no space left: its operator must make some',
  STORE_UNWRITABLE: 'its store cannot be written to: its operator must see to that',
};

function meaningOf({
  status,
  code,
  isAuthorized,
  url,
  retryAfterMs,
}: FailedAnswer): readonly [ErrorCode, string] {
  if (code !== undefined && status >= 400 && !isTransientStatus(status))
    return [code, CODE_REMEDIES[code] ?? ''];
  if (status === 401) {
    return [
      'AUTH_FAILED',
      isAuthorized
        ? 'the token or password was refused or has expired: get a new one, and see that the clock of this machine is right'
        : `log in: a token or password for ${url.host} is needed (git credential helper, or environment)`,
    ];
  }
  if (status === 403)
    return ['REMOTE_FORBIDDEN', 'a token that allows this is needed, or somebody who may grant it'];
  if (status === 404 || status === 410)
    return ['REMOTE_MISSING', 'check the address, and that you may see what is there'];
  if (status === 407)
    return ['AUTH_FAILED', 'the proxy wants a user and a password: put them into http.proxy'];
  if (status === 413)
    return ['LIMIT_EXCEEDED', 'the server takes nothing that large: its limits must be raised'];
  if (status === 507) return ['DISK_FULL', 'the server has no space left: its operator must make some'];
  if (isTransientStatus(status)) {
    const when = retryAfterMs === undefined ? 'later' : `in ${Math.ceil(retryAfterMs / 1000)} seconds`;
    return ['NETWORK', `try again ${when}; what was transferred is not transferred again`];
  }
  return [
    'REMOTE_INVALID',
    'the server does not take what this program sends: check the address, or its version',
  ];
}

/** Errors of certificates: no other try will end differently. */
const CERTIFICATE_ERRORS = new Map([
  ['CERT_HAS_EXPIRED', 'has expired'],
  ['CERT_NOT_YET_VALID', 'is not valid yet'],
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'is for another host'],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'is signed by itself'],
  ['SELF_SIGNED_CERT_IN_CHAIN', 'is signed by an authority that is not trusted'],
  ['UNABLE_TO_GET_ISSUER_CERT', 'is signed by an authority that is not known'],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'is signed by an authority that is not known'],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'is signed by an authority that is not known'],
  ['CERT_SIGNATURE_FAILURE', 'has a wrong signature'],
  ['CERT_REVOKED', 'was revoked'],
  ['CERT_UNTRUSTED', 'is not trusted'],
]);

const CONNECTION_ERRORS = new Map([
  ['ECONNREFUSED', 'nothing listens there'],
  ['ENOTFOUND', 'there is no host of that name'],
  ['EAI_AGAIN', 'the name of the host could not be looked up'],
  ['ECONNRESET', 'the connection was reset'],
  ['EPIPE', 'the connection was closed while sending'],
  ['ETIMEDOUT', 'no answer in time'],
  ['EHOSTUNREACH', 'the host cannot be reached'],
  ['ENETUNREACH', 'the network cannot be reached'],
  ['UND_ERR_CONNECT_TIMEOUT', 'no connection in time'],
  ['UND_ERR_HEADERS_TIMEOUT', 'no answer in time'],
  ['UND_ERR_BODY_TIMEOUT', 'the answer stopped coming'],
  ['UND_ERR_SOCKET', 'the connection ended early'],
  ['UND_ERR_RES_CONTENT_LENGTH_MISMATCH', 'the answer ended early'],
]);

/**
 * What a request that was not answered, or not to its end, failed of. Errors of ours pass as they are;
 * everything is looked for in causes and collected errors, too.
 */
export function errorOfConnection(
  error: unknown,
  method: string,
  url: URL,
  proxy: URL | undefined,
): Git2dbError {
  const all = [...causesOf(error)];
  const ours = all.find((one) => one instanceof Git2dbError);
  if (ours !== undefined) return ours as Git2dbError;
  const where = nameRequest(method, url);
  const via = proxy === undefined ? '' : ` through the proxy ${proxy.protocol}//${proxy.host}`;
  const codes = all.map((one) => errnoOf(one)).filter((code) => code !== undefined);
  const refusal = all
    .map((one) => /^Proxy response \((\d{3})\)/.exec(messageOf(one))?.[1])
    .find((status) => status);
  if (proxy !== undefined && refusal !== undefined) {
    const status = Number(refusal);
    return new Git2dbError(
      status === 407 ? 'AUTH_FAILED' : 'NETWORK',
      `${where}: the proxy ${proxy.protocol}//${proxy.host} answered ${status}${status === 407 ? ': it wants a user and a password, which belong into http.proxy' : `; check http.proxy, or exempt ${url.hostname} by NO_PROXY`}`,
      { data: { host: url.host, transient: isTransientStatus(status) } },
    );
  }
  const certificate = codes.find((code) => CERTIFICATE_ERRORS.has(code));
  if (certificate !== undefined) {
    return new Git2dbError(
      'NETWORK',
      `${where}${via}: the certificate of the server ${CERTIFICATE_ERRORS.get(certificate)} (${certificate}); ` +
        'name its authority in http.sslCAInfo, and see that the clock of this machine is right',
      { cause: error, data: { host: url.host, transient: false } },
    );
  }
  const code = codes.find((known) => CONNECTION_ERRORS.has(known)) ?? codes[0];
  const what =
    (code === undefined ? undefined : CONNECTION_ERRORS.get(code)) ??
    printable(messageOf(error)).slice(0, 200);
  return new Git2dbError(
    'NETWORK',
    `${where}${via}: ${what}${code === undefined ? '' : ` (${code})`}; check the address and the network, then try again`,
    { cause: error, data: { host: url.host, transient: code !== 'ENOTFOUND' && !isOurMistake(code) } },
  );
}

function isOurMistake(code: string | undefined): boolean {
  return (
    code?.startsWith('ERR_SSL') === true ||
    code === 'UND_ERR_INVALID_ARG' ||
    code === 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH'
  );
}

function* causesOf(error: unknown, depth = 0): Generator<unknown> {
  if (error === undefined || error === null || depth > 4) return;
  yield error;
  const { cause, errors } = error as { cause?: unknown; errors?: unknown };
  yield* causesOf(cause, depth + 1);
  if (Array.isArray(errors)) for (const one of errors.slice(0, 8)) yield* causesOf(one, depth + 1);
}

/** Whether trying again may help. */
export function isTransient(error: unknown): boolean {
  return error instanceof Git2dbError && error.data.transient === true;
}

/** The HTTP status of the answer that `error` is about. */
export function statusOf(error: unknown): number | undefined {
  const status = error instanceof Git2dbError ? error.data.status : undefined;
  return typeof status === 'number' ? status : undefined;
}

export interface ServerWords {
  readonly said: string | undefined;
  readonly code: ErrorCode | undefined;
}

/** What a server says about its refusal: the `error` or `message` of a JSON body, else the text; cleaned. */
export function serverWords(body: Uint8Array, contentType: string | undefined): ServerWords {
  const text = Buffer.from(body).toString('utf8');
  let said: unknown = text;
  let code: unknown;
  if (text.trimStart().startsWith('{')) {
    try {
      const parsed = JSON.parse(text) as { error?: unknown; message?: unknown; code?: unknown };
      said = typeof parsed.error === 'string' ? parsed.error : parsed.message;
      code = parsed.code;
    } catch {
      said = text;
    }
  } else if (contentType?.includes('html') === true) {
    said = /<title>([^<]*)<\/title>/i.exec(text)?.[1];
  }
  return { said: cleanText(said), code: knownCode(code) };
}

/** A code of the kinds that a server may tell of; undefined for anything else. */
export function knownCode(code: unknown): ErrorCode | undefined {
  return typeof code === 'string' && Object.hasOwn(CODE_REMEDIES, code) ? (code as ErrorCode) : undefined;
}

/** Words of a server as they may stand in a message; undefined if there are none. */
export function cleanText(text: unknown): string | undefined {
  const clean = typeof text === 'string' ? printable(text).trim().slice(0, MAX_SERVER_TEXT) : '';
  return clean === '' ? undefined : clean;
}

/** On one line, without what a terminal would act on. */
export function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ');
}
