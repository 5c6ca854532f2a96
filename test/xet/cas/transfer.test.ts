/** Whole files between stores of this machine and a CAS over HTTP, with a failure at every request there is. */
import test, { type ExecutionContext } from 'ava';
import { formatHash, parseHash } from '../../../src/xet/hash/xet-hash.ts';
import { fetchFiles } from '../../../src/xet/transfer/fetch.ts';
import { pushFiles } from '../../../src/xet/transfer/push.ts';
import type { TransferResult, WantedFile } from '../../../src/xet/transfer/transfer.ts';
import { createStore, randomBytes, type StoreSandbox } from '../../helpers/store-sandbox.ts';
import { openStore } from './cas-rig.ts';
import { CasServer, type Fault } from './cas-server.ts';

async function add(source: StoreSandbox, ...contents: Buffer[]): Promise<WantedFile[]> {
  return (await source.add(...contents)).map(({ hash, size }) => ({ hash: parseHash(hash), size }));
}

const push = (t: ExecutionContext, source: StoreSandbox, cas: CasServer, files: WantedFile[]) =>
  pushFiles(source.open(), openStore(t, cas).store, files);

const fetch = (t: ExecutionContext, target: StoreSandbox, cas: CasServer, files: WantedFile[]) =>
  fetchFiles(target.open(), openStore(t, cas).store, files, { writer: { fsync: 'none' } });

function problems({ files }: TransferResult): string[] {
  return files.flatMap(({ error }) => (error === undefined ? [] : [`${error.code}: ${error.message}`]));
}

function read(target: StoreSandbox, { hash }: WantedFile): Buffer {
  return target.read(formatHash(hash));
}

for (const extensions of [true, false]) {
  const name = extensions ? 'a server of ours' : 'a foreign CAS';

  test(`files go to ${name} and come from it, a second version in pieces only`, async (t) => {
    const cas = await CasServer.start(t, { extensions });
    const [source, target] = [createStore(t), createStore(t)];
    const first = randomBytes(1, 6_000_000);
    const second = Buffer.concat([
      first.subarray(0, 2_000_000),
      randomBytes(2, 100_000),
      first.subarray(2_000_000),
    ]);
    const [one, two, none] = (await add(source, first, second, Buffer.alloc(0))) as [
      WantedFile,
      WantedFile,
      WantedFile,
    ];
    t.deepEqual(problems(await push(t, source, cas, [one, none])), []);
    const again = await push(t, source, cas, [one]);
    t.is(again.wireBytes, 0);
    const more = await push(t, source, cas, [two]);
    t.deepEqual(problems(more), []);
    t.true(more.wireBytes < 500_000, `${more.wireBytes} bytes`);
    t.deepEqual(problems(await fetch(t, target, cas, [one, none])), []);
    const difference = await fetch(t, target, cas, [two]);
    t.deepEqual(problems(difference), []);
    t.true(difference.wireBytes < 500_000, `${difference.wireBytes} bytes`);
    t.true(read(target, one).equals(first));
    t.true(read(target, two).equals(second));
  });

  test(`whichever request to ${name} fails, once, everything arrives`, async (t) => {
    const contents = [randomBytes(3, 900_000), randomBytes(4, 40_000)];
    const faults: Omit<Fault, 'on'>[] = [
      { status: 503 },
      { drop: 'read' },
      { drop: 'unread' },
      { resetAfter: 40 },
      { change: (body) => body.subarray(0, body.length >> 1) },
    ];
    let kinds = 0;
    for (let at = 0; ; at++) {
      const cas = await CasServer.start(t, { extensions });
      const [source, target] = [createStore(t), createStore(t)];
      const files = await add(source, ...contents);
      let seen = 0;
      const fault = faults[at % faults.length] as Omit<Fault, 'on'>;
      const nth = { test: () => seen++ === at } as unknown as RegExp;
      cas.faults.push({ on: nth, ...fault });
      t.deepEqual(problems(await push(t, source, cas, files)), [], `push, fault ${at}`);
      t.deepEqual(problems(await fetch(t, target, cas, files)), [], `fetch, fault ${at}`);
      for (const [i, file] of files.entries()) t.true(read(target, file).equals(contents[i] as Buffer));
      const accepted = cas.asked.filter(({ method, path }) => method === 'POST' && path.includes('/xorbs/'));
      if (fault.drop === 'read') t.is(accepted.length, cas.xorbs.size, 'nothing was sent twice');
      if (cas.faults[0]?.times !== 0) break;
      kinds++;
    }
    t.true(kinds >= (extensions ? 7 : 8), `${kinds} requests`);
  });
}

test('xorbs that are damaged on the way, anywhere, are refused and come with the next try', async (t) => {
  const cas = await CasServer.start(t);
  const source = createStore(t);
  const content = randomBytes(5, 700_000);
  const [file] = (await add(source, content)) as [WantedFile];
  t.deepEqual(problems(await push(t, source, cas, [file])), []);
  let target = createStore(t);
  for (const at of [0, 3, 5, 9, 5000, 100_000, 699_000]) {
    cas.faults.push({
      on: /GET .*xorbs/,
      times: 99,
      change: (body) => {
        const copy = Buffer.from(body);
        const place = Math.min(at, copy.length - 1);
        copy[place] = (copy[place] as number) ^ 1;
        return copy;
      },
    });
    const { files } = await fetch(t, target, cas, [file]);
    t.is(files[0]?.outcome, 'failed');
    t.true(
      ['CONTENT_DAMAGED', 'REMOTE_INVALID'].includes(files[0]?.error?.code ?? ''),
      files[0]?.error?.message,
    );
    cas.faults.length = 0;
    t.deepEqual(problems(await fetch(t, target, cas, [file])), []);
    t.true(read(target, file).equals(content));
    target = createStore(t);
  }
});
test('requests do not grow with files: 160 of 256 KiB take a dozen or two in each direction', async (t) => {
  const cas = await CasServer.start(t);
  const [source, target] = [createStore(t), createStore(t)];
  const contents = Array.from({ length: 160 }, (_, i) => randomBytes(`small ${i}`, 262_144));
  const files = await add(source, ...contents);
  t.deepEqual(problems(await push(t, source, cas, files)), []);
  const sent = cas.asked.length;
  t.true(sent <= 12, `${sent} requests`);
  t.deepEqual(problems(await fetch(t, target, cas, files)), []);
  const fetched = cas.asked.length - sent;
  t.true(fetched <= 20, `${fetched} requests`);
  t.true(read(target, files[77] as WantedFile).equals(contents[77] as Buffer));
});
