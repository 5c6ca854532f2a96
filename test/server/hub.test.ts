/** Hugging Face's own JS client against the server. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import {
  __internal_XetBlob,
  commit,
  downloadFile,
  fileDownloadInfo,
  listFiles,
  modelInfo,
  pathsInfo,
  type RepoDesignation,
} from '@huggingface/hub';
import test, { type ExecutionContext } from 'ava';
import { formatHash, parseHash } from '../../src/xet/hash/xet-hash.ts';
import { fetchFiles } from '../../src/xet/transfer/fetch.ts';
import { pushFiles } from '../../src/xet/transfer/push.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { createStore, randomBytes } from '../helpers/store-sandbox.ts';
import { createServerRig, type ServerRig } from './rig.ts';

isolateProcess();

const REPO = 'user/model';

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

interface Client {
  readonly hubUrl: string;
  readonly accessToken: string;
  readonly fetch: typeof fetch;
  /** Method and path of every request. */
  readonly asked: string[];
}

function clientOf(rig: ServerRig): Client {
  const asked: string[] = [];
  return {
    hubUrl: rig.server.url,
    accessToken: `hf_${rig.server.token('write')}`,
    asked,
    fetch: (input, init) => {
      const url = new URL(input instanceof Request ? input.url : String(input));
      asked.push(`${init?.method ?? 'GET'} ${url.pathname}`);
      return fetch(input, init);
    },
  };
}

async function upload(
  client: Client,
  files: Readonly<Record<string, Uint8Array>>,
  repo: RepoDesignation = REPO,
): Promise<string> {
  const operations = Object.entries(files).map(([path, content]) => ({
    operation: 'addOrUpdate' as const,
    path,
    content: new Blob([content as Uint8Array<ArrayBuffer>]),
  }));
  const { hubUrl, accessToken, fetch } = client;
  const result = await commit({ repo, hubUrl, accessToken, fetch, title: 'upload', operations });
  return result!.commit.oid;
}

async function download(client: Client, path: string, repo: RepoDesignation = REPO): Promise<Blob> {
  const { hubUrl, accessToken, fetch } = client;
  const blob = await downloadFile({ repo, path, hubUrl, accessToken, fetch });
  if (blob === null) throw new Error(`${path} is not there`);
  return blob;
}

async function bytesOf(blob: Blob): Promise<Buffer> {
  return Buffer.from(await blob.arrayBuffer());
}

async function readHere(t: ExecutionContext, rig: ServerRig, sha256: string): Promise<Buffer | undefined> {
  const [hash] = await rig.store.findSha256s([sha256]);
  if (hash === undefined) return undefined;
  const target = createStore(t);
  const { files } = await fetchFiles(target.open(), await rig.client(), [{ hash }], {
    writer: { fsync: 'none' },
  });
  if (files[0]?.error !== undefined) throw files[0].error;
  return target.read(formatHash(hash));
}

test('what its commit uploads, it and our client read back; git has pointers and attributes', async (t) => {
  const rig = await createServerRig(t);
  const client = clientOf(rig);
  const contents = {
    'a.bin': randomBytes('hub a', 3_000_000),
    'dir/b [1].bin': randomBytes('hub b', 200_000),
    'README.md': Buffer.from('# text\n'),
  };
  const oid = await upload(client, contents);
  for (const [path, content] of Object.entries(contents)) {
    t.true((await bytesOf(await download(client, path))).equals(content), path);
  }
  t.true((await readHere(t, rig, sha256Of(contents['a.bin'])))?.equals(contents['a.bin']));
  const git = (...args: string[]) =>
    rig.sandbox.gitText(args, { cwd: join(rig.repositories, `${REPO}.git`) });
  t.is(await git('rev-parse', 'main'), oid);
  t.regex(await git('show', 'main:a.bin'), /^version https:\/\/git-lfs\.github\.com\/spec\/v1\noid sha256:/);
  await rig.sandbox.git(['clone', '-q', `${rig.server.url}/${REPO}.git`, 'clone'], {
    env: { GIT_LFS_SKIP_SMUDGE: '1' },
  });
  for (const path of Object.keys(contents)) {
    const filter = await rig.sandbox.gitText(['check-attr', 'filter', path], { cwd: 'clone' });
    t.is(filter.endsWith(': filter: lfs'), path !== 'README.md', filter);
  }
  t.deepEqual(rig.errors, []);
});

