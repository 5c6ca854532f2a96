import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { fetchLfs } from '../../src/lfs/fetch.ts';
import type { LfsOutcome } from '../../src/lfs/objects.ts';
import { pushLfs } from '../../src/lfs/push.ts';
import { LocalStore } from '../../src/xet/store/local-store.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import {
  assertClean,
  assertNothingIncoming,
  randomBytes,
  type XetRepository,
} from '../helpers/xet-sandbox.ts';
import {
  createLfsSandbox,
  GIT_LFS_DRIVER,
  HAS_GIT_LFS,
  lfsRepository,
  objectOf,
  placeOf,
  pointerOf,
} from './lfs-sandbox.ts';
import { startLfsServer } from './lfs-server.ts';

isolateProcess();

const withGitLfs = HAS_GIT_LFS ? test.serial : test.skip;
const reason = HAS_GIT_LFS ? '' : ' (skipped: git-lfs is not installed)';

function errorsOf(outcomes: readonly LfsOutcome[]): (string | undefined)[] {
  return outcomes.map(({ error }) => error?.code);
}

test.serial(
  'what is pushed to an LFS server comes back from it, each object once, the small ones and the large',
  async (t) => {
    const server = await startLfsServer(t);
    const sandbox = createLfsSandbox(t, { 'lfs.url': server.url });
    const source = await lfsRepository(sandbox, 'source');
    const contents = [randomBytes(1, 3_000_000), randomBytes(2, 500), Buffer.from('x')];
    for (const [i, content] of contents.entries()) source.write(`f${i}.bin`, content);
    await source.commit('files');
    t.is(await source.text(['show', 'HEAD:f0.bin']), pointerOf(contents[0]!).trimEnd());
    const objects = contents.map(objectOf);

    const pushed = await pushLfs(placeOf(sandbox, source), objects, { remote: '/nowhere' });
    t.deepEqual(
      pushed,
      objects.map((object) => ({ ...object, outcome: 'moved' })),
    );
    t.is(server.objects.size, 3);
    t.is(server.count('POST', /batch$/), 1);
    t.is(server.count('POST', /verify$/), 3);
    const again = await pushLfs(placeOf(sandbox, source), objects, { remote: '/nowhere' });
    t.deepEqual(
      again.map(({ outcome }) => outcome),
      ['present', 'present', 'present'],
    );
    t.is(server.count('PUT', /./), 3);

    const target = await lfsRepository(sandbox, 'target');
    await sandbox.git(['remote', 'add', 'origin', '/nowhere'], { cwd: target.dir });
    const told: LfsOutcome[] = [];
    const fetched = await fetchLfs(placeOf(sandbox, target), objects, {
      onFile: (outcome) => told.push(outcome),
    });
    t.deepEqual(
      fetched.map(({ outcome }) => outcome),
      ['moved', 'moved', 'moved'],
    );
    t.is(told.length, 3);
    assertNothingIncoming(t, target.store);
    t.is(server.count('GET', /objects/), 3);
    const gets = server.requests.length;
    t.deepEqual(
      (await fetchLfs(placeOf(sandbox, target), objects)).map(({ outcome }) => outcome),
      ['present', 'present', 'present'],
    );
    t.is(server.requests.length, gets, 'nobody was asked');
    // The filter finds them now.
    const store = new LocalStore(target.store);
    for (const { sha256 } of objects) t.is(store.findSha256(sha256).length, 1);
    store.close();
  },
);

