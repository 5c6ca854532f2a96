/** docs/remotes.md, run as a reader would run it: each recipe in an empty directory, word for word. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { s3Missing, startS3 } from '../helpers/s3-server.ts';
import { createXetSandbox } from '../helpers/xet-sandbox.ts';

const TOP = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));
const PAGE = readFileSync(join(TOP, 'docs/remotes.md'), 'utf8');

interface Recipe {
  readonly title: string;
  readonly code: string;
}

const RECIPES: readonly Recipe[] = [...PAGE.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => ({
  title: PAGE.slice(0, match.index)
    .match(/^## .*$/gm)!
    .at(-1)!
    .slice(3),
  code: match[1]!,
}));

/** What the page supposes. */
const PREPARED = `git config --global user.name me
git config --global user.email me@example.org
git config --global init.defaultBranch main
git2db xet install --global
`;

/** Ports that the page names, which may be taken here. */
const PORTS = ['7878', '8000'];

test('docs/remotes.md has a recipe for each kind of place', (t) => {
  t.deepEqual(
    RECIPES.map(({ title }) => title),
    [
      'A directory',
      'Our own server',
      'Our own server',
      'A bucket',
      'Moving to another place',
      'Content apart from git',
      'A static web server',
      'Day to day',
    ],
  );
});

for (const [i, { title, code }] of RECIPES.entries()) {
  const needsS3 = code.includes('s3://');
  const missing = needsS3 ? s3Missing() : undefined;
  const run = missing === undefined ? test : test.skip;
  run(`recipe ${i + 1}, ${title}${missing === undefined ? '' : ` (${missing})`}`, async (t) => {
    t.timeout(120_000);
    const sandbox = createXetSandbox(t);
    const [directory, home] = [sandbox.path('recipe'), sandbox.path('home')];
    for (const made of [directory, home]) mkdirSync(made);
    let script = code;
    for (const port of PORTS) script = script.replaceAll(port, String(await freePort()));
    const server = /127\.0\.0\.1:(\d+)\/healthz/.exec(script)?.[1];
    script = script.replace('git2db serve --store', `git2db serve --listen 127.0.0.1:${server} --store`);
    writeFileSync(
      join(directory, '..', 'recipe.sh'),
      `set -e\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n${PREPARED}${script}`,
    );
    const env = {
      HOME: home,
      GIT_CONFIG_GLOBAL: join(home, '.gitconfig'),
      ...(needsS3 ? await bucketVariables() : {}),
    };
    const { status, stdout, stderr } = await sandbox.run('bash', ['../recipe.sh'], { cwd: directory, env });
    t.is(status, 0, `${stdout}\n${stderr}`);
  });
}

async function bucketVariables(): Promise<NodeJS.ProcessEnv> {
  const s3 = await startS3();
  return { ...s3.env, BUCKET: await s3.createBucket(), ENDPOINT: s3.endpoint };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
