import test, { type ExecutionContext } from 'ava';
import { connect, locate } from '../../src/lfs/connection.ts';
import { fetchLfs } from '../../src/lfs/fetch.ts';
import { HubRemote } from '../../src/lfs/hub.ts';
import { hubOrigin, hubRepository, isHubUrl } from '../../src/lfs/hub-host.ts';
import { pushLfs } from '../../src/lfs/push.ts';
import { formatHash } from '../../src/xet/hash/xet-hash.ts';
import { LocalStore } from '../../src/xet/store/local-store.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { assertNothingIncoming, randomBytes } from '../helpers/xet-sandbox.ts';
import { CasServer } from '../xet/cas/cas-server.ts';
import { createLfsSandbox, lfsRepository, objectOf, placeOf } from './lfs-sandbox.ts';
import { type LfsServer, startLfsServer } from './lfs-server.ts';

isolateProcess();

const HUB_TOKEN = 'hf_of-the-hub';
const CAS_TOKEN = 'of-the-cas';

interface Hub {
  readonly server: LfsServer;
  readonly cas: CasServer;
  /** How many tokens were given out by the token endpoints. */
  tokens: number;
  /** Unix seconds that the tokens of batch answers live. */
  lifetime: number;
}

/** The Hub's endpoints (token, batch with `xet`, resolve) before a CAS that speaks the standard protocol only. */
async function startHub(t: ExecutionContext): Promise<Hub> {
  const server = await startLfsServer(t);
  const cas = await CasServer.start(t, { extensions: false, token: CAS_TOKEN });
  const hub: Hub = { server, cas, tokens: 0, lifetime: 3600 };
  const exp = () => Math.floor(Date.now() / 1000) + hub.lifetime;
  server.intercept = ({ path, headers, method }, response) => {
    if (headers.authorization !== `Bearer ${HUB_TOKEN}`) {
      response.writeHead(401).end('{"error":"Invalid credentials"}');
      return true;
    }
    if (/^\/api\/models\/me\/model\/xet-(read|write)-token\/main$/.test(path)) {
      hub.tokens++;
      const inAnHour = Math.floor(Date.now() / 1000) + 3600;
      response.writeHead(200, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify({ accessToken: CAS_TOKEN, casUrl: cas.url, exp: inAnHour }));
      return true;
    }
    const resolved = /^\/me\/model\/resolve\/[0-9a-f]{40}\/(.*)$/.exec(path);
    if (resolved === null || method !== 'GET') return false;
    // As the real one: it names the file by path, we by what was uploaded.
    const sha256 = [...server.objects.keys()].find(
      (name) => decodeURIComponent(resolved[1]!) === paths.get(name),
    );
    const file = [...cas.files.values()].find((record) => record.sha256 === sha256);
    if (sha256 === undefined || file === undefined) {
      response.writeHead(404, { 'X-Error-Code': 'EntryNotFound' }).end();
      return true;
    }
    response.writeHead(302, {
      Location: 'http://127.0.0.1:1/bridge',
      'X-Xet-Hash': formatHash(file.fileHash),
      'X-Linked-Size': server.objects.get(sha256)!.length,
      'X-Linked-Etag': `"${sha256}"`,
    });
    response.end();
    return true;
  };
  server.batch = (answer) => {
    for (const { actions } of answer.objects) {
      if (actions?.upload === undefined) continue;
      answer.transfer = 'xet';
      actions.upload = {
        href: `${server.origin}/api/models/me/model/xet-write-token/main`,
        header: {
          'X-Xet-Cas-Url': cas.url,
          'X-Xet-Access-Token': CAS_TOKEN,
          'X-Xet-Token-Expiration': String(exp()),
          'X-Xet-Session-Id': 's',
        },
      };
      delete actions.verify;
    }
    return answer;
  };
  return hub;
}

/** Path of each object in the repository, by SHA-256. */
const paths = new Map<string, string>();

