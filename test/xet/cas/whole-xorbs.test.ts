/** Xorbs of which all is wanted come from a server as they are, in one stream each: whatever happens to that. */
import { readdirSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { formatHash } from '../../../src/xet/hash/xet-hash.ts';
import { fetchFiles } from '../../../src/xet/transfer/fetch.ts';
import type { TransferResult, WantedFile } from '../../../src/xet/transfer/transfer.ts';
import { createStore, type StoreSandbox } from '../../helpers/store-sandbox.ts';
import { openStore } from './cas-rig.ts';
import { CasServer } from './cas-server.ts';
import { type Content, makeContent, rearrange, serve } from './content.ts';

const CHUNKS = 80;
/** Larger than what footers and pieces are read by. */
const LONG = 3_000_000;

const wantedOf = ({ file, bytes }: Pick<Content, 'file' | 'bytes'>): WantedFile => ({
  hash: file.fileHash,
  size: bytes.length,
});

function fetch(
  t: ExecutionContext,
  target: StoreSandbox,
  cas: CasServer,
  files: readonly WantedFile[],
  signal?: AbortSignal,
): Promise<TransferResult> {
  const { store } = openStore(t, cas);
  return fetchFiles(target.open(), store, files, { writer: { fsync: 'none' }, signal });
}

/** Requests for a xorb, but the first, which is for its footer. */
function afterFooter(): RegExp {
  let asked = 0;
  return { test: (text: string) => /GET .*xorbs/.test(text) && ++asked > 1 } as unknown as RegExp;
}

function isThere(
  t: ExecutionContext,
  target: StoreSandbox,
  { file, bytes }: Pick<Content, 'file' | 'bytes'>,
) {
  t.true(target.read(formatHash(file.fileHash)).equals(bytes));
}

/** Ranges of xorbs that were asked for, but for those of footers. */
function streams(cas: CasServer): { readonly path: string; readonly start: number }[] {
  return cas.asked.flatMap(({ method, path, headers }) => {
    const start = /^bytes=(\d+)-/.exec(headers.range ?? '')?.[1];
    return method === 'GET' && start !== undefined ? [{ path, start: Number(start) }] : [];
  });
}

function noLitter(t: ExecutionContext, target: StoreSandbox): void {
  t.deepEqual(readdirSync(target.open().layout.incoming), []);
}

test('a whole xorb has the same name on both sides, and takes one request; what is left of it none', async (t) => {
  const cas = await CasServer.start(t);
  const content = await makeContent(1, 12_000_000, CHUNKS);
  serve(cas, content);
  const target = createStore(t);
  const result = await fetch(t, target, cas, [wantedOf(content)]);
  t.is(result.files[0]?.outcome, 'moved');
  isThere(t, target, content);
  const large = content.xorbs.filter(({ storedBytes }) => storedBytes > 4 << 20);
  t.true(large.length >= 2);
  for (const { xorbHash } of large) {
    t.true(target.open().hasXorb(formatHash(xorbHash)));
    t.is(streams(cas).filter(({ path }) => path.includes(formatHash(xorbHash))).length, 1);
  }
  t.true(result.wireBytes < content.bytes.length * 1.02);
  noLitter(t, target);
  const before = cas.asked.length;
  t.is((await fetch(t, target, cas, [wantedOf(content)])).files[0]?.outcome, 'present');
  t.is(cas.asked.length, before);
});

test('files that share chunks of whole xorbs get each once', async (t) => {
  const cas = await CasServer.start(t);
  const content = await makeContent(2, 9_000_000, CHUNKS);
  serve(cas, content);
  const mixed = rearrange(content, [
    [1, 3, 20],
    [0, 10, 40],
    [1, 3, 20],
  ]);
  cas.addFile(mixed.file);
  for (const order of [
    [content, mixed],
    [mixed, content],
  ]) {
    const target = createStore(t);
    const { files, wireBytes } = await fetch(t, target, cas, order.map(wantedOf));
    t.deepEqual(
      files.map(({ outcome }) => outcome),
      ['moved', 'moved'],
    );
    for (const each of order) isThere(t, target, each);
    t.true(wireBytes < content.bytes.length * 1.02, `${wireBytes} bytes`);
  }
});

test('a stream that breaks goes on at the byte where it broke', async (t) => {
  const cas = await CasServer.start(t);
  const content = await makeContent(3, 5_000_000, CHUNKS);
  serve(cas, content);
  for (const resetAfter of [70_000, 1_234_567, LONG]) {
    cas.asked.length = 0;
    cas.faults.push({ on: afterFooter(), resetAfter });
    const target = createStore(t);
    const { files, wireBytes } = await fetch(t, target, cas, [wantedOf(content)]);
    t.is(files[0]?.outcome, 'moved', files[0]?.error?.message);
    isThere(t, target, content);
    t.is(cas.faults.pop()?.times, 0);
    t.is(streams(cas).length, 2);
    t.true(wireBytes < content.bytes.length * 1.02, `${wireBytes} bytes after a break at ${resetAfter}`);
  }
});

test('a server that knows no ranges is read from the start again, and what is there passed over', async (t) => {
  const cas = await CasServer.start(t);
  const content = await makeContent(4, 5_000_000, CHUNKS);
  serve(cas, content);
  const xorb = cas.xorbs.get(formatHash(content.xorbs[0]!.xorbHash))!;
  const whole = { status: 200, body: xorb.bytes } as const;
  const target = createStore(t);
  cas.faults.push(
    { on: afterFooter(), ...whole, resetAfter: 2_000_000 },
    { on: afterFooter(), times: 9, ...whole },
  );
  const { files } = await fetch(t, target, cas, [wantedOf(content)]);
  t.is(files[0]?.outcome, 'moved', files[0]?.error?.message);
  isThere(t, target, content);
});

test('a damaged xorb is not kept under its name, the file fails or comes by pieces, and a rerun completes', async (t) => {
  const cas = await CasServer.start(t);
  const content = await makeContent(5, 5_000_000, CHUNKS);
  serve(cas, content);
  const name = formatHash(content.xorbs[0]!.xorbHash);
  for (const [at, times] of [
    [0, 99],
    [5, 99],
    [2_000_001, 99],
    [2_000_001, 1],
  ] as const) {
    let isFirst = true;
    cas.faults.push({
      on: /GET .*xorbs/,
      times: times + 1,
      change: (body) => {
        // Footers stay good.
        const copy = Buffer.from(body);
        if (body.length > 1_000_000 && (times > 1 || isFirst)) {
          copy[at] = (copy[at] as number) ^ 1;
          isFirst = false;
        }
        return copy;
      },
    });
    const target = createStore(t);
    const [file] = (await fetch(t, target, cas, [wantedOf(content)])).files;
    if (times > 1) {
      t.is(file?.outcome, 'failed');
      t.true(['CONTENT_DAMAGED', 'REMOTE_INVALID'].includes(file?.error?.code ?? ''), file?.error?.message);
      t.false(target.open().hasXorb(name));
    } else t.is(file?.outcome, 'moved', file?.error?.message);
    noLitter(t, target);
    cas.faults.length = 0;
    await fetch(t, target, cas, [wantedOf(content)]);
    isThere(t, target, content);
  }
});

test('of a file whose last xorb is gone, the others stay, and are not fetched again', async (t) => {
  const cas = await CasServer.start(t);
  const content = await makeContent(6, 30_000_000, CHUNKS);
  serve(cas, content);
  const lost = content.xorbs.at(-2)!;
  const name = formatHash(lost.xorbHash);
  cas.faults.push({
    on: new RegExp(`GET .*${name}`),
    times: 99,
    status: 404,
    change: (body) => body,
  });
  const target = createStore(t);
  const [file] = (await fetch(t, target, cas, [wantedOf(content)])).files;
  t.is(file?.error?.code, 'CONTENT_MISSING', file?.error?.message);
  noLitter(t, target);
  cas.faults.length = 0;
  const { files, wireBytes } = await fetch(t, target, cas, [wantedOf(content)]);
  t.is(files[0]?.outcome, 'moved');
  isThere(t, target, content);
  t.true(wireBytes < content.bytes.length / 2, `${wireBytes} bytes`);
});

test('a fetch that is stopped ends at once, without litter', async (t) => {
  const cas = await CasServer.start(t);
  const content = await makeContent(7, 10_000_000, CHUNKS);
  serve(cas, content);
  let asked = 0;
  const stop = new AbortController();
  cas.faults.push({
    on: /GET .*xorbs/,
    times: 99,
    change: (body) => {
      if (body.length > 1_000_000 && ++asked === 1) stop.abort();
      return body;
    },
  });
  const target = createStore(t);
  const error = await t.throwsAsync(fetch(t, target, cas, [wantedOf(content)], stop.signal), { any: true });
  t.is((error as Error).name, 'AbortError');
  noLitter(t, target);
  cas.faults.length = 0;
  await fetch(t, target, cas, [wantedOf(content)]);
  isThere(t, target, content);
});
