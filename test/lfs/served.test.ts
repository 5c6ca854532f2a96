import { randomBytes as randomKey } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { resolveConfig } from '../../src/registry/config.ts';
import { GitManager } from '../../src/registry/git-manager.ts';
import { Git2DB } from '../../src/registry/git2db.ts';
import { createRepository } from '../../src/server/git/repositories.ts';
import { startServer } from '../../src/server/server.ts';
import { DirectoryStore } from '../../src/xet/store/directory-store.ts';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { assertClean, filesUnder, randomBytes, type XetSandbox } from '../helpers/xet-sandbox.ts';
import {
  createLfsSandbox,
  GIT_LFS_DRIVER,
  HAS_GIT_LFS,
  LFS_ATTRIBUTES,
  lfsRepository,
} from './lfs-sandbox.ts';

isolateProcess();

const withGitLfs = HAS_GIT_LFS ? test.serial : test.skip;
const reason = HAS_GIT_LFS ? '' : ' (skipped: git-lfs is not installed)';

/** A server of ours with one empty repository, that anybody may push to. */
async function serve(t: ExecutionContext, sandbox: XetSandbox): Promise<string> {
  const repositories = sandbox.path('served');
  mkdirSync(repositories);
  const store = DirectoryStore.open(sandbox.path('served-store'), { fsync: 'none' });
  const server = await startServer({
    store,
    key: randomKey(32),
    repositories,
    storeDirectory: sandbox.path('served-store'),
    anonymous: 'write',
  });
  t.teardown(async () => {
    await server.stop();
    await store[Symbol.asyncDispose]();
  });
  await createRepository(repositories, 'repo');
  return `${server.url}/repo.git`;
}

/** git with git-lfs's driver in place of ours. */
function theirs(settings: Readonly<Record<string, string>> = GIT_LFS_DRIVER): {
  env: Record<string, string>;
} {
  const entries = Object.entries(settings);
  return {
    env: Object.fromEntries([
      ['GIT_CONFIG_COUNT', String(entries.length)],
      ...entries.flatMap(([key, value], i) => [
        [`GIT_CONFIG_KEY_${i}`, key],
        [`GIT_CONFIG_VALUE_${i}`, value],
      ]),
    ]),
  };
}

withGitLfs(
  `git push and git clone through git2db serve, by us and by git-lfs, both ways${reason}`,
  async (t) => {
    const sandbox = createLfsSandbox(t);
    const url = await serve(t, sandbox);
    const ours = await lfsRepository(sandbox, 'ours');
    const content = randomBytes(1, 2_500_000);
    ours.write('a.bin', content);
    ours.write('empty.bin', '');
    await ours.commit('ours');
    await ours.git(['remote', 'add', 'origin', url]);
    const installed = await sandbox.run('git2db', ['xet', 'install', '--local', '--lfs'], { cwd: ours.dir });
    t.is(installed.status, 0, installed.stderr);
    await ours.git(['push', '-q', 'origin', 'main']);

    await sandbox.git(['clone', '-q', url, 'theirs'], theirs());
    const clone = await sandbox.at(sandbox.path('theirs'));
    t.true(readFileSync(clone.path('a.bin')).equals(content), 'git-lfs reads what we pushed');
    const second = randomBytes(2, 1_700_000);
    clone.write('b.bin', second);
    await clone.git(['add', '.'], theirs());
    await clone.git(['commit', '-q', '-m', 'theirs'], theirs());
    await clone.git(['lfs', 'push', 'origin', 'main'], theirs());
    await clone.git(['push', '-q', 'origin', 'main'], theirs());

    await sandbox.git(['clone', '-q', url, 'again']);
    await assertClean(t, await sandbox.at(sandbox.path('again')), [
      ['a.bin', content],
      ['b.bin', second],
      ['empty.bin', ''],
    ]);
  },
);

test.serial(
  'a clone of a registry gives real files for both kinds of pointers, without any configuration',
  async (t) => {
    const sandbox = createLfsSandbox(t);
    const source = await sandbox.repository('source', LFS_ATTRIBUTES);
    const content = randomBytes(3, 300_000);
    source.write('a.bin', content);
    source.write('b.xet', content);
    await source.commit('both');
    sandbox.write('plain', '[user]\n\tname = x\n\temail = x@example.invalid\n');
    const plain = { PATH: process.env.PATH ?? '', GIT_CONFIG_GLOBAL: sandbox.path('plain') };
    const env = { ...sandbox.env, ...plain };
    const { config } = resolveConfig({ cwd: sandbox.dir, env });
    const manager = new GitManager({ config, env });
    const registry = await Git2DB.open(sandbox.path('registry'), { config, manager, env });
    t.teardown(async () => {
      await registry[Symbol.asyncDispose]();
      await manager[Symbol.asyncDispose]();
    });
    await registry.clone(source.dir, { name: 'x' });
    const clone = `${registry.root}/repos/x`;
    for (const name of ['a.bin', 'b.xet']) t.true(readFileSync(`${clone}/${name}`).equals(content), name);
    const { stdout } = await sandbox.git(['status', '--porcelain'], { cwd: clone, env: plain });
    t.is(stdout, '');
  },
);

const PAGE = readFileSync(new URL('../../../docs/lfs.md', import.meta.url), 'utf8');
const RECIPES = [...PAGE.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1]!);

test.serial('docs/lfs.md has two recipes', (t) => {
  t.is(RECIPES.length, 2);
});

for (const [i, recipe] of RECIPES.entries()) {
  const run = recipe.includes('git lfs') ? withGitLfs : test.serial;
  run(
    `recipe ${i + 1} of docs/lfs.md does what it says${recipe.includes('git lfs') ? reason : ''}`,
    async (t) => {
      const sandbox = createLfsSandbox(t);
      sandbox.write('recipe.sh', `set -e\n${recipe}`);
      const { stdout, stderr, status } = await sandbox.run('sh', ['recipe.sh']);
      t.is(status, 0, stdout + stderr);
      if (recipe.includes('migrate lfs')) {
        t.regex(stderr, /1 of 1 object \(2\.86 MiB\) are in the store/);
        t.regex(stdout, /nothing to commit, working tree clean/);
        t.deepEqual([...filesUnder(sandbox.path('models/.git/lfs/objects')).keys()], []);
      } else
        t.regex(
          stdout,
          /^version https:\/\/git-lfs\.github\.com\/spec\/v1\noid sha256:[0-9a-f]{64}\nsize 1000000$/m,
        );
    },
  );
}
