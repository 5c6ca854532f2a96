/** What S3 and its SDK say when something fails, as errors for a person. */
import { type ErrorCode, errnoOf, Git2dbError, messageOf } from '../errors.ts';

/** The fields of the SDK's exceptions that are looked at. */
interface SdkError {
  readonly name?: unknown;
  readonly message?: unknown;
  readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: string };
}

export function statusOf(error: unknown): number | undefined {
  return (error as SdkError | null)?.$metadata?.httpStatusCode;
}

export function nameOf(error: unknown): string {
  const name = (error as SdkError | null)?.name;
  return typeof name === 'string' ? name : '';
}

/** The object is not there. A missing bucket is something else. */
export function isAbsent(error: unknown): boolean {
  const name = nameOf(error);
  return name === 'NoSuchKey' || name === 'NotFound' || (statusOf(error) === 404 && name !== 'NoSuchBucket');
}

/** A condition of the request does not hold. */
export function isRefusedByCondition(error: unknown): boolean {
  return statusOf(error) === 412 || nameOf(error) === 'PreconditionFailed';
}

const CONNECTION_ERRORS: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_SOCKET',
]);

/** The same request may succeed later: 409 is a race of writers, 503 a server that is asked too much. */
export function isTransient(error: unknown): boolean {
  if (error instanceof Git2dbError) return error.data.transient === true;
  const status = statusOf(error);
  const name = nameOf(error);
  if (status === 409 && name !== 'ConditionalRequestConflict' && name !== 'OperationAborted') return false;
  if (status === 409 || status === 408 || status === 429) return true;
  if (status !== undefined && status >= 500 && status !== 501 && status !== 507) return true;
  if (name === 'TimeoutError' || name === 'RequestTimeout' || name === 'SlowDown') return true;
  return isConnectionError(error);
}

function isConnectionError(error: unknown): boolean {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if (CONNECTION_ERRORS.has(errnoOf(at) ?? '')) return true;
  }
  return false;
}

/** Words of the server, on one line. */
function said(error: unknown): string {
  const text = messageOf(error)
    .replace(/[\p{Cc}\s]+/gu, ' ')
    .slice(0, 200);
  return text === '' || text === nameOf(error) || text === 'UnknownError'
    ? nameOf(error)
    : `${nameOf(error)}: ${text}`;
}

/** `what` was asked of `place`. */
export function explain(error: unknown, what: string, place: string): unknown {
  if (error instanceof Git2dbError) return error;
  if ((error as Error | null)?.name === 'AbortError') return error;
  const [code, message] = meaningOf(error, place);
  const status = statusOf(error);
  return new Git2dbError(code, `${what} ${place}: ${message}`, {
    cause: error,
    data: { ...(status === undefined ? {} : { status }), transient: isTransient(error) },
  });
}

function meaningOf(error: unknown, place: string): readonly [ErrorCode, string] {
  const name = nameOf(error);
  switch (name) {
    case 'NoSuchBucket':
      return ['REMOTE_MISSING', 'there is no such bucket; make it, or correct the address'];
    case 'CredentialsProviderError':
      return [
        'AUTH_FAILED',
        'no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE',
      ];
    case 'InvalidAccessKeyId':
      return ['AUTH_FAILED', 'the access key is not known there; check AWS_ACCESS_KEY_ID or the profile'];
    case 'SignatureDoesNotMatch':
      return [
        'AUTH_FAILED',
        'the secret key is not that of the access key; check AWS_SECRET_ACCESS_KEY or the profile',
      ];
    case 'ExpiredToken':
    case 'ExpiredTokenException':
    case 'TokenRefreshRequired':
      return ['AUTH_FAILED', 'the session has expired; log in again (for example `aws sso login`)'];
    case 'RequestTimeTooSkewed':
    case 'RequestExpired':
      return [
        'AUTH_FAILED',
        'the clock of this machine is wrong by minutes, so no signature is accepted; set it',
      ];
    case 'PermanentRedirect':
    case 'AuthorizationHeaderMalformed':
    case 'IllegalLocationConstraintException':
      return [
        'REMOTE_INVALID',
        `the bucket is in another region; add region=... to the address (${said(error)})`,
      ];
    case 'QuotaExceeded':
      return ['DISK_FULL', 'the quota is used up; make room, or have it raised'];
  }
  const status = statusOf(error);
  if (status === 401) return ['AUTH_FAILED', `not accepted (${said(error)}); check the credentials`];
  if (status === 403) {
    return [
      'REMOTE_FORBIDDEN',
      `not allowed (${said(error)}); the policy must allow GetObject and ListBucket, and for writing PutObject and DeleteObject`,
    ];
  }
  if (status === 407)
    return ['AUTH_FAILED', 'the proxy wants a user and a password: put them into http.proxy'];
  if (status === 507) return ['DISK_FULL', 'there is no space left'];
  if (isTransient(error)) {
    return [
      'NETWORK',
      `no answer that is of use (${said(error)}); check the endpoint and the network, then try again`,
    ];
  }
  if (messageOf(error).includes('Region is missing')) {
    return ['INVALID_CONFIG', 'no region is set; add region=... to the address, or set AWS_REGION'];
  }
  return [
    'REMOTE_INVALID',
    `${said(error)}${status === undefined ? '' : ` (status ${status})`}; check ${place}`,
  ];
}
