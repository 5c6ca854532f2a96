import { get } from 'node:http';
import test from 'ava';
import { encodeChunkRuns } from '../../../src/xet/cas/protocol.ts';
import { ExchangedToken } from '../../../src/xet/cas/token.ts';
import { Git2dbError } from '../../../src/xet/errors.ts';
import { formatHash } from '../../../src/xet/hash/xet-hash.ts';
import { ShardBuilder } from '../../../src/xet/shard/builder.ts';
import type { FileRecord, Term } from '../../../src/xet/shard/file-info.ts';
import type { ChunkRange, RecordRun } from '../../../src/xet/store/store.ts';
import type { BuiltXorb } from '../../../src/xet/xorb/builder.ts';
import { KINDS, openRig, openStore } from './cas-rig.ts';
import type { CasServer } from './cas-server.ts';
import {
  type Content,
  collect,
  joinRuns,
  makeContent,
  rangesOf,
  readFile,
  rearrange,
  serve,
} from './content.ts';
import { openClient, serve as serveHttp } from './http-rig.ts';

const UNKNOWN = new Uint8Array(32).fill(7);

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    const { code, name } = error as Git2dbError;
    return typeof code === 'string' ? code : name;
  }
  return 'none';
}

function namesOf(terms: readonly Term[] = []): string[] {
  return terms.map(
    ({ xorbHash, start, end, rawBytes }) => `${formatHash(xorbHash)} ${start} ${end} ${rawBytes}`,
  );
}

function shardOf({ file, xorbs }: Content): Uint8Array {
  const builder = new ShardBuilder();
  builder.addFile(file);
  for (const xorb of xorbs) builder.addXorb(xorb);
  return builder.build({ footer: false });
}

const upload = (xorb: BuiltXorb) => ({
  footer: xorb,
  records: () => [xorb.bytes.subarray(0, 1000), xorb.bytes.subarray(1000)],
});

/** Files of pieces out of the whole file, as dedup makes them. */
const MIXED: readonly (readonly [number, number, number])[] = [
  [0, 2, 5],
  [2, 1, 4],
  [0, 5, 7],
  [1, 0, 10],
  [0, 0, 2],
  [2, 1, 4],
];

for (const [name, options] of KINDS) {
  test(`files are found and read from ${name}`, async (t) => {
    const { cas, store } = await openRig(t, options);
    const content = await makeContent(1, 3_000_000, 10);
    serve(cas, content);
    const mixed = rearrange(content, MIXED);
    cas.addFile(mixed.file);
    const hashes = [content.file.fileHash, UNKNOWN, mixed.file.fileHash, new Uint8Array(32)];
    const [file, none, other, empty] = await store.findFiles(hashes);
    t.is(none, undefined);
    t.is(empty?.size, 0);
    t.is(file?.size, content.bytes.length);
    t.deepEqual(namesOf(file?.terms), namesOf(content.file.terms));
    t.true((await readFile(store, file!)).equals(content.bytes));
    t.true((await readFile(store, other!)).equals(mixed.bytes));
  });

  test(`ranges of chunks in any order come in that order from ${name}`, async (t) => {
    const { cas, store } = await openRig(t, options);
    const content = await makeContent(2, 2_500_000, 8);
    serve(cas, content);
    await store.findFiles([content.file.fileHash]);
    let seed = 12345;
    const random = (below: number) => {
      seed = (seed * 1103515245 + 12345) & 0x7fffffff;
      return (seed >>> 8) % below;
    };
    const ranges: ChunkRange[] = Array.from({ length: 60 }, () => {
      const xorb = content.xorbs[random(content.xorbs.length)] as BuiltXorb;
      const start = random(xorb.count);
      return { xorbHash: xorb.xorbHash, start, end: start + 1 + random(xorb.count - start) };
    });
    // Runs may hold more than was asked for, and neighbours may come as one: the bytes of each range must be there.
    const wanted = ranges.map((range) => bytesOf(content, range));
    for (const [i, range] of ranges.entries()) {
      const runs = await collect(store.readRecords([range]));
      t.true(joinRuns([range], runs).equals(wanted[i] as Buffer));
    }
    if (options.extensions !== false) {
      const runs = await collect(store.readRecords(ranges));
      t.true(joinRuns(ranges, runs).equals(Buffer.concat(wanted)));
    }
  });

  test(`what is sent to ${name} is there, and is not sent again`, async (t) => {
    const { cas, store } = await openRig(t, options);
    const content = await makeContent(3, 1_000_000, 6);
    const [first, ...others] = content.xorbs as [BuiltXorb, ...BuiltXorb[]];
    t.false(await store.hasXorb(first.xorbHash));
    t.true(await store.putXorb(upload(first)));
    const missing = await codeOf(store.putShard(shardOf(content)));
    t.is(missing, options.shardsV2 === false ? 'REMOTE_INVALID' : 'CONTENT_MISSING');
    for (const xorb of others) t.true(await store.putXorb(upload(xorb)));
    t.is(await store.hasXorb(first.xorbHash), options.head !== false);
    t.false(await store.putXorb(upload(first)));
    t.true(await store.putShard(shardOf(content)));
    t.false(await store.putShard(shardOf(content)));
    const [file] = await store.findFiles([content.file.fileHash]);
    t.true((await readFile(store, file!)).equals(content.bytes));
    for (const { headers, method, path } of cas.asked) {
      if (method === 'POST' && /xorbs|shards/.test(path)) t.is(headers['content-type'], undefined);
    }
  });

  test(`chunks are found at ${name}`, async (t) => {
    const { cas, store } = await openRig(t, { ...options, key: new Uint8Array(32).fill(9) });
    const content = await makeContent(4, 1_000_000, 5);
    serve(cas, content);
    const stranger = await makeContent(5, 300_000);
    const { xorbs } = content;
    const all = Buffer.concat([(xorbs[0] as BuiltXorb).hashes, stranger.hashes]);
    const runs = await store.findChunks(all);
    const known = (xorbs[0] as BuiltXorb).count;
    const found = runs.flatMap(({ at, count, xorbHash, start }) =>
      Array.from({ length: count }, (_, i) => [at + i, formatHash(xorbHash), start + i] as const),
    );
    t.deepEqual(
      found,
      Array.from({ length: known }, (_, i) => [i, formatHash((xorbs[0] as BuiltXorb).xorbHash), i] as const),
    );
    t.deepEqual(await store.findChunks(new Uint8Array(0)), []);
  });

  test(`a part of a file is told of by ${name}`, async (t) => {
    const { cas, store } = await openRig(t, options);
    const content = await makeContent(6, 1_500_000, 7);
    serve(cas, content);
    const found = await store.findRange(content.file.fileHash, 700_000, 700_010);
    t.truthy(found);
    const { file, offset } = found!;
    const bytes = await readFile(store, file);
    t.is(bytes.length, file.size);
    t.true(file.size <= 2 * 131072 && offset <= 700_000 && offset + file.size >= 700_010);
    t.true(bytes.equals(content.bytes.subarray(offset, offset + file.size)));
    const beyond = await store.findRange(content.file.fileHash, 1_500_000, 1_500_010);
    t.deepEqual(beyond?.file.terms, []);
    t.is(await store.findRange(UNKNOWN, 0, 10), undefined);
  });
}

