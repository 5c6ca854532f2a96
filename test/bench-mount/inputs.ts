/** Lower layers, made once and kept for later rounds. */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { Inputs } from '../bench/inputs.ts';
import { run } from '../bench-shared/run.ts';

const OLD = new Date(Date.UTC(2020, 0, 1));
const GIT = ['git', '-c', 'user.name=bench', '-c', 'user.email=bench@example.org', '-c', 'gc.auto=0'];

export class MountInputs {
  readonly #dir: string;
  readonly #contents: Inputs;

  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(dir, { recursive: true });
    this.#contents = new Inputs(join(dir, 'contents'));
  }

  /** A layer with one file, `file`, of random bytes. */
  file(mib: number): string {
    return this.#made(`file-${mib}`, (path) => {
      const source = this.#contents.file('random', mib << 20);
      run(['cp', '--reflink=never', source, join(path, 'file')]);
    });
  }

  /** A layer with `file`, all of it data, and a directory `elsewhere` with some files. */
  copyUp(mib: number): string {
    return this.#made(`copy-up-${mib}`, (path) => {
      const piece = Buffer.alloc(1 << 20, 'copied up');
      const fd = openSync(join(path, 'file'), 'w');
      for (let i = 0; i < mib; i++) writeSync(fd, piece);
      closeSync(fd);
      mkdirSync(join(path, 'elsewhere'));
      for (let i = 0; i < 5000; i++) writeFileSync(join(path, 'elsewhere', `f${i}`), '');
    });
  }

  /** A layer with a directory `tree` of `count` small files, a hundred in each of its directories. */
  tree(count: number): string {
    return this.#made(`tree-${count}`, (path) => {
      for (let i = 0; i < count; i++) {
        const folder = join(path, 'tree', String(i % 10), String(Math.floor(i / 100)));
        if (i % 100 < 10) mkdirSync(folder, { recursive: true });
        writeFileSync(join(folder, `file-${i}.txt`), `content of file ${i}\n`);
      }
    });
  }

  /** A layer with a repository `repo`: `main` checked out, and `other`, in which a third of the files differ. */
  repository(count: number): string {
    return this.#made(`repository-${count}`, (path) => {
      const repo = join(path, 'repo');
      const git = (...args: string[]) => run([...GIT, ...args], repo);
      mkdirSync(repo);
      const name = (i: number) => `src/${i % 50}/${i % 7}/file-${i}.txt`;
      const write = (i: number, content: string) => {
        mkdirSync(join(repo, name(i), '..'), { recursive: true });
        writeFileSync(join(repo, name(i)), content);
      };
      git('init', '-q', '-b', 'main');
      for (let i = 0; i < count; i++) write(i, `${i}\n`.repeat(200));
      git('add', '.');
      git('commit', '-qm', 'main');
      git('checkout', '-q', '-b', 'other');
      for (let i = 0; i < count; i += 3) write(i, `${i} changed\n`.repeat(200));
      git('add', '.');
      git('commit', '-qm', 'other');
      git('checkout', '-q', 'main');
      for (let i = 0; i < count; i++) utimesSync(join(repo, name(i)), OLD, OLD);
      git('status');
    });
  }

  #made(name: string, make: (path: string) => void): string {
    const path = join(this.#dir, name);
    if (existsSync(path)) return path;
    run(['rm', '-rf', `${path}.part`]);
    mkdirSync(`${path}.part`);
    make(`${path}.part`);
    renameSync(`${path}.part`, path);
    return path;
  }
}
