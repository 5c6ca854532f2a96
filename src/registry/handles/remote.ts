/** The remotes of a repository, and all that goes over the network. */
import { checkFields, guardMethods } from '../../arguments.ts';
import { checkRemoteName, fullRefName, whyNoRefName } from '../../git/ref-name.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type AuthOptions, configuredAuth } from '../auth.ts';
import { NotFoundError } from '../errors.ts';
import type { GitManager } from '../git-manager.ts';
import type { GitPlace } from '../git-place.ts';
import type { Git2DB } from '../git2db.ts';
import type { RepositoryRecord } from '../metadata.ts';
import { nearMatches } from '../near-matches.ts';
import { readRemotes, remoteNameOf } from '../remote-settings.ts';
import { parseRemoteUrl } from '../remote-url.ts';
import { currentBranch } from './commit.ts';
import { type Connection, withRemote } from './connection.ts';
import { type FetchOptions, type FetchResult, fetch } from './fetch.ts';
import { type MergeResult, merge } from './merge.ts';
import { type PushOptions, type PushResult, push } from './push.ts';
import { type RebaseResult, rebase } from './rebase.ts';

export interface Remote {
  readonly name: string;
  /** Without passwords and tokens, whatever the configuration holds. */
  readonly fetchUrls: readonly string[];
  /** As `fetchUrls` where nothing else is configured. */
  readonly pushUrls: readonly string[];
  readonly fetchRefspecs: readonly string[];
  readonly pushRefspecs: readonly string[];
}

export interface RemoteAddOptions {
  /** Branches to follow; all unless given. */
  readonly branches?: readonly string[] | undefined;
  /** Which tags a fetch brings: those of what is fetched (unless given), all, none. */
  readonly tags?: 'auto' | 'all' | 'none' | undefined;
  readonly mirror?: 'fetch' | 'push' | undefined;
}

export interface RemoteRef {
  readonly name: string;
  readonly oid: string;
  /** What an annotated tag is about. */
  readonly peeled: string | undefined;
  /** What a symbolic ref (HEAD) stands for. */
  readonly symbolicTarget: string | undefined;
}

export interface LsRemoteOptions extends Connection {
  /** Only these: names, or patterns that match the end of a ref's name. */
  readonly patterns?: readonly string[] | undefined;
  readonly kind?: 'branches' | 'tags' | 'all' | undefined;
}

export interface PullOptions extends Omit<FetchOptions, 'refspecs'> {
  /** A branch of the remote; the upstream of the current one unless given. */
  readonly branch?: string | undefined;
  /** `ff` (unless given): NOT_FAST_FORWARD when the branches have diverged; `merge`; `rebase`. */
  readonly strategy?: 'ff' | 'merge' | 'rebase' | undefined;
  readonly autostash?: boolean | undefined;
  readonly hooks?: boolean | undefined;
}

export interface PullResult {
  readonly fetched: FetchResult;
  readonly result: MergeResult | RebaseResult;
}

export interface RemoteExtras {
  /** Whose list of operations shows what goes over the network, and whose configuration may know a token. */
  readonly manager?: Pick<GitManager, 'config' | 'run'> | undefined;
  readonly record?: RepositoryRecord | undefined;
  readonly registry?: Git2DB | undefined;
}

export class RemoteManager {
  readonly #place: GitPlace;
  readonly #extras: RemoteExtras;

  constructor(place: GitPlace, extras: RemoteExtras = {}) {
    this.#place = place;
    this.#extras = extras;
  }

  async list(): Promise<Remote[]> {
    const settings = await this.#settings();
    const names = [
      ...new Set([...settings.keys()].map((key) => key.replace(/^remote\.(.*)\.[^.]*$/s, '$1'))),
    ];
    return names
      .map((name) => {
        const values = (key: string) => settings.get(`remote.${name}.${key}`) ?? [];
        const fetchUrls = values('url').map(withoutSecret);
        const pushUrls = values('pushurl').map(withoutSecret);
        return {
          name,
          fetchUrls,
          pushUrls: pushUrls.length === 0 ? fetchUrls : pushUrls,
          fetchRefspecs: values('fetch'),
          pushRefspecs: values('push'),
        };
      })
      .filter(({ fetchUrls, pushUrls }) => fetchUrls.length + pushUrls.length > 0);
  }

  async get(name: string): Promise<Remote> {
    const remotes = await this.list();
    const found = remotes.find((remote) => remote.name === name);
    if (found !== undefined) return found;
    const names = remotes.map((remote) => remote.name);
    throw new NotFoundError(
      `there is no remote ${JSON.stringify(name)} in ${this.#place.commonDir}`,
      nearMatches(name, names),
    );
  }

