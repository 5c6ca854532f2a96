/** Repositories to measure with, made once by `git fast-import` and kept for later runs. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { RandomBytes } from '../bench/inputs.ts';
import { run } from '../bench-shared/run.ts';
import { ENV } from './commands.ts';

/** Commits after the first, each other than the one before it in one file of a hundred. */
export const STEPS = 10;
const TIME = 1_500_000_000;
const PERSON = 'bench <bench@example.org>';

export class RegistryInputs {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(dir, { recursive: true });
  }

  /** A bare repository of `files` files of random bytes; `c1`, `c2`, ... are tags of its commits, the last is main. */
  files(files: number, bytes: number): Promise<string> {
    return this.#made(`files-${files}-${bytes}`, filesStream(files, Math.floor(bytes / files)));
  }

  /** A bare repository with `commits` commits, a line of text changed in each. */
  history(commits: number): Promise<string> {
    return this.#made(`history-${commits}`, historyStream(commits));
  }

  async #made(name: string, stream: Iterable<string | Buffer>): Promise<string> {
    const path = join(this.#dir, name);
    if (existsSync(path)) return path;
    const part = `${path}.part`;
    spawnSync('rm', ['-rf', part]);
    run(['git', 'init', '-q', '--bare', '-b', 'main', part]);
    const child = spawn('git', ['-c', 'core.compression=1', 'fast-import', '--quiet'], {
      cwd: part,
      env: ENV,
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    for (const piece of stream) if (!child.stdin.write(piece)) await once(child.stdin, 'drain');
    child.stdin.end();
    const [status] = (await once(child, 'close')) as [number | null];
    if (status !== 0) throw new Error(`git fast-import: exit status ${status}`);
    renameSync(part, path);
    return path;
  }
}

function fileName(i: number): string {
  return `data/${i % 50}/${i % 7}/file-${i}.bin`;
}

function* filesStream(files: number, size: number): Iterable<string | Buffer> {
  const random = new RandomBytes(11);
  for (let step = 0; step <= STEPS; step++) {
    const changed = step === 0 ? files : Math.round(files / 100);
    yield* commitStart(step, `step ${step}`);
    for (let i = 0; i < changed; i++) {
      // Every step takes files of its own, spread over the tree.
      const file = step === 0 ? i : (i * 100 + step) % files;
      // Sizes differ, and their mean is `size`.
      const length = Math.max(1, size + ((file % 5) - 2) * Math.floor(size / 8));
      yield `M 100644 inline ${fileName(file)}\ndata ${length}\n`;
      for (let left = length; left > 0; left -= PIECE) yield Buffer.from(random.next(Math.min(left, PIECE)));
      yield '\n';
    }
    if (step > 0) yield `reset refs/tags/c${step}\nfrom :${step + 1}\n\n`;
  }
}

const PIECE = 1 << 20;

function* historyStream(commits: number): Iterable<string> {
  for (let i = 0; i < commits; i++) {
    yield* commitStart(i, `commit ${i}\n\nWhat was done, and why: a line of text as messages have them.`);
    const content = `content of commit ${i}\n`;
    yield `M 100644 inline dir/file-${i % 100}.txt\ndata ${content.length}\n${content}\n`;
  }
}

function* commitStart(i: number, message: string): Iterable<string> {
  yield `commit refs/heads/main\nmark :${i + 1}\n`;
  yield `author ${PERSON} ${TIME + i * 60} +0000\ncommitter ${PERSON} ${TIME + i * 60} +0000\n`;
  yield `data ${Buffer.byteLength(message)}\n${message}\n`;
  if (i > 0) yield `from :${i}\n`;
}
