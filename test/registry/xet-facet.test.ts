import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { LocalContent } from '../../src/lfs/local-content.ts';
import { filterCommand } from '../../src/registry/filter-program.ts';
import { type GitPlace, openPlace } from '../../src/registry/git-place.ts';
import { LfsFacet, XetFacet } from '../../src/registry/handles/xet.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import {
  initialize,
  isInitialized,
  sharedStorage,
  XetConfig,
  XetError,
  XetStorage,
} from '../../src/xet/index.ts';
import { formatLfsPointer } from '../../src/xet/pointer/lfs-pointer.ts';
import { createSandbox, isolateProcess } from '../helpers/git-sandbox.ts';
import {
  createXetSandbox,
  POINTER,
  randomBytes,
  type XetRepository,
  type XetSandbox,
} from '../helpers/xet-sandbox.ts';

isolateProcess();

const CONTENT = randomBytes(7, 500_000);

interface Rig {
  readonly sandbox: XetSandbox;
  readonly repository: XetRepository;
  place(path?: string, trusted?: boolean): Promise<GitPlace>;
}

async function createRig(t: ExecutionContext): Promise<Rig> {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  repository.write('large.bin', CONTENT);
  // Older than the index in any case: git, and our status, would look inside a file of the index's own second.
  const before = new Date(Date.now() - 10_000);
  utimesSync(repository.path('large.bin'), before, before);
  await repository.commit('large');
  return {
    sandbox,
    repository,
    async place(path = repository.dir, trusted = false) {
      const place = await openPlace(path, { env: { ...sandbox.env }, trusted });
      t.teardown(() => place.close());
      return place;
    },
  };
}

async function kindOf(t: ExecutionContext, promise: Promise<unknown>): Promise<string> {
  const error = await t.throwsAsync(promise, { instanceOf: XetError });
  return error.kind;
}

test('the facet tracks patterns, lists large files, and tells their state', async (t) => {
  const { repository, place } = await createRig(t);
  const facet = new XetFacet(await place());
  const tracked = await facet.track('*.model');
  t.deepEqual(tracked.patterns, [{ pattern: '*.model', change: 'added' }]);
  t.true(readFileSync(repository.path('.gitattributes'), 'utf8').includes('*.model filter=xet'));
  t.deepEqual(
    (await facet.tracked()).map(({ pattern }) => pattern.toString()),
    ['*.bin', '*.model'],
  );
  t.deepEqual((await facet.untrack(['*.model'])).removed, ['*.model']);
  const [file, ...others] = await facet.lsFiles();
  t.deepEqual(others, []);
  t.like(file, { size: CONTENT.length, workTree: 'content' });
  t.is((await facet.lsFiles({ ref: 'HEAD' })).length, 1);
  t.is((await facet.lsFiles({ ref: 'HEAD~1' })).length, 0);
  const { files } = await facet.status();
  t.deepEqual(
    files.map(({ path, state }) => [path.toString(), state]),
    [['large.bin', 'materialised']],
  );
  await t.throwsAsync(facet.lsFiles({ ref: 'nothing' }), { instanceOf: Git2dbError });
});

test('the facet puts content in the place of pointers, checks, counts and collects', async (t) => {
  const { repository, place } = await createRig(t);
  const facet = new XetFacet(await place());
  const pointer = await repository.git(['show', ':large.bin']);
  writeFileSync(repository.path('large.bin'), pointer.stdoutBytes);
  const plan = await facet.planPull();
  t.deepEqual(
    plan.available.map(({ path }) => path.toString()),
    ['large.bin'],
  );
  const { written, failed } = await facet.pull({ paths: ['large.bin'] });
  t.deepEqual([written.length, failed.length], [1, 0]);
  t.true(readFileSync(repository.path('large.bin')).equals(CONTENT));
  t.is((await facet.fsck()).lost.length, 0);
  t.is((await facet.du()).referenced.bytes, CONTENT.length);
  const report = await facet.gc();
  t.false(report.pruned);
  t.like(report.files, { kept: 1, dropped: 0 });
});

