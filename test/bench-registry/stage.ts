/** A registry with one repository of many files, its worktrees by ours and by git, and what they are compared with. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Git2DB } from '../../src/registry/git2db.ts';
import type { RepositoryHandle } from '../../src/registry/repository-handle.ts';
import type { Worktree } from '../../src/registry/worktree/index.ts';
import { readState, type WorktreeState } from '../../src/registry/worktree/worktree-state.ts';
import { run } from '../bench-shared/run.ts';
import { ENV } from './commands.ts';

export type OverlayBackend = 'kernel' | 'fuse';

/** A directory that git uses as a worktree, and how it ends. */
export interface PlainTree {
  readonly path: string;
  /** Its directory in the repository, with the index. */
  readonly admin: string;
  remove(): void;
}

export class Stage implements AsyncDisposable {
  readonly dir: string;
  readonly repository: string;
  readonly registry: Git2DB;
  readonly handle: RepositoryHandle;
  #number = 0;

  private constructor(dir: string, repository: string, registry: Git2DB, handle: RepositoryHandle) {
    this.dir = dir;
    this.repository = repository;
    this.registry = registry;
    this.handle = handle;
  }

  /** A clone of the bare repository `source`, with a work tree, in a registry of its own below `dir`. */
  static async make(dir: string, source: string): Promise<Stage> {
    const repository = join(dir, 'repository');
    run(['git', 'clone', '-q', '--local', source, repository]);
    for (const setting of ['gc.auto=0', 'maintenance.auto=false']) {
      const [key, value] = setting.split('=') as [string, string];
      run(['git', 'config', key, value], repository);
    }
    const registry = await Git2DB.open(join(dir, 'registry'), { env: ENV });
    await registry.register({ path: repository, name: 'bench' });
    return new Stage(dir, repository, registry, await registry.repo('bench'));
  }

  freshName(): string {
    return `w${++this.#number}`;
  }

  path(name: string): string {
    return join(this.dir, 'trees', name);
  }

  /** Of a new branch at `ref`. */
  create(name: string, backend: OverlayBackend, ref = 'main'): Promise<Worktree> {
    return this.handle
      .worktree()
      .create({ path: this.path(name), ref, newBranch: name, driver: 'overlay2', backend });
  }

  async remove(worktree: Worktree): Promise<void> {
    await worktree.remove({ force: true });
    this.#deleteBranch(worktree.path.slice(worktree.path.lastIndexOf('/') + 1));
  }

  stateOf(worktree: Pick<Worktree, 'id'>): WorktreeState {
    return readState(join(this.registry.home.worktrees, worktree.id))!;
  }

  /** What ours takes: the upper, the work directory and the record. */
  ownParts(worktree: Pick<Worktree, 'id'>): string[] {
    return ['upper', 'work', 'state.json'].map((part) =>
      join(this.registry.home.worktrees, worktree.id, part),
    );
  }

  /** The layers a worktree reads, the topmost first. */
  layersOf(worktree: Pick<Worktree, 'id'>): string[] {
    const directories: string[] = [];
    for (let next = this.stateOf(worktree).layer; next !== undefined; ) {
      const directory = join(this.registry.home.layers, next);
      directories.push(directory);
      next = (JSON.parse(readFileSync(join(directory, 'layer.json'), 'utf8')) as { base?: string }).base;
    }
    return directories;
  }

  plainCommand(name: string, ref = 'main'): string[] {
    return ['git', '-C', this.repository, 'worktree', 'add', '-q', '-b', name, this.path(name), ref];
  }

  /** What `git worktree add` has made. */
  plainTree(name: string): PlainTree {
    const path = this.path(name);
    return {
      path,
      admin: readFileSync(join(path, '.git'), 'utf8').trim().slice('gitdir: '.length),
      remove: () => {
        run(['git', 'worktree', 'remove', '--force', path], this.repository);
        this.#deleteBranch(name);
      },
    };
  }

  /**
   * A worktree like ours, served by fuse-overlayfs: the same layers below, the `.git` file in the upper, the
   * index of the layer, and git's minimal stat checks, as nothing is known of its inode numbers.
   */
  peerTree(name: string, layers: readonly string[]): PlainTree {
    const path = this.path(name);
    run(['git', 'worktree', 'add', '-q', '--no-checkout', '-b', name, path, 'main'], this.repository);
    const { admin } = this.plainTree(name);
    const [upper, work] = ['upper', 'work'].map((part) => join(this.dir, 'peer', name, part)) as [
      string,
      string,
    ];
    for (const directory of [upper, work]) mkdirSync(directory, { recursive: true });
    renameSync(join(path, '.git'), join(upper, '.git'));
    copyFileSync(join(layers[0]!, 'index'), join(admin, 'index'));
    const lower = layers.map((layer) => join(layer, 'tree')).join(':');
    run(['fuse-overlayfs', '-o', `lowerdir=${lower},upperdir=${upper},workdir=${work}`, path]);
    return {
      path,
      admin,
      remove: () => {
        run(process.getuid!() === 0 ? ['umount', path] : ['fusermount3', '-u', path]);
        rmSync(path, { recursive: true, force: true });
        rmSync(join(this.dir, 'peer', name), { recursive: true, force: true });
        run(['git', 'worktree', 'prune'], this.repository);
        this.#deleteBranch(name);
      },
    };
  }

  #deleteBranch(name: string): void {
    run(['git', 'branch', '-q', '-D', name], this.repository);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const worktree of await this.handle.worktree().list()) await worktree.remove({ force: true });
    await this.handle[Symbol.asyncDispose]();
    await this.registry[Symbol.asyncDispose]();
  }
}

export const PEER_SETTINGS = ['-c', 'core.checkStat=minimal', '-c', 'core.trustctime=false'] as const;

/** Why a way of mounting cannot be measured here. */
export function missingBackend(backend: OverlayBackend): string | undefined {
  if (backend === 'kernel') return process.getuid!() === 0 ? undefined : 'needs root';
  return existsSync('/dev/fuse') ? undefined : 'there is no /dev/fuse';
}

export function missingPeer(): string | undefined {
  if (spawnSync('fuse-overlayfs', ['--version'], { stdio: 'ignore' }).error)
    return 'fuse-overlayfs is not installed';
  return missingBackend('fuse');
}
