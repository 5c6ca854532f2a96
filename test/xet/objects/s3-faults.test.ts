/** What S3 services answer that a real one at hand does not: errors, races, conditions they do not know. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import test, { type ExecutionContext } from 'ava';
import { type ErrorCode, Git2dbError } from '../../../src/xet/errors.ts';
import { bodyOf } from '../../../src/xet/objects/objects.ts';
import { openS3, type S3Objects } from '../../../src/xet/objects/s3.ts';
import { parseS3Address } from '../../../src/xet/objects/s3-address.ts';

interface Request {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

type Script = (request: Request, response: ServerResponse, number: number) => void;

const slept: number[] = [];
const CLOCK = {
  now: () => Date.now(),
  sleep: async (ms: number) => {
    slept.push(ms);
  },
  random: () => 0.5,
};

async function scripted(
  t: ExecutionContext,
  script: Script,
): Promise<{ objects: S3Objects; requests: Request[]; endpoint: string }> {
  const requests: Request[] = [];
  const server = createServer(async (incoming, response) => {
    const pieces: Buffer[] = [];
    try {
      for await (const piece of incoming) pieces.push(piece);
    } catch {
      return;
    }
    const request = {
      method: incoming.method ?? '',
      url: incoming.url ?? '',
      headers: incoming.headers,
      body: Buffer.concat(pieces),
    };
    requests.push(request);
    script(request, response, requests.length);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const endpoint = `http://127.0.0.1:${address.port}`;
  const objects = await openS3(`s3://bucket/p?endpoint=${endpoint}`, {
    clock: CLOCK,
    retries: 3,
    credentials: { accessKeyId: 'key', secretAccessKey: 'very-secret' },
  });
  t.teardown(() => objects[Symbol.asyncDispose]());
  return { objects, requests, endpoint };
}

function fail(response: ServerResponse, status: number, code: string, message = ''): void {
  response.writeHead(status, { 'content-type': 'application/xml' });
  response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`);
}

const ERRORS: readonly [number, string, ErrorCode, RegExp][] = [
  [404, 'NoSuchBucket', 'REMOTE_MISSING', /no such bucket/],
  [403, 'InvalidAccessKeyId', 'AUTH_FAILED', /AWS_ACCESS_KEY_ID/],
  [403, 'SignatureDoesNotMatch', 'AUTH_FAILED', /AWS_SECRET_ACCESS_KEY/],
  [400, 'ExpiredToken', 'AUTH_FAILED', /log in again/],
  [403, 'RequestTimeTooSkewed', 'AUTH_FAILED', /clock/],
  [403, 'AccessDenied', 'REMOTE_FORBIDDEN', /PutObject/],
  [301, 'PermanentRedirect', 'REMOTE_INVALID', /region=/],
  [400, 'AuthorizationHeaderMalformed', 'REMOTE_INVALID', /region=/],
  [507, 'InsufficientStorage', 'DISK_FULL', /no space/],
  [503, 'SlowDown', 'NETWORK', /try again/],
];

for (const [status, code, expected, words] of ERRORS) {
  test(`${code} is told in one line with what to do`, async (t) => {
    const { objects } = await scripted(t, (_request, response) =>
      fail(response, status, code, 'server words'),
    );
    for (const action of [
      () => objects.readWhole('catalog/HEAD', { limit: 100 }),
      () => objects.putIfAbsent('x', bodyOf(Buffer.from('x'))),
      () => objects.list('shards/')[Symbol.asyncIterator]().next(),
    ]) {
      const error = await t.throwsAsync<Git2dbError>(action(), { instanceOf: Git2dbError });
      t.is(error?.code, expected);
      t.regex(error?.message ?? '', words);
      t.regex(error?.message ?? '', /s3:\/\/bucket\/p/);
      t.notRegex(error?.message ?? '', /\n|very-secret/);
    }
  });
}

test('what may pass is tried again, after pauses that grow', async (t) => {
  const { objects, requests } = await scripted(t, (request, response, number) => {
    if (number === 1) fail(response, 503, 'SlowDown');
    else if (number === 2) response.destroy();
    else if (number === 3) fail(response, 500, 'InternalError');
    else
      response
        .writeHead(200, { 'content-length': 5, etag: '"e"' })
        .end(request.method === 'GET' ? 'bytes' : '');
  });
  const whole = await objects.readWhole('k', { limit: 5 });
  t.is(whole !== undefined && whole !== 'unchanged' ? whole.bytes.toString() : '', 'bytes');
  t.is(requests.length, 4);
  t.true(slept.length >= 3);
});

test('a body that ends early is asked for again', async (t) => {
  const { objects } = await scripted(t, (_request, response, number) => {
    response.writeHead(206, { 'content-length': 5, 'content-range': 'bytes 0-4/9', etag: '"e"' });
    if (number > 1) response.end('bytes');
    else response.write('by', () => response.destroy());
  });
  const part = await objects.read('k', 0, 5);
  t.is(part?.bytes.toString(), 'bytes');
  t.is(part?.size, 9);
});

test('a conflict of writers is tried again, and a refused condition is an answer', async (t) => {
  const { objects } = await scripted(t, (_request, response, number) => {
    if (number === 1) fail(response, 409, 'ConditionalRequestConflict');
    else fail(response, 412, 'PreconditionFailed');
  });
  t.false(await objects.putIfAbsent('k', { length: 1, stream: () => [Buffer.from('x')] }));
});

test('a put whose answer was lost counts as done', async (t) => {
  const { objects, requests } = await scripted(t, (request, response) => {
    if (request.method === 'PUT') response.destroy();
    else response.writeHead(200, { 'content-length': 3, etag: '"e"' }).end();
  });
  t.true(await objects.putIfAbsent('k', bodyOf(Buffer.from('abc'))));
  t.deepEqual(
    requests.map(({ method }) => method),
    ['PUT', 'HEAD'],
  );
});

test('an ETag is sent with its quotes first, then without, and 400 to that means changed', async (t) => {
  const { objects, requests } = await scripted(t, (request, response) => {
    if (request.headers['if-match'] === '"e"') fail(response, 412, 'PreconditionFailed');
    else fail(response, 400, 'InvalidArgument');
  });
  t.is(await objects.replace('k', bodyOf(Buffer.from('abc')), '"e"'), undefined);
  t.deepEqual(
    requests.map(({ headers }) => headers['if-match']),
    ['"e"', 'e'],
  );
});

test('a service that takes no large bodies gets them in parts', async (t) => {
  const parts: number[] = [];
  const { objects, requests } = await scripted(t, (request, response) => {
    const { method, url, body } = request;
    if (method === 'PUT' && url.includes('partNumber')) {
      parts.push(body.length);
      response.writeHead(200, { etag: `"part${parts.length}"` }).end();
    } else if (method === 'PUT') fail(response, 413, 'EntityTooLarge');
    else if (method === 'HEAD') response.writeHead(404).end();
    else if (method === 'POST' && url.includes('uploads')) {
      response.end('<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>');
    } else response.end('<CompleteMultipartUploadResult><ETag></ETag></CompleteMultipartUploadResult>');
  });
  const size = 20_000_000;
  t.true(
    await objects.putIfAbsent('xorbs/aa/x', {
      length: size,
      *stream() {
        for (let at = 0; at < size; at += 1_000_000) yield Buffer.alloc(1_000_000, at);
      },
    }),
  );
  t.is(parts.length, 3);
  t.is(
    parts.reduce((sum, n) => sum + n, 0),
    size,
  );
  const complete = requests.at(-1);
  t.is(complete?.headers['if-none-match'], '*');
  t.regex(complete?.body.toString() ?? '', /part1.*part2.*part3/s);
});

test('an answer without the range that was asked for is not taken for it', async (t) => {
  const { objects } = await scripted(t, (_request, response) => {
    response.writeHead(200, { 'content-length': 100, etag: '"e"' }).end(Buffer.alloc(100));
  });
  const error = await t.throwsAsync(objects.read('k', 50, 60), { instanceOf: Git2dbError });
  t.is(error?.code, 'REMOTE_INVALID');
});

test('addresses of buckets say where and never who', (t) => {
  t.deepEqual(parseS3Address('s3://models/a//b/?endpoint=https://s3.example.org/&region=eu-1'), {
    bucket: 'models',
    prefix: 'a/b/',
    endpoint: 'https://s3.example.org',
    region: 'eu-1',
    pathStyle: true,
  });
  t.deepEqual(parseS3Address('s3://models'), {
    bucket: 'models',
    prefix: '',
    endpoint: undefined,
    region: undefined,
    pathStyle: false,
  });
  for (const bad of [
    's3://',
    's3:///x',
    's3://key:secret@bucket/x',
    's3://b/x?secret=1',
    's3://bucket/../x',
    's3://bucket/x?endpoint=ftp://h',
    's3://bucket/x?endpoint=https://u:p@h',
    's3://bucket/x?pathStyle=perhaps',
    's3://bucket/x?region=../x',
    's3://bucket/%zz',
    'https://bucket',
  ]) {
    const error = t.throws(() => parseS3Address(bad), { instanceOf: Git2dbError }, bad);
    t.is(error?.code, 'URL_INVALID');
    t.notRegex(error?.message ?? '', /secret=1|key:secret/);
  }
});
