/** Clients that are killed at every step of a fetch and of a push, and begun again. */
import { execFile } from 'node:child_process';
import { rmSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { parseHash } from '../../../src/xet/hash/xet-hash.ts';
import {
  chunkRun,
  createStore,
  hashOf,
  randomBytes,
  type StoreSandbox,
} from '../../helpers/store-sandbox.ts';

const PROGRAM = fileURLToPath(new URL('./killed-transfer.js', import.meta.url));
const MIB = 1 << 20;

interface Report {
  readonly steps: number;
  readonly given: number;
  readonly taken: number;
  readonly failed: number;
}

/** Undefined when it was killed. */
function run(
  what: 'fetch' | 'push',
  local: string,
  other: string,
  hashes: readonly string[],
  lastStep: number,
): Promise<Report | undefined> {
  return new Promise((resolve, reject) => {
    const argv = [PROGRAM, what, local, other, JSON.stringify(hashes), String(lastStep)];
    execFile(process.execPath, argv, (error, stdout, stderr) => {
      if (error === null) resolve(JSON.parse(stdout));
      else if (error.signal === 'SIGKILL') resolve(undefined);
      else reject(new Error(stderr));
    });
  });
}

test('a fetch that is killed at any step leaves nothing half-made, and the next brings what is left', async (t) => {
  const contents = Array.from({ length: 6 }, (_, i) => randomBytes(`f${i}`, MIB));
  const hashes = contents.map(hashOf);
  const other = createStore(t);
  await other.add(...contents);
  const target = createStore(t);
  const whole = (await run('fetch', target.root, other.root, hashes, -1))!;
  t.is(whole.failed, 0);
  for (let step = 0; step < whole.steps; step++) {
    rmSync(target.root, { recursive: true });
    t.is(await run('fetch', target.root, other.root, hashes, step), undefined);
    // What is found is whole.
    const found = hashes.filter((hash) => target.open().findFile(parseHash(hash)) !== undefined);
    for (const hash of found) t.not(target.tryRead(hash), undefined);
    const { given, failed } = (await run('fetch', target.root, other.root, hashes, -1))!;
    t.is(failed, 0);
    t.true(given < MIB * (hashes.length - found.length) * 1.01 + 1, `${given} bytes after step ${step}`);
    for (const [i, content] of contents.entries()) t.true(target.read(hashes[i]!).equals(content));
    t.deepEqual(target.list('incoming'), []);
  }
});

test('a push that is killed at any step registers nothing that is not there, and the next sends no xorb twice', async (t) => {
  const contents = [randomBytes('large', 17 * MIB), chunkRun('small', 0, 20)];
  const hashes = contents.map(hashOf);
  const source = createStore(t);
  await source.add(...contents);
  const other = createStore(t);
  const whole = (await run('push', source.root, other.root, hashes, -1))!;
  t.is(whole.failed, 0);
  const names = xorbsOf(other);
  for (let step = 0; step < whole.steps; step++) {
    rmSync(other.root, { recursive: true, force: true });
    t.is(await run('push', source.root, other.root, hashes, step), undefined);
    const before = xorbsOf(other);
    for (const hash of hashes)
      if (other.open().findFile(parseHash(hash)) !== undefined) t.not(other.tryRead(hash), undefined);
    const { taken, failed } = (await run('push', source.root, other.root, hashes, -1))!;
    t.is(failed, 0);
    t.deepEqual(xorbsOf(other), names, `step ${step}`);
    t.true(taken <= whole.taken - sizeOf(other, before) + 2 * 65536, `${taken} bytes after step ${step}`);
    for (const [i, content] of contents.entries()) t.true(other.read(hashes[i]!).equals(content));
  }
});

function xorbsOf(store: StoreSandbox): string[] {
  return store.list('xorbs').flatMap((ab) => store.list('xorbs', ab));
}

function sizeOf(store: StoreSandbox, names: readonly string[]): number {
  return names.reduce((sum, name) => sum + statSync(store.open().layout.xorb(name)).size, 0);
}