test.serial(
  'uploads go by the xet transfer, downloads by reconstruction, and a second version sends little',
  async (t) => {
    const hub = await startHub(t);
    const url = `${hub.server.origin}/me/model`;
    const sandbox = createLfsSandbox(t);
    const env = { ...sandbox.env, HF_ENDPOINT: hub.server.origin, HF_TOKEN: HUB_TOKEN };
    const source = await lfsRepository(sandbox, 'source');
    await source.git(['remote', 'add', 'origin', url]);
    const first = randomBytes(1, 3_000_000);
    const second = Buffer.concat([
      first.subarray(0, 1_000_000),
      randomBytes(2, 1000),
      first.subarray(1_000_000),
    ]);
    const contents: [string, Buffer][] = [
      ['a b.bin', first],
      ['dir/second.bin', second],
    ];
    for (const [path, content] of contents) {
      sandbox.write(`source/${path}`, content);
      paths.set(objectOf(content).sha256, path);
    }
    await source.commit('two versions');
    const place = placeOf(sandbox, source, { env });
    const objects = contents.map(([, content]) => objectOf(content));

    const [one] = await pushLfs(place, [objects[0]!], { remote: 'origin' });
    t.is(one!.outcome, 'moved', one!.error?.message);
    const before = uploaded(hub.cas);
    t.true(before > 2_900_000);
    const [two] = await pushLfs(place, [objects[1]!], { remote: 'origin' });
    t.is(two!.outcome, 'moved', two!.error?.message);
    t.true(
      uploaded(hub.cas) - before < 400_000,
      `the second version sent ${uploaded(hub.cas) - before} bytes`,
    );
    t.deepEqual(
      [...hub.cas.files.values()].map(({ sha256 }) => sha256).sort(),
      objects.map(({ sha256 }) => sha256).sort(),
      'the Hub finds files by the SHA-256 in the shard',
    );
    // From here on the Hub has them.
    for (const [, content] of contents) hub.server.objects.set(objectOf(content).sha256, content);
    t.is((await pushLfs(place, objects, { remote: 'origin' }))[0]!.outcome, 'present');

    await sandbox.git(['clone', '-q', source.dir, 'target'], { env: { GIT2DB_SKIP_SMUDGE: '1' } });
    const target = await sandbox.at(sandbox.path('target'));
    await target.git(['remote', 'set-url', 'origin', url]);
    const reading = placeOf(sandbox, target, { env });
    const asked = hub.cas.asked.length;
    const fetched = await fetchLfs(reading, objects);
    t.deepEqual(
      fetched.map(({ outcome, error }) => [outcome, error?.message]),
      [
        ['moved', undefined],
        ['moved', undefined],
      ],
    );
    t.true(hub.cas.asked.slice(asked).some(({ path }) => path.includes('/reconstructions/')));
    t.is(hub.server.count('GET', /^\/objects\//), 0, 'nothing came whole');
    assertNothingIncoming(t, target.store);
    const store = new LocalStore(target.store);
    for (const { sha256 } of objects) t.is(store.findSha256(sha256).length, 1);
    store.close();
    // Neither token went where it does not belong.
    t.true(hub.cas.asked.every(({ headers }) => !String(headers.authorization).includes(HUB_TOKEN)));
    t.true(hub.server.requests.every(({ headers }) => headers.authorization === `Bearer ${HUB_TOKEN}`));
  },
);

function uploaded(cas: CasServer): number {
  return cas.asked
    .filter(({ method, path }) => method === 'POST' && path.includes('/xorbs/'))
    .reduce((sum, { bodyBytes }) => sum + bodyBytes, 0);
}

test.serial(
  'a token of the batch answer that has expired is renewed at href, and one that the CAS refuses too',
  async (t) => {
    const hub = await startHub(t);
    hub.lifetime = -5;
    const sandbox = createLfsSandbox(t);
    const env = { ...sandbox.env, HF_ENDPOINT: hub.server.origin, HF_TOKEN: HUB_TOKEN };
    const source = await lfsRepository(sandbox, 'source');
    const content = randomBytes(10, 300_000);
    source.write('a.bin', content);
    await source.commit('a');
    const place = placeOf(sandbox, source, { env });
    const [outcome] = await pushLfs(place, [objectOf(content)], { remote: `${hub.server.origin}/me/model` });
    t.is(outcome!.outcome, 'moved', outcome!.error?.message);
    t.true(hub.tokens >= 1);
  },
);

test.serial(
  'a Hub that lies about a file hash is found out by the SHA-256, and the content comes whole',
  async (t) => {
    const hub = await startHub(t);
    const sandbox = createLfsSandbox(t);
    const env = { ...sandbox.env, HF_ENDPOINT: hub.server.origin, HF_TOKEN: HUB_TOKEN };
    const source = await lfsRepository(sandbox, 'source');
    await source.git(['remote', 'add', 'origin', `${hub.server.origin}/me/model`]);
    const right = randomBytes(20, 200_000);
    const other = randomBytes(21, 200_000);
    source.write('right.bin', right);
    source.write('other.bin', other);
    await source.commit('files');
    await pushLfs(placeOf(sandbox, source, { env }), [objectOf(right), objectOf(other)], {
      remote: 'origin',
    });
    for (const content of [right, other]) hub.server.objects.set(objectOf(content).sha256, content);
    // Both paths lead to the other's chunks.
    paths.set(objectOf(right).sha256, 'right.bin');
    const lie = [...hub.cas.files.values()].find(({ sha256 }) => sha256 === objectOf(other).sha256)!;
    const truth = [...hub.cas.files].find(([, { sha256 }]) => sha256 === objectOf(right).sha256)![0];
    hub.cas.files.delete(truth);
    hub.cas.files.set(formatHash(lie.fileHash), { ...lie, sha256: objectOf(right).sha256 });

    await sandbox.git(['clone', '-q', source.dir, 'target'], { env: { GIT2DB_SKIP_SMUDGE: '1' } });
    const target = await sandbox.at(sandbox.path('target'));
    await target.git(['remote', 'set-url', 'origin', `${hub.server.origin}/me/model`]);
    const warnings: string[] = [];
    const [outcome] = await fetchLfs(placeOf(sandbox, target, { env }), [objectOf(right)], {
      warn: (message) => warnings.push(message),
    });
    t.is(outcome!.outcome, 'moved', outcome!.error?.message);
    t.is(hub.server.count('GET', /^\/objects\//), 1);
    t.regex(warnings.join('\n'), new RegExp(objectOf(right).sha256));
    const store = new LocalStore(target.store);
    const [found] = store.findSha256(objectOf(right).sha256);
    t.not(formatHash(found!), formatHash(lie.fileHash));
    store.close();
  },
);

test.serial('HubRemote sends, tells what is missing, and fetches by file hash', async (t) => {
  const hub = await startHub(t);
  const sandbox = createLfsSandbox(t);
  const env = { ...sandbox.env, HF_ENDPOINT: hub.server.origin, HF_TOKEN: HUB_TOKEN };
  const source = await lfsRepository(sandbox, 'source');
  const content = randomBytes(30, 400_000);
  source.write('a.xet', content);
  await source.commit('stored without a SHA-256');
  const { hash } = JSON.parse(await source.text(['show', 'HEAD:a.xet'])) as { hash: string };
  const place = placeOf(sandbox, source, { env });
  const wanted = { operation: 'upload', remote: `${hub.server.origin}/me/model` } as const;
  const open = async () => new HubRemote(place, await connect(place, await locate(place, wanted), wanted));
  const local = new LocalStore(source.store);
  const file =
    [...local.catalog.tables()].length > 0
      ? { hash: Buffer.from(fromString(hash)), size: content.length }
      : undefined;
  await using remote = await open();
  const sent = await remote.send(local, [file!]);
  t.is(sent.files[0]!.outcome, 'moved', sent.files[0]!.error?.message);
  t.deepEqual(
    [...hub.cas.files.values()].map(({ sha256 }) => sha256),
    [objectOf(content).sha256],
  );
  const named = { ...file!, sha256: objectOf(content).sha256 };
  t.is((await remote.missing([named])).length, 1, 'the Hub has not heard of it yet');
  hub.server.objects.set(named.sha256, content);
  t.deepEqual(await remote.missing([named]), []);
  local.close();
  const target = await lfsRepository(sandbox, 'target');
  const result = await remote.fetch(new LocalStore(target.store), [file!], { writer: { fsync: 'none' } });
  t.is(result.files[0]!.outcome, 'moved', result.files[0]!.error?.message);
});

function fromString(hash: string): Uint8Array {
  const words = hash.match(/.{16}/g)!;
  return Buffer.concat(words.map((word) => Buffer.from(word, 'hex').reverse()));
}

test.serial('which URLs are of the Hub', (t) => {
  t.true(isHubUrl('https://huggingface.co/me/model', {}));
  t.true(isHubUrl('https://hf.co/me/model.git', {}));
  t.true(isHubUrl('https://me:token@huggingface.co/me/model', {}));
  for (const url of [
    'http://huggingface.co/me/model',
    'https://huggingface.co.example.org/me/model',
    'https://example.org/huggingface.co/x',
    'https://huggingface.co:444/me/model',
    'git@huggingface.co:me/model',
  ]) {
    t.false(isHubUrl(url, {}), url);
  }
  t.true(isHubUrl('http://127.0.0.1:5/me/model', { HF_ENDPOINT: 'http://127.0.0.1:5' }));
  t.is(hubOrigin({ HF_ENDPOINT: 'nonsense' }), 'https://huggingface.co');
  t.like(hubRepository('https://hf.co/datasets/me/data.git/info/lfs', {}), {
    origin: 'https://huggingface.co',
    type: 'datasets',
    name: 'me/data',
  });
  t.is(hubRepository('https://huggingface.co/me', {}), undefined);
  t.is(hubRepository('https://huggingface.co/a/b/c', {}), undefined);
});