test('content is loaded by its pointer, from the store of a remote too, and a pointer is never taken for content', async (t) => {
  const { sandbox, repository, place } = await createRig(t);
  const pointer = (await repository.git(['show', ':large.bin'])).stdoutBytes;
  t.true((await new XetFacet(await place()).load(pointer)).equals(CONTENT));
  await sandbox.git(['clone', '-q', '--no-checkout', repository.dir, 'clone']);
  const clone = new XetFacet(await place(sandbox.path('clone')));
  t.true((await clone.load(pointer.toString())).equals(CONTENT));
  rmSync(repository.store, { recursive: true });
  t.true((await clone.load(pointer)).equals(CONTENT), 'it is in the store of the clone now');
  const unknown = pointer.toString().replace(/[0-9a-f]{64}/, 'ab'.repeat(32));
  for (const [text, code] of [
    [unknown, 'CONTENT_MISSING'],
    ['no pointer', 'INVALID_POINTER'],
    ['', 'INVALID_POINTER'],
    [formatLfsPointer('ab'.repeat(32), 5).toString(), 'INVALID_POINTER'],
  ] as const) {
    const error = await t.throwsAsync(clone.load(text), { instanceOf: Git2dbError });
    t.is(error.code, code, text);
  }
});

test('the filter is set up for one repository, and again without a change', async (t) => {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '-q', 'repository']);
  const place = await openPlace(sandbox.path('repository'), { env: { ...sandbox.env } });
  const facet = new XetFacet(place);
  await facet.installFilter({ store: sandbox.path('store') });
  const config = sandbox.read('repository/.git/config');
  await facet.installFilter({ store: sandbox.path('store') });
  t.deepEqual(sandbox.read('repository/.git/config'), config);
  t.is(
    await sandbox.gitText(['config', 'filter.xet.process'], { cwd: 'repository' }),
    filterCommand() ?? 'none',
  );
  await using storage = await facet.storage();
  t.is(storage.root, sandbox.path('store'));
  await place.close();
});

test('in an untrusted repository nothing that its own configuration names is run for large files', async (t) => {
  const { sandbox, repository, place } = await createRig(t);
  const canary = join(sandbox.home, 'canary');
  writeFileSync(canary, `#!/bin/sh\ntouch ${sandbox.home}/ran\n`, { mode: 0o755 });
  await repository.git(['config', 'core.fsmonitor', canary]);
  const error = await t.throwsAsync(new XetFacet(await place()).status(), { instanceOf: Git2dbError });
  t.is(error.code, 'TRUST_REQUIRED');
  t.regex(error.message, /core\.fsmonitor/);
  t.false(existsSync(join(sandbox.home, 'ran')));
  await repository.git(['config', '--unset', 'core.fsmonitor']);
  mkdirSync(join(repository.dir, '.git', 'hooks'), { recursive: true });
  writeFileSync(join(repository.dir, '.git', 'hooks', 'post-index-change'), `#!/bin/sh\n${canary}\n`, {
    mode: 0o755,
  });
  await t.throwsAsync(new XetFacet(await place()).status(), { message: /post-index-change/ });
  t.is((await new XetFacet(await place(undefined, true)).status()).files.length, 1);
  rmSync(join(repository.dir, '.git', 'hooks', 'post-index-change'));
  await repository.git(['config', 'filter.xet.process', canary]);
  const foreign = new XetFacet(await place());
  const isReplaced = await sandbox.gitText(['config', '--global', '--unset-all', 'filter.xet.process']);
  t.is(isReplaced, '');
  for (const key of ['clean', 'smudge'])
    await sandbox.git(['config', '--global', '--unset-all', `filter.xet.${key}`]);
  await t.throwsAsync(foreign.status(), { message: /filter\.xet\.process.*installFilter/ });
  await foreign.installFilter();
  t.is((await foreign.status()).files.length, 1);
});