/** Raw bytes of a range of the content's own xorbs. */
function bytesOf({ xorbs, bytes }: Content, { xorbHash, start, end }: ChunkRange): Buffer {
  let before = 0;
  for (const xorb of xorbs) {
    if (Buffer.compare(xorb.xorbHash, xorbHash) === 0) {
      const from = start === 0 ? 0 : (xorb.rawEnds[start - 1] as number);
      return bytes.subarray(before + from, before + (xorb.rawEnds[end - 1] as number));
    }
    before += xorb.rawBytes;
  }
  throw new Error('no such xorb');
}

test('a server of ours is asked few questions for many files', async (t) => {
  const { cas, store } = await openRig(t);
  const content = await makeContent(7, 6_000_000, 30);
  serve(cas, content);
  const files = content.xorbs.flatMap(({ count }, xorb) =>
    Array.from({ length: Math.floor(count / 2) }, (_, i) => rearrange(content, [[xorb, 2 * i, 2 * i + 2]])),
  );
  for (const { file } of files) cas.addFile(file);
  const found = await store.findFiles(files.map(({ file }) => file.fileHash));
  const ranges = found.flatMap((file) => rangesOf(file?.terms ?? []));
  t.true(
    joinRuns(ranges, await collect(store.readRecords(ranges))).equals(
      Buffer.concat(files.map(({ bytes }) => bytes)),
    ),
  );
  t.true(files.length > 30);
  t.is(cas.count(/POST .*files/), 1);
  // A footer and the records of each xorb.
  t.is(cas.count(/GET .*xorbs/), 2 * content.xorbs.length);
});

test('ranges that alternate between xorbs take one request for each xorb', async (t) => {
  for (const extensions of [true, false]) {
    const { cas, store } = await openRig(t, { extensions });
    const content = await makeContent(8, 2_500_000, 20);
    serve(cas, content);
    const pieces = Array.from(
      { length: 10 },
      (_, i) => [i % 2, 2 * Math.floor(i / 2), 2 * Math.floor(i / 2) + 1] as const,
    );
    const mixed = rearrange(content, pieces);
    cas.addFile(mixed.file);
    const [file] = await store.findFiles([mixed.file.fileHash]);
    cas.asked.length = 0;
    t.true((await readFile(store, file!)).equals(mixed.bytes));
    const several = cas.asked.filter(({ headers }) => headers.range?.includes(','));
    t.is(several.length, 2);
    t.is(cas.count(/GET .*(data|xorbs)/), extensions ? 4 : 2);
  }
});

test('SHA-256s and footers are told by a server of ours only', async (t) => {
  const content = await makeContent(9, 500_000, 5);
  const sha256 = 'ab'.repeat(32);
  for (const extensions of [true, false]) {
    const { cas, store } = await openRig(t, { extensions });
    serve(cas, { ...content, file: { ...content.file, sha256 } });
    t.is(await store.hasExtensions(), extensions);
    const [found, none] = await store.findSha256s([sha256, 'cd'.repeat(32)]);
    t.is(none, undefined);
    t.deepEqual(found, extensions ? new Uint8Array(content.file.fileHash) : undefined);
    const [xorb] = content.xorbs as [BuiltXorb];
    const footer = await store.readFooter(xorb.xorbHash);
    t.is(footer?.count, extensions ? xorb.count : undefined);
    if (extensions) {
      t.deepEqual(footer?.recordEnds, xorb.recordEnds);
      t.is(await codeOf(store.readFooter(UNKNOWN)), 'CONTENT_MISSING');
    }
  }
});

