import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import * as library from '../../src/index.ts';
import { Git2dbError } from '../../src/xet/errors.ts';
import { createRegistrySandbox } from './registry-sandbox.ts';

/** None is an argument of anything, at the first place or after one that is right. */
const WRONG: readonly (readonly unknown[])[] = [
  [null],
  [42],
  [true],
  [[42]],
  [Symbol('s')],
  [{ signal: 1, name: 7, path: 8, force: 'no', ref: 3, paths: [9], message: {}, refs: 4, metadata: 'x' }],
  ['main', 42],
  ['main', null],
  ['main', { signal: 'x', force: 'false', message: 3 }],
  ['main', 'main', 42],
];

/** Take no arguments, are for others than programs, or wait for an answer that never comes. */
const PASSED_OVER = new Set([
  'constructor',
  'watch',
  'exec',
  'then',
  'catch',
  'finally',
  'close',
  'onUndo',
  'unlock',
]);

function methodsOf(object: object): string[] {
  const names = new Set<string>();
  for (let each = object; each !== Object.prototype && each !== null; each = Object.getPrototypeOf(each)) {
    if (each === Function.prototype) break;
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(each))) {
      if (typeof value === 'function' && !PASSED_OVER.has(name)) names.add(name);
    }
  }
  return [...names];
}

/** What a call with wrong arguments comes to; iterables are begun. */
async function outcomeOf(call: () => unknown): Promise<unknown> {
  try {
    const given = await call();
    if (typeof given === 'object' && given !== null && Symbol.asyncIterator in given) {
      for await (const _ of given as AsyncIterable<unknown>) break;
    }
    return undefined;
  } catch (error) {
    return error;
  }
}

test('no method answers wrong arguments by an error without a code', async (t) => {
  const sandbox = createRegistrySandbox(t);
  const db = await sandbox.open();
  const source = await sandbox.repository('source');
  await db.clone(source, { name: 'model' });
  const subjects: Record<string, () => Promise<object> | object> = {
    db: () => db,
    manager: () => db.manager,
  };
  const handle = await db.repo('model');
  writeFileSync(join(handle.path, 'file'), 'changed\n');
  Object.assign(subjects, {
    handle: () => handle,
    branch: () => handle.branch(),
    staging: () => handle.staging(),
    remote: () => handle.remote(),
    tag: () => handle.tag(),
    stash: () => handle.stash(),
    worktree: () => handle.worktree(),
    refs: () => handle.refs,
    xet: () => handle.xet,
    lfs: () => handle.lfs,
    merge: () => handle.merge,
    rebase: () => handle.rebase,
    cherryPick: () => handle.cherryPick,
    revert: () => handle.revert,
    diff: () => handle.diff,
    objects: () => handle.objects,
    RepoId: () => library.RepoId,
  });
  const untyped: string[] = [];
  for (const [subject, find] of Object.entries(subjects)) {
    for (const name of methodsOf(await find())) {
      for (const values of [[], ...WRONG]) {
        const on = (await find()) as Record<string, (...values: readonly unknown[]) => unknown>;
        const error = await outcomeOf(() => on[name]!(...values));
        if (error === undefined || error instanceof Git2dbError || (error as Error).name === 'AbortError')
          continue;
        untyped.push(
          `${subject}.${name}(${values.map((value) => JSON.stringify(value) ?? String(value))}): ${error}`,
        );
      }
    }
  }
  t.deepEqual(untyped, []);
});