test('Git LFS pointers are listed and loaded, and what does not have their SHA-256 is refused', async (t) => {
  const sandbox = createSandbox(t);
  await sandbox.git(['init', '-q', 'repository']);
  const sha256 = createHash('sha256').update(CONTENT).digest('hex');
  const pointer = formatLfsPointer(sha256, CONTENT.length);
  sandbox.write('repository/a/large.bin', pointer);
  sandbox.write('repository/plain', 'text\n');
  await sandbox.git(['add', '-A'], { cwd: 'repository' });
  await sandbox.git(['commit', '-q', '-m', 'x'], { cwd: 'repository' });
  const place = await openPlace(sandbox.path('repository'), { env: { ...sandbox.env } });
  t.teardown(() => place.close());
  const facet = new LfsFacet(place);
  const files = await facet.lsFiles();
  t.deepEqual(
    files.map(({ path, ...rest }) => [path.toString(), rest.sha256, rest.size]),
    [['a/large.bin', sha256, CONTENT.length]],
  );
  t.deepEqual(facet.parse(facet.format(sha256, 5)), { kind: 'lfs', sha256, size: 5 });
  const missing = await t.throwsAsync(facet.load(pointer), { instanceOf: Git2dbError });
  t.is(missing.code, 'CONTENT_MISSING');
  const objects = join(place.commonDir, 'lfs', 'objects', sha256.slice(0, 2), sha256.slice(2, 4));
  mkdirSync(objects, { recursive: true });
  writeFileSync(join(objects, sha256), CONTENT);
  t.true((await facet.load(pointer)).equals(CONTENT));
  for (const damaged of [
    CONTENT.subarray(1),
    Buffer.concat([CONTENT, Buffer.from('x')]),
    Buffer.alloc(CONTENT.length),
  ]) {
    writeFileSync(join(objects, sha256), damaged);
    const error = await t.throwsAsync(facet.load(pointer), { instanceOf: Git2dbError });
    t.is(error.code, 'CONTENT_DAMAGED');
  }
  // Git-lfs's object is damaged, and later gone: what the chunk store has by its SHA-256 is as good.
  const content = LocalContent.open({ cwd: sandbox.path('repository'), env: { ...sandbox.env } }, () => {});
  await content.storeBytes(CONTENT, { sha256, size: CONTENT.length });
  await content.close();
  t.true((await facet.load(pointer)).equals(CONTENT));
  rmSync(objects, { recursive: true });
  t.true((await facet.load(pointer)).equals(CONTENT));
  const wrongSize = await t.throwsAsync(facet.load(formatLfsPointer(sha256, 5)), { instanceOf: Git2dbError });
  t.is(wrongSize.code, 'CONTENT_MISSING');
  await t.throwsAsync(facet.load(Buffer.from('text')), { instanceOf: Git2dbError });
  await t.throwsAsync(facet.lsFiles({ ref: '--output=x' }), { instanceOf: Git2dbError });
});

test('files, bytes and streams of the same content have the same pointer, in any slices, and come back', async (t) => {
  const sandbox = createSandbox(t);
  const file = sandbox.path('file');
  writeFileSync(file, CONTENT);
  let pointer = '';
  {
    await using storage = XetStorage.open(new XetConfig(sandbox.path('store')));
    pointer = await storage.cleanFile(file);
    t.regex(pointer, POINTER);
    async function* slices() {
      for (let at = 0; at < CONTENT.length; at += 70_001) yield CONTENT.subarray(at, at + 70_001);
    }
    // All at once: the storage takes one after the other.
    const others = [
      storage.cleanBytes(CONTENT),
      storage.cleanStream(slices()),
      storage.cleanStream([CONTENT]),
    ];
    t.deepEqual(await Promise.all(others), [pointer, pointer, pointer]);
    t.true((await storage.smudgeBytes(pointer)).equals(CONTENT), 'readable before it is sealed');
    t.true(storage.isPointer(pointer));
    t.false(storage.isPointer(CONTENT));
    t.is(await storage.cleanBytes(Buffer.from(pointer)), pointer, 'a pointer cleans to itself');
    t.is(await storage.cleanBytes(Buffer.alloc(0)), '');
    t.is((await storage.smudgeBytes('')).length, 0);
  }
  t.deepEqual(readdirSync(sandbox.path('store', 'incoming')), [], 'all is sealed at the end');
  await using storage = XetStorage.open(sandbox.path('store'));
  const hash = /"hash":"([0-9a-f]{64})"/.exec(pointer)![1]!;
  await storage.smudgeFile(pointer, sandbox.path('out'));
  await storage.smudgeFromHashToFile(hash, sandbox.path('by-hash'));
  t.true(sandbox.read('out').equals(CONTENT));
  t.true(sandbox.read('by-hash').equals(CONTENT));
  t.true((await storage.smudgeFromHash(hash)).equals(CONTENT));
  const [one, two] = [storage.smudgeStream(pointer), storage.smudgeStream(Buffer.from(pointer))];
  const read = async (stream: AsyncIterable<Buffer>) => {
    const pieces: Buffer[] = [];
    for await (const piece of stream) pieces.push(piece);
    return Buffer.concat(pieces);
  };
  for (const bytes of await Promise.all([read(one), read(two)]))
    t.true(bytes.equals(CONTENT), 'two readers at once');
});

