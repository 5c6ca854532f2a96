import type { ExecutionContext } from 'ava';
import test from 'ava';
import { CasStore } from '../../../src/xet/cas/client.ts';
import { HttpClient } from '../../../src/xet/cas/http.ts';
import { formatHash } from '../../../src/xet/hash/xet-hash.ts';
import { CasServer, type CasServerOptions } from './cas-server.ts';
import { collect, joinRuns, makeContent, rangesOf, readFile, rearrange, serve } from './content.ts';

async function open(t: ExecutionContext, options: CasServerOptions = {}) {
  const server = await CasServer.start(t, options);
  const http = HttpClient.open({ clock: quickClock() });
  const store = CasStore.open({ http, casUrl: server.url, clock: quickClock() });
  t.teardown(() => http.close());
  return { server, store };
}

/** No pauses. */
export function quickClock() {
  return { now: () => Date.now(), random: () => 0, sleep: async () => undefined };
}

const KINDS: readonly [string, CasServerOptions][] = [
  ['a server of ours', {}],
  ['a foreign CAS', { extensions: false }],
  [
    'a foreign CAS with version 1 only',
    { extensions: false, reconstructions: [1], shardsV2: false, head: false, multipart: false },
  ],
  ['a foreign CAS that signs ranges', { extensions: false, signsRanges: true }],
];

for (const [name, options] of KINDS) {
  test(`files are found and read from ${name}`, async (t) => {
    const { server, store } = await open(t, options);
    const content = await makeContent(1, 3_000_000, 10);
    serve(server, content);
    const mixed = rearrange(content, [
      [0, 2, 5],
      [2, 1, 4],
      [0, 5, 7],
      [1, 0, 10],
      [0, 0, 2],
      [2, 1, 4],
    ]);
    server.addFile(mixed.file);
    const unknown = new Uint8Array(32).fill(7);
    const [file, none, other, empty] = await store.findFiles([
      content.file.fileHash,
      unknown,
      mixed.file.fileHash,
      new Uint8Array(32),
    ]);
    t.is(none, undefined);
    t.is(empty?.size, 0);
    t.is(file?.size, content.bytes.length);
    t.deepEqual(
      file?.terms.map(({ start, end }) => [start, end]),
      content.file.terms.map(({ start, end }) => [start, end]),
    );
    t.true((await readFile(store, file!)).equals(content.bytes));
    t.true((await readFile(store, other!)).equals(mixed.bytes));
  });
}
