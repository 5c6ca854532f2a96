/** docs/library.md, run as a reader would run it: each block must print what its comments say. */
import { cpSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { createSandbox } from '../helpers/git-sandbox.ts';

/** build/test/docs -> the compiled sources, and the top of the source tree. */
const SOURCES = fileURLToPath(new URL('../../src/', import.meta.url));
const TOP = dirname(dirname(SOURCES));

interface Block {
  readonly code: string;
  readonly line: number;
  readonly expected: readonly string[];
}

function blocksOf(page: string): Block[] {
  return [...page.matchAll(/^```js\n(.*?)^```$/gms)].map((match) => ({
    code: match[1]!,
    line: page.slice(0, match.index).split('\n').length,
    expected: [...match[1]!.matchAll(/^ *\/\/ -> (.*)$/gm)].map(([, line]) => line!),
  }));
}

const MARK = '--- block at line';

test('the examples of docs/library.md print what they say', async (t) => {
  const sandbox = createSandbox(t);
  const page = readFileSync(join(TOP, 'docs/library.md'), 'utf8');
  const blocks = blocksOf(page);
  t.true(blocks.length > 20);
  // The package as it is installed, with the compiled modules in the place of dist.
  const installed = sandbox.path('node_modules/git2db');
  mkdirSync(installed, { recursive: true });
  cpSync(join(TOP, 'package.json'), join(installed, 'package.json'));
  symlinkSync(SOURCES, join(installed, 'dist'));
  const program = blocks.map(({ code, line }) => `console.log('${MARK} ${line}');\n${code}`).join('\n');
  sandbox.write('tour.mjs', program);
  const { stdout, stderr, status } = await sandbox.run(process.execPath, ['tour.mjs'], {
    timeoutMs: 240_000,
  });
  const printed = new Map(
    stdout.split(`${MARK} `).map((piece) => {
      const [line, ...rest] = piece.replace(/\n$/, '').split('\n');
      return [Number(line), rest];
    }),
  );
  for (const { line, expected } of blocks) {
    t.deepEqual(printed.get(line), expected, `docs/library.md, the block at line ${line}\n${stderr}`);
  }
  t.is(status, 0, stderr);
});

test('docs/library.md names every value that the package exports', async (t) => {
  const page = readFileSync(join(TOP, 'docs/library.md'), 'utf8');
  const names = page.slice(page.indexOf('## All names'));
  const exported = Object.keys(await import('../../src/index.ts')).sort();
  const missing = exported.filter((name) => !names.includes(`\`${name}\``));
  t.deepEqual(missing, []);
});
