/**
 * The steps of a clone, in a repository that `git init` has made. Each can be done again where an earlier
 * run was killed, so a clone is completed by going through all of them.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { Git2dbError } from '../xet/errors.ts';
import type { CloneRequest } from './clone-engine.ts';
import { checkAborted } from './errors.ts';
import { largeFileSettings } from './filter-setup.ts';
import type { GitPlace, PlaceRun } from './git-place.ts';
import { progressLines } from './git-progress.ts';
import type { CheckoutWish, RemoteRefs } from './remote-refs.ts';
import type { ConfigPair } from './trust.ts';

const REMOTE = 'origin';

export class CloneSteps {
  readonly #place: GitPlace;
  readonly #run: PlaceRun;
  readonly #request: CloneRequest;
  readonly #refs: RemoteRefs;
  /** What the caller's `progress` has thrown while git was running. */
  #observerFailure: { readonly error: unknown } | undefined;

  constructor(place: GitPlace, run: PlaceRun, request: CloneRequest, refs: RemoteRefs) {
    this.#place = place;
    this.#run = run;
    this.#request = request;
    this.#refs = refs;
  }

  /** What HEAD's branch follows, `origin/main`; undefined where HEAD will be detached. */
  get trackedBranch(): string | undefined {
    const wish = this.#wish;
    return wish.kind === 'branch' ? trackingName(wish.ref).slice('refs/remotes/'.length) : undefined;
  }

  get #wish(): CheckoutWish {
    return this.#refs.wish;
  }

  /** Only what is checked out, and its history, is fetched. */
  get #single(): boolean {
    const { depth, shallowSince } = this.#request.options;
    return depth !== undefined || shallowSince !== undefined;
  }

  /**
   * As `git clone` writes them, and a refspec for a bare repository too: without remote-tracking refs nobody
   * could tell what of it is nowhere else.
   */
  async configure(): Promise<void> {
    const { remote, options } = this.#request;
    await this.#set(`remote.${REMOTE}.url`, remote.url);
    await this.#set(`remote.${REMOTE}.fetch`, this.#lastingRefspec());
    if (options.trusted || existsSync(`${this.#place.commonDir}/info`)) return;
    // Of the templates only this directory is more than a sample.
    mkdirSync(`${this.#place.commonDir}/info`, { recursive: true });
  }

  async fetch(): Promise<void> {
    const { depth, shallowSince, filter } = this.#request.options;
    if (this.#wish.kind === 'none' || (this.#wish.kind === 'branch' && !this.#wish.isBorn)) {
      // Nothing to check out; what else there is, a repository without a usable HEAD, is fetched all the same.
      if (this.#single) return;
    }
    if (this.#wish.kind === 'short-oid' && this.#single) {
      throw new Git2dbError(
        'REF_INVALID',
        `${this.#request.remote.url} has no branch or tag ${JSON.stringify(this.#wish.prefix)}; to check out an object with a part of the history, give its whole id`,
      );
    }
    const args = ['fetch', '--progress', '--no-write-fetch-head', '--no-auto-gc', '--recurse-submodules=no'];
    if (depth !== undefined) args.push(`--depth=${depth}`);
    if (shallowSince !== undefined) args.push(`--shallow-since=${shallowSince}`);
    if (filter !== undefined) args.push(`--filter=${filter}`);
    if (!this.#single) args.push('--tags');
    await this.#git([...args, '--end-of-options', REMOTE, ...this.#refspecs()], {
      // One pack, as of git clone: not thousands of files that a kill leaves without a ref to find them by.
      config: [...(this.#run.config ?? []), ['fetch.unpackLimit', '1']],
      onStderr: this.#onStderr(),
    });
  }

  /** Sets HEAD, the branch and what it follows. False where there is no commit to check out. */
  async setHead(): Promise<boolean> {
    const wish = this.#wish;
    const { bare } = this.#request.options;
    if (wish.kind === 'none') return false;
    if (wish.kind === 'branch') {
      const name = wish.ref.slice('refs/heads/'.length);
      if (!bare) {
        if (wish.isBorn) await this.#updateRef(wish.ref, await this.#commitOf(trackingName(wish.ref)));
        await this.#set(`branch.${name}.remote`, REMOTE);
        await this.#set(`branch.${name}.merge`, wish.ref);
      }
      await this.#git(['symbolic-ref', 'HEAD', wish.ref]);
      await this.#followDefaultBranch();
      return wish.isBorn;
    }
    await this.#followDefaultBranch();
    const commit = await this.#commitOf(await this.#fetchedName(wish));
    await this.#updateRef('HEAD', commit, '--no-deref');
    return true;
  }

  async checkOut(): Promise<void> {
    const { sparse } = this.#request.options;
    if (sparse !== undefined) {
      const directories = sparse.map((directory) => `${directory.replace(/\/+$/, '')}\n`).join('');
      await this.#git(['sparse-checkout', 'set', '--cone', '--stdin'], { input: directories });
    }
    // HEAD as the operand stays on its branch. All of it, also over what an earlier run had begun.
    await this.#git(['checkout', '--force', '--progress', 'HEAD', '--'], {
      onStderr: this.#onStderr(),
    });
  }

  /** Their files pass through our filter too, now by the environment and later by their own configuration. */
  async submodules(): Promise<void> {
    const { options, store } = this.#request;
    const settings: ConfigPair[] = largeFileSettings(store);
    const args = ['submodule', 'update', '--init', '--checkout'];
    if (options.submodules === 'recursive') args.push('--recursive');
    if (options.depth !== undefined) args.push(`--depth=${options.depth}`);
    await this.#git([...args, '--'], { config: [...(this.#run.config ?? []), ...settings] });
    const recursive = options.submodules === 'recursive' ? ['--recursive'] : [];
    for (const [key, value] of settings) {
      // The words after the first are arguments of a constant command, so the shell never reads them.
      const command = ['git', 'config', '--local', key, value];
      await this.#git(['submodule', '--quiet', 'foreach', ...recursive, ...command]);
    }
  }

  #lastingRefspec(): string {
    const wish = this.#wish;
    if (this.#single && wish.kind === 'branch') return `+${wish.ref}:${trackingName(wish.ref)}`;
    if (this.#single && wish.kind === 'ref') return `+${wish.ref}:${wish.ref}`;
    return `+refs/heads/*:refs/remotes/${REMOTE}/*`;
  }

  /** What this fetch asks for; nothing: what the configuration says. */
  #refspecs(): string[] {
    const wish = this.#wish;
    const { bare } = this.#request.options;
    if (this.#single) {
      if (wish.kind === 'oid') return [wish.oid];
      return bare && wish.kind === 'branch' ? [`+${wish.ref}:${wish.ref}`, this.#lastingRefspec()] : [];
    }
    // A bare repository has the branches as its own too, as of git clone.
    const own = bare ? ['+refs/heads/*:refs/heads/*'] : [];
    // A ref that is neither branch nor tag is wanted beside them, under its own name.
    const extra =
      wish.kind === 'ref' && !wish.ref.startsWith('refs/tags/') ? [`+${wish.ref}:${wish.ref}`] : [];
    return own.length + extra.length === 0 ? [] : [...own, ...extra, this.#lastingRefspec()];
  }

  /** By which name the wanted object is here now; an oid that no ref led to is asked for by itself. */
  async #fetchedName(wish: Exclude<CheckoutWish, { kind: 'branch' | 'none' }>): Promise<string> {
    if (wish.kind === 'ref') return wish.ref;
    if (wish.kind === 'short-oid') return wish.prefix;
    const has = await this.#place.git(['cat-file', '-e', `${wish.oid}^{commit}`], {
      signal: this.#run.signal,
      okStatus: [0, 1, 128],
      // Not yet: a partial clone would fetch it alone here.
      env: { GIT_NO_LAZY_FETCH: '1' },
    });
    if (has.status !== 0) {
      const { filter } = this.#request.options;
      const args = ['fetch', '--no-write-fetch-head', '--no-auto-gc', '--no-tags', '--recurse-submodules=no'];
      if (filter !== undefined) args.push(`--filter=${filter}`);
      await this.#git([...args, '--end-of-options', REMOTE, wish.oid]);
    }
    return wish.oid;
  }

  /** Throws REF_INVALID where it is no commit, or a tag of one. */
  async #commitOf(name: string): Promise<string> {
    const found = await this.#git(['rev-parse', '--verify', '--end-of-options', `${name}^{commit}`]);
    return found.stdout.toString('latin1').trim();
  }

  async #updateRef(ref: string, oid: string, ...flags: string[]): Promise<void> {
    const message = `clone: from ${this.#request.remote.url}`;
    await this.#git(['update-ref', '--create-reflog', ...flags, '-m', message, '--end-of-options', ref, oid]);
  }

  async #followDefaultBranch(): Promise<void> {
    const branch = this.#refs.defaultBranch;
    if (branch === undefined || !branch.startsWith('refs/heads/')) return;
    const tracking = trackingName(branch);
    const { status } = await this.#git(['show-ref', '--verify', '--quiet', '--', tracking], {
      okStatus: [0, 1],
    });
    if (status === 0) await this.#git(['symbolic-ref', `refs/remotes/${REMOTE}/HEAD`, tracking]);
  }

  async #set(key: string, value: string): Promise<void> {
    await this.#git(['config', '--local', '--replace-all', key, value]);
  }

  async #git(args: readonly string[], options: PlaceRun = {}) {
    checkAborted(this.#run.signal, 'the clone');
    const result = await this.#place.git(args, { ...this.#run, ...options });
    if (this.#observerFailure !== undefined) throw this.#observerFailure.error;
    return result;
  }

  /** Called between other things of this process, so what an observer throws is kept for its caller. */
  #onStderr(): ((piece: Buffer) => void) | undefined {
    const { progress } = this.#request.options;
    if (progress === undefined) return undefined;
    return progressLines((event) => {
      try {
        progress({ kind: 'git', ...event });
      } catch (error) {
        this.#observerFailure ??= { error };
      }
    });
  }
}

function trackingName(branch: string): string {
  return `refs/remotes/${REMOTE}/${branch.slice('refs/heads/'.length)}`;
}
