/** Places for servers and users: programs by their names, homes, repositories with a remote. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Cost, measure } from '../bench/measure.ts';
import {
  benchEnvironment,
  LFS_FILTER,
  linkPrograms,
  QUIET_GIT,
  XET_FILTER,
} from '../bench-shared/environment.ts';
import { LfsServer, RunningServer, startNginx } from './servers.ts';

const execute = promisify(execFile);

export type Kind = 'git2db' | 'git-lfs';

export class Arena {
  readonly dir: string;
  readonly memoryAtHand: number;
  readonly #bin: string;

  /** `memoryAtHand`: bytes that whoever is measured finds free at once. */
  constructor(dir: string, memoryAtHand: number) {
    this.dir = dir;
    this.memoryAtHand = memoryAtHand;
    this.#bin = join(dir, 'bin');
    linkPrograms(this.#bin, { git2db: 'dist/bin/git2db.js', 'git2db-filter': 'dist/bin/git2db-filter.js' });
  }

  folder(kind: string): string {
    return mkdtempSync(join(this.dir, `${kind}-`));
  }

  /** A user of this machine's programs, with a home of its own. */
  async user(kind: Kind, settings: Readonly<Record<string, string>> = {}): Promise<User> {
    const home = this.folder('home');
    const user = new User(this, kind, benchEnvironment(home, this.#bin));
    const filter = kind === 'git2db' ? XET_FILTER : { ...LFS_FILTER, 'lfs.locksverify': 'false' };
    for (const [key, value] of Object.entries({
      ...QUIET_GIT,
      ...filter,
      ...settings,
    }))
      await user.run(['git', 'config', '--global', key, value], this.dir);
    return user;
  }

  /** Our server over a new store and directory of repositories, which it makes as they are pushed to. */
  async serve(more: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Promise<Service> {
    const folder = this.folder('serve');
    const store = join(folder, 'store');
    const server = await RunningServer.start(
      (port) => [
        join(this.#bin, 'git2db'),
        'serve',
        '--listen',
        `127.0.0.1:${port}`,
        '--repositories',
        join(folder, 'repositories'),
        '--create',
        '--anonymous',
        'write',
        ...(more.includes('--store') ? [] : ['--store', store]),
        ...more,
      ],
      { env: { ...process.env, ...env }, path: '/healthz' },
    );
    return { server, store, folder };
  }

  async nginx(): Promise<{ readonly server: RunningServer; readonly root: string }> {
    const folder = this.folder('nginx');
    const root = join(folder, 'root');
    return { server: await startNginx(folder, root), root };
  }

  lfs(nginx: { readonly server: RunningServer; readonly root: string }): Promise<LfsServer> {
    return LfsServer.start(`http://127.0.0.1:${nginx.server.port}/objects`, (oid) =>
      existsSync(join(nginx.root, 'objects', oid)),
    );
  }
}

export interface Service {
  readonly server: RunningServer;
  readonly store: string;
  readonly folder: string;
}

export class User {
  readonly kind: Kind;
  readonly env: NodeJS.ProcessEnv;
  readonly #arena: Arena;

  constructor(arena: Arena, kind: Kind, env: NodeJS.ProcessEnv) {
    this.#arena = arena;
    this.kind = kind;
    this.env = env;
  }

  /** A repository whose directory `data` goes through the filter, with `url` as its remote. */
  async repository(url: string): Promise<string> {
    const folder = this.#arena.folder('repository');
    await this.run(['git', 'init', '-q', '-b', 'main', folder], this.#arena.dir);
    const filter = this.kind === 'git2db' ? 'xet' : 'lfs';
    writeFileSync(
      join(folder, '.gitattributes'),
      `data/** filter=${filter} diff=${filter} merge=binary -text\n`,
    );
    mkdirSync(join(folder, 'data'));
    await this.run(['git', 'remote', 'add', 'origin', url], folder);
    return folder;
  }

  /** Puts `source`, a file or directory, into the repository and commits it. */
  async commit(folder: string, source: string, name: string): Promise<void> {
    rmSync(join(folder, 'data', name), { recursive: true, force: true });
    await this.run(['cp', '-r', source, join(folder, 'data', name)], folder);
    await this.run(['git', 'add', '.'], folder);
    await this.run(['git', 'commit', '-q', '-m', name], folder);
  }

  /** Runs a command unmeasured, and resolves to its output; rejects with its stderr where it fails. */
  async run(command: readonly string[], cwd: string, more: NodeJS.ProcessEnv = {}): Promise<string> {
    const [program, ...args] = command as [string, ...string[]];
    // Not synchronously: what counts the bytes on the wire runs in this process.
    const { stdout } = await execute(program, args, {
      cwd,
      env: { ...this.env, ...more },
      maxBuffer: 2 ** 28,
    });
    return stdout;
  }

  measure(command: readonly string[], cwd: string, more: NodeJS.ProcessEnv = {}): Promise<Cost> {
    const { memoryAtHand } = this.#arena;
    return measure(command, { cwd, env: { ...this.env, ...more }, sync: cwd, memoryAtHand });
  }
}