test('slices, serial reading, and blobs made from a hash', async (t) => {
  const rig = await createServerRig(t);
  const client = clientOf(rig);
  const content = randomBytes('slices', 2_500_000);
  await upload(client, { 'a.bin': content });
  const blob = await download(client, 'a.bin');
  for (const [start, end] of [
    [0, 1],
    [1_000_000, 1_200_000],
    [2_499_999, 2_500_000],
    [5, 2_400_000],
  ] as const) {
    t.true(
      (await bytesOf(blob.slice(start, end))).equals(content.subarray(start, end)),
      `[${start}, ${end})`,
    );
  }
  const { hubUrl, accessToken, fetch } = client;
  const serial = await downloadFile({
    repo: REPO,
    path: 'a.bin',
    hubUrl,
    accessToken,
    fetch,
    parallelDownloads: false,
  } as Parameters<typeof downloadFile>[0]);
  t.true((await bytesOf(serial!)).equals(content));
  const [hash] = await rig.store.findSha256s([sha256Of(content)]);
  const made = new __internal_XetBlob({
    hash: formatHash(hash!),
    size: content.length,
    refreshUrl: `${hubUrl}/api/models/${REPO}/xet-read-token/main`,
    accessToken,
    fetch,
  });
  t.true((await bytesOf(made)).equals(content));
});

test('a second version dedups against the first through a keyed shard', async (t) => {
  const rig = await createServerRig(t);
  const client = clientOf(rig);
  const first = randomBytes('dedup', 4_000_000);
  const second = Buffer.concat([first, randomBytes('more', 300_000)]);
  await upload(client, { 'a.bin': first });
  const before = rig.log.length;
  await upload(client, { 'a.bin': second });
  const sent = rig.log
    .slice(before)
    .map((line) => JSON.parse(line) as { route: string; bytesIn: number })
    .filter(({ route }) => route === 'xorb.put')
    .reduce((sum, { bytesIn }) => sum + bytesIn, 0);
  t.true(sent < 1_000_000, `${sent} bytes`);
  t.true((await bytesOf(await download(client, 'a.bin'))).equals(second));
  const again = rig.log.length;
  await upload(client, { 'copy.bin': second });
  t.false(
    rig.log.slice(again).some((line) => line.includes('"xorb.put"')),
    'what is here is not sent',
  );
});

test('an expired data address makes it ask for the reconstruction again', async (t) => {
  let now = Date.now();
  const rig = await createServerRig(t, { now: () => now });
  const client = clientOf(rig);
  const content = randomBytes('refresh', 1_000_000);
  await upload(client, { 'a.bin': content });
  const blob = await download(client, 'a.bin');
  t.true((await bytesOf(blob.slice(0, 1000))).equals(content.subarray(0, 1000)));
  now += 2 * 3600_000;
  const accessToken = `hf_${rig.server.token('write')}`;
  const later = await download({ ...client, accessToken }, 'a.bin');
  const isData = (asked: string) => asked.startsWith('GET /v1/data/');
  let isSpoilt = false;
  client.asked.length = 0;
  const spoiling: typeof fetch = async (input, init) => {
    if (!isSpoilt && String(input).includes('/v1/data/')) {
      isSpoilt = true;
      const url = new URL(String(input));
      url.searchParams.set('expires', '1');
      return client.fetch(url, init);
    }
    return client.fetch(input, init);
  };
  const { hubUrl } = client;
  const spoilt = await downloadFile({ repo: REPO, path: 'a.bin', hubUrl, accessToken, fetch: spoiling });
  t.true((await bytesOf(spoilt!)).equals(content));
  t.true(client.asked.filter(isData).length >= 2);
  t.is(client.asked.filter((asked) => asked.includes('/v2/reconstructions/')).length, 2);
  t.true((await bytesOf(later)).equals(content));
});

test('a token that is about to end is exchanged for a new one', async (t) => {
  const rig = await createServerRig(t);
  const client = clientOf(rig);
  const expiresAt = Math.floor(Date.now() / 1000) + 45;
  const accessToken = `hf_${rig.server.token('write', { expiresAt })}`;
  const content = randomBytes('short lived', 300_000);
  await upload({ ...client, accessToken }, { 'a.bin': content });
  t.true(client.asked.includes(`GET /${REPO}.git/info/xet/token`));
  t.true((await bytesOf(await download(client, 'a.bin'))).equals(content));
});