  /** The remote of the current branch, else `origin`, else the only one there is. */
  async default(): Promise<string | undefined> {
    const branch = await currentBranch(this.#place);
    const names = (await this.list()).map(({ name }) => name);
    if (branch !== undefined) {
      const { stdout } = await this.#place.git(['config', '--get', `branch.${branch}.remote`], {
        okStatus: [0, 1],
      });
      const configured = stdout.toString('utf8').trimEnd();
      if (names.includes(configured)) return configured;
    }
    return names.includes('origin') ? 'origin' : names.length === 1 ? names[0] : undefined;
  }

  /** A user, password or token in the URL is not stored: give `auth` to the operations. Throws URL_INVALID, REF_EXISTS. */
  async add(name: string, url: string, options: RemoteAddOptions = {}): Promise<Remote> {
    checkRemoteName(name);
    const stored = parseRemoteUrl(url).url;
    const args = ['remote', 'add'];
    for (const branch of options.branches ?? []) {
      fullRefName('branch', branch);
      args.push('-t', branch);
    }
    if (options.tags === 'all') args.push('--tags');
    if (options.tags === 'none') args.push('--no-tags');
    if (options.mirror !== undefined) args.push(`--mirror=${options.mirror}`);
    await this.#place.git([...args, '--', name, stored]);
    if (this.#extras.record?.url === undefined) await this.#syncUrl(name, stored);
    return this.get(name);
  }

  /** With its remote-tracking branches and the upstream settings of branches. */
  async remove(name: string): Promise<void> {
    await this.get(name);
    const isRecorded = this.#isRecorded(name);
    await this.#place.git(['remote', 'remove', '--', name]);
    if (isRecorded) await this.#update({ url: null, trackingRef: null });
  }

  async rename(from: string, to: string): Promise<Remote> {
    await this.get(from);
    checkRemoteName(to);
    const isRecorded = this.#isRecorded(from);
    await this.#place.git(['remote', 'rename', '--', from, to]);
    const tracking = this.#extras.record?.trackingRef;
    if (isRecorded && tracking?.startsWith(`${from}/`)) {
      await this.#update({ trackingRef: `${to}/${tracking.slice(from.length + 1)}` });
    }
    return this.get(to);
  }

  /** `push`: the URL that only pushes use. */
  async setUrl(
    name: string,
    url: string,
    options: { readonly push?: boolean | undefined } = {},
  ): Promise<Remote> {
    await this.get(name);
    const stored = parseRemoteUrl(url).url;
    await this.#place.git([
      'remote',
      'set-url',
      ...(options.push === true ? ['--push'] : []),
      '--',
      name,
      stored,
    ]);
    if (options.push !== true && this.#isRecorded(name)) await this.#syncUrl(name, stored);
    return this.get(name);
  }

  /** From a remote, or a URL; from the default remote unless given. Refs that were refused are results. */
  async fetch(remote?: string, options: FetchOptions = {}): Promise<FetchResult> {
    const name = await this.#named(remote);
    return this.#network('fetch from', name, options, (own) => fetch(this.#place, name, own));
  }

  /** To a remote, or a URL. Refs that were refused are results, and make `ok` false. */
  async push(remote?: string, options: PushOptions = {}): Promise<PushResult> {
    // Of a push alone, force is more than a flag.
    checkFields('RemoteManager.push', { ...options, force: undefined });
    const name = await this.#named(remote);
    return this.#network('push to', name, options, (own) => push(this.#place, name, own));
  }

  /** Fetches, then moves, merges or rebases the current branch. Throws as these do. */
  async pull(remote?: string, options: PullOptions = {}): Promise<PullResult> {
    const name = await this.#named(remote);
    const { strategy = 'ff', branch, autostash, hooks, ...rest } = options;
    if (!['ff', 'merge', 'rebase'].includes(strategy)) {
      throw new Git2dbError(
        'USAGE',
        `strategy: expected ff, merge or rebase, found ${JSON.stringify(strategy)}`,
      );
    }
    // Without a branch all that is configured comes, with the tags that belong to it; git notes what is to be merged.
    if (branch === undefined) await this.#upstreamOn(name);
    const refspecs = branch === undefined ? undefined : [fullRefName('branch', branch)];
    const fetched = await this.#network('pull from', name, { ...rest, refspecs }, (own) =>
      fetch(this.#place, name, own),
    );
    const { signal } = options;
    // FETCH_HEAD knows branch and URL, for the message of a merge.
    const oid = await this.#place.text(['rev-parse', '--verify', '--quiet', 'FETCH_HEAD^{commit}']);
    const result =
      strategy === 'rebase'
        ? await rebase(this.#place, { upstream: oid, autostash, hooks, signal })
        : await merge(this.#place, 'FETCH_HEAD', { ff: strategy === 'ff' ? 'only' : 'auto', hooks, signal });
    return { fetched, result };
  }

  /** The refs that a remote, or a URL, has. */
  async lsRemote(remote?: string, options: LsRemoteOptions = {}): Promise<RemoteRef[]> {
    const name = await this.#named(remote);
    const kind = options.kind === 'branches' ? ['--heads'] : options.kind === 'tags' ? ['--tags'] : [];
    for (const pattern of options.patterns ?? []) {
      if (pattern === '' || pattern.startsWith('-') || /[\0\n]/.test(pattern)) {
        throw new Git2dbError(
          'REF_INVALID',
          `expected a name or pattern of refs, found ${JSON.stringify(pattern)}`,
        );
      }
    }
    const { stdout } = await this.#network('list refs of', name, options, (own) =>
      withRemote(this.#place, name, 'fetch', own, (operand, run) =>
        this.#place.git(
          ['ls-remote', '--quiet', '--symref', ...kind, '--', operand, ...(options.patterns ?? [])],
          run,
        ),
      ),
    );
    return parseLsRemote(stdout.toString('utf8'));
  }

  /** Waits for a slot of the manager, and shows up in its list; a token of the configuration is for its own authority. */
  #network<Options extends Connection, T>(
    what: string,
    remote: string,
    options: Options,
    operate: (options: Options) => Promise<T>,
  ): Promise<T> {
    const { manager } = this.#extras;
    if (manager === undefined) return operate(options);
    const authFor = options.authFor ?? ((url: string) => configuredAuth(manager.config, url));
    const shown = `${what} ${withoutSecret(remote)}, ${this.#place.workTree ?? this.#place.gitDir}`;
    return manager.run(shown, (signal) => operate({ ...options, authFor, signal }), {
      signal: options.signal,
    });
  }

  async #named(remote: string | undefined): Promise<string> {
    const name = remote ?? (await this.default());
    if (name !== undefined) return name;
    const names = (await this.list()).map((known) => known.name);
    throw new NotFoundError(
      names.length === 0
        ? `${this.#place.commonDir} has no remote: add one`
        : `${this.#place.commonDir} has several remotes and none of them is the default: name one of ${names.join(', ')}`,
    );
  }

  async #upstreamOn(remote: string): Promise<string> {
    const branch = await currentBranch(this.#place);
    const key = (name: string) =>
      this.#place.git(['config', '--get', `branch.${branch}.${name}`], { okStatus: [0, 1] });
    if (branch !== undefined && (await key('remote')).stdout.toString('utf8').trimEnd() === remote) {
      const merge = (await key('merge')).stdout.toString('utf8').trimEnd();
      if (merge.startsWith('refs/heads/')) return merge.slice('refs/heads/'.length);
    }
    throw new Git2dbError(
      'REF_INVALID',
      `${branch === undefined ? 'a detached HEAD' : `branch ${JSON.stringify(branch)}`} has no upstream on ${remote}: name the branch to pull, or set an upstream`,
      { data: { branch, remote } },
    );
  }

  async #settings(): Promise<Map<string, string[]>> {
    const { stdout } = await this.#place.git(
      ['config', '-z', '--get-regexp', '^remote\\..*\\.(url|pushurl|fetch|push)$'],
      {
        okStatus: [0, 1],
      },
    );
    const settings = new Map<string, string[]>();
    for (const entry of stdout.toString('utf8').split('\0')) {
      const newline = entry.indexOf('\n');
      if (newline < 0) continue;
      const key = entry.slice(0, newline);
      settings.set(key, [...(settings.get(key) ?? []), entry.slice(newline + 1)]);
    }
    return settings;
  }

  /** The remote that the registry's URL is about. */
  #isRecorded(name: string): boolean {
    const { record } = this.#extras;
    return (
      record !== undefined && remoteNameOf(record.trackingRef, readRemotes(this.#place.commonDir)) === name
    );
  }

  async #syncUrl(name: string, url: string): Promise<void> {
    if (this.#isRecorded(name)) await this.#update({ url });
  }

  async #update(patch: {
    readonly url?: string | null;
    readonly trackingRef?: string | null;
  }): Promise<void> {
    const { record, registry } = this.#extras;
    if (record !== undefined && registry !== undefined) await registry.update(record.id, patch);
  }
}

