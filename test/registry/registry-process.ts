/**
 * A program that uses a registry, for tests that start several and kill them. The arguments are the
 * registry's directory and what to do; a line on stdout tells of each thing that was acknowledged.
 */
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Git2DB } from '../../src/registry/git2db.ts';
import { registryLayout } from '../../src/registry/registry-layout.ts';
import { RegistryLock } from '../../src/registry/registry-lock.ts';

const [root = '', what = '', ...args] = process.argv.slice(2);

function say(line: string): void {
  writeSync(1, `${line}\n`);
}

if (what === 'register') {
  // Registers and renames entries of its own until it is killed, or has done as many as it was told.
  const [prefix = '', repositories = '', count = '0'] = args;
  const registry = await Git2DB.open(root);
  for (let number = 0; number < Number(count); number++) {
    const name = `${prefix}-${number}`;
    const { id } = await registry.register({ path: `${repositories}/${name}`, name });
    say(name);
    await registry.update(id, { metadata: { done: 'yes' } });
    say(`${name} updated`);
  }
} else if (what === 'hold') {
  // Holds the lock until it is killed.
  await RegistryLock.acquire(registryLayout(root).lock, { timeoutMs: 10_000 });
  say('held');
  await sleep(600_000);
} else if (what === 'count') {
  // Adds one to a counter in the registry's metadata, many times, each under the lock.
  const registry = await Git2DB.open(root);
  for (let number = 0; number < Number(args[0]); number++) {
    await registry.transaction(
      (transaction) => {
        const { id, metadata } = transaction.get('counter');
        transaction.update(id, { metadata: { count: String(Number(metadata.count ?? '0') + 1) } });
      },
      { isolation: 'serializable' },
    );
  }
  say('done');
} else if (what === 'clone') {
  const [url = '', name = ''] = args;
  const registry = await Git2DB.open(root);
  say((await registry.clone(url, { name })).id);
} else if (what === 'stop-in-transaction') {
  // Waits to be killed when a URL was changed, and the metadata were not.
  const registry = await Git2DB.open(root);
  await registry.transaction(
    async (transaction) => {
      await transaction.clone(args[0]!).name('staged');
      say('staged');
      await sleep(600_000);
    },
    { isolation: args[1] === 'serializable' ? 'serializable' : 'optimistic' },
  );
}
