import { existsSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import test from 'ava';
import { isolateProcess } from '../helpers/git-sandbox.ts';
import { createLargeFileSandbox, noise } from './repositories.ts';
import { serve } from './serving.ts';

isolateProcess();

test('a push sends content and is refused without it; clone, pull and checkout fetch it', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  const url = `${await serve(t, sandbox)}/models.git`;
  await sandbox.init('a');
  const first = noise(400_000, 1);
  sandbox.write('a/model.bin', first);
  await sandbox.commitAll('a');
  await sandbox.git(['remote', 'add', 'origin', url], { cwd: 'a' });

  // No hook, or one that is passed by: the server looks.
  const bare = await sandbox.run('git', ['push', 'origin', 'main'], { cwd: 'a' });
  t.not(bare.status, 0);
  t.regex(bare.stderr, /model\.bin/);
  t.is((await sandbox.xet('a', ['install', '--local', '--force'])).status, 0);
  t.not((await sandbox.run('git', ['push', '--no-verify', 'origin', 'main'], { cwd: 'a' })).status, 0);
  await sandbox.git(['push', '-q', '-u', 'origin', 'main'], { cwd: 'a' });

  await sandbox.git(['clone', '-q', url, 'b']);
  t.true(sandbox.read('b/model.bin').equals(first));
  t.is(await sandbox.gitText(['status', '--porcelain'], { cwd: 'b' }), '');

  // The second version moves little more than what is new, both ways.
  const second = Buffer.concat([first.subarray(0, 200_000), Buffer.from('new'), first.subarray(200_000)]);
  sandbox.write('b/model.bin', second);
  await sandbox.commitAll('b');
  const pushed = await sandbox.xet('b', ['push', '--json']);
  t.is(pushed.status, 0, pushed.stderr);
  t.true((JSON.parse(pushed.stdout) as { wireBytes: number }).wireBytes < 300_000);
  await sandbox.git(['push', '-q', '--no-verify', 'origin', 'HEAD'], { cwd: 'b' });
  await sandbox.git(['pull', '-q'], { cwd: 'a' });
  t.true(sandbox.read('a/model.bin').equals(second));

  // Evicted, and fetched again by a checkout.
  t.is((await sandbox.xet('b', ['evict'])).status, 0);
  rmSync(sandbox.path('b/model.bin'));
  await sandbox.git(['checkout', '--', 'model.bin'], { cwd: 'b' });
  t.true(sandbox.read('b/model.bin').equals(second));
  await sandbox.git(['worktree', 'add', '-q', '--detach', sandbox.path('tree'), 'HEAD~1'], { cwd: 'b' });
  t.true(sandbox.read('tree/model.bin').equals(first));
});

test('evict knows its own store behind a server, which is no second copy', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('a');
  const content = noise(400_000, 1);
  sandbox.write('a/model.bin', content);
  await sandbox.commitAll('a');
  const url = await serve(t, sandbox, 'a/.git/xet');
  await sandbox.git(['remote', 'add', 'origin', sandbox.path('repositories/models.git')], { cwd: 'a' });
  await sandbox.git(['config', 'remote.origin.xeturl', url], { cwd: 'a' });
  const { stdout } = await sandbox.xet('a', ['evict', '--json']);
  t.regex(stdout, /its store is this one/);
  rmSync(sandbox.path('a/model.bin'));
  await sandbox.git(['config', '--unset', 'remote.origin.xeturl'], { cwd: 'a' });
  await sandbox.git(['checkout', '--', 'model.bin'], { cwd: 'a' });
  t.true(sandbox.read('a/model.bin').equals(content));
});

test('a server that is no git2db is asked once a day, without credentials', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.url} ${request.headers.authorization ?? 'nobody'}`);
    response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  // Longer than what is shown of a URL.
  const path = `/${'long'.repeat(70)}/x.git`;
  const url = `http://user:secret@127.0.0.1:${(server.address() as AddressInfo).port}${path}`;
  await sandbox.init('a');
  sandbox.write('a/model.bin', noise(1000, 1));
  await sandbox.commitAll('a');
  await sandbox.git(['remote', 'add', 'origin', url], { cwd: 'a' });
  // What git starts asks once a day; what a person does asks anew.
  t.is((await sandbox.xet('a', ['install', '--local', '--force'])).status, 0);
  for (const [args, questions] of [
    [['git2db', 'xet', 'push'], 1],
    [['git', 'push', 'origin', 'main'], 1],
    [['git', 'push', 'origin', 'main'], 1],
    [['git2db', 'xet', 'push'], 2],
    [['git2db', 'xet', 'doctor'], 3],
    [['git', 'push', 'origin', 'main'], 3],
  ] as const) {
    const [program, ...words] = args;
    const { status, stderr } = await sandbox.run(program, words, { cwd: 'a' });
    t.true(status !== 0 || words.includes('doctor' as never), stderr);
    t.false(stderr.includes('secret'));
    t.is(asked.filter((one) => one === `${path}/info/xet nobody`).length, questions, args.join(' '));
  }
  const note = sandbox.path('a/.git/git2db/no-xet-service');
  t.true(existsSync(note));
  t.false(readFileSync(note, 'utf8').includes('secret'));
});

test('a server that cannot be reached is named, by a class of its own, and a rerun is enough', async (t) => {
  const sandbox = createLargeFileSandbox(t);
  await sandbox.init('a');
  sandbox.write('a/model.bin', noise(1000, 1));
  await sandbox.commitAll('a');
  await sandbox.git(['remote', 'add', 'origin', 'http://127.0.0.1:1/x.git'], { cwd: 'a' });
  const { status, stderr } = await sandbox.xet('a', ['push']);
  t.is(status, 60, stderr);
  t.regex(stderr, /127\.0\.0\.1:1/);
  t.notRegex(stderr, /\n\s+at /);
});
