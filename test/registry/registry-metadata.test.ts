import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import {
  decodeMetadata,
  emptyMetadata,
  encodeMetadata,
  type RepositoryRecord,
  unknownKeys,
} from '../../src/registry/metadata.ts';
import { RepoId } from '../../src/registry/repo-id.ts';
import { FormatError, Git2dbError } from '../../src/xet/errors.ts';
import { createRegistrySandbox, metadataOf, until } from './registry-sandbox.ts';

const PLACE = { file: '/r/.git2db/metadata.json', root: '/r' };
const ID = '0190163d-8694-739b-aea5-966c26f8ad91';

function record(name: string, over: Partial<RepositoryRecord> = {}): RepositoryRecord {
  return {
    id: RepoId.create(),
    name,
    url: undefined,
    path: `repos/${name}`,
    adopted: false,
    bare: false,
    trusted: false,
    trackingRef: undefined,
    createdAt: '2026-01-02T03:04:05.678Z',
    updatedAt: '2026-01-02T03:04:05.678Z',
    metadata: {},
    ...over,
  };
}

function text(repositories: unknown, head: Record<string, unknown> = {}): string {
  return JSON.stringify({ version: 1, registryId: ID, root: '/r', generation: 3, repositories, ...head });
}

const line = { id: ID, name: 'a', path: 'repos/a', createdAt: '2026', updatedAt: '2026' };

test('what is written is read again, whatever the texts in it', (t) => {
  const word = fc.string({ unit: 'binary', maxLength: 12 });
  const repository = fc.record({
    url: fc.option(word, { nil: undefined }),
    key: word,
    value: word,
    adopted: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(repository, { maxLength: 5 }), (list) => {
      const repositories = list.map(({ url, key, value, adopted }, index) =>
        record(`name-${index}`, {
          url,
          metadata: Object.fromEntries([[key, value]]),
          ...(adopted ? { adopted, path: '/elsewhere' } : {}),
        }),
      );
      const metadata = { ...emptyMetadata('/r'), repositories, generation: 7, transaction: 'abc' };
      const bytes = encodeMetadata(metadata);
      const decoded = decodeMetadata(bytes, PLACE);
      t.is(decoded.version, 1);
      t.deepEqual(decoded.metadata, metadata);
      t.deepEqual(encodeMetadata(decoded.metadata), bytes);
    }),
  );
});

test('keys of a newer writer are kept, in the whole and in each repository', (t) => {
  const later = { ...line, future: { deep: [1, 2] } };
  const given = text([later], { futureToo: 'x' }).replace('"deep"', '"__proto__":{"polluted":true},"deep"');
  const { metadata } = decodeMetadata(Buffer.from(given), PLACE);
  const changed = {
    ...metadata,
    repositories: metadata.repositories.map((each) => ({ ...each, name: 'b' })),
  };
  const again = JSON.parse(encodeMetadata(changed).toString('utf8'));
  t.is(again.futureToo, 'x');
  t.deepEqual(again.repositories[0].future.deep, [1, 2]);
  t.regex(encodeMetadata(changed).toString('utf8'), /"__proto__":\{"polluted":true\}/);
  t.is(again.repositories[0].name, 'b');
  t.is(({} as { polluted?: unknown }).polluted, undefined);
  t.truthy(metadata[unknownKeys]);
});

