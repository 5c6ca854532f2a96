import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Chunker } from '../../src/xet/chunk/chunker.ts';
import { cli, isolateGit, PROGRAM, sourceFile, temporaryFolder } from './run.ts';

isolateGit();

interface Vectors {
  readonly serialized: {
    readonly examples: readonly {
      readonly files: readonly {
        input: { kind: string; text: string; size: number };
        sha256: string;
        file_hash: string;
      }[];
    }[];
  };
}

const HASH = /^[0-9a-f]{64}$/;
const ZEROS = '0'.repeat(64);

/** The files of the reference vectors that are a text repeated to a size. */
function repeatedFiles() {
  const text = readFileSync(sourceFile('test/vectors/xet-vectors.json'), 'utf8');
  const { serialized } = JSON.parse(text) as Vectors;
  return serialized.examples.flatMap(({ files }) => files).filter(({ input }) => input.kind === 'repeat');
}

test('xet hash gives the hashes of the reference vectors', async (t) => {
  const folder = temporaryFolder(t);
  const files = repeatedFiles();
  t.true(files.length >= 2);
  for (const { input, sha256, file_hash: fileHash } of files) {
    const path = join(folder, 'file');
    writeFileSync(path, input.text.repeat(Math.ceil(input.size / input.text.length)).slice(0, input.size));
    const { code, stdout } = await cli(['xet', 'hash', '--json', path]);
    t.is(code, 0);
    t.like(JSON.parse(stdout), { size: input.size, sha256, fileHash });
  }
});

test('xet hash lists the chunks of a file of several windows', async (t) => {
  const path = join(temporaryFolder(t), 'random');
  const bytes = randomBytes(5_000_000);
  writeFileSync(path, bytes);
  const { code, stdout } = await cli(['xet', 'hash', '--json', '--chunks', path]);
  t.is(code, 0);
  const document = JSON.parse(stdout);
  t.deepEqual(Object.keys(document), ['size', 'sha256', 'fileHash', 'chunkCount', 'chunks']);
  const chunker = new Chunker();
  const lengths = [...chunker.push(bytes), chunker.finish()].filter((length) => length !== undefined);
  t.deepEqual(
    document.chunks.map((chunk: { length: number }) => chunk.length),
    lengths,
  );
  t.true(document.chunks.every((chunk: { hash: string }) => HASH.test(chunk.hash)));
  t.is(document.chunkCount, lengths.length);
  t.is(document.sha256, createHash('sha256').update(bytes).digest('hex'));
  const text = await cli(['xet', 'hash', path]);
  t.is(text.stdout, `${document.fileHash}  ${path}\n`);
});

test('xet hash reads standard input in whatever pieces it comes', async (t) => {
  const path = join(temporaryFolder(t), 'random');
  const bytes = randomBytes(700_001);
  writeFileSync(path, bytes);
  const whole = JSON.parse((await cli(['xet', 'hash', '--json', path])).stdout);
  const child = spawn(process.execPath, [PROGRAM, 'xet', 'hash', '--json', '-'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let stdout = '';
  child.stdout.on('data', (piece) => {
    stdout += piece;
  });
  for (let at = 0; at < bytes.length; at += 99_991) {
    child.stdin.write(bytes.subarray(at, at + 99_991));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  child.stdin.end();
  await new Promise((resolve) => child.once('close', resolve));
  t.deepEqual(JSON.parse(stdout), whole);
});

test('the empty file has the hash of zeros and no chunk, and is its own pointer', async (t) => {
  const { stdout } = await cli(['xet', 'hash', '--json', '--chunks', '-']);
  t.like(JSON.parse(stdout), { size: 0, fileHash: ZEROS, chunkCount: 0, chunks: [] });
  const pointer = await cli(['xet', 'pointer', '-']);
  t.is(pointer.code, 0);
  t.is(pointer.stdout, '');
});

test('files that cannot be read are named, the others are done, and the exit code is 1', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'file');
  writeFileSync(path, 'x');
  const several = await cli(['xet', 'hash', '--json', join(folder, 'none'), path, folder]);
  t.is(several.code, 1);
  t.deepEqual(
    JSON.parse(several.stdout).map((document: { path: string }) => document.path),
    [path],
  );
  t.regex(several.stderr, /cannot read .*none: no such file or directory\n.*cannot read /);
  t.is((await cli(['xet', 'pointer', join(folder, 'none')])).code, 1);
});

test('the pointer of a file is what clean would answer, for pointers too', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'file');
  writeFileSync(path, 'hello xet\n');
  const { stdout } = await cli(['xet', 'pointer', path]);
  const hash = '1ba2068e20e8f365c75a17600ea73d49e617acd2222894a20db100d0032b4e22';
  t.is(stdout, `{"version":"1.0","filesize":10,"hash":"${hash}"}\n`);
  const json = JSON.parse((await cli(['xet', 'pointer', '--json', path])).stdout);
  t.deepEqual(json, { size: 10, fileHash: hash, pointer: stdout });
  writeFileSync(path, stdout.replace('\n', '\r\n'));
  t.is((await cli(['xet', 'pointer', path])).stdout, stdout);
  const foreign = `{"hash":"${hash}","file_size":10}`;
  writeFileSync(path, foreign);
  t.is((await cli(['xet', 'pointer', path])).stdout, foreign);
});

const LFS = `version https://git-lfs.github.com/spec/v1\noid sha256:${'a'.repeat(64)}\nsize 5\n`;

const checks = test.macro({
  async exec(t, content: string, code: number, kind: string | null) {
    const path = join(temporaryFolder(t), 'file');
    writeFileSync(path, content);
    const plain = await cli(['xet', 'pointer', '--check', path]);
    t.is(plain.code, code);
    t.is(plain.stdout, '');
    const json = await cli(['xet', 'pointer', '--check', '--json', path]);
    t.is(json.code, code);
    t.like(JSON.parse(json.stdout), { valid: code === 0, kind });
  },
  title: (name) => `xet pointer --check: ${name}`,
});

test('our own pointer', checks, `{"version":"1.0","filesize":5,"hash":"${'a'.repeat(64)}"}\n`, 0, 'xet');
test('the JSON of xet-core', checks, `{"hash":"${'a'.repeat(64)}","file_size":5}`, 0, 'xet-json');
test('the old TOML', checks, `# xet version 0\nfilesize = 5\nhash = '${'a'.repeat(64)}'\n`, 0, 'xet-toml');
test('a pointer of Git LFS is none of ours', checks, LFS, 1, 'lfs');
test('content', checks, 'hello\n', 1, null);
test(
  'a pointer with something behind it',
  checks,
  `{"version":"1.0","filesize":5,"hash":"${'a'.repeat(64)}"}\n\n`,
  1,
  null,
);
test('the empty file', checks, '', 1, null);
