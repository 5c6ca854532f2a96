/** docs/exit-codes.md and src/exit-codes.ts are one table. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { EXIT_CODES, EXIT_USAGE } from '../../src/exit-codes.ts';

const TOP = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));

test('docs/exit-codes.md lists each code of src/exit-codes.ts with its number, and no other', (t) => {
  const page = readFileSync(join(TOP, 'docs/exit-codes.md'), 'utf8');
  const listed = [...page.matchAll(/^\| +(\d+) \| `([A-Z0-9_]+)` +\| +(\S.*?) *\|$/gm)];
  const table = Object.fromEntries(listed.map(([, number, code]) => [code!, Number(number)]));
  const { USAGE: _, ...codes } = EXIT_CODES;
  const { USAGE = EXIT_USAGE, ...others } = table;
  t.is(USAGE, EXIT_USAGE);
  t.deepEqual(others, codes);
});

test('no exit code means two things', (t) => {
  const numbers = Object.values(EXIT_CODES);
  t.is(new Set(numbers).size, numbers.length);
  t.true(numbers.every((number) => number >= 2 && number < 126));
});
