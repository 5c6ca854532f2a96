import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { ConflictError } from '../../src/registry/errors.ts';
import { Journal } from '../../src/registry/journal.ts';
import { registryLayout } from '../../src/registry/registry-layout.ts';
import type { Transaction } from '../../src/registry/transaction.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import {
  createRegistrySandbox,
  exists,
  metadataOf,
  startRegistryProcess,
  until,
} from './registry-sandbox.ts';

for (const isolation of ['optimistic', 'serializable'] as const) {
  test(`${isolation}: all changes become true in one generation, and nobody sees a part of them`, async (t) => {
    const sandbox = createRegistrySandbox(t);
    const registry = await sandbox.open();
    const other = await sandbox.open();
    const [a, b, source] = [
      await sandbox.repository('a'),
      await sandbox.repository('b'),
      await sandbox.repository('source'),
    ];
    await registry.register({ path: a });
    const before = registry.generation;
    const result = await registry.transaction(
      async (transaction) => {
        const added = transaction.register({ path: b, name: 'org/b' });
        transaction.update('a', { metadata: { x: '1' } });
        const cloned = await transaction.clone(source).name('cloned');
        t.is(transaction.get('cloned').id, cloned.id);
        t.is(transaction.find('org/b')?.id, added.id);
        t.deepEqual(
          transaction.list().map(({ name }) => name),
          ['a', 'cloned', 'org/b'],
        );
        t.is(transaction.list({ adopted: false }).length, 1);
        t.is((await transaction.clone(source).name('cloned')).id, cloned.id, 'one name, one clone');
        t.deepEqual(
          other.list().map(({ name }) => name),
          ['a'],
          'others see nothing yet',
        );
        t.false(exists(sandbox.root, 'repos/cloned'));
        t.true(exists(transaction.absolutePath(cloned), '.git'), 'it is where the transaction says');
        return 'result';
      },
      { isolation },
    );
    t.is(result, 'result');
    t.is(registry.generation, before + 1);
    t.deepEqual(
      other.list().map(({ name }) => name),
      ['a', 'cloned', 'org/b'],
    );
    t.is(other.get('a').metadata.x, '1');
    t.true(exists(sandbox.root, 'repos/cloned/file'));
    t.deepEqual(readdirSync(join(sandbox.root, 'repos')), ['cloned']);
    t.deepEqual(await registry.verify(), []);
  });

  test(`${isolation}: a failure takes everything back, the last thing first`, async (t) => {
    const sandbox = createRegistrySandbox(t);
    const registry = await sandbox.open();
    const source = await sandbox.repository('source');
    const path = await sandbox.repository('a', { url: 'https://example.com/old' });
    await registry.register({ path });
    const before = metadataOf(sandbox.root);
    const undone: string[] = [];
    let kept: Transaction | undefined;
    await t.throwsAsync(
      registry.transaction(
        async (transaction) => {
          kept = transaction;
          transaction.onUndo(() => void undone.push('first'));
          transaction.update('a', { url: 'https://example.com/new' });
          await transaction.clone(source).name('cloned');
          transaction.onUndo(async () => void undone.push('second'));
          throw new Error('on purpose');
        },
        { isolation },
      ),
      { message: 'on purpose' },
    );
    t.deepEqual(undone, ['second', 'first']);
    t.deepEqual(metadataOf(sandbox.root), before);
    t.is(await sandbox.gitText(['config', 'remote.origin.url'], { cwd: path }), 'https://example.com/old');
    t.deepEqual(readdirSync(join(sandbox.root, 'repos')), []);
    t.throws(() => kept?.update('a', {}), { code: 'USAGE' });
    t.throws(() => kept?.list(), { code: 'USAGE' });
    t.deepEqual(await registry.verify(), []);
    t.is((await registry.clone(source).name('cloned')).name, 'cloned', 'the name is free again');
  });

  test(`${isolation}: what a killed process had staged is taken back`, async (t) => {
    const sandbox = createRegistrySandbox(t);
    const source = await sandbox.repository('source');
    const victim = startRegistryProcess(sandbox, [sandbox.root, 'stop-in-transaction', source, isolation], t);
    await until(t, 'the clone to be staged', () => victim.lines().includes('staged'));
    victim.child.kill('SIGKILL');
    await victim.ended;
    const registry = await sandbox.open();
    t.deepEqual(registry.list(), []);
    t.is((await registry.clone(source).name('staged')).name, 'staged');
    t.deepEqual(await registry.verify(), []);
  });
}

