/** Runs `git http-backend` (git-http-backend(1), RFC 3875) for one request, streaming both ways. */
import { drained, startGit } from '../../git/process.ts';
import type { Exchange } from '../exchange.ts';
import { HttpError } from '../http-error.ts';
import { bareEnvironment } from './environment.ts';
import type { PushHook } from './push-hook.ts';
import type { BareRepository } from './repositories.ts';

const MAX_HEAD = 64 * 1024;

export interface BackendRequest {
  readonly repository: BareRepository;
  /** `/info/refs`, `/git-upload-pack` or `/git-receive-pack`. */
  readonly service: string;
  readonly query: string;
  readonly mayWrite: boolean;
  readonly hook: PushHook;
  /** Of the body, bytes. */
  readonly limit: number;
}

export async function runBackend(exchange: Exchange, request: BackendRequest): Promise<void> {
  const { repository, hook, mayWrite, limit } = request;
  const length = exchange.contentLength;
  const protocol = exchange.header('git-protocol');
  const isProtocol = protocol !== undefined && /^[A-Za-z0-9=:._-]{1,200}$/.test(protocol);
  const encoding = exchange.header('content-encoding');
  const env = bareEnvironment({
    ...hook.environment({
      'http.receivepack': String(mayWrite),
      'http.uploadpack': 'true',
      'http.getanyfile': 'false',
      'uploadpack.allowFilter': 'true',
    }),
    GIT_PROJECT_ROOT: repository.path,
    GIT_HTTP_EXPORT_ALL: '1',
    PATH_INFO: request.service,
    QUERY_STRING: request.query,
    REQUEST_METHOD: exchange.method,
    REMOTE_ADDR: exchange.client,
    REMOTE_USER: exchange.identity.name,
    CONTENT_TYPE: exchange.header('content-type') ?? '',
    ...(length === undefined ? {} : { CONTENT_LENGTH: String(length) }),
    ...(encoding === 'gzip' || encoding === 'x-gzip' ? { HTTP_CONTENT_ENCODING: encoding } : {}),
    ...(isProtocol ? { GIT_PROTOCOL: protocol } : {}),
  });
  const running = startGit(
    ['http-backend'],
    { cwd: repository.path, env, keepGitEnv: true, signal: exchange.signal },
    true,
  );
  const { stdin, stdout } = running;
  let bodyError: unknown;
  const feed = async () => {
    try {
      for await (const piece of exchange.body(limit)) {
        if (stdin === null || stdin.destroyed) continue; // It has heard enough; what is left is read and dropped.
        if (!stdin.write(piece)) await drained(stdin);
      }
      stdin?.end();
    } catch (error) {
      bodyError = error;
      running.stop();
    }
  };
  const feeding = feed();
  try {
    let head = Buffer.alloc(0);
    let isBody = false;
    for await (const piece of stdout as AsyncIterable<Buffer>) {
      if (isBody) {
        await exchange.write(piece);
        continue;
      }
      head = Buffer.concat([head, piece]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) {
        if (head.length > MAX_HEAD) throw new Error('git http-backend gave no head of an answer');
        continue;
      }
      isBody = true;
      const { status, headers } = parseHead(head.toString('latin1', 0, end));
      exchange.head(status, headers);
      const rest = head.subarray(end + 4);
      if (rest.length > 0) await exchange.write(rest);
    }
    await feeding;
    if (bodyError !== undefined) throw bodyError;
    await running.ended;
    if (!isBody) throw new Error(`git http-backend gave no answer: ${running.stderr()}`);
    exchange.response.end();
  } catch (error) {
    running.stop();
    await running.ended.catch(() => {});
    throw bodyError ?? error;
  }
}

function parseHead(text: string): { readonly status: number; readonly headers: Record<string, string> } {
  const headers: Record<string, string> = {};
  let status = 200;
  for (const line of text.split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon < 0) throw new HttpError(500, 'git http-backend answered something that is no header');
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1).trim();
    if (name.toLowerCase() === 'status') status = Number.parseInt(value, 10);
    else headers[name] = value;
  }
  return { status, headers };
}