test('a broken file is one error with line and byte, and says what to do', (t) => {
  const cases: readonly (readonly [string, RegExp, number?])[] = [
    ['', /line 1, column 1 \(byte 0\)/],
    ['{"version":1', /expected JSON/, 12],
    ['{"version":1,}', /expected JSON/, 13],
    ['null', /expected an object/],
    ['[]', /expected an object/],
    ['{}', /version: expected a number that counts, found nothing/],
    ['{"version":-1}', /version: expected a number that counts, found -1/, 11],
    ['{"version":"1"}', /version/],
    [text({}), /repositories: expected an array/],
    [text([null]), /repositories\[0\]: expected an object, found null/],
    [text([line], { registryId: 'x' }), /registryId: expected a UUID/],
    [text([line], { root: 'x' }), /root: expected an absolute path/],
    [text([line], { generation: 1.5 }), /generation/],
    [text([{ ...line, id: 'x' }]), /repositories\[0\]\.id: expected a UUID, found "x"/],
    [text([{ ...line, name: '../x' }]), /repositories\[0\]\.name: the name/],
    [text([{ ...line, path: '../../etc' }]), /repositories\[0\]\.path: expected repos\/<name>/],
    [text([{ ...line, path: '/etc' }]), /path: expected repos/],
    [text([{ ...line, path: 'repos/../.git2db' }]), /path/],
    [text([{ ...line, path: 'repos/a', adopted: true }]), /path: expected an absolute path/],
    [text([{ ...line, adopted: 1 }]), /adopted: expected true or false, found 1/],
    [text([{ ...line, url: 5 }]), /url: expected a string, found 5/],
    [text([{ ...line, metadata: { a: 1 } }]), /metadata\.a: expected a string/],
    [
      text([line, { ...line, name: 'b', path: 'repos/b' }]),
      /repositories\[1\]: two repositories have the id/,
    ],
    [text([line, { ...line, id: RepoId.create() }]), /two repositories have the name a/],
    ['[[[['.repeat(20_000), /expected JSON/],
  ];
  for (const [given, message, offset] of cases) {
    const error = t.throws(
      () => decodeMetadata(Buffer.from(given), PLACE),
      { instanceOf: FormatError },
      given.slice(0, 80),
    );
    t.is(error?.code, 'REGISTRY_INVALID');
    t.regex(error?.message ?? '', message);
    t.regex(
      error?.message ?? '',
      /^\/r\/\.git2db\/metadata\.json is broken at line \d+, column \d+ \(byte \d+\)/,
    );
    t.regex(error?.message ?? '', /git2db repair/);
    if (offset !== undefined) t.is(error?.offset, offset, given);
  }
  const latin = t.throws(() => decodeMetadata(Buffer.from('{"version":1,"x":"\xff"}', 'latin1'), PLACE));
  t.regex(latin?.message ?? '', /byte 18\): expected UTF-8/);
});

test('the line and column of a fault are where it is', (t) => {
  const lines = encodeMetadata({
    ...emptyMetadata('/r'),
    repositories: [record('aé'), record('b'), record('c')],
  })
    .toString('utf8')
    .split('\n');
  lines[2] = lines[2]!.replace('"name":"b"', '"name":"-b"');
  const error = t.throws(() => decodeMetadata(Buffer.from(lines.join('\n')), PLACE), {
    instanceOf: FormatError,
  });
  t.is(error?.data.line, 3);
  t.is(error?.data.column, lines[2].indexOf('"-b"') + 1);
  t.is(error?.offset, Buffer.byteLength(`${lines[0]}\n${lines[1]}\n`) + lines[2].indexOf('"-b"'));
});

test('cut off or changed at any byte, the file is a typed error or metadata, and never something else', (t) => {
  const whole = encodeMetadata({ ...emptyMetadata('/r'), repositories: [record('a'), record('b/c')] });
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.boolean(), (at, byte, cut) => {
      const bytes = cut ? whole.subarray(0, at) : Buffer.from(whole);
      if (!cut) bytes[at] = byte;
      try {
        t.is(decodeMetadata(bytes, PLACE).metadata.repositories.length, 2);
      } catch (error) {
        t.true(error instanceof Git2dbError && error.code === 'REGISTRY_INVALID', String(error));
      }
    }),
    { numRuns: 1500 },
  );
});

test('a file of a newer version is refused, and stays as it is', async (t) => {
  const sandbox = createRegistrySandbox(t);
  await sandbox.open();
  const file = join(sandbox.root, '.git2db', 'metadata.json');
  const newer = `${JSON.stringify({ version: 2, anything: true })}\n`;
  writeFileSync(file, newer);
  for (const attempt of [() => sandbox.open(), () => sandbox.open({ readOnly: true })]) {
    const error = await t.throwsAsync(attempt, { instanceOf: Git2dbError });
    t.is(error?.code, 'REGISTRY_INVALID');
    t.regex(error?.message ?? '', /version 2; this git2db knows version 1/);
  }
  t.is(readFileSync(file, 'utf8'), newer);
});

