/** Answers that are no success. Whatever else is thrown becomes one of these here. */
import { type ErrorCode, Git2dbError, messageOf } from '../xet/errors.ts';

export class HttpError extends Error {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Of the error behind it, for clients that go by it. */
  readonly code: ErrorCode | undefined;

  constructor(
    status: number,
    message: string,
    headers: Readonly<Record<string, string>> = {},
    code?: ErrorCode,
  ) {
    super(message);
    this.name = 'HttpError';
    this.status = status;
    this.headers = headers;
    this.code = code;
  }
}

const STATUS_OF_CODE: Partial<Record<ErrorCode, number>> = {
  INVALID_HASH: 400,
  INVALID_XORB: 400,
  INVALID_SHARD: 400,
  INVALID_LZ4: 400,
  INVALID_POINTER: 400,
  LIMIT_EXCEEDED: 413,
  CONTENT_DAMAGED: 500,
  CONTENT_MISSING: 404,
  NOT_FOUND: 404,
  REF_INVALID: 404,
  NAME_INVALID: 400,
  REFUSED: 409,
  CONFLICT: 409,
  STORE_UNWRITABLE: 403,
  DISK_FULL: 507,
  LOCK_TIMEOUT: 503,
  NETWORK: 503,
};

/** What to answer; `isOwn`: a failure of the server itself, whose text is not for the client. */
export function httpErrorOf(error: unknown): { readonly answer: HttpError; readonly isOwn: boolean } {
  if (error instanceof HttpError) return { answer: error, isOwn: error.status >= 500 };
  if (error instanceof Git2dbError) {
    const status = STATUS_OF_CODE[error.code];
    if (status !== undefined)
      return {
        answer: new HttpError(status, error.message, {}, error.code),
        isOwn: status >= 500,
      };
  }
  const cause = error instanceof Git2dbError ? ` (${error.code})` : '';
  return {
    answer: new HttpError(
      500,
      `the server failed${cause}; its operator finds the reason under this request id`,
    ),
    isOwn: true,
  };
}

/** For the log of the server. */
export function describeError(error: unknown): string {
  return error instanceof Error && !(error instanceof Git2dbError)
    ? (error.stack ?? messageOf(error))
    : messageOf(error);
}
