/** What a push would send, and which content is recent: asked, and nothing moved. In this process. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { fetch } from '../../src/large-files/fetch.ts';
import { updatesToSee } from '../../src/large-files/pre-push.ts';
import { pushContent } from '../../src/large-files/push.ts';
import { formatLfsPointer } from '../../src/xet/pointer/lfs-pointer.ts';
import { createSandbox, isolateProcess, type Sandbox } from '../helpers/git-sandbox.ts';
import { objectOf } from '../lfs/lfs-sandbox.ts';
import { startLfsServer } from '../lfs/lfs-server.ts';
import { noise } from './repositories.ts';

isolateProcess();

async function outcomes(
  sandbox: Sandbox,
  remote: string,
): Promise<{ files: Record<string, string>; codes: unknown[] }> {
  const tip = await sandbox.gitText(['rev-parse', 'HEAD'], { cwd: 'a' });
  const { files } = await pushContent(
    { tips: [tip], boundaries: [] },
    {
      cwd: sandbox.path('a'),
      env: { ...sandbox.env },
      remote,
      dryRun: true,
      mayPrompt: false,
      warn: () => {},
    },
  );
  return {
    files: Object.fromEntries(files.map(({ path, outcome }) => [path.toString(), outcome])),
    codes: [...new Set(files.flatMap(({ error }) => error?.code ?? []))],
  };
}

test('a dry push asks the LFS server which objects it wants, and sends none', async (t) => {
  const sandbox = createSandbox(t);
  const server = await startLfsServer(t);
  await sandbox.git(['init', '-q', 'a']);
  const [there, wanted, refused] = [noise(3000, 1), noise(4000, 2), noise(5000, 3)];
  for (const [name, content] of Object.entries({ there, wanted, refused })) {
    const { sha256, size } = objectOf(content);
    sandbox.write(`a/${name}.bin`, formatLfsPointer(sha256, size));
  }
  await sandbox.git(['add', '.'], { cwd: 'a' });
  await sandbox.git(['commit', '-q', '-m', 'pointers'], { cwd: 'a' });
  await sandbox.git(['remote', 'add', 'origin', `${server.origin}/repo.git`], { cwd: 'a' });
  server.objects.set(objectOf(there).sha256, there);
  server.batch = (answer) => {
    for (const object of answer.objects) {
      if (object.oid !== objectOf(refused).sha256) continue;
      delete object.actions;
      object.error = { code: 413, message: 'too large' };
    }
    return answer;
  };
  t.deepEqual(await outcomes(sandbox, 'origin'), {
    files: { 'refused.bin': 'failed', 'there.bin': 'present', 'wanted.bin': 'missing' },
    codes: ['LIMIT_EXCEEDED'],
  });
  t.deepEqual(
    server.requests
      .filter(({ path }) => path.includes('/objects'))
      .map(({ method, path }) => `${method} ${path}`),
    ['POST /repo.git/info/lfs/objects/batch'],
  );
  t.deepEqual([...server.objects.keys()], [objectOf(there).sha256]);

  // A server that does not answer makes no claim about any of them.
  server.intercept = ({ path }, response) => {
    if (!path.endsWith('/objects/batch')) return false;
    response.writeHead(403).end();
    return true;
  };
  const gone = await outcomes(sandbox, 'origin');
  t.deepEqual(new Set(Object.values(gone.files)), new Set(['failed']));
  t.deepEqual(gone.codes, ['REMOTE_FORBIDDEN']);
  // A directory that nothing was pushed to yet; it stays so.
  await sandbox.git(['init', '-q', '--bare', 'hub']);
  await sandbox.git(['remote', 'add', 'hub', sandbox.path('hub')], { cwd: 'a' });
  t.deepEqual(new Set(Object.values((await outcomes(sandbox, 'hub')).files)), new Set(['missing']));
  t.false(existsSync(sandbox.path('hub/xet')));
});

const DAY = 86_400;

/** A repository of pointers whose commits are so many days old; `a` is a clone of it, on main. */
async function datedRepository(t: ExecutionContext) {
  const sandbox = createSandbox(t);
  const now = Math.floor(Date.now() / 1000);
  await sandbox.git(['init', '-q', 'source']);
  async function commit(name: string, days: number): Promise<void> {
    const { sha256, size } = objectOf(noise(1000, name.length * 1000 + name.charCodeAt(0)));
    sandbox.write(
      'source/model.bin',
      `${JSON.stringify({ version: '1.0', filesize: size, hash: sha256 })}\n`,
    );
    sandbox.write('source/name', name);
    names.set(sha256, name);
    const date = `@${now - days * DAY} +0000`;
    const env = { GIT_AUTHOR_DATE: date, GIT_COMMITTER_DATE: date };
    await sandbox.git(['add', '.'], { cwd: 'source' });
    await sandbox.git(['commit', '-q', '-m', name], { cwd: 'source', env });
  }
  const names = new Map<string, string>();
  await commit('root', 90);
  await commit('middle', 43);
  await commit('main', 40);
  await sandbox.git(['checkout', '-q', '-b', 'fresh', 'main'], { cwd: 'source' });
  await commit('fresher', 5);
  await commit('fresh', 2);
  await sandbox.git(['checkout', '-q', '-b', 'stale', 'main'], { cwd: 'source' });
  await commit('stale', 20);
  await sandbox.git(['checkout', '-q', '-b', 'other', 'main'], { cwd: 'source' });
  await commit('tagged', 3);
  await sandbox.git(['tag', '-a', '-m', 'v1', 'v1'], { cwd: 'source' });
  await sandbox.git(['checkout', '-q', 'main'], { cwd: 'source' });
  await sandbox.git(['branch', '-q', '-D', 'other'], { cwd: 'source' });
  await sandbox.git(['clone', '-q', 'source', 'a']);
  await sandbox.git(['config', 'xet.fetchRecentRefsDays', '7'], { cwd: 'a' });
  return {
    sandbox,
    set: (key: string, value: string) => sandbox.git(['config', key, value], { cwd: 'a' }),
    async recent(options: { recentDays?: number; refs?: string[]; remote?: string } = {}): Promise<string[]> {
      const { files } = await fetch({
        cwd: join(sandbox.dir, 'a'),
        env: { ...sandbox.env },
        remote: options.remote,
        refs: options.refs ?? ['HEAD'],
        all: false,
        recent: options.recentDays === undefined,
        recentDays: options.recentDays,
        include: [],
        exclude: [],
        dryRun: true,
        mayPrompt: false,
        refresh: false,
        warn: () => {},
      });
      return files.map(({ hash }) => names.get(hash) ?? hash).sort();
    },
  };
}