withGitLfs(`git-lfs reads what we pushed, and we what it pushed${reason}`, async (t) => {
  const server = await startLfsServer(t);
  const sandbox = createLfsSandbox(t, { 'lfs.url': server.url });
  const theirs = { env: Object.fromEntries(gitConfigEnv(GIT_LFS_DRIVER)) };
  await sandbox.git(['init', '-q', '--bare', 'hub.git']);
  const ours = await lfsRepository(sandbox, 'ours');
  const content = randomBytes(3, 2_500_000);
  ours.write('a.bin', content);
  ours.write('empty.bin', '');
  await ours.commit('ours');
  await ours.git(['remote', 'add', 'origin', sandbox.path('hub.git')]);
  const [outcome] = await pushLfs(placeOf(sandbox, ours), [objectOf(content)], { remote: 'origin' });
  t.is(outcome!.outcome, 'moved');
  await ours.git(['push', '-q', 'origin', 'main']);

  await sandbox.git(['clone', '-q', 'hub.git', 'clone'], theirs);
  const clone = await sandbox.at(sandbox.path('clone'));
  t.true(readFileSync(clone.path('a.bin')).equals(content));
  t.is((await sandbox.git(['status', '--porcelain'], { cwd: clone.dir, ...theirs })).stdout, '');
  t.regex((await sandbox.git(['lfs', 'fsck'], { cwd: clone.dir, ...theirs })).stdout, /fsck OK/);
  t.regex(
    (await sandbox.git(['lfs', 'ls-files'], { cwd: clone.dir, ...theirs })).stdout,
    /^[0-9a-f]{10} \* a\.bin$/m,
  );

  const second = randomBytes(4, 1_700_000);
  clone.write('b.bin', second);
  await sandbox.git(['add', '.'], { cwd: clone.dir, ...theirs });
  await sandbox.git(['commit', '-q', '-m', 'theirs'], { cwd: clone.dir, ...theirs });
  await sandbox.git(['lfs', 'push', 'origin', 'main'], { cwd: clone.dir, ...theirs });
  await sandbox.git(['push', '-q', 'origin', 'main'], { cwd: clone.dir, ...theirs });
  await ours.git(['fetch', '-q', 'origin']);
  const [fetched] = await fetchLfs(placeOf(sandbox, ours), [objectOf(second)], { remote: 'origin' });
  t.is(fetched!.outcome, 'moved');
  await ours.git(['merge', '-q', '--ff-only', 'origin/main']);
  await assertClean(t, ours, [
    ['a.bin', content],
    ['b.bin', second],
    ['empty.bin', ''],
  ]);
});

/** Settings that a run of git has on top of all others. */
function gitConfigEnv(settings: Readonly<Record<string, string>>): [string, string][] {
  const entries = Object.entries(settings);
  return [
    ['GIT_CONFIG_COUNT', String(entries.length)],
    ...entries.flatMap(([key, value], i): [string, string][] => [
      [`GIT_CONFIG_KEY_${i}`, key],
      [`GIT_CONFIG_VALUE_${i}`, value],
    ]),
  ];
}

test.serial(
  'a download that breaks off goes on where it ended, and a later run takes up what an earlier one left',
  async (t) => {
    const server = await startLfsServer(t);
    const { sandbox, target } = await fetching(t, server.url);
    const content = randomBytes(5, 3_000_000);
    const object = objectOf(content);
    server.objects.set(object.sha256, content);
    let breaks = 2;
    server.intercept = ({ method, headers }, response) => {
      if (method !== 'GET' || breaks === 0) return false;
      breaks--;
      const start = Number(/\d+/.exec(headers.range ?? '')?.[0] ?? 0);
      const range =
        start === 0 ? {} : { 'Content-Range': `bytes ${start}-${content.length - 1}/${content.length}` };
      response.writeHead(start === 0 ? 200 : 206, { 'Content-Length': content.length - start, ...range });
      response.write(content.subarray(start, start + 1_000_000), () => response.destroy());
      return true;
    };
    const [outcome] = await fetchLfs(placeOf(sandbox, target), [object]);
    t.is(outcome!.outcome, 'moved', outcome!.error?.message);
    const starts = server.requests
      .filter(({ method }) => method === 'GET')
      .map(({ headers }) => headers.range);
    t.is(starts.length, 3);
    t.is(starts[0], undefined);
    t.true(
      starts.slice(1).every((range) => /^bytes=[1-9]\d*-$/.test(range!)),
      String(starts),
    );
    t.deepEqual(readdirSync(target.path('.git/lfs/git2db-incomplete')), []);

    // What a run that was killed has left, and what is not what it seems to be.
    const second = randomBytes(6, 2_000_000);
    server.objects.set(objectOf(second).sha256, second);
    const part = target.path('.git/lfs/git2db-incomplete', `${objectOf(second).sha256}.999999.part`);
    writeFileSync(part, second.subarray(0, 1_500_000));
    t.is((await fetchLfs(placeOf(sandbox, target), [objectOf(second)]))[0]!.outcome, 'moved');
    t.is(server.requests.at(-1)!.headers.range, 'bytes=1500000-');
    const third = randomBytes(7, 2_000_000);
    server.objects.set(objectOf(third).sha256, third);
    writeFileSync(part.replace(/[^/]*$/, `${objectOf(third).sha256}.part`), randomBytes(8, 1_500_000));
    t.is((await fetchLfs(placeOf(sandbox, target), [objectOf(third)]))[0]!.outcome, 'moved');
    t.deepEqual(readdirSync(target.path('.git/lfs/git2db-incomplete')), []);
  },
);

