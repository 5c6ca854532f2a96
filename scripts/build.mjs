// Builds the package: AssemblyScript kernels -> a TypeScript module holding the binary, tsc ->
// dist (or build/ with the tests, `--test`), esbuild -> the single-file programs in dist/bin.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
process.chdir(root);
const forTests = process.argv.includes('--test');

function run(script, args) {
  const result = spawnSync(process.execPath, [script, ...args], { stdio: 'inherit' });
  if (result.status !== 0) process.exit(result.status ?? 1);
}

/** The program that a package's package.json names under bin. */
function programOf(name, bin) {
  const manifestPath = require.resolve(`${name}/package.json`);
  const manifest = JSON.parse(readFileSync(manifestPath, 'utf8'));
  const entry = typeof manifest.bin === 'string' ? manifest.bin : manifest.bin[bin];
  return join(dirname(manifestPath), entry);
}

function buildKernels() {
  const source = 'src/xet/wasm/assembly/index.ts';
  const target = 'src/xet/wasm/kernels-binary.ts';
  const sources = readdirSync(dirname(source)).map((f) => join(dirname(source), f));
  sources.push('src/xet/wasm/memory-layout.ts', 'src/xet/chunk/limits.ts');
  const newest = Math.max(...sources.map((f) => statSync(f).mtimeMs));
  if (existsSync(target) && statSync(target).mtimeMs > newest) return;
  mkdirSync('build', { recursive: true });
  run(programOf('assemblyscript', 'asc'), [
    source,
    '--outFile',
    'build/kernels.wasm',
    '-O3',
    '--noAssert',
    '--runtime',
    'stub',
    '--enable',
    'simd',
    '--enable',
    'threads',
    '--importMemory',
    '--sharedMemory',
    '--initialMemory',
    '2',
    '--maximumMemory',
    '16384',
    '--memoryBase',
    '1024',
  ]);
  const base64 = readFileSync('build/kernels.wasm').toString('base64');
  writeFileSync(
    target,
    `// Made by scripts/build.mjs from src/xet/wasm/assembly.\nexport const KERNELS_BASE64 =\n  '${base64}';\n`,
  );
}

/**
 * The programs in dist/bin are CommonJS: Node starts it faster than modules. The filter is two
 * files: what the handshake needs, and the core, loaded with the first request. So is git2db: the
 * command line, and the registry and the large files, each for the commands that use it.
 */
async function bundle() {
  const bin = 'dist/bin';
  const url = "const __fileUrl = require('node:url').pathToFileURL(__filename).href;";
  const program = readFileSync('scripts/program-start.sh', 'utf8').trimEnd();
  const common = {
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    minifySyntax: true,
    minifyWhitespace: true,
    // Each name of ours that a cache holds is one more that the engine looks up when it takes it.
    minifyIdentifiers: true,
    external: ['@napi-rs/blake-hash', 'koffi', 'undici', '@aws-sdk/client-s3'],
    legalComments: 'none',
    logLevel: 'warning',
    outdir: bin,
    alias: { 'node:module': './scripts/bundled-module.cjs' },
    define: { 'import.meta.url': '__fileUrl' },
    supported: { 'dynamic-import': false },
  };
  const coreApart = {
    name: 'core-apart',
    setup(builder) {
      builder.onResolve({ filter: /\/core\.ts$/ }, () => ({
        path: './git2db-filter-core.js',
        external: true,
      }));
    },
  };
  const librariesApart = {
    name: 'libraries-apart',
    setup(builder) {
      builder.onResolve({ filter: /\/(registry|large-files|server|http)-library\.ts$/ }, ({ path, kind }) =>
        kind === 'entry-point'
          ? undefined
          : { path: `./git2db-${/(\w+(?:-files)?)-library/.exec(path)[1]}.js`, external: true },
      );
    },
  };
  rmSync(bin, { recursive: true, force: true });
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, 'package.json'), '{"type":"commonjs"}\n');
  await Promise.all([
    build({
      ...common,
      entryPoints: {
        'git2db-filter': 'src/filter-process/main.ts',
        'git2db-lfs-filter': 'src/filter-process/lfs-main.ts',
      },
      banner: { js: program },
      plugins: [coreApart],
    }),
    build({
      ...common,
      entryPoints: { 'git2db-filter-core': 'src/filter-process/core.ts' },
      banner: { js: url },
    }),
    build({
      ...common,
      entryPoints: {
        'kernel-worker': 'src/xet/parallel/kernel-worker.ts',
        'record-worker': 'src/xet/parallel/record-worker.ts',
      },
      banner: { js: url },
    }),
    build({
      ...common,
      entryPoints: { 'git2db-core': 'src/cli/main.ts' },
      banner: { js: url },
      plugins: [librariesApart],
    }),
    build({
      ...common,
      entryPoints: {
        'git2db-registry-core': 'src/cli/registry-library.ts',
        'git2db-large-files-core': 'src/cli/large-files-library.ts',
        'git2db-server-core': 'src/cli/server-library.ts',
      },
      banner: { js: url },
      external: [...common.external, 'isomorphic-git'],
      plugins: [librariesApart],
    }),
    build({
      ...common,
      entryPoints: { 'git2db-http-core': 'src/xet/cas/http-library.ts' },
      external: [],
      // It names classes in its messages.
      minifyIdentifiers: false,
    }),
    build({
      ...common,
      entryPoints: {
        'git2db-mount-core': 'src/mount-helper/main.ts',
        'fuse-server-core': 'src/mount-helper/fuse/server-process.ts',
        'fuse-loop-core': 'src/mount-helper/fuse/loop-worker.ts',
        'userns-holder': 'src/mount-helper/userns-holder.ts',
      },
      banner: { js: url },
    }),
  ]);
  const runner = readFileSync('scripts/run-cached.cjs', 'utf8');
  writeFileSync(join(bin, 'git2db.js'), `${program}\n${runner}`);
  writeFileSync(join(bin, 'git2db-mount.js'), `${mountProgram(program)}\n${runner}`);
  const apart = ['registry', 'large-files', 'server', 'http'].map((name) => `git2db-${name}`);
  const cached = [...apart, 'fuse-server', 'fuse-loop'];
  for (const name of cached) writeFileSync(join(bin, `${name}.js`), runner);
  for (const name of ['git2db', 'git2db-mount', ...cached]) makeFunction(join(bin, `${name}-core.js`));
  await makeCaches(bin);
  for (const name of ['git2db', 'git2db-filter', 'git2db-lfs-filter', 'git2db-mount']) {
    chmodSync(join(bin, `${name}.js`), 0o755);
  }
}