const VERSION_0 = (root: string) => ({
  version: 0,
  note: 'kept',
  repositories: {
    '6f1f4d4e-5f83-4f4e-9c9a-1f0d3c7b2a10': {
      name: 'org/model',
      url: 'https://alice:s3cret@example.com/org/model.git',
      path: `${root}/repos/org/model`,
      trackingRef: 'origin/main',
      createdAt: '2024-05-06T07:08:09.000Z',
      metadata: { owner: 'alice' },
      color: 'blue',
    },
    '6f1f4d4e-5f83-4f4e-9c9a-1f0d3c7b2a11': { path: '/srv/elsewhere' },
  },
});

test('a registry of version 0 is upgraded when it is opened, without its secrets, and keeps its new id', async (t) => {
  const sandbox = createRegistrySandbox(t);
  mkdirSync(join(sandbox.root, '.git2db'), { recursive: true, mode: 0o700 });
  const file = join(sandbox.root, '.git2db', 'metadata.json');
  writeFileSync(file, JSON.stringify(VERSION_0(sandbox.root)));
  const registry = await sandbox.open();
  const { id } = registry;
  t.is(metadataOf(sandbox.root).version, 1);
  t.is(metadataOf(sandbox.root).note, 'kept');
  t.like(registry.get('org/model'), {
    id: '6f1f4d4e-5f83-4f4e-9c9a-1f0d3c7b2a10' as RepoId,
    url: 'https://example.com/org/model.git',
    path: 'repos/org/model',
    adopted: false,
    trackingRef: 'origin/main',
    createdAt: '2024-05-06T07:08:09.000Z',
    metadata: { owner: 'alice' },
  });
  t.like(registry.get('6f1f4d4e-5f83-4f4e-9c9a-1f0d3c7b2a11'), {
    name: 'repository-6f1f4d4e',
    path: '/srv/elsewhere',
    adopted: true,
    url: undefined,
  });
  t.is(metadataOf(sandbox.root).repositories[0]?.color, 'blue');
  t.false(readFileSync(file, 'utf8').includes('s3cret'));
  t.is(statSync(file).mode & 0o777, 0o600);
  const again = await sandbox.open();
  t.is(again.id, id);
});

test('the file is private, its directory too, whatever the umask', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const old = process.umask();
  t.teardown(() => process.umask(old));
  process.umask(0);
  const registry = await sandbox.open();
  await registry.register({ path: await sandbox.repository('a') });
  for (const file of ['metadata.json', 'metadata.previous.json']) {
    t.is(statSync(join(sandbox.root, '.git2db', file)).mode & 0o777, 0o600, file);
  }
  t.is(statSync(join(sandbox.root, '.git2db')).mode & 0o777, 0o700);
  process.umask(0o077);
  await registry.update('a', { trusted: true });
  t.is(statSync(join(sandbox.root, '.git2db', 'metadata.json')).mode & 0o777, 0o600);
});

test('a look-up sees what another has written at its next call, and a broken file is told of, not overwritten', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const one = await sandbox.open();
  const other = await sandbox.open();
  const path = await sandbox.repository('a');
  const { id } = await one.register({ path });
  t.is(other.get('a').id, id);
  // Changes of the same size, one after the other, as fast as they go.
  for (let number = 10; number < 40; number++) {
    await one.update(id, { metadata: { n: String(number) } });
    t.is(other.get(id).metadata.n, String(number));
  }
  const file = join(sandbox.root, '.git2db', 'metadata.json');
  const broken = readFileSync(file, 'utf8').slice(0, -10);
  writeFileSync(file, broken);
  for (const attempt of [
    () => other.get(id),
    () => other.list(),
    () => one.update(id, { trusted: true }),
    () => one.register({ path, name: 'b' }),
    () => sandbox.open(),
    () => one.remove(id),
  ]) {
    const error = await t.throwsAsync(async () => attempt(), { instanceOf: Git2dbError });
    t.is(error?.code, 'REGISTRY_INVALID');
  }
  t.is(readFileSync(file, 'utf8'), broken);
});