function withoutSecret(url: string): string {
  return url.replace(/^([a-z][a-z0-9+.-]*:\/\/)([^/@]*)@/i, (whole, scheme: string, user: string) =>
    /^ssh:/i.test(scheme) && !user.includes(':') ? whole : scheme,
  );
}

export function parseLsRemote(text: string): RemoteRef[] {
  const targets = new Map<string, string>();
  const refs = new Map<string, { oid: string; peeled: string | undefined }>();
  for (const line of text.split('\n')) {
    const tab = line.indexOf('\t');
    if (tab < 0) continue;
    const [what, name] = [line.slice(0, tab), line.slice(tab + 1)];
    if (what.startsWith('ref: ')) {
      targets.set(name, what.slice('ref: '.length));
    } else if (name.endsWith('^{}')) {
      const tag = refs.get(name.slice(0, -3));
      if (tag !== undefined) tag.peeled = what;
    } else if (whyNoRefName(name) === undefined) {
      refs.set(name, { oid: what, peeled: undefined });
    }
  }
  return [...refs].map(([name, { oid, peeled }]) => ({
    name,
    oid,
    peeled,
    symbolicTarget: targets.get(name),
  }));
}

export type { AuthOptions };

guardMethods(RemoteManager, {
  get: ['name'],
  add: ['name', 'url', 'options?'],
  remove: ['name'],
  rename: ['from', 'to'],
  setUrl: ['name', 'url', 'options?'],
  fetch: ['remote?', 'options?'],
  push: ['remote?', 'options?:any'],
  pull: ['remote?', 'options?'],
  lsRemote: ['remote?', 'options?'],
});
