/** A web server with git repositories, by git's own CGI program, that can ask for a password or send clients elsewhere. */
import { spawn } from 'node:child_process';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ExecutionContext } from 'ava';

export interface SeenRequest {
  readonly url: string;
  readonly authorization: string | undefined;
}

export interface HttpGitOptions {
  /** Directory with the repositories. */
  readonly root: string;
  /** Whoever does not say this gets 401. */
  readonly login?: { readonly username: string; readonly password: string } | undefined;
  /** Answers 302 to this URL, with the request's path behind it. */
  readonly redirectTo?: string | undefined;
  /** Requests that are never answered. */
  readonly stall?: ((url: string) => boolean) | undefined;
  readonly onRequest?: ((request: SeenRequest) => void) | undefined;
}

export interface HttpGit {
  /** `http://127.0.0.1:<port>` */
  readonly origin: string;
  readonly requests: SeenRequest[];
}

/** Ends with the test. */
export async function startHttpGit(t: ExecutionContext, options: HttpGitOptions): Promise<HttpGit> {
  const requests: SeenRequest[] = [];
  const server = createServer((request, response) => {
    const seen = { url: request.url ?? '', authorization: request.headers.authorization };
    requests.push(seen);
    options.onRequest?.(seen);
    if (options.stall?.(seen.url) !== true) answer(options, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  );
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
}

function answer(options: HttpGitOptions, request: IncomingMessage, response: ServerResponse): void {
  const { login, redirectTo, root } = options;
  if (redirectTo !== undefined) {
    response.writeHead(302, { location: `${redirectTo}${request.url}` }).end();
    return;
  }
  if (login !== undefined) {
    const expected = `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}`;
    if (request.headers.authorization !== expected) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end('who are you?');
      return;
    }
  }
  const url = new URL(request.url ?? '/', 'http://localhost');
  const child = spawn('git', ['http-backend'], {
    env: {
      PATH: process.env.PATH,
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_CONFIG_GLOBAL: '/dev/null',
      // Whoever runs the tests may not be the owner in the eyes of git.
      GIT_CONFIG_COUNT: '2',
      GIT_CONFIG_KEY_0: 'safe.directory',
      GIT_CONFIG_VALUE_0: '*',
      GIT_CONFIG_KEY_1: 'uploadpack.allowFilter',
      GIT_CONFIG_VALUE_1: 'true',
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: '1',
      PATH_INFO: decodeURIComponent(url.pathname),
      QUERY_STRING: url.search.slice(1),
      REQUEST_METHOD: request.method,
      CONTENT_TYPE: request.headers['content-type'] ?? '',
      HTTP_CONTENT_ENCODING: request.headers['content-encoding'] ?? '',
      GIT_PROTOCOL: String(request.headers['git-protocol'] ?? ''),
    },
  });
  request.pipe(child.stdin);
  child.stdin.on('error', () => {});
  let head = Buffer.alloc(0);
  let isBody = false;
  child.stdout.on('data', (piece: Buffer) => {
    if (isBody) {
      response.write(piece);
      return;
    }
    head = Buffer.concat([head, piece]);
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return;
    isBody = true;
    const lines = head.subarray(0, end).toString('latin1').split('\r\n');
    const headers = lines.map((line) => line.split(/: ?/, 2) as [string, string]);
    const status = headers.find(([name]) => name === 'Status')?.[1];
    response.writeHead(
      status === undefined ? 200 : Number.parseInt(status, 10),
      Object.fromEntries(headers.filter(([name]) => name !== 'Status')),
    );
    response.write(head.subarray(end + 4));
  });
  child.once('close', () => response.end());
}