async function fetching(
  t: Parameters<typeof startLfsServer>[0],
  url: string,
  config: Record<string, string> = {},
) {
  const sandbox = createLfsSandbox(t, { 'lfs.url': url, ...config });
  const target = await lfsRepository(sandbox, 'target');
  await target.git(['remote', 'add', 'origin', '/nowhere']);
  return { sandbox, target };
}

test.serial('wrong bytes, too many and too few, and refusals fail one object and nothing else', async (t) => {
  const server = await startLfsServer(t);
  const { sandbox, target } = await fetching(t, server.url);
  const good = randomBytes(10, 1000);
  const wrong = objectOf(randomBytes(11, 2_000_000));
  const long = objectOf(randomBytes(12, 1000));
  const absent = objectOf(randomBytes(13, 1000));
  const refused = objectOf(randomBytes(14, 1000));
  server.objects.set(objectOf(good).sha256, good);
  server.objects.set(wrong.sha256, randomBytes(15, wrong.size));
  server.objects.set(long.sha256, randomBytes(12, 1001));
  server.batch = (answer) => {
    for (const object of answer.objects) {
      if (object.oid !== refused.sha256) continue;
      object.error = { code: 403, message: 'not\u001b[2J for you' };
      delete object.actions;
    }
    return answer;
  };
  const outcomes = await fetchLfs(placeOf(sandbox, target), [wrong, long, absent, refused, objectOf(good)]);
  t.deepEqual(errorsOf(outcomes), [
    'CONTENT_DAMAGED',
    'REMOTE_INVALID',
    'CONTENT_MISSING',
    'REMOTE_FORBIDDEN',
    undefined,
  ]);
  t.false(outcomes[3]!.error!.message.includes('\u001b'));
  const store = new LocalStore(target.store);
  for (const { sha256 } of [wrong, long, absent, refused]) t.deepEqual(store.findSha256(sha256), []);
  store.close();
  t.deepEqual(readdirSync(target.path('.git/lfs/git2db-incomplete')), []);
});

test.serial(
  'batch answers that break the protocol are refused before anything is asked elsewhere',
  async (t) => {
    const server = await startLfsServer(t);
    const { sandbox, target } = await fetching(t, server.url);
    const content = randomBytes(20, 1000);
    const object = objectOf(content);
    server.objects.set(object.sha256, content);
    const action = (href: string, header: Record<string, string> = {}) => ({
      transfer: 'basic',
      objects: [{ oid: object.sha256, size: object.size, actions: { download: { href, header } } }],
    });
    const answers: [unknown, string][] = [
      [[], 'REMOTE_INVALID'],
      [{ transfer: 'multipart', objects: [] }, 'REMOTE_INVALID'],
      [{ transfer: 'xet', objects: [] }, 'REMOTE_INVALID'],
      [{ objects: 'none' }, 'REMOTE_INVALID'],
      [{ objects: [] }, 'CONTENT_MISSING'],
      [{ objects: [{ oid: '../../../../etc/passwd', size: 3 }] }, 'CONTENT_MISSING'],
      [{ objects: [{ oid: object.sha256, size: 7, actions: {} }] }, 'REMOTE_INVALID'],
      [action('file:///etc/passwd'), 'REMOTE_INVALID'],
      [action('/objects/x'), 'REMOTE_INVALID'],
      [action(`${server.origin}/objects/x`, { 'X-A': 'b\r\nX-Evil: 1' }), 'REMOTE_INVALID'],
      [action(`${server.origin}/objects/x`, { 'X A': 'b' }), 'REMOTE_INVALID'],
    ];
    for (const [answer, code] of answers) {
      server.batch = () => answer;
      const [outcome] = await fetchLfs(placeOf(sandbox, target), [object]);
      t.is(outcome!.error?.code, code as never, JSON.stringify(answer));
    }
    t.is(server.count('GET', /./), 0);
  },
);