test('datasets, other branches, deletions, empty files and a stale parent', async (t) => {
  const rig = await createServerRig(t);
  const client = clientOf(rig);
  const repo = { type: 'dataset', name: 'user/data' } as const;
  const oid = await upload(
    client,
    { 'a.bin': randomBytes('set', 100_000), 'empty.txt': Buffer.alloc(0) },
    repo,
  );
  t.is((await bytesOf(await download(client, 'empty.txt', repo))).length, 0);
  const { hubUrl, accessToken, fetch } = client;
  const remove = { operation: 'delete' as const, path: 'empty.txt' };
  const common = { repo, hubUrl, accessToken, fetch, title: 'no more' };
  await commit({ ...common, operations: [remove], parentCommit: oid });
  t.is(await downloadFile({ repo, path: 'empty.txt', hubUrl, accessToken }), null);
  await t.throwsAsync(commit({ ...common, operations: [{ ...remove, path: 'a.bin' }], parentCommit: oid }), {
    message: /not at/,
  });
  await t.throwsAsync(commit({ ...common, operations: [remove] }), { message: /no empty\.txt/ });
  await t.throwsAsync(
    commit({ ...common, operations: [{ operation: 'addOrUpdate', path: '../x', content: new Blob(['1']) }] }),
  );
  await t.throwsAsync(
    commit({
      ...common,
      operations: [{ operation: 'addOrUpdate', path: '.git/hooks/x', content: new Blob(['1']) }],
    }),
  );
  const files: string[] = [];
  for await (const { path } of listFiles({ repo, recursive: true, hubUrl, accessToken })) files.push(path);
  t.deepEqual(files.sort(), ['.gitattributes', 'a.bin']);
});

test('listings say what is large, and where', async (t) => {
  const rig = await createServerRig(t);
  const client = clientOf(rig);
  const content = randomBytes('list', 150_000);
  await upload(client, { 'dir/a.bin': content, 'dir/sub/x.txt': Buffer.from('x') });
  const { hubUrl, accessToken, fetch } = client;
  const [found] = await pathsInfo({ repo: REPO, paths: ['dir/a.bin'], hubUrl, accessToken, fetch });
  t.like(found, { type: 'file', size: 150_000, lfs: { oid: sha256Of(content), size: 150_000 } });
  const info = await fileDownloadInfo({ repo: REPO, path: 'dir/a.bin', hubUrl, accessToken, fetch });
  t.is(info?.size, 150_000);
  t.is((await modelInfo({ name: REPO, hubUrl, accessToken, fetch })).name, REPO);
  const listed: string[] = [];
  for await (const { path, type } of listFiles({ repo: REPO, path: 'dir', hubUrl, accessToken }))
    listed.push(`${type} ${path}`);
  t.deepEqual(listed.sort(), ['directory dir/sub', 'file dir/a.bin']);
});

test('what our client has pushed, it downloads; plain HTTP gets the bytes, with ranges', async (t) => {
  const rig = await createServerRig(t);
  const client = clientOf(rig);
  const content = randomBytes('ours', 2_000_000);
  const source = createStore(t);
  const [added] = await source.add(content);
  const sha256 = sha256Of(content);
  const { files } = await pushFiles(
    source.open(),
    await rig.client(),
    [{ hash: parseHash(added!.hash), sha256 }],
    {},
  );
  t.deepEqual(
    files.map(({ outcome }) => outcome),
    ['moved'],
  );
  const line = (key: string, value: object) => JSON.stringify({ key, value });
  const answer = await rig.ask('POST', `/api/models/${REPO}/commit/main`, {
    token: rig.server.token('write'),
    body: `${line('header', { summary: 's' })}\n${line('lfsFile', { path: 'o.bin', algo: 'sha256', size: content.length, oid: sha256 })}`,
  });
  t.is(answer.status, 200);
  t.true((await bytesOf(await download(client, 'o.bin'))).equals(content));
  const plain = await rig.ask('GET', `/${REPO}/resolve/main/o.bin`);
  t.true(plain.body.equals(content));
  t.is(plain.headers.etag, `"${sha256}"`);
  const part = await rig.ask('GET', `/${REPO}/resolve/main/o.bin`, { headers: { Range: 'bytes=-10' } });
  t.true(part.body.equals(content.subarray(-10)));
  const head = await rig.ask('HEAD', `/${REPO}/resolve/main/o.bin`);
  t.is(head.headers['x-xet-hash'], added!.hash);
  t.is((await rig.ask('GET', `/${REPO}/resolve/nobranch/o.bin`)).headers['x-error-code'], 'RevisionNotFound');
  const notHere = { path: 'n.bin', algo: 'sha256', size: 5, oid: 'e'.repeat(64) };
  const refused = await rig.ask('POST', `/api/models/${REPO}/commit/main`, {
    token: rig.server.token('write'),
    body: `${line('header', { summary: 's' })}\n${line('lfsFile', notHere)}`,
  });
  t.is(refused.status, 400);
  t.regex(refused.body.toString(), /was not uploaded/);
});