test('a disk that cannot be written to leaves the registry as it was', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const { id } = await registry.register({ path: await sandbox.repository('a') });
  const before = readFileSync(join(sandbox.root, '.git2db', 'metadata.json'));
  // A directory stands where the new file would be written: root too cannot write there.
  mkdirSync(join(sandbox.root, '.git2db', 'metadata.json.new', 'in-the-way'), { recursive: true });
  const error = await t.throwsAsync(registry.update(id, { trusted: true }), { instanceOf: Git2dbError });
  t.is(error?.code, 'STORE_UNWRITABLE');
  t.regex(error?.message ?? '', /The registry is as it was/);
  t.deepEqual(readFileSync(join(sandbox.root, '.git2db', 'metadata.json')), before);
  t.false(registry.get(id).trusted);
});

test('metadata that have vanished are not taken for a new registry', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  await registry.register({ path: await sandbox.repository('a') });
  await sandbox.run('rm', [join(sandbox.root, '.git2db', 'metadata.json')]);
  t.throws(() => registry.list(), { message: /metadata\.json is missing.*git2db repair/s });
  await t.throwsAsync(sandbox.open(), { message: /is missing/ });
  t.throws(() => statSync(join(sandbox.root, '.git2db', 'metadata.json')), { code: 'ENOENT' });
});

test('opening for reading only makes nothing and changes nothing', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const error = await t.throwsAsync(sandbox.open({ readOnly: true }), { instanceOf: Git2dbError });
  t.is(error?.code, 'REGISTRY_INVALID');
  t.throws(() => statSync(sandbox.root), { code: 'ENOENT' });
  const registry = await sandbox.open();
  const path = await sandbox.repository('a');
  await registry.register({ path });
  chmodSync(sandbox.root, 0o555);
  t.teardown(() => chmodSync(sandbox.root, 0o755));
  const reader = await sandbox.open({ readOnly: true });
  t.is(reader.list().length, 1);
  for (const attempt of [
    () => reader.update('a', { trusted: true }),
    () => reader.remove('a'),
    () => reader.register({ path, name: 'b' }),
    () => reader.transaction(() => {}),
  ]) {
    const refused = await t.throwsAsync(async () => attempt(), { instanceOf: Git2dbError });
    t.is(refused?.code, 'REFUSED');
  }
  t.is((await reader.remove('a', { dryRun: true })).removed, false);
});

test('changes are told as they happen, whoever makes them, until the signal', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const other = await sandbox.open();
  const ending = new AbortController();
  const events: string[] = [];
  const watching = (async () => {
    for await (const event of registry.watch({ signal: ending.signal, intervalMs: 20 })) {
      events.push(`${event.kind} ${event.record.name}`);
      if (event.kind === 'updated') t.is(event.previous.trusted, false);
    }
  })();
  const { id } = await other.register({ path: await sandbox.repository('a') });
  await until(t, 'the first event', () => events.length === 1);
  await other.update(id, { trusted: true });
  await until(t, 'the second event', () => events.length === 2);
  await other.remove(id);
  await until(t, 'the third event', () => events.length === 3);
  ending.abort();
  await watching;
  t.deepEqual(events, ['added a', 'updated a', 'removed a']);
  // biome-ignore lint/correctness/noUnusedVariables: there must be none.
  for await (const event of registry.watch({ signal: AbortSignal.abort() })) t.fail();
});

test('a watch that is told of nothing ends by its signal alone', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const ending = new AbortController();
  const events = registry.watch({ signal: ending.signal, intervalMs: 2 ** 31 - 1 })[Symbol.asyncIterator]();
  const next = events.next();
  // It waits by now: nothing but the signal can wake it.
  await new Promise((resolve) => setImmediate(resolve));
  ending.abort();
  t.deepEqual(await next, { done: true, value: undefined });
});
