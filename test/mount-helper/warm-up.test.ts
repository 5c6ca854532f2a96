import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { WarmUp } from '../../src/mount-helper/fuse/warm-up.ts';
import { recordingFileSystem } from './helpers/frames.ts';
import { Loopback } from './helpers/loopback.ts';
import { scratch } from './helpers/scratch.ts';

const READING = ['opendir', 'readdir', 'releasedir', 'lookup', 'getattr', 'forget', 'destroy'];

test('warming up looks at names and attributes, changes nothing, and gives back what it looked up', (t) => {
  const path = scratch(t);
  for (const name of ['a', 'b', 'c']) writeFileSync(join(path, name), name);
  const loopback = new Loopback(Buffer.from(path));
  const asked = new Map<string, number>();
  let lookups = 0;
  let forgotten = 0;
  const counting = new Proxy(loopback, {
    get: (target, method: keyof Loopback) => {
      const own = target[method] as unknown;
      if (typeof own !== 'function') return own;
      return (...parameters: unknown[]) => {
        asked.set(method, (asked.get(method) ?? 0) + 1);
        if (method === 'lookup') lookups++;
        if (method === 'forget') forgotten += parameters[1] as number;
        return own.apply(target, parameters);
      };
    },
  });
  const warmUp = new WarmUp(counting);
  t.true(warmUp.step());
  warmUp.step();
  warmUp.end();
  t.deepEqual(
    [...asked.keys()].filter((method) => !READING.includes(method)),
    [],
  );
  t.is(lookups, 6);
  // Each listing of three names counts as three lookups more.
  t.is(forgotten, 12);
  t.is(asked.get('destroy'), 1);
  t.deepEqual(readdirSync(path).sort(), ['a', 'b', 'c']);
});

test('warming up on a directory that cannot be read does no harm', (t) => {
  const { fileSystem, calls } = recordingFileSystem({ opendir: () => -13 });
  const warmUp = new WarmUp(fileSystem);
  t.true(warmUp.step());
  warmUp.end();
  t.deepEqual(
    calls.map(([method]) => method),
    ['opendir', 'destroy'],
  );
});
