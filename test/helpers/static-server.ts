/** A plain web server over a directory: files, nothing else; no list of what is there. */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { join, normalize } from 'node:path';
import type { ExecutionContext } from 'ava';
import { formatContentRange, parseRange } from '../../src/xet/cas/range.ts';

export interface StaticServer {
  readonly url: string;
  readonly requests: { readonly method: string; readonly path: string; readonly range: string | undefined }[];
}

export interface StaticServerOptions {
  /** Default true. */
  readonly hasRanges?: boolean;
  /** Answers instead of a file, if it returns true. */
  readonly intercept?: (request: IncomingMessage, response: ServerResponse) => boolean;
}

export async function serveStatic(
  t: ExecutionContext,
  root: string,
  { hasRanges = true, intercept = () => false }: StaticServerOptions = {},
): Promise<StaticServer> {
  const requests: StaticServer['requests'] = [];
  const server: Server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname));
    requests.push({ method: request.method ?? '', path, range: request.headers.range });
    if (intercept(request, response)) return;
    let bytes: Buffer;
    try {
      bytes = readFileSync(join(root, path));
    } catch {
      response.writeHead(404).end('not found');
      return;
    }
    const ranges = hasRanges ? parseRange(request.headers.range, bytes.length) : undefined;
    if (ranges !== undefined && ranges.length === 0) {
      response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
      return;
    }
    const [range] = ranges ?? [];
    const body = range === undefined ? bytes : bytes.subarray(range.start, range.end);
    response.writeHead(range === undefined ? 200 : 206, {
      'content-length': body.length,
      ...(range === undefined ? {} : { 'content-range': formatContentRange(range, bytes.length) }),
    });
    response.end(request.method === 'HEAD' ? undefined : body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { url: `http://127.0.0.1:${address.port}`, requests };
}