/** A file of `count` xorbs of 64 MiB, of which only the lists exist. */
function hugeFile(cas: CasServer, count: number): FileRecord {
  const chunks = 512;
  const terms = Array.from({ length: count }, (_, i): Term => {
    const xorbHash = new Uint8Array(32).fill(i + 1);
    const ends = Uint32Array.from({ length: chunks }, (_, chunk) => (chunk + 1) * 131072);
    const footer = {
      xorbHash,
      count: chunks,
      hashes: new Uint8Array(32 * chunks),
      recordEnds: ends,
      rawEnds: ends,
    };
    cas.addXorb(footer, new Uint8Array(0));
    return { xorbHash, start: 0, end: chunks, rawBytes: chunks * 131072 };
  });
  const file = { fileHash: UNKNOWN, terms };
  cas.addFile(file);
  return file;
}

test('a huge file is asked for in blocks, which are joined', async (t) => {
  const { cas, store } = await openRig(t, { extensions: false });
  const file = hugeFile(cas, 40);
  const [found] = await store.findFiles([UNKNOWN]);
  t.is(found?.size, 40 * 2 ** 26);
  t.deepEqual(namesOf(found?.terms), namesOf(file.terms));
  t.is(cas.count(/reconstructions/), 3);
  const odd = await openRig(t, { extensions: false });
  hugeFile(odd.cas, 16);
  t.is((await odd.store.findFiles([UNKNOWN]))[0]?.size, 2 ** 30);
});

test('a server that knows no ranges of files is believed once', async (t) => {
  for (const count of [16, 40]) {
    const { cas, store } = await openRig(t, { extensions: false });
    hugeFile(cas, count);
    const whole = openStore(t, cas, { settings: { headersTimeoutMs: 5000 } });
    cas.ignoresRanges = true;
    const [found] = await whole.store.findFiles([UNKNOWN]);
    t.is(found?.size, count * 2 ** 26);
    await store[Symbol.asyncDispose]();
  }
});

// Faults while reading

interface ReadFault {
  readonly name: string;
  readonly fault: Omit<Parameters<CasServer['faults']['push']>[0] & object, 'on'>;
  /** Undefined: the content comes all the same. */
  readonly code?: string;
}

const READ_FAULTS: readonly ReadFault[] = [
  { name: 'a reset in the middle of a body', fault: { resetAfter: 150_000 } },
  { name: 'several resets', fault: { resetAfter: 70_000, times: 9 } },
  { name: 'a connection that ends before the answer', fault: { drop: 'read', times: 2 } },
  { name: 'a 500', fault: { status: 500 } },
  { name: 'a 429 with Retry-After', fault: { status: 429, headers: { 'retry-after': '3' } } },
  { name: 'a 404', fault: { status: 404 }, code: 'CONTENT_MISSING' },
  { name: 'a 416', fault: { status: 416 }, code: 'CONTENT_DAMAGED' },
  { name: 'an answer that is cut', fault: { change: (body) => body.subarray(0, body.length >> 1) } },
  { name: 'an answer of half the bytes', fault: { rewrite: (body) => body.subarray(0, body.length >> 1) } },
  { name: 'an answer of nothing', fault: { rewrite: () => new Uint8Array(0), times: 2 } },
  {
    name: 'a server that always answers nothing',
    fault: { rewrite: () => new Uint8Array(0), times: 99 },
    code: 'REMOTE_INVALID',
  },
  {
    name: 'a bit that flips in the header of a record',
    fault: { change: flipped(0) },
    code: 'CONTENT_DAMAGED',
  },
  { name: 'a length that says too much', fault: { change: flipped(2) }, code: 'CONTENT_DAMAGED' },
  { name: 'a compressed answer', fault: { headers: { 'content-encoding': 'gzip' } }, code: 'REMOTE_INVALID' },
  {
    name: 'a page of a portal',
    fault: { status: 200, body: '<html>log in</html>' },
    code: 'CONTENT_DAMAGED',
  },
  {
    name: 'a redirect without end',
    fault: { status: 302, headers: { location: '/data/x' }, times: 9 },
    code: 'REMOTE_INVALID',
  },
  {
    name: 'a redirect to a file',
    fault: { status: 302, headers: { location: 'file:///etc/passwd' } },
    code: 'REMOTE_INVALID',
  },
  {
    name: 'other bytes than those asked for',
    fault: { headers: { 'content-range': 'bytes 1000000000-1000000001/2000000000' }, times: 99 },
    code: 'REMOTE_INVALID',
  },
];

function flipped(at: number) {
  return (body: Buffer) => {
    const copy = Buffer.from(body);
    copy[at] = (copy[at] as number) ^ 0x80;
    return copy;
  };
}

