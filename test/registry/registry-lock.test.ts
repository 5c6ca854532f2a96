import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { LockTimeoutError } from '../../src/registry/errors.ts';
import { registryLayout } from '../../src/registry/registry-layout.ts';
import { lockHolder, RegistryLock } from '../../src/registry/registry-lock.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import { createRegistrySandbox, metadataOf, startRegistryProcess, until } from './registry-sandbox.ts';

test('one at a time holds the lock, and the next gets it when it is released', async (t) => {
  const { dir } = createRegistrySandbox(t);
  const lock = join(dir, 'lock');
  let holders = 0;
  let most = 0;
  const order: number[] = [];
  await Promise.all(
    Array.from({ length: 12 }, async (_, index) => {
      using _held = await RegistryLock.acquire(lock, { timeoutMs: 60_000 });
      most = Math.max(most, ++holders);
      order.push(index);
      await sleep(2);
      holders--;
    }),
  );
  t.is(most, 1);
  t.is(order.length, 12);
  t.is(await lockHolder(lock), undefined);
  t.is(readdirSync(lock).length, 1, 'old claims are swept');
});

test('a lock that is not free in time is an error that names the holder, and can be tried again', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open({ config: { ...sandbox.config, lockTimeoutMs: 60 } });
  const { lock } = registryLayout(sandbox.root);
  const held = await RegistryLock.acquire(lock, { timeoutMs: 0 });
  const path = await sandbox.repository('a');
  const error = await t.throwsAsync(registry.register({ path }), { instanceOf: LockTimeoutError });
  t.is(error?.code, 'LOCK_TIMEOUT');
  t.true(error?.recoverable);
  t.regex(
    error?.message ?? '',
    new RegExp(`not free within 60 ms: it is held by process ${process.pid} \\(`),
  );
  held.release();
  held.release();
  t.is((await registry.register({ path })).name, 'a');
});

test('waiting for the lock ends with the signal', async (t) => {
  const { dir } = createRegistrySandbox(t);
  const lock = join(dir, 'lock');
  using _held = await RegistryLock.acquire(lock, { timeoutMs: 0 });
  const stop = new AbortController();
  const waiting = RegistryLock.acquire(lock, { timeoutMs: 60_000, signal: stop.signal });
  setTimeout(() => stop.abort(), 20);
  await t.throwsAsync(waiting, { name: 'AbortError' });
  await t.throwsAsync(RegistryLock.acquire(lock, { timeoutMs: 0, signal: AbortSignal.abort() }), {
    name: 'AbortError',
  });
  await t.throwsAsync(RegistryLock.acquire(lock, { timeoutMs: 0 }), { instanceOf: LockTimeoutError });
});

test('a holder that is killed does not block anybody; one that is stopped does', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open({ config: { ...sandbox.config, lockTimeoutMs: 200 } });
  const path = await sandbox.repository('a');
  const holder = startRegistryProcess(sandbox, [sandbox.root, 'hold'], t);
  await until(t, 'the lock to be held', () => holder.lines().includes('held'));
  holder.child.kill('SIGSTOP');
  const error = await t.throwsAsync(registry.register({ path }), { instanceOf: LockTimeoutError });
  t.regex(error?.holder ?? '', new RegExp(`process ${holder.child.pid} `));
  t.is(registry.list().length, 0, 'reading needs no lock');
  holder.child.kill('SIGKILL');
  await holder.ended;
  t.is((await registry.register({ path })).name, 'a');
});

test('a claim that was published late, after others had their turns, is given up', async (t) => {
  const { dir } = createRegistrySandbox(t);
  const lock = join(dir, 'lock');
  for (let turn = 0; turn < 3; turn++) (await RegistryLock.acquire(lock, { timeoutMs: 0 })).release();
  // What a claimant that slept since the first turn does: the number 2 is free again.
  mkdirSync(join(lock, '2'));
  writeFileSync(join(lock, '2', 'writer.json'), '{}');
  const held = await RegistryLock.acquire(lock, { timeoutMs: 0 });
  t.deepEqual(readdirSync(lock), ['4']);
  await t.throwsAsync(RegistryLock.acquire(lock, { timeoutMs: 0 }), { instanceOf: LockTimeoutError });
  held.release();
});

