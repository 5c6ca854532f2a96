import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { SERVER_FLAGS } from '../../src/mount-helper/fuse/start.ts';

const BIN = fileURLToPath(new URL('../../../dist/bin/', import.meta.url));
const CACHES = readdirSync(BIN).filter((name) => name.endsWith('-core.cache'));

/** Prints whether the engine takes what is beside the program `process.argv[1]`. */
const TAKES = `
  const { readFileSync } = require('node:fs');
  const core = process.argv[1];
  const script = new (require('node:vm').Script)(readFileSync(core + '.js').latin1Slice(), {
    filename: core + '.js',
    cachedData: readFileSync(core + '.cache'),
  });
  process.stdout.write(String(!script.cachedDataRejected));
`;

test('every program that starts by a cache has one', (t) => {
  const programs = readdirSync(BIN).filter((name) => name.endsWith('-core.js'));
  t.deepEqual(
    CACHES.map((name) => name.replace('.cache', '.js')).sort(),
    // The filter begins without its core.
    programs.filter((name) => name !== 'git2db-filter-core.js').sort(),
  );
});

for (const name of CACHES) {
  test(`the engine takes ${name}, which saves half of a start`, (t) => {
    const flags = name.startsWith('fuse-') ? SERVER_FLAGS : [];
    const core = BIN + name.replace('.cache', '');
    const { stdout, stderr } = spawnSync(process.execPath, [...flags, '-e', TAKES, core], {
      encoding: 'utf8',
    });
    t.is(stdout, 'true', stderr);
  });
}