test.serial('credentials come from git and go to their own authority alone', async (t) => {
  const server = await startLfsServer(t);
  const elsewhere = await startLfsServer(t);
  const helper = '!f() { test "$1" = get && printf "username=me\\npassword=secret\\n"; }; f';
  const { sandbox, target } = await fetching(t, server.url, { 'credential.helper': helper });
  const content = randomBytes(30, 1000);
  const object = objectOf(content);
  server.login = 'me:secret';
  elsewhere.objects.set(object.sha256, content);
  server.batch = () => ({
    transfer: 'basic',
    objects: [
      {
        oid: object.sha256,
        size: object.size,
        actions: {
          download: {
            href: `${elsewhere.origin}/objects/${object.sha256}`,
            header: { 'X-Ticket': 'for-this' },
          },
        },
      },
    ],
  });
  const [outcome] = await fetchLfs(placeOf(sandbox, target), [object]);
  t.is(outcome!.outcome, 'moved', outcome!.error?.message);
  t.is(server.requests.at(-1)!.headers.authorization, `Basic ${Buffer.from('me:secret').toString('base64')}`);
  t.is(elsewhere.requests[0]!.headers.authorization, undefined);

  // A redirect to another authority gets neither our credentials nor the action's headers.
  const other = randomBytes(31, 1000);
  elsewhere.objects.set(objectOf(other).sha256, other);
  server.objects.set(objectOf(other).sha256, other);
  server.batch = undefined;
  server.intercept = ({ path }, response) => {
    if (!path.startsWith('/objects/')) return false;
    response.writeHead(302, { Location: `${elsewhere.origin}${path}` }).end();
    return true;
  };
  const [redirected] = await fetchLfs(placeOf(sandbox, target), [objectOf(other)]);
  t.is(redirected!.error?.code, 'REMOTE_FORBIDDEN');
  const { headers } = elsewhere.requests.at(-1)!;
  t.is(headers['x-ticket'], undefined);
  t.is(headers.authorization, undefined);

  server.login = 'me:other';
  const [refused] = await fetchLfs(placeOf(sandbox, target), [objectOf(randomBytes(32, 10))]);
  t.is(refused!.error?.code, 'AUTH_FAILED');
  t.false(refused!.error!.message.includes('secret'));
});

test.serial(
  'a pushed object that neither side has fails the push; one that only the server has does not',
  async (t) => {
    const server = await startLfsServer(t);
    const { sandbox, target } = await fetching(t, server.url);
    const there = randomBytes(40, 100);
    server.objects.set(objectOf(there).sha256, there);
    const nowhere = objectOf(randomBytes(41, 100));
    const outcomes = await pushLfs(placeOf(sandbox, target), [objectOf(there), nowhere], {
      remote: 'origin',
    });
    t.deepEqual(
      outcomes.map(({ outcome }) => outcome),
      ['present', 'failed'],
    );
    t.is(outcomes[1]!.error!.code, 'CONTENT_MISSING');
    t.regex(outcomes[1]!.error!.message, /pointer to nothing|leave a pointer/);
  },
);

test.serial("what is in git-lfs's own store is pushed and taken over, unless it is damaged", async (t) => {
  const server = await startLfsServer(t);
  const { sandbox, target } = await fetching(t, server.url);
  const whole = randomBytes(50, 1_200_000);
  const damaged = randomBytes(51, 1000);
  putLfsObject(target, objectOf(whole).sha256, whole);
  putLfsObject(target, objectOf(damaged).sha256, randomBytes(52, 1000));
  const objects = [objectOf(whole), objectOf(damaged)];
  const warnings: string[] = [];
  const outcomes = await pushLfs(placeOf(sandbox, target), objects, {
    remote: 'origin',
    warn: (message) => warnings.push(message),
  });
  t.deepEqual(errorsOf(outcomes), [undefined, 'CONTENT_MISSING']);
  t.true(server.objects.get(objectOf(whole).sha256)!.equals(whole));
  t.regex(warnings.join(), /is not what its name says/);
  server.objects.set(objectOf(damaged).sha256, damaged);
  const fetched = await fetchLfs(placeOf(sandbox, target), objects);
  t.deepEqual(
    fetched.map(({ outcome }) => outcome),
    ['present', 'moved'],
  );
});

function putLfsObject(repository: XetRepository, sha256: string, content: Uint8Array): void {
  const directory = repository.path('.git/lfs/objects', sha256.slice(0, 2), sha256.slice(2, 4));
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, sha256), content);
}

test.serial(
  'a dead server, and none at all, say what is wrong and leave the repository as it is',
  async (t) => {
    const sandbox = createLfsSandbox(t, { 'lfs.url': 'http://127.0.0.1:1/x' });
    const target = await lfsRepository(sandbox, 'target');
    const object = objectOf(randomBytes(60, 100));
    const place = placeOf(sandbox, target);
    t.deepEqual(errorsOf(await fetchLfs(place, [object])), ['REMOTE_MISSING']);
    await target.git(['remote', 'add', 'origin', sandbox.path('nothing')]);
    await target.git(['config', 'lfs.url', sandbox.path('nothing')]);
    t.deepEqual(errorsOf(await fetchLfs(place, [object])), ['CONTENT_MISSING']);
    t.deepEqual(errorsOf(await pushLfs(place, [object], { remote: 'origin' })), ['REMOTE_MISSING']);
    t.false(existsSync(target.store) && readdirSync(join(target.store, 'incoming')).length > 0);
  },
);
