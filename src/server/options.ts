/** What a server is told when it starts. Nothing here reads files, the environment or flags. */
import type { ServableStore } from '../xet/store/store.ts';

export type AnonymousAccess = 'none' | 'read' | 'write';

export interface TlsFiles {
  /** PEM: the certificate and its chain. */
  readonly cert: string;
  /** PEM. */
  readonly key: string;
}

export interface ServerLimits {
  /** Largest body of one request, bytes, other than a push of git and an LFS object. */
  readonly maxUpload: number;
  /** Largest LFS object that comes by `basic` transfer, bytes. */
  readonly maxObject: number;
  /** Requests a second of one client, and twice that at once; undefined: no limit. */
  readonly rate: number | undefined;
  readonly maxConnections: number;
  /** A request or answer on which nothing moves this long is given up. */
  readonly idleTimeoutMs: number;
  /** Time for the head of a request. */
  readonly headersTimeoutMs: number;
  /** What a stop waits for requests that are under way. */
  readonly graceMs: number;
}

export const DEFAULT_LIMITS: ServerLimits = {
  maxUpload: 67_108_864 + 1_048_576,
  maxObject: 1024 ** 4,
  rate: undefined,
  maxConnections: 1000,
  idleTimeoutMs: 60_000,
  headersTimeoutMs: 15_000,
  graceMs: 30_000,
};

export interface ServerOptions {
  /** Stays open when the server stops. */
  readonly store: ServableStore;
  /** Secret of at least 32 bytes that tokens and data URLs are signed with; the same in all servers of one store. */
  readonly key: Uint8Array;
  readonly host?: string | undefined;
  /** 0 (the default): a free one. */
  readonly port?: number | undefined;
  /** Where clients reach the server; undefined: as the `Host` header of each request says. */
  readonly publicUrl?: string | undefined;
  /** Directory of the bare repositories; undefined: only the Xet store is served. */
  readonly repositories?: string | undefined;
  /** Whether a push, or a commit, to a repository that does not exist makes it. */
  readonly createRepositories?: boolean | undefined;
  /** The store's own directory, where its users are entered and uploads wait; undefined for a bucket. */
  readonly storeDirectory?: string | undefined;
  /** Directory for uploads that wait to be checked. Unless given: the store, for what it is to take; the system's temporary one, for the rest. */
  readonly spoolDirectory?: string | undefined;
  readonly anonymous?: AnonymousAccess | undefined;
  readonly tls?: TlsFiles | undefined;
  readonly limits?: Partial<ServerLimits> | undefined;
  /** The address of the last `X-Forwarded-For` entry is that of the client. */
  readonly trustProxy?: boolean | undefined;
  /** One line for each request, without its newline. */
  readonly accessLog?: ((line: string) => void) | undefined;
  readonly logFormat?: 'json' | 'text' | undefined;
  /** Failures that are the server's own. */
  readonly onError?: ((error: unknown, requestId: string) => void) | undefined;
  /** Milliseconds since 1970; for tests. */
  readonly now?: (() => number) | undefined;
}