for (const { name, fault, code } of READ_FAULTS) {
  for (const extensions of [true, false]) {
    test(`${name}, from a ${extensions ? 'server of ours' : 'foreign CAS'}: ${code ?? 'the content comes'}`, async (t) => {
      const { cas, store } = await openRig(t, { extensions });
      const content = await makeContent(10, 1_200_000, 100);
      serve(cas, content);
      const [file] = await store.findFiles([content.file.fileHash]);
      for (const { xorbHash } of content.xorbs) await store.readFooter(xorbHash);
      cas.asked.length = 0;
      cas.faults.push({ on: /GET .*(data|xorbs)\//, ...fault });
      if (code !== undefined) {
        t.is(await codeOf(readFile(store, file!)), code);
        return;
      }
      t.true((await readFile(store, file!)).equals(content.bytes));
      if (fault.resetAfter === undefined) return;
      // Each try begins where the last one stopped: no byte is fetched twice.
      const starts = cas.asked.map(({ headers }) => Number(/bytes=(\d+)-/.exec(headers.range ?? '')?.[1]));
      t.true(starts.every((start, i) => i === 0 || start > (starts[i - 1] as number)));
    });
  }
}

for (const [name, rewrite] of [
  ['parts in another order', (body: Buffer) => reordered(body)],
  ['a part that nobody asked for', (body: Buffer) => withExtraPart(body)],
  ['a line before the first part', (body: Buffer) => Buffer.concat([Buffer.from('preamble\r\n'), body])],
  ['no line end after the last part', (body: Buffer) => body.subarray(0, -2)],
  ['not all of the parts', (body: Buffer) => body.subarray(0, body.length - 50_000)],
] as const) {
  test(`${name} of a multipart answer: the content comes`, async (t) => {
    const { cas, store } = await openRig(t);
    const content = await makeContent(11, 1_500_000, 100);
    serve(cas, content);
    const mixed = rearrange(content, [
      [0, 1, 3],
      [0, 8, 9],
      [0, 4, 6],
    ]);
    cas.addFile(mixed.file);
    const [file] = await store.findFiles([mixed.file.fileHash]);
    for (const { xorbHash } of content.xorbs) await store.readFooter(xorbHash);
    cas.faults.push({ on: /GET .*xorbs/, rewrite });
    t.true((await readFile(store, file!)).equals(mixed.bytes));
    t.is(cas.faults[0]?.times, 0);
  });
}

/** The parts of a multipart body, each from its delimiter on, and the end. */
function partsOf(body: Buffer): { parts: Buffer[]; end: Buffer } {
  const boundary = body.toString('latin1', 0, body.indexOf('\r\n'));
  const cuts: number[] = [];
  for (let at = body.indexOf(boundary); at >= 0; at = body.indexOf(boundary, at + 1)) cuts.push(at);
  const parts = cuts.map((at, i) => body.subarray(at, cuts[i + 1]));
  return { parts: parts.slice(0, -1), end: parts.at(-1) as Buffer };
}

function reordered(body: Buffer): Buffer {
  const { parts, end } = partsOf(body);
  return Buffer.concat([...parts.reverse(), end]);
}

function withExtraPart(body: Buffer): Buffer {
  const { parts, end } = partsOf(body);
  const boundary = body.subarray(0, body.indexOf('\r\n'));
  const extra = Buffer.concat([boundary, Buffer.from('\r\nContent-Range: bytes 0-2/9999999\r\n\r\nabc\r\n')]);
  return Buffer.concat([extra, ...parts, extra, end]);
}

for (const [name, body] of [
  ['no boundary', 'nothing of the kind'],
  ['a part without a range', '--B\r\nContent-Type: x\r\n\r\nabc\r\n--B--\r\n'],
  ['an endless header', `--B\r\nX: ${'x'.repeat(100_000)}`],
  ['a part that is longer than it says', '--B\r\nContent-Range: bytes 0-1/10\r\n\r\nabcdef\r\n--B--\r\n'],
  [
    'a part of more bytes than there are',
    '--B\r\nContent-Range: bytes 0-9007199254740990/9007199254740991\r\n\r\nabc',
  ],
] as const) {
  test(`a multipart answer with ${name} is an error`, async (t) => {
    const { cas, store } = await openRig(t);
    const content = await makeContent(11, 1_500_000, 100);
    serve(cas, content);
    const mixed = rearrange(content, [
      [0, 1, 3],
      [0, 8, 9],
    ]);
    cas.addFile(mixed.file);
    const [file] = await store.findFiles([mixed.file.fileHash]);
    for (const { xorbHash } of content.xorbs) await store.readFooter(xorbHash);
    const headers = { 'content-type': 'multipart/byteranges; boundary=B' };
    cas.faults.push({ on: /GET .*xorbs/, times: 99, status: 206, headers, body });
    t.is(await codeOf(readFile(store, file!)), 'REMOTE_INVALID');
  });
}

test('URLs that have expired are asked for again, in the middle of a file too', async (t) => {
  for (const signsRanges of [false, true]) {
    const { cas, store } = await openRig(t, { extensions: false, signsRanges });
    const content = await makeContent(12, 3_000_000, 10);
    serve(cas, content);
    const [file] = await store.findFiles([content.file.fileHash]);
    const before = cas.count(/reconstructions/);
    cas.signature++;
    t.true((await readFile(store, file!)).equals(content.bytes));
    // One question for all who wait.
    t.is(cas.count(/reconstructions/), before + 1);
    cas.faults.push({ on: /GET \/data/, resetAfter: 100_000 });
    const runs: RecordRun[] = [];
    for await (const run of store.readRecords(rangesOf(file?.terms ?? []))) {
      if (runs.length === 0) cas.signature++;
      runs.push(run);
    }
    t.true(joinRuns(rangesOf(file?.terms ?? []), runs).equals(content.bytes));
  }
});

test('a stream that breaks is resumed where parts of a signed range are refused', async (t) => {
  const { cas, store } = await openRig(t, { extensions: false, signsRanges: true });
  const content = await makeContent(12, 1_000_000);
  serve(cas, content);
  const [file] = await store.findFiles([content.file.fileHash]);
  cas.faults.push({ on: /GET \/data/, resetAfter: 400_000 });
  t.true((await readFile(store, file!)).equals(content.bytes));
});

test('files that are asked for again and again, and read by two at once, are found', async (t) => {
  const { cas, store } = await openRig(t, { extensions: false });
  const content = await makeContent(12, 1_000_000, 5);
  serve(cas, content);
  for (let i = 0; i < 3; i++) {
    const [file] = await store.findFiles([content.file.fileHash]);
    cas.signature++;
    const stopped = new AbortController();
    const first = readFile(store, file!, stopped.signal);
    const second = readFile(store, file!);
    stopped.abort();
    t.is(await codeOf(first), 'AbortError');
    t.true((await second).equals(content.bytes));
  }
});

test('many terms and places are checked in no time', async (t) => {
  const { cas, store } = await openRig(t, { extensions: false });
  const hash = formatHash(UNKNOWN);
  const many = Array.from({ length: 50_000 }, (_, i) => i % 8000);
  const answer = {
    terms: many.map((start) => ({ hash, unpacked_length: 100, range: { start, end: start + 1 } })),
    xorbs: {
      [hash]: many.map((start) => ({
        url: `${cas.url}/data/x`,
        ranges: [{ chunks: { start, end: start + 1 }, bytes: { start: 0, end: 100 } }],
      })),
    },
  };
  cas.faults.push({ on: /reconstructions/, status: 200, body: JSON.stringify(answer) });
  const [file] = await store.findFiles([UNKNOWN]);
  t.is(file?.terms.length, 50_000);
  cas.faults.push({ on: /data/, status: 404 });
  t.is(await codeOf(collect(store.readRecords(rangesOf(file?.terms ?? [])))), 'CONTENT_MISSING');
});

test('one caller that stops does not stop the question that others wait for', async (t) => {
  const { cas, store } = await openRig(t);
  const content = await makeContent(12, 300_000);
  serve(cas, content);
  const stopped = new AbortController();
  const first = store.findFiles([UNKNOWN], { signal: stopped.signal });
  const second = store.findFiles([content.file.fileHash]);
  stopped.abort();
  t.is(await codeOf(first), 'AbortError');
  t.is((await second)[0]?.size, 300_000);
  t.is(cas.count(/GET .*git2db$/), 1);
});

test('answers without end are given up', async (t) => {
  const { cas, store } = await openRig(t);
  const content = await makeContent(12, 300_000);
  serve(cas, content);
  const [file] = await store.findFiles([content.file.fileHash]);
  await store.readFooter((content.xorbs[0] as BuiltXorb).xorbHash);
  const headers = { 'content-range': 'bytes 200000000-400000000/500000000' };
  cas.faults.push({ on: /GET .*xorbs/, status: 206, headers, body: Buffer.alloc(140 << 20), times: 99 });
  t.is(await codeOf(readFile(store, file!)), 'REMOTE_INVALID');
});

test('URLs that are never good are given up', async (t) => {
  const { cas, store } = await openRig(t, { extensions: false });
  const content = await makeContent(12, 300_000, 10);
  serve(cas, content);
  const [file] = await store.findFiles([content.file.fileHash]);
  cas.faults.push({ on: /GET \/data/, times: 999, status: 403 });
  t.is(await codeOf(readFile(store, file!)), 'REMOTE_FORBIDDEN');
  t.true(cas.count(/GET \/data/) < 20);
});

test('URLs lead to no address of this machine where the CAS is out in the world', async (t) => {
  const inside = await serveHttp(t, (_, response) => response.end('inside'));
  const { cas } = await openRig(t, { extensions: false });
  const content = await makeContent(12, 300_000, 10);
  serve(cas, content);
  cas.dataUrl = inside.url;
  const proxy = await serveHttp(t, (request, response) => {
    const { pathname } = new URL(request.url ?? '');
    request.headers.host = new URL(cas.url).host;
    get(`${cas.url}${pathname}`, { headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    }).on('error', () => response.destroy());
  });
  const { http, clock } = openClient(t, { proxy: proxy.url, noProxy: '127.0.0.1' });
  const { CasStore } = await import('../../../src/xet/cas/client.ts');
  const store = CasStore.open({ http, clock, casUrl: 'http://cas.example' });
  const [file] = await store.findFiles([content.file.fileHash]);
  t.is(file?.size, 300_000);
  t.is(await codeOf(readFile(store, file!)), 'REMOTE_INVALID');
  t.is(inside.asked.length, 0);
});

test('data URLs get no token, the CAS always', async (t) => {
  for (const extensions of [true, false]) {
    const cas = await (await openRig(t, { extensions, token: 'g2_x' })).cas;
    const content = await makeContent(13, 600_000, 5);
    serve(cas, content);
    const { store } = openStore(t, cas, {
      token: { authority: cas.url, get: async () => 'g2_x', invalidate: () => undefined },
    });
    const [file] = await store.findFiles([content.file.fileHash]);
    t.true((await readFile(store, file!)).equals(content.bytes));
    for (const { path, headers } of cas.asked) {
      t.is(headers.authorization, path.startsWith('/data/') ? undefined : 'Bearer g2_x');
    }
    t.is(await codeOf(openStore(t, cas).store.findFiles([UNKNOWN])), 'AUTH_FAILED');
  }
});

test('a token that expires in the middle of a transfer is exchanged for another', async (t) => {
  const { cas } = await openRig(t, { token: 'g2_1' });
  const content = await makeContent(14, 4_000_000, 10);
  serve(cas, content);
  let given = 0;
  const tokens = await serveHttp(t, (_, response) => {
    given++;
    cas.options.token = `g2_${given}`;
    const exp = Math.floor(Date.now() / 1000) + 3600;
    response.end(JSON.stringify({ accessToken: `g2_${given}`, casUrl: cas.url, exp }));
  });
  const { http } = openClient(t);
  const token = await ExchangedToken.open(
    { http, tokenUrl: () => `${tokens.url}/token`, mayUse: () => true },
    'read',
  );
  const { store } = openStore(t, cas, { token });
  const [file] = await store.findFiles([content.file.fileHash]);
  const runs = [];
  for await (const run of store.readRecords(rangesOf(file?.terms ?? []))) {
    runs.push(run);
    if (runs.length === 1) cas.options.token = 'another';
  }
  t.true(joinRuns(rangesOf(file?.terms ?? []), runs).equals(content.bytes));
});

test('what was asked for before ranges fail comes before the failure', async (t) => {
  const { cas, store } = await openRig(t);
  const content = await makeContent(15, 1_000_000, 4);
  serve(cas, content);
  const [file] = await store.findFiles([content.file.fileHash]);
  const ranges = rangesOf(file?.terms ?? []);
  async function* failing() {
    yield* ranges;
    yield { xorbHash: UNKNOWN, start: 0, end: 1 };
  }
  const runs: RecordRun[] = [];
  const reading = async () => {
    for await (const run of store.readRecords(failing())) runs.push(run);
  };
  t.is(await codeOf(reading()), 'CONTENT_MISSING');
  t.true(joinRuns(ranges, runs).equals(content.bytes));
});

test('whoever stops reading stops the requests; an abort and a failure of the ranges end the reading', async (t) => {
  const { cas, store } = await openRig(t);
  const content = await makeContent(15, 4_000_000, 10);
  serve(cas, content);
  const [file] = await store.findFiles([content.file.fileHash]);
  const ranges = rangesOf(file?.terms ?? []);
  for await (const run of store.readRecords(ranges)) {
    t.true(run.bytes.length > 0);
    break;
  }
  cas.faults.push({ on: /GET .*xorbs/, hang: true, times: 99 });
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 50);
  t.is(await codeOf(collect(store.readRecords(ranges, { signal: controller.signal }))), 'AbortError');
  t.is(await codeOf(collect(store.readRecords(ranges, { signal: AbortSignal.abort() }))), 'AbortError');
  cas.faults.length = 0;
  async function* failing() {
    yield ranges[0] as ChunkRange;
    throw Object.assign(new Error('no more'), { code: 'X' });
  }
  t.is(await codeOf(collect(store.readRecords(failing()))), 'X');
  t.deepEqual(await collect(store.readRecords([])), []);
});

test('what nobody takes is not fetched without end', async (t) => {
  const { cas, store } = await openRig(t);
  const content = await makeContent(16, 8_000_000);
  serve(cas, content);
  const [file] = await store.findFiles([content.file.fileHash]);
  const [range] = rangesOf(file?.terms ?? []) as [ChunkRange];
  let asked = 0;
  function* many() {
    for (; asked < 40; asked++) yield range;
  }
  const runs = store.readRecords(many());
  await runs.next();
  let last = -1;
  while (last !== asked) {
    last = asked;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  // 48 MiB are 6 of them, and some are on their way.
  t.true(asked < 20, `${asked} of 40 were asked for`);
  let bytes = 0;
  for (let next = await runs.next(); next.done !== true; next = await runs.next())
    bytes += next.value.bytes.length;
  t.true(bytes > 300e6);
});

// Hostile answers

test('answers that break the protocol are refused, whatever they claim', async (t) => {
  const { cas, store } = await openRig(t, { extensions: false });
  const hash = formatHash(UNKNOWN);
  const term = { hash, unpacked_length: 100, range: { start: 0, end: 1 } };
  const place = {
    url: `${cas.url}/data/${hash}`,
    ranges: [{ chunks: { start: 0, end: 1 }, bytes: { start: 0, end: 107 } }],
  };
  const good = { offset_into_first_range: 0, terms: [term], xorbs: { [hash]: [place] } };
  const bad: unknown[] = [
    null,
    [],
    '{',
    {},
    { ...good, terms: {} },
    { ...good, xorbs: [] },
    { ...good, xorbs: {} },
    { ...good, xorbs: { '../../etc/passwd': [place] } },
    { ...good, terms: [{ ...term, hash: '../../../../etc/passwd' }] },
    { ...good, terms: [{ ...term, hash: `${hash}/..` }] },
    { ...good, terms: [{ ...term, unpacked_length: 2 ** 60 }] },
    { ...good, terms: [{ ...term, unpacked_length: -1 }] },
    { ...good, terms: [{ ...term, unpacked_length: 1.5 }] },
    { ...good, terms: [{ ...term, unpacked_length: 131073 }] },
    { ...good, terms: [{ ...term, range: { start: 0, end: 4_000_000_000 } }] },
    { ...good, terms: [{ ...term, range: { start: 1, end: 1 } }] },
    { ...good, terms: [{ ...term, range: { start: 1, end: 2 } }] },
    { ...good, offset_into_first_range: 100 },
    { ...good, offset_into_first_range: -1 },
    { ...good, xorbs: { [hash]: [{ ...place, url: 'file:///etc/passwd' }] } },
    { ...good, xorbs: { [hash]: [{ ...place, url: 'http://user:pass@127.0.0.1/' }] } },
    { ...good, xorbs: { [hash]: [{ ...place, ranges: [] }] } },
    {
      ...good,
      xorbs: {
        [hash]: [{ ...place, ranges: [{ chunks: { start: 0, end: 1 }, bytes: { start: 0, end: 2 ** 52 } }] }],
      },
    },
    {
      ...good,
      xorbs: {
        [hash]: [{ ...place, ranges: [{ chunks: { start: 0, end: 8192 }, bytes: { start: 0, end: 100 } }] }],
      },
    },
  ];
  for (const answer of bad) {
    cas.faults.push({ on: /reconstructions/, status: 200, body: JSON.stringify(answer) });
    t.is(await codeOf(store.findFiles([UNKNOWN])), 'REMOTE_INVALID', JSON.stringify(answer));
  }
  cas.faults.push({ on: /reconstructions/, status: 200, headers: { 'content-length': '99999999999' } });
  t.is(await codeOf(store.findFiles([UNKNOWN])), 'REMOTE_INVALID');
  cas.faults.push({ on: /reconstructions/, status: 200, body: JSON.stringify(good) });
  t.is((await store.findFiles([UNKNOWN]))[0]?.size, 100);
});

test('answers of a server that calls itself ours are not believed more', async (t) => {
  const { cas, store } = await openRig(t);
  const content = await makeContent(17, 400_000, 4);
  serve(cas, content);
  const [xorb] = content.xorbs as [BuiltXorb];
  const bomb = Buffer.from(shardOf(content));
  bomb.writeUInt32LE(0xffffffff, 48 + 36);
  const backwards = Buffer.from(shardOf(content));
  backwards.writeUInt32LE(5000, 48 + 48 + 40);
  for (const body of [bomb, backwards, bomb.subarray(0, 60), Buffer.alloc(0), Buffer.from('<html>')]) {
    cas.faults.push({ on: /files/, status: 200, body });
    t.is(await codeOf(store.findFiles([UNKNOWN])), 'REMOTE_INVALID');
  }
  const run = { at: 0, count: 1, xorbHash: xorb.xorbHash, start: 0 };
  for (const runs of [
    [{ ...run, count: 0 }],
    [{ ...run, count: 4_000_000_000 }],
    [{ ...run, at: 100 }],
    [run, run],
    [{ ...run, start: 8192 }],
    [run, { ...run, at: 1 }, { ...run, at: 0 }],
  ]) {
    cas.faults.push({ on: /git2db\/chunks/, status: 200, body: encodeChunkRuns(runs) });
    t.is(await codeOf(store.findChunks(content.hashes)), 'REMOTE_INVALID');
  }
  cas.faults.push({ on: /git2db\/chunks/, status: 200, body: Buffer.alloc(50) });
  t.is(await codeOf(store.findChunks(content.hashes)), 'REMOTE_INVALID');
  cas.faults.push({ on: /sha256s/, status: 200, body: Buffer.alloc(64) });
  t.is(await codeOf(store.findSha256s(['ab'.repeat(32)])), 'REMOTE_INVALID');

  const name = formatHash(xorb.xorbHash);
  const stored = cas.xorbs.get(name)!;
  const sound = stored.bytes;
  for (const at of [
    sound.length - 1,
    sound.length - 4,
    xorb.storedBytes,
    xorb.storedBytes + 8,
    xorb.storedBytes + 60,
    sound.length - 40,
  ]) {
    stored.bytes = flipped(at)(Buffer.from(sound));
    t.is(
      await codeOf(store.readFooter(xorb.xorbHash)),
      'CONTENT_DAMAGED',
      `byte ${at - xorb.storedBytes} of the footer`,
    );
  }
  stored.bytes = Buffer.from('short');
  t.is(await codeOf(store.readFooter(xorb.xorbHash)), 'CONTENT_DAMAGED');
  stored.bytes = sound;
  t.is((await store.readFooter(xorb.xorbHash))?.count, xorb.count);
  t.is(
    await codeOf(collect(store.readRecords([{ xorbHash: xorb.xorbHash, start: 0, end: 8000 }]))),
    'CONTENT_DAMAGED',
  );
});

test('dedup answers that cannot be used are no hits', async (t) => {
  const { cas, store } = await openRig(t, { extensions: false });
  const content = await makeContent(18, 400_000, 4);
  serve(cas, content);
  const builder = new ShardBuilder();
  builder.addXorb(content.xorbs[0] as BuiltXorb);
  const expired = builder.build({ keyExpiry: 1000, key: new Uint8Array(32).fill(1) });
  for (const fault of [
    { status: 200, body: 'no shard' },
    { status: 200, body: expired },
    { status: 200, headers: { 'content-length': '999999999' } },
    { status: 429, times: 99 },
    { status: 400 },
  ]) {
    cas.faults.length = 0;
    cas.faults.push({ on: /chunks/, ...fault });
    t.deepEqual(await store.findChunks(content.hashes.slice(0, 32)), []);
  }
  cas.faults.length = 0;
  t.is((await store.findChunks(content.hashes.slice(0, 32))).length, 1);
});

// Faults while sending

test('a xorb whose answer was lost is not sent again; one that did not arrive is', async (t) => {
  const { cas, store } = await openRig(t);
  const { xorbs } = await makeContent(19, 800_000, 3);
  const [first, second, third] = xorbs as [BuiltXorb, BuiltXorb, BuiltXorb];
  cas.faults.push({ on: /POST .*xorbs/, drop: 'read' });
  t.true(await store.putXorb(upload(first)));
  t.is(cas.count(/POST .*xorbs/), 1);
  cas.faults.push({ on: /POST .*xorbs/, drop: 'unread' });
  t.true(await store.putXorb(upload(second)));
  t.is(cas.count(/POST .*xorbs/), 3);
  cas.faults.push({ on: /POST .*xorbs/, status: 503, headers: { 'retry-after': '1' }, times: 2 });
  t.true(await store.putXorb(upload(third)));
  t.is(cas.xorbs.size, 3);
});

test('a xorb that turns out to be damaged while it is sent is not sent again', async (t) => {
  const { cas, store } = await openRig(t);
  const { xorbs } = await makeContent(20, 300_000);
  const [xorb] = xorbs as [BuiltXorb];
  let made = 0;
  const records = async function* () {
    made++;
    yield xorb.bytes.subarray(0, 1000);
    throw new Git2dbError('CONTENT_DAMAGED', 'chunk 3 is damaged');
  };
  t.is(await codeOf(store.putXorb({ footer: xorb, records })), 'CONTENT_DAMAGED');
  t.is(made, 1);
  t.is(cas.xorbs.size, 0);
  const wrong = { ...upload(xorb), footer: { ...xorb, xorbHash: UNKNOWN } };
  t.is(await codeOf(store.putXorb(wrong)), 'CONTENT_DAMAGED');
  t.is(cas.xorbs.size, 0);
});

test('news of a shard upload: a stream that ends early, or with an error that may pass, is tried again', async (t) => {
  const { cas, store } = await openRig(t);
  const content = await makeContent(21, 300_000);
  serve(cas, { ...content, file: { fileHash: UNKNOWN, terms: [] } });
  const lines = (...events: unknown[]) => ({
    status: 200,
    body: events.map((event) => `${JSON.stringify(event)}\n`).join(''),
  });
  cas.faults.push({ on: /shards/, ...lines({ type: 'validating', verified: 1, total: 2 }) });
  cas.faults.push({ on: /shards/, ...lines({ type: 'error', message: 'busy', retryable: true }) });
  t.true(await store.putShard(shardOf(content)));
  t.is(cas.count(/shards/), 3);
  for (const body of [
    'no json\n',
    '[]\n',
    `{"type":"${'x'.repeat(2 << 20)}`,
    '{"type":"validating","verified":-1,"total":1}\n',
  ]) {
    cas.faults.push({ on: /shards/, status: 200, body });
    t.is(await codeOf(store.putShard(shardOf(content))), 'REMOTE_INVALID');
  }
  cas.faults.push({
    on: /shards/,
    ...lines({ type: 'error', message: 'no\u001b[31m room', code: 'DISK_FULL' }),
  });
  const error = await t.throwsAsync(store.putShard(shardOf(content)));
  t.regex(error?.message ?? '', /refused the shard: "no \[31m room"/);
  t.is((error as unknown as Git2dbError).code, 'DISK_FULL');
  t.is(await codeOf(store.putShard(new Uint8Array((64 << 20) + 1))), 'LIMIT_EXCEEDED');
});

test('a store that is only read from sends nothing', async (t) => {
  const { cas, http } = await openRig(t);
  const { CasStore } = await import('../../../src/xet/cas/client.ts');
  const store = CasStore.open({ http, casUrl: `${cas.url}/`, isReadOnly: true });
  t.true(store.isReadOnly);
  t.is(store.place, cas.url);
  const content = await makeContent(22, 100_000);
  t.is(await codeOf(store.putXorb(upload(content.xorbs[0] as BuiltXorb))), 'STORE_UNWRITABLE');
  t.is(await codeOf(store.putShard(shardOf(content))), 'STORE_UNWRITABLE');
  t.is(cas.asked.length, 0);
});