test('what fails in a storage has a kind, and leaves no file behind', async (t) => {
  const sandbox = createSandbox(t);
  await using storage = XetStorage.open(sandbox.path('store'));
  const pointer = await storage.cleanBytes(CONTENT);
  const unknown = pointer.replace(/[0-9a-f]{64}/, 'ab'.repeat(32));
  sandbox.write('out', 'was here');
  t.is(await kindOf(t, storage.smudgeFile(unknown, sandbox.path('out'))), 'DownloadFailed');
  t.is(
    await kindOf(
      t,
      storage.smudgeFile(pointer.replace(/"filesize":\d+/, '"filesize":5'), sandbox.path('out')),
    ),
    'DownloadFailed',
  );
  t.is(sandbox.read('out').toString(), 'was here');
  t.is(await kindOf(t, storage.smudgeBytes('no pointer')), 'InvalidPointer');
  t.is(
    await kindOf(t, storage.smudgeBytes(`{"version":"1.0","filesize":5,"hash":"${'0'.repeat(64)}"}\n`)),
    'InvalidPointer',
  );
  t.is(await kindOf(t, storage.smudgeFromHash('short')), 'InvalidPointer');
  t.is(await kindOf(t, storage.cleanFile(sandbox.path('missing'))), 'IoError');
  t.is(await kindOf(t, storage.smudgeFile(pointer, sandbox.path('missing', 'out'))), 'IoError');
  t.deepEqual(readdirSync(sandbox.dir).sort(), ['out', 'store']);
  async function* breaking() {
    yield CONTENT.subarray(0, 100_000);
    throw new Error('the source broke');
  }
  await t.throwsAsync(storage.cleanStream(breaking()), { message: 'the source broke' });
  t.is(await storage.cleanBytes(CONTENT), pointer, 'and the storage goes on');
  const signal = AbortSignal.abort(new DOMException('enough', 'AbortError'));
  await t.throwsAsync(storage.smudgeBytes(pointer, { signal }), { name: 'AbortError' });
  await t.throwsAsync(storage.cleanBytes(CONTENT, { signal }), { name: 'AbortError' });
  await storage[Symbol.asyncDispose]();
  t.is(await kindOf(t, storage.cleanBytes(CONTENT)), 'StorageNotInitialized');
});

test('a configuration is checked, never changed, and does not show its token', async (t) => {
  const config = new XetConfig('/srv/store');
  const other = config.withToken('TheSecret').withCompression('lz4');
  t.like(config, { endpoint: '/srv/store', compression: 'auto', hasToken: false });
  t.like(other, { endpoint: '/srv/store', compression: 'lz4', hasToken: true });
  t.is(other.token(), 'TheSecret');
  t.false(inspect(other, { depth: 9, showHidden: true }).includes('TheSecret'));
  t.false(JSON.stringify(other).includes('TheSecret'));
  for (const make of [
    () => new XetConfig(''),
    () => new XetConfig('https://user:pass@host'),
    () => config.withToken('two words'),
    () => config.withCompression('zstd' as never),
    () => XetStorage.open(new XetConfig()),
    () => XetStorage.open(new XetConfig('ftp://host')),
    () => XetStorage.open(new XetConfig('https://host/?token=x')),
    () => new XetConfig('/srv/store', { cache: '' }),
  ]) {
    const error = t.throws(make, { instanceOf: XetError });
    t.is(error.kind, 'InvalidConfig');
  }
  t.is(XetStorage.open(new XetConfig('file:///srv/a%20b')).root, '/srv/a b');
  const remote = XetStorage.open(new XetConfig('https://host/xet', { cache: '/srv/cache' }));
  t.like(remote, { place: 'https://host/xet', root: '/srv/cache' });
});

test.serial('the storage of the process is set once, and another endpoint is an error', (t) => {
  t.false(isInitialized());
  t.is(t.throws(sharedStorage, { instanceOf: XetError })?.kind, 'StorageNotInitialized');
  const sandbox = createSandbox(t);
  const storage = initialize(new XetConfig(sandbox.path('store')));
  t.is(initialize(new XetConfig(sandbox.path('store'))), storage);
  t.is(sharedStorage(), storage);
  t.true(isInitialized());
  const error = t.throws(() => initialize(new XetConfig(sandbox.path('other'))), { instanceOf: XetError });
  t.is(error.kind, 'InvalidConfig');
});