test('optimistic: whoever changes an entry of it in between wins, and the transaction fails as a whole', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const other = await sandbox.open();
  const [a, b] = [await sandbox.repository('a'), await sandbox.repository('b')];
  await registry.register({ path: a });
  let undone = 0;
  const error = await t.throwsAsync(
    registry.transaction(async (transaction) => {
      transaction.update('a', { metadata: { by: 'transaction' } });
      transaction.onUndo(() => void undone++);
      await other.register({ path: b });
      await other.update('a', { trusted: true });
    }),
    { instanceOf: ConflictError },
  );
  t.is(error?.code, 'CONFLICT');
  t.true(error?.recoverable);
  t.is(undone, 1);
  t.is(registry.get('a').metadata.by, undefined);
  t.is(registry.list().length, 2);
  // Only reading, it conflicts with nothing.
  await registry.transaction(async (transaction) => {
    t.is(transaction.list().length, 2);
    await other.update('b', { trusted: true });
    t.false(transaction.get('b').trusted, 'it sees one moment');
  });
});

test('serializable: others wait for the end, and nothing comes in between', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const other = await sandbox.open();
  const [a, b] = [await sandbox.repository('a'), await sandbox.repository('b')];
  await registry.register({ path: a });
  const order: string[] = [];
  let waiting: Promise<unknown> = Promise.resolve();
  await registry.transaction(
    async (transaction) => {
      waiting = other.register({ path: b }).then(() => order.push('other'));
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 5));
      transaction.update('a', { metadata: { x: 'y' } });
      order.push('transaction');
    },
    { isolation: 'serializable' },
  );
  await waiting;
  t.deepEqual(order, ['transaction', 'other']);
  t.is(registry.list().length, 2);
});

test('optimistic: what others change meanwhile is kept, and only what the transaction looked at conflicts', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const other = await sandbox.open();
  const paths = await Promise.all(['a', 'b', 'c', 'd'].map((name) => sandbox.repository(name)));
  const [a, b, c, d] = paths as [string, string, string, string];
  for (const path of [a, b]) await registry.register({ path });
  await registry.transaction(async (transaction) => {
    transaction.update('a', { metadata: { by: 'transaction' } });
    transaction.register({ path: c });
    await other.update('b', { metadata: { by: 'other' } });
    await other.register({ path: d });
  });
  t.deepEqual(
    registry.list().map(({ name, metadata }) => `${name} ${metadata.by ?? '-'}`),
    ['a transaction', 'b other', 'c -', 'd -'],
  );
  const conflicts: [string, (transaction: Transaction) => void, () => Promise<unknown>][] = [
    [
      'an entry it read',
      (transaction) => void transaction.get('b'),
      () => other.update('b', { trusted: true }),
    ],
    [
      'a name it found free',
      (transaction) => void transaction.find('e'),
      () => other.update('d', { name: 'e' }),
    ],
    ['the list', (transaction) => void transaction.list(), () => other.update('b', { trusted: false })],
    [
      'a name it gives',
      (transaction) => void transaction.update('c', { name: 'f' }),
      () => other.update('e', { name: 'f' }),
    ],
    [
      'an entry it takes out',
      (transaction) => void transaction.unregister('c'),
      () => other.update('c', { trusted: true }),
    ],
  ];
  for (const [what, look, change] of conflicts) {
    await t.throwsAsync(
      registry.transaction(async (transaction) => {
        look(transaction);
        transaction.update('a', { metadata: { by: what } });
        await change();
      }),
      { instanceOf: ConflictError },
      what,
    );
  }
  t.is(registry.get('a').metadata.by, 'transaction');
  t.deepEqual(
    registry.list().map(({ name }) => name),
    ['a', 'b', 'c', 'f'],
  );
  t.deepEqual(await registry.verify(), []);
});

test('a signal ends a transaction with nothing done, and a bad isolation is refused', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  await registry.register({ path: await sandbox.repository('a') });
  const stop = new AbortController();
  await t.throwsAsync(
    registry.transaction(
      (transaction) => {
        transaction.update('a', { trusted: true });
        stop.abort();
      },
      { signal: stop.signal },
    ),
    { name: 'AbortError' },
  );
  t.false(registry.get('a').trusted);
  await t.throwsAsync(
    registry.transaction(() => {}, { isolation: 'none' as 'optimistic' }),
    { code: 'USAGE' },
  );
});

test('a transaction unregisters what was adopted, and leaves what it would have to delete', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const path = await sandbox.repository('a');
  await registry.register({ path });
  await registry.clone(path).name('b');
  await t.throwsAsync(
    registry.transaction((transaction) => transaction.unregister('b')),
    { code: 'REFUSED' },
  );
  await registry.transaction((transaction) => {
    transaction.unregister('a');
    transaction.register({ path, name: 'other' });
  });
  t.deepEqual(
    registry.list().map(({ name }) => name),
    ['b', 'other'],
  );
  t.true(exists(path, '.git'));
});