test('recent are refs by their last commit, those of remotes too, and commits by that of their ref', async (t) => {
  const { recent, set } = await datedRepository(t);
  t.deepEqual(await recent(), ['fresh', 'main', 'tagged']);
  t.deepEqual(await recent({ recentDays: 30 }), ['fresh', 'main', 'stale', 'tagged']);
  t.deepEqual(await recent({ remote: 'elsewhere' }), ['main', 'tagged']);
  await set('xet.fetchRecentRemoteRefs', 'false');
  t.deepEqual(await recent(), ['main', 'tagged']);
  await set('xet.fetchRecentRemoteRefs', 'true');
  // Four days before the last commit of each: what they had, and what they replaced.
  await set('xet.fetchRecentCommitsDays', '4');
  t.deepEqual(await recent(), ['fresh', 'fresher', 'main', 'middle', 'root', 'tagged']);
  await set('xet.fetchRecentRefsDays', '0');
  t.deepEqual(await recent(), ['main', 'middle', 'root']);
  t.deepEqual(await recent({ refs: ['origin/stale'] }), ['main', 'stale']);
  await set('xet.fetchRecentRefsDays', 'soon');
  await t.throwsAsync(recent(), { code: 'INVALID_CONFIG', message: /fetchrecentrefsdays.*"soon"/ });
});

test('the settings of Git LFS count where ours are not set', async (t) => {
  const { recent, set, sandbox } = await datedRepository(t);
  await sandbox.git(['config', '--unset', 'xet.fetchRecentRefsDays'], { cwd: 'a' });
  await set('lfs.fetchrecentrefsdays', '30');
  t.deepEqual(await recent(), ['fresh', 'main', 'stale', 'tagged']);
  await set('xet.fetchRecentRefsDays', '0');
  t.deepEqual(await recent(), ['main']);
});

test('the hook passes over what whoever started git has seen to', (t) => {
  const update = (localOid: string | undefined) => ({
    localRef: 'refs/heads/x',
    localOid,
    remoteRef: 'refs/heads/x',
    remoteOid: undefined,
  });
  const [a, b] = [update('a'.repeat(40)), update('b'.repeat(40))];
  const all = [a, b, update(undefined)];
  t.is(updatesToSee(all, {}), all);
  t.is(updatesToSee(all, { GIT2DB_SKIP_PUSH: '' }), all);
  t.deepEqual(updatesToSee(all, { GIT2DB_SKIP_PUSH: '1' }), []);
  t.deepEqual(updatesToSee(all, { GIT2DB_SKIP_PUSH: a.localOid }), [b, all[2]!]);
  t.deepEqual(updatesToSee([a, b], { GIT2DB_SKIP_PUSH: `${b.localOid} ${a.localOid}` }), []);
});
