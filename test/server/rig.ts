/** A server in this process over a store in a directory, and ways to ask it. */
import { mkdirSync } from 'node:fs';
import { request } from 'node:http';
import type { ExecutionContext } from 'ava';
import type { ServerOptions } from '../../src/server/options.ts';
import { type RunningServer, startServer } from '../../src/server/server.ts';
import { CasStore } from '../../src/xet/cas/client.ts';
import { HttpClient } from '../../src/xet/cas/http.ts';
import { staticToken } from '../../src/xet/cas/token.ts';
import { DirectoryStore } from '../../src/xet/store/directory-store.ts';
import type { ServableStore } from '../../src/xet/store/store.ts';
import { createSandbox, type Sandbox } from '../helpers/git-sandbox.ts';

export const SERVER_KEY: Uint8Array = new Uint8Array(32).fill(7);

export interface ServerRig {
  readonly sandbox: Sandbox;
  readonly server: RunningServer;
  readonly store: ServableStore;
  /** Directory of the store, where it is one. */
  readonly storeDirectory: string;
  readonly repositories: string;
  readonly log: string[];
  readonly errors: unknown[];
  ask(method: string, path: string, options?: AskOptions): Promise<Answer>;
  /** A client that may write, or what `token` allows. */
  client(token?: string): Promise<CasStore>;
}

export interface AskOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string;
  readonly token?: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  json(): Record<string, unknown>;
}

export async function createServerRig(
  t: ExecutionContext,
  options: Partial<ServerOptions> = {},
): Promise<ServerRig> {
  const sandbox = createSandbox(t);
  const storeDirectory = sandbox.path('store');
  const repositories = sandbox.path('repositories');
  mkdirSync(repositories);
  const store = options.store ?? DirectoryStore.open(storeDirectory, { fsync: 'none' });
  const log: string[] = [];
  const errors: unknown[] = [];
  const server = await startServer({
    key: SERVER_KEY,
    repositories,
    createRepositories: true,
    ...(options.store === undefined ? { storeDirectory } : {}),
    spoolDirectory: sandbox.tmp,
    accessLog: (line) => log.push(line),
    onError: (error) => errors.push(error),
    ...options,
    limits: { graceMs: 200, ...options.limits },
    store,
  });
  t.teardown(async () => {
    await server.stop();
    if (options.store === undefined) await store[Symbol.asyncDispose]();
  });

  async function client(token = server.token('write')): Promise<CasStore> {
    const http = HttpClient.open({ retries: 0 });
    const cas = await CasStore.open({
      http,
      casUrl: server.url,
      token: staticToken(server.url, token),
      closesHttp: true,
    });
    t.teardown(() => cas[Symbol.asyncDispose]());
    return cas;
  }
  const ask = (method: string, path: string, asked: AskOptions = {}) =>
    askServer(server.url, method, path, asked);
  return { sandbox, server, store, storeDirectory, repositories, log, errors, ask, client };
}

/** Sends the path as it is: nothing is normalised on the way. */
export function askServer(
  url: string,
  method: string,
  path: string,
  options: AskOptions = {},
): Promise<Answer> {
  const { body, token, headers = {} } = options;
  const { hostname, port } = new URL(url);
  const authorization = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  return new Promise((resolve, reject) => {
    const sent = request(
      { hostname, port, method, path, headers: { ...authorization, ...headers }, agent: false },
      (response) => {
        const pieces: Buffer[] = [];
        response.on('data', (piece: Buffer) => pieces.push(piece));
        response.on('error', reject);
        response.on('end', () => {
          const whole = Buffer.concat(pieces);
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: whole,
            json: () => JSON.parse(whole.toString('utf8')),
          });
        });
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}