/** A journal whose process has ended: that of this one, whose mark is closed by hand. */
async function leaveJournal(root: string, edit: (journal: Journal) => void): Promise<string> {
  const journal = Journal.begin(registryLayout(root));
  edit(journal);
  // Undoing a copy of it would remove it: a kill leaves the directory, and closes the socket.
  const directory = join(root, '.git2db', 'journal', journal.id);
  const { cpSync, rmSync } = await import('node:fs');
  const aside = `${directory}-aside`;
  cpSync(directory, aside, { recursive: true, filter: (source) => !source.endsWith('alive') });
  await journal.undo().catch(() => {});
  rmSync(directory, { recursive: true, force: true });
  cpSync(aside, directory, { recursive: true });
  rmSync(aside, { recursive: true });
  return journal.id;
}

test('a change that was interrupted before its commit is taken back at the next opening', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const source = await sandbox.repository('source', { url: 'https://example.com/s' });
  const { path } = await registry.clone(source).name('a');
  await registry.register({ path: source, name: 's' });
  // As a kill leaves it between the move to the trash and the commit.
  await leaveJournal(sandbox.root, (journal) => {
    journal.willFinish({ do: 'delete', path: '.git2db/trash/x' });
    journal.willDo({ do: 'rename', from: '.git2db/trash/x', to: path });
    journal.willDo({ do: 'remote', path: source, remote: 'origin', url: 'https://example.com/s' });
  });
  await sandbox.run('mkdir', ['-p', join(sandbox.root, '.git2db/trash')]);
  await sandbox.run('mv', [join(sandbox.root, path), join(sandbox.root, '.git2db/trash/x')]);
  await sandbox.git(['config', 'remote.origin.url', 'https://example.com/half'], { cwd: source });
  t.true((await registry.verify()).some(({ code }) => code === 'unfinished-change'));
  await sandbox.open();
  t.true(exists(sandbox.root, path, '.git'));
  t.is(await sandbox.gitText(['config', 'remote.origin.url'], { cwd: source }), 'https://example.com/s');
  t.deepEqual(await registry.verify(), []);
});

test('a change that was interrupted after its commit is completed at the next change', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const source = await sandbox.repository('source');
  await registry.register({ path: source, name: 's' });
  const id = await leaveJournal(sandbox.root, (journal) => {
    journal.willFinish({ do: 'delete', path: '.git2db/trash/x' });
    journal.willDo({ do: 'rename', from: '.git2db/trash/x', to: 'repos/x' });
  });
  await sandbox.run('mkdir', ['-p', join(sandbox.root, '.git2db/trash')]);
  await sandbox.run('cp', ['-r', source, join(sandbox.root, '.git2db/trash/x')]);
  // The kill came right after the rename of the metadata.
  const file = join(sandbox.root, '.git2db', 'metadata.json');
  const metadata = metadataOf(sandbox.root);
  writeFileSync(file, JSON.stringify({ ...metadata, transaction: id }));
  await registry.update('s', { trusted: true });
  t.false(exists(sandbox.root, '.git2db/trash/x'));
  t.false(exists(sandbox.root, 'repos/x'));
  t.false(exists(sandbox.root, '.git2db/journal', id));
  t.is(metadataOf(sandbox.root).transaction, undefined);
});

test('a journal that leads out of the registry is not obeyed', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  sandbox.write('precious/file', 'x');
  for (const path of [
    '../precious',
    'repos/../../precious',
    '/precious',
    '.git2db/metadata.json',
    'repos',
    'repos/./x',
  ]) {
    const directory = join(sandbox.root, '.git2db/journal/0123');
    await sandbox.run('mkdir', ['-p', directory]);
    writeFileSync(
      join(directory, 'journal.json'),
      JSON.stringify({
        version: 1,
        removes: [],
        committed: true,
        undo: [],
        finish: [{ do: 'delete', path }],
      }),
    );
    // The process of this boot that wrote it is gone.
    const bootId = sandbox.run('cat', ['/proc/sys/kernel/random/boot_id']);
    const record = { pid: 1, pidNamespace: 'x', bootId: (await bootId).stdout.trim(), socket: true };
    writeFileSync(join(directory, 'writer.json'), JSON.stringify(record));
    const found = await registry.verify();
    t.true(
      found.some(({ code, repairable }) => code === 'unfinished-change' && !repairable),
      path,
    );
    await registry.repair();
    t.true(exists(sandbox.path('precious/file')));
    t.true(exists(sandbox.root, '.git2db/metadata.json'));
    await sandbox.run('rm', ['-r', directory]);
  }
});

test('an error of the undo is told beside the error that led to it', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const registry = await sandbox.open();
  const error = await t.throwsAsync(
    registry.transaction((transaction) => {
      transaction.onUndo(() => {
        throw new Error('cannot undo');
      });
      throw new Git2dbError('REFUSED', 'no');
    }),
    { instanceOf: AggregateError },
  );
  t.regex(error?.message ?? '', /^no; and not all of it could be taken back: cannot undo/);
});