test('who holds the lock in a serializable transaction cannot be waited for in it, and is named', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open({ config: { ...sandbox.config, lockTimeoutMs: 50 } });
  const path = await sandbox.repository('a');
  const error = await t.throwsAsync(
    registry.transaction(() => registry.register({ path }), { isolation: 'serializable' }),
    { instanceOf: Git2dbError },
  );
  t.is(error?.code, 'LOCK_TIMEOUT');
  t.regex(error?.message ?? '', /in a transaction, use its own methods/);
});

test('four processes counting under the lock lose no count', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  await registry.register({ path: await sandbox.repository('counter') });
  const processes = Array.from({ length: 4 }, () =>
    startRegistryProcess(sandbox, [sandbox.root, 'count', '15'], t),
  );
  for (const each of processes) t.is(await each.ended, 0);
  t.is(registry.get('counter').metadata.count, '60');
});

test('four processes register while one is killed, twenty rounds: what was acknowledged is there', async (t) => {
  t.timeout(280_000);
  const sandbox = createRegistrySandbox(t);
  await sandbox.open();
  const repositories = sandbox.path('repositories');
  const template = await sandbox.repository('template', { bare: true });
  const [rounds, writers, entries] = [20, 4, 3];
  mkdirSync(repositories);
  const names: string[] = [];
  for (let round = 0; round < rounds; round++) {
    for (let writer = 0; writer < writers; writer++) {
      for (let entry = 0; entry < entries; entry++) names.push(`r${round}w${writer}-${entry}`);
    }
  }
  // A repository is a directory with three things in it; registering one looks at no more.
  for (const name of names) await sandbox.run('cp', ['-r', template, join(repositories, name)]);

  let isRunning = true;
  let generation = -1;
  let reads = 0;
  const reading = (async () => {
    while (isRunning) {
      const now = metadataOf(sandbox.root).generation as number;
      t.true(now >= generation, 'generations only grow');
      generation = now;
      reads++;
      await sleep(1);
    }
  })();

  const acknowledged = new Set<string>();
  const updated = new Set<string>();
  for (let round = 0; round < rounds; round++) {
    const running = Array.from({ length: writers }, (_, writer) =>
      startRegistryProcess(
        sandbox,
        [sandbox.root, 'register', `r${round}w${writer}`, repositories, String(entries)],
        t,
      ),
    );
    // The victim dies at another point of its work in each round.
    const victim = running[round % writers]!;
    const after = round % (2 * entries);
    await until(
      t,
      'the victim to have done its part',
      () => victim.lines().length >= after || victim.child.exitCode !== null,
    );
    if (round % 3 !== 0) await sleep(round);
    victim.child.kill('SIGKILL');
    for (const each of running) {
      const ending = await each.ended;
      if (each !== victim) t.is(ending, 0, 'a survivor is not disturbed');
      for (const line of each.lines()) {
        if (line.endsWith(' updated')) updated.add(line.slice(0, -' updated'.length));
        else acknowledged.add(line);
      }
    }
  }
  isRunning = false;
  await reading;
  t.true(reads > rounds);
  t.true(acknowledged.size >= rounds * (writers - 1) * entries);
  const registry = await sandbox.open();
  for (const name of acknowledged) t.is(registry.find(name)?.name, name, `${name} was acknowledged`);
  for (const name of updated)
    t.is(registry.get(name).metadata.done, 'yes', `${name}'s change was acknowledged`);
  const left = await registry.verify();
  t.deepEqual(
    left.filter(({ repairable }) => !repairable),
    [],
  );
  await registry.repair();
  t.deepEqual(await registry.verify(), []);
  t.false(existsSync(join(sandbox.root, '.git2db', 'metadata.json.new')));
});