/** Of a bundle, as scripts/run-cached.cjs takes it. */
function makeFunction(file) {
  const source = readFileSync(file, 'utf8');
  const other = /[\u0080-\uffff].*/.exec(source);
  // The bundler writes escapes, but not into regular expressions: these have to be written with them.
  if (other !== null) throw new Error(`${file} is not ASCII: ${other[0].slice(0, 40)}`);
  writeFileSync(file, `(function (exports, require, module, __filename, __dirname) {${source}\n})`);
}

/** Some mounts are not started by the last line of sh, but before it. */
function mountProgram(program) {
  const last = 'exec node "$0" "$@"\n';
  const at = program.lastIndexOf(last);
  if (at < 0) throw new Error('scripts/program-start.sh does not end as expected');
  return `${program.slice(0, at)}${readFileSync('scripts/mount-start.sh', 'utf8')}${program.slice(at)}`;
}

/** Commands that need most of what all commands need. */
const ordinary = (driver) =>
  [
    'init registry',
    'register . --registry registry --name one',
    'list --registry registry',
    'status one --registry registry',
    `worktree add one main tree --registry registry --branch b --driver ${driver}`,
    'worktree list one --registry registry',
    'worktree remove one b --registry registry',
    'xet status',
  ].map((line) => [...line.split(' '), '--quiet']);

/** What git2db-mount is run for the most, and has the least time for. */
const MOUNTS = [
  '-o lowerdir=mounts/lower,upperdir=mounts/upper,workdir=mounts/work --backend kernel mounts/merged',
  'list',
  'umount mounts/merged',
].map((line) => line.split(' '));

/** In namespaces of their own programs can mount: nobody sees it, and it ends with them. */
const NAMESPACES = ['unshare', '--user', '--map-root-user', '--mount'];

/** What the engine makes of the programs that have to start quickly: it counts only with the same flags. */
async function makeCaches(bin) {
  const compiled = forTests ? 'build/src' : 'dist';
  const { SERVER_FLAGS } = await import(pathToFileURL(join(root, compiled, 'mount-helper/fuse/start.js')));
  const files = (...names) => names.map((name) => join(root, bin, `${name}-core.js`));
  const script = 'scripts/make-cache.cjs';
  const scratch = mkdtempSync(join(tmpdir(), 'git2db-build-'));
  const env = scratchRepository(scratch);
  const makeCache = (args, before = []) => {
    const [program, ...words] = [...before, process.execPath, ...args];
    const { status } = spawnSync(program, words, { stdio: ['ignore', 'ignore', 'inherit'], env });
    if (status !== 0) process.exit(status ?? 1);
  };
  const tryOut = (commands, names, before) =>
    makeCache([script, '--try', scratch, JSON.stringify(commands), ...files(...names)], before);
  const programs = ['git2db', 'git2db-registry', 'git2db-large-files', 'git2db-server'];
  try {
    if (spawnSync(NAMESPACES[0], [...NAMESPACES.slice(1), 'true'], { stdio: 'ignore' }).status === 0) {
      tryOut(ordinary('overlay2'), programs, NAMESPACES);
      tryOut(MOUNTS, ['git2db-mount'], NAMESPACES);
    } else {
      tryOut(ordinary('vfs'), programs);
      // Half of them would do. A start takes some milliseconds longer with all, and has nothing to compile.
      makeCache([script, '--all', ...files('git2db-mount')]);
    }
    makeCache([script, '--load', ...files('git2db-http')]);
    makeCache([...SERVER_FLAGS, script, '--all', ...files('fuse-server', 'fuse-loop')]);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Something for the programs to be tried on, and the environment for it, without anybody's settings. */
function scratchRepository(directory) {
  const env = {
    PATH: process.env.PATH,
    HOME: directory,
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_AUTHOR_NAME: 'build',
    GIT_AUTHOR_EMAIL: 'build@localhost',
    GIT_COMMITTER_NAME: 'build',
    GIT_COMMITTER_EMAIL: 'build@localhost',
  };
  writeFileSync(join(directory, 'file'), 'text\n');
  for (const name of ['lower', 'upper', 'work', 'merged'])
    mkdirSync(join(directory, 'mounts', name), { recursive: true });
  for (const args of [
    ['init', '--quiet', '--initial-branch=main'],
    ['add', 'file'],
    ['commit', '--quiet', '--message', 'one'],
  ])
    spawnSync('git', args, { cwd: directory, env, stdio: 'ignore' });
  return env;
}

buildKernels();
run(programOf('typescript', 'tsc'), forTests ? [] : ['-p', 'tsconfig.build.json']);
await bundle();
if (!forTests) {
  rmSync('dist/man', { recursive: true, force: true });
  run('dist/bin/git2db.js', ['man', '--quiet', '--dir', 'dist/man']);
}
