/**
 * Requests to one bucket: tried again where that may help, and failures told as errors for a person, with the SDK's
 * in `cause`.
 */
import { setMaxListeners } from 'node:events';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import type { HttpSettings } from '../cas/http-settings.ts';
import { backOff, type Clock, SYSTEM_CLOCK } from '../cas/retry.ts';
import { Git2dbError } from '../errors.ts';
import { throwIfAborted } from '../store/aborted.ts';
import type { ObjectOptions } from './objects.ts';
import { parseS3Address, type S3Address } from './s3-address.ts';
import { BodyFailure } from './s3-body.ts';
import { explain, isAbsent, isTransient } from './s3-error.ts';

const RETRIES = 6;
/** Without a byte either way. */
const IDLE_TIMEOUT_MS = 60_000;
const CONNECT_TIMEOUT_MS = 15_000;
/** Requests at once; each has a connection. */
const MAX_SOCKETS = 64;

const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

type Sdk = typeof import('@aws-sdk/client-s3');

export interface S3Options {
  /** Proxies, authorities to trust. Without it nothing of the environment is looked at. */
  readonly http?: HttpSettings | undefined;
  readonly clock?: Clock;
  /** Retries of a request that failed for a reason that may pass. Default 6. */
  readonly retries?: number;
  /** Instead of those of the environment and the profile; for tests. */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

export class S3Bucket {
  /** For messages. */
  readonly place: string;
  /** Before all keys: empty, or ends with a slash. */
  readonly prefix: string;
  readonly sdk: Sdk;
  readonly client: S3Client;
  readonly name: string;
  readonly #clock: Clock;
  readonly #retries: number;

  private constructor(sdk: Sdk, client: S3Client, { bucket, prefix }: S3Address, options: S3Options) {
    this.sdk = sdk;
    this.client = client;
    this.name = bucket;
    this.prefix = prefix;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#retries = options.retries ?? RETRIES;
    this.place = `s3://${bucket}/${prefix}`.replace(/\/$/, '');
  }

  /** Loads the SDK. Asks nothing yet. Throws URL_INVALID or INVALID_CONFIG. */
  static async open(url: string, options: S3Options): Promise<S3Bucket> {
    const address = parseS3Address(url);
    const sdk = await import('@aws-sdk/client-s3');
    const config: S3ClientConfig = {
      forcePathStyle: address.pathStyle,
      ...(address.endpoint !== undefined && { endpoint: address.endpoint }),
      // Services of others take any region in the signature.
      ...(address.region !== undefined && { region: address.region }),
      ...(address.region === undefined && address.endpoint !== undefined && { region: 'us-east-1' }),
      ...(options.credentials !== undefined && { credentials: options.credentials }),
      // Else bodies are sent in a framing that many services do not know.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      // Tried again here: a body has to be made anew.
      maxAttempts: 1,
      // It would write to the console.
      logger: SILENT,
      requestHandler: {
        connectionTimeout: CONNECT_TIMEOUT_MS,
        socketTimeout: IDLE_TIMEOUT_MS,
        httpAgent: { maxSockets: MAX_SOCKETS, keepAlive: true },
        httpsAgent: { maxSockets: MAX_SOCKETS, keepAlive: true },
      },
    };
    const client = quietly(() => new sdk.S3Client(config));
    if (options.http !== undefined) {
      // What it takes is loaded by those who may need it.
      const { configureRequests } = await import('./s3-requests.ts');
      configureRequests(client, options.http);
    }
    return new S3Bucket(sdk, client, address, options);
  }

  /** What names an object in a request. */
  keyed(key: string): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.name, Key: `${this.prefix}${key}` };
  }

  /** Runs `action`, again where that may help. `what` is done to `key`, for messages. */
  async try<T>(
    what: string,
    key: string,
    { signal }: ObjectOptions,
    action: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const never = new AbortController().signal;
    // Any number of requests may be ended by one signal.
    if (signal !== undefined) setMaxListeners(0, signal);
    for (let attempt = 0; ; attempt++) {
      throwIfAborted(signal);
      try {
        return await action(signal ?? never);
      } catch (error) {
        throwIfAborted(signal);
        if (error instanceof BodyFailure) throw error.cause;
        if (!isTransient(error) || attempt >= this.#retries)
          throw explain(error, what, `${this.place}/${key}`);
        await this.#clock.sleep(backOff(attempt, this.#clock), signal);
      }
    }
  }

  /** Undefined where `action` fails because the object is not there. */
  async absent<T>(action: () => Promise<T>): Promise<T | undefined> {
    try {
      return await action();
    } catch (error) {
      if (isAbsent(causeOf(error))) return undefined;
      throw error;
    }
  }

  invalid(key: string, found: string): Git2dbError {
    return new Git2dbError('REMOTE_INVALID', `${this.place}/${key}: ${found}; is this an S3 service?`);
  }
}

/** What the SDK threw. */
export function causeOf(error: unknown): unknown {
  return error instanceof Git2dbError ? error.cause : error;
}

/** The SDK tells users of this version of Node to get a newer one, which is not for it to say. */
function quietly<T>(action: () => T): T {
  const name = 'AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED';
  const before = process.env[name];
  process.env[name] = 'true';
  try {
    return action();
  } finally {
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  }
}
