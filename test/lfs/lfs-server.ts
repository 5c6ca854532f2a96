/** A scripted LFS server: the batch API and the `basic` transfer over a map of contents, with faults on demand. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ExecutionContext } from 'ava';

export interface LfsRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

type Answer = (request: LfsRequest, response: ServerResponse) => boolean | undefined;

export interface LfsServer {
  /** `http://127.0.0.1:PORT`. */
  readonly origin: string;
  /** `<origin>/repo.git/info/lfs`. */
  readonly url: string;
  readonly objects: Map<string, Buffer>;
  /** In order. */
  readonly requests: LfsRequest[];
  /** Asked before the server itself answers; true: it has answered. */
  intercept: Answer | undefined;
  /** Changes what a batch question is answered with. */
  batch: ((answer: BatchJson) => unknown) | undefined;
  /** `user:password` that everything but the objects asks for. */
  login: string | undefined;
  count(method: string, path: RegExp): number;
}

export interface BatchJson {
  transfer: string;
  objects: {
    oid: string;
    size: number;
    actions?: Record<string, { href: string; header?: Record<string, string> }>;
    error?: { code: number; message: string };
  }[];
}

export async function startLfsServer(t: ExecutionContext): Promise<LfsServer> {
  const objects = new Map<string, Buffer>();
  const requests: LfsRequest[] = [];
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      const whole = { method, path: url, headers, body: Buffer.concat(pieces) };
      requests.push(whole);
      answer(whole, response);
    });
    request.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const state: LfsServer = {
    origin,
    url: `${origin}/repo.git/info/lfs`,
    objects,
    requests,
    intercept: undefined,
    batch: undefined,
    login: undefined,
    count: (method, path) => requests.filter((r) => r.method === method && path.test(r.path)).length,
  };

  function answer(request: LfsRequest, response: ServerResponse): void {
    if (state.intercept?.(request, response) === true) return;
    const { method, path, headers, body } = request;
    const expected = state.login && `Basic ${Buffer.from(state.login).toString('base64')}`;
    if (path.startsWith('/repo.git') && expected !== undefined && headers.authorization !== expected) {
      response.writeHead(401, { 'WWW-Authenticate': 'Basic realm="lfs"' }).end('{"message":"who are you?"}');
    } else if (path.endsWith('/objects/batch')) {
      const batch = answerBatch(JSON.parse(body.toString()));
      json(response, state.batch === undefined ? batch : state.batch(batch));
    } else if (path.endsWith('/verify')) {
      const { oid, size } = JSON.parse(body.toString()) as { oid: string; size: number };
      const found = objects.get(oid);
      response.writeHead(found?.length === size ? 200 : 422).end();
    } else if (path.includes('/locks')) {
      json(response, { ours: [], theirs: [], locks: [] });
    } else if (path.startsWith('/objects/')) serveObject(request, response);
    else response.writeHead(404).end(`{"message":"no ${method} ${path}"}`);
  }

  function answerBatch(question: { operation: string; objects: { oid: string; size: number }[] }): BatchJson {
    const action = (oid: string) => ({
      href: `${origin}/objects/${oid}`,
      header: { 'X-Ticket': 'for-this' },
    });
    return {
      transfer: 'basic',
      objects: question.objects.map(({ oid, size }) => {
        const isHere = objects.has(oid);
        if (question.operation === 'download')
          return isHere
            ? { oid, size, actions: { download: action(oid) } }
            : { oid, size, error: { code: 404, message: 'Object does not exist' } };
        if (isHere) return { oid, size };
        return { oid, size, actions: { upload: action(oid), verify: { href: `${state.url}/verify` } } };
      }),
    };
  }

  function serveObject({ method, path, headers, body }: LfsRequest, response: ServerResponse): void {
    const oid = path.slice('/objects/'.length);
    if (headers['x-ticket'] !== 'for-this') {
      response.writeHead(403).end();
      return;
    }
    if (method === 'PUT') {
      const isIt = createHash('sha256').update(body).digest('hex') === oid;
      if (isIt) objects.set(oid, body);
      response.writeHead(isIt ? 200 : 422).end();
      return;
    }
    const content = objects.get(oid);
    if (content === undefined) {
      response.writeHead(404).end();
      return;
    }
    const start = Number(/^bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0);
    const head =
      start === 0 ? {} : { 'Content-Range': `bytes ${start}-${content.length - 1}/${content.length}` };
    response.writeHead(start === 0 ? 200 : 206, { 'Content-Length': content.length - start, ...head });
    response.end(content.subarray(start));
  }

  return state;
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'Content-Type': 'application/vnd.git-lfs+json' }).end(JSON.stringify(value));
}
