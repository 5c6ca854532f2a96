/** The places of a repository's remotes, chosen and opened once, for as long as the object lives. */
import { existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { storeDirectory } from '../filter-process/config.ts';
import { GitConfig } from '../git/config.ts';
import { gitCredentials } from '../git/credential.ts';
import { repositoryAt } from '../git/repository.ts';
import { hubAuthorities, hubRepository } from '../lfs/hub-host.ts';
import type { LfsPlace } from '../lfs/objects.ts';
import { HttpClient, httpSettingsFrom } from '../xet/cas/http.ts';
import type { HttpSettings } from '../xet/cas/http-settings.ts';
import { CredentialToken, ExchangedToken, staticToken, type TokenSource } from '../xet/cas/token.ts';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { parseAddress, shownUrl } from '../xet/remote/address.ts';
import { openStore } from '../xet/remote/open.ts';
import type { Remote } from '../xet/remote/remote.ts';
import { StoreRemote } from '../xet/remote/store-remote.ts';
import { StoreLayout } from '../xet/store/layout.ts';
import type { Store } from '../xet/store/store.ts';
import { ownerOf, registerUser } from '../xet/store/users.ts';
import { GitRemotes } from './git-remotes.ts';
import { placeKey, webAuthority } from './place-url.ts';
import {
  type ChosenPlace,
  chooseRemote,
  noPlace,
  type RemoteChoice,
  type XetService,
} from './remote-choice.ts';
import { probeService } from './service-probe.ts';
import { listTrusted } from './trusted-places.ts';
import type { Place } from './work-tree.ts';

export interface ContentRemotesOptions extends Place {
  /** What was read of the same place a moment ago, where it was. */
  readonly git?: GitRemotes | undefined;
  /** Whether git may ask the user for a password. */
  readonly mayPrompt: boolean;
  /** Ask no server anything: a choice that depends on one is left open. */
  readonly offline?: boolean | undefined;
  /** Ask servers again whether they are git2db's: for what a person does, not for what git starts often. */
  readonly refresh?: boolean | undefined;
  readonly warn: (message: string) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface OpenedRemote {
  readonly choice: RemoteChoice & { readonly place: ChosenPlace };
  readonly remote: Remote;
  /** Undefined for the Hub. */
  readonly store: Store | undefined;
}

export type Direction = 'fetch' | 'push';

export class ContentRemotes implements AsyncDisposable {
  readonly git: GitRemotes;
  readonly #options: ContentRemotesOptions;
  readonly #trusted: ReadonlySet<string>;
  readonly #choices = new Map<string, Promise<RemoteChoice>>();
  readonly #opened = new Map<string, Promise<OpenedRemote>>();
  #http: HttpClient | undefined;

  /** Throws NOT_A_REPOSITORY. */
  constructor(options: ContentRemotesOptions) {
    this.#options = options;
    this.git = options.git ?? GitRemotes.load(options);
    this.#trusted = new Set(listTrusted(options.env));
  }

  /**
   * `remote`: a name, or a URL. `url`: what git told that it uses, where it did. `treeish`: what is pushed, fetched or
   * checked out, whose `.gitxet` counts; that of the index, else of HEAD, unless given.
   */
  choose(remote: string, direction: Direction, url?: string, treeish?: string): Promise<RemoteChoice> {
    const key = [direction, remote, url, treeish].join(' ');
    let choice = this.#choices.get(key);
    if (choice === undefined) {
      choice = this.#choose(remote, direction, url, treeish);
      this.#choices.set(key, choice);
    }
    return choice;
  }

  async #choose(
    remote: string,
    direction: Direction,
    given: string | undefined,
    treeish: string | undefined,
  ): Promise<RemoteChoice> {
    const { git } = this;
    const { env, signal, refresh = false, offline = false } = this.#options;
    const isName = git.names().includes(remote);
    const url = given ?? (await git.url(remote, direction));
    return chooseRemote(
      {
        remote: isName ? remote : undefined,
        url,
        xetUrl: isName ? git.config.get(`remote.${remote}.xeturl`) : undefined,
        xetRemote: git.config.get('xet.remote'),
        remotes: git.urls(),
        gitxet: await git.gitxet(treeish),
        trusted: this.#trusted,
        hubs: new Set(hubAuthorities(env)),
        base: git.base,
      },
      {
        localStore: (local) => localStore(local, git.base, env),
        service: async (gitUrl) =>
          offline
            ? 'its server was not asked ("git2db xet doctor" does)'
            : probeService(gitUrl, {
                http: this.#client(),
                commonDir: git.repository.commonDir,
                refresh,
                isTrusted: (other) => this.isTrusted(other),
                signal,
              }),
      },
    );
  }

  /** Arguments as for `choose`. Throws TRUST_REQUIRED or REMOTE_MISSING where there is no place, and why it cannot be reached. */
  async open(remote: string, direction: Direction, url?: string, treeish?: string): Promise<OpenedRemote> {
    const choice = await this.choose(remote, direction, url, treeish);
    const { place } = choice;
    if (place === undefined) throw noPlace(choice);
    // Two commits may name one place.
    const key = JSON.stringify([direction, remote, url, place]);
    let opened = this.#opened.get(key);
    if (opened === undefined) {
      opened = this.#open({ ...choice, place }, remote, direction);
      this.#opened.set(key, opened);
      // A failure is told to whoever asked; the next one tries again.
      opened.catch(() => this.#opened.delete(key));
    }
    return { ...(await opened), choice: { ...choice, place } };
  }

  async #open(found: OpenedRemote['choice'], remote: string, direction: Direction): Promise<OpenedRemote> {
    const { place } = found;
    if (place.kind === 'hub') {
      const opened = await this.#openHub(place.url, remote, direction);
      return { choice: found, remote: opened, store: undefined };
    }
    const store = await this.#openStore(found, direction);
    return { choice: found, remote: new StoreRemote(store), store };
  }

  async #openStore(
    choice: RemoteChoice & { readonly place: ChosenPlace },
    direction: Direction,
  ): Promise<Store> {
    const { place, candidates } = choice;
    const { warn, signal } = this.#options;
    const common = { http: this.#httpSettings(), warn, signal };
    switch (place.kind) {
      case 'directory':
        this.#enter(place, direction);
        return openStore({ kind: 'directory', path: place.path }, common);
      case 'service':
        return this.#openService(place, direction);
      case 'address': {
        const isOwnSetting = candidates.some(
          ({ source, verdict }) => source === 'xet-remote' && verdict === 'taken',
        );
        const token = this.#tokenFor(place.address, isOwnSetting);
        return openStore(parseAddress(place.address), { ...common, token });
      }
      default:
        throw new Error('the Hub is no store');
    }
  }

  /** The content of a repository must not be collected in the store that it is in. */
  #enter(place: ChosenPlace & { readonly kind: 'directory' }, direction: Direction): void {
    const layout = new StoreLayout(place.path);
    if (direction === 'fetch' && !layout.exists()) {
      throw new Git2dbError(
        'REMOTE_MISSING',
        `there is no store in ${place.path}: ${isFile(place.path) ? 'it is no directory; correct the address' : 'nothing was pushed to it yet'}`,
      );
    }
    try {
      if (direction === 'push') {
        // A mistyped path is not made up to its root.
        if (!existsSync(dirname(place.path))) {
          throw new Git2dbError(
            'REMOTE_MISSING',
            `${dirname(place.path)} does not exist, so no store can be made in it: mount it, or correct the path`,
          );
        }
        layout.create();
      }
      // Whose refs the content belongs to: the other repository, or, where the store is nobody's, this one.
      if (place.repository !== undefined) registerUser(layout, place.repository);
      else if (ownerOf(layout) === undefined) registerUser(layout, this.git.repository.commonDir);
    } catch (error) {
      const errno = errnoOf(error);
      const isForbidden = errno === 'EACCES' || errno === 'EPERM' || errno === 'EROFS';
      // A store that we may only read: its owner's gc must be told by hand.
      if (isForbidden && direction === 'fetch') return;
      if (!isForbidden) throw unusable(place.path, error);
      throw new Git2dbError('REMOTE_FORBIDDEN', `the store ${place.path} cannot be written (${errno})`, {
        cause: error,
      });
    }
  }

  async #openService({ gitUrl, tokenUrl, casUrl }: XetService, direction: Direction): Promise<Store> {
    const { signal } = this.#options;
    const { CasStore } = await import('../xet/cas/client.ts');
    const http = this.#client();
    const token = await ExchangedToken.open(
      {
        http,
        tokenUrl: (scope) => `${tokenUrl}?scope=${scope}`,
        identity: this.#identity(gitUrl),
        mayUse: (cas, from) =>
          cas.origin === from.origin || (cas.origin === webAuthority(casUrl) && this.isTrusted(cas.href)),
      },
      direction === 'push' ? 'write' : 'read',
      signal,
    );
    return CasStore.open({ http, casUrl: token.casUrl, token });
  }

  async #openHub(url: string, remote: string, direction: Direction): Promise<Remote> {
    const [{ HubRemote }, { connect, locate }] = await Promise.all([
      import('../lfs/hub.ts'),
      import('../lfs/connection.ts'),
    ]);
    if (hubRepository(url, this.#options.env) === undefined) {
      throw new Git2dbError('URL_INVALID', `${shownUrl(url)} names no repository of the Hub`);
    }
    const wanted = { operation: direction === 'push' ? 'upload' : 'download', remote, url } as const;
    const place = this.lfsPlace();
    return new HubRemote(place, await connect(place, await locate(place, wanted), wanted));
  }

  /** What src/lfs needs to know. */
  lfsPlace(): LfsPlace {
    const { cwd, env, mayPrompt } = this.#options;
    const { repository } = this.git;
    return { repository, cwd, env, mayPrompt, isTrusted: (url) => this.isTrusted(url) };
  }

  /** Whether the user has trusted a place, or the whole authority it is on. */
  isTrusted(url: string): boolean {
    const authority = webAuthority(url);
    try {
      return this.#trusted.has(placeKey(url)) || (authority !== undefined && this.#trusted.has(authority));
    } catch (error) {
      if (error instanceof Git2dbError) return false;
      throw error;
    }
  }

  /** A user and password in the git URL, else git's credential helpers once the server asks. */
  #identity(gitUrl: string): TokenSource {
    const login = [...this.git.urls().values()].find((url) => shownUrl(url).replace(/\/+$/, '') === gitUrl);
    const { username = '', password = '' } = login === undefined ? {} : new URL(login);
    if (password !== '') {
      const text = `${unescaped(username)}:${unescaped(password)}`;
      return staticToken(gitUrl, Buffer.from(text).toString('base64'), 'Basic');
    }
    return new CredentialToken(gitUrl, this.#credentials());
  }

  /** XETHUB_TOKEN for the address of xet.remote alone, else what a credential helper has as the password. */
  #tokenFor(address: string, isXetRemote: boolean): TokenSource | undefined {
    if (webAuthority(address) === undefined) return undefined;
    const token = this.#options.env.XETHUB_TOKEN?.trim();
    if (isXetRemote && token !== undefined && token !== '') return staticToken(address, token);
    return new CredentialToken(address, this.#credentials(), { scheme: 'Bearer' });
  }

  #credentials() {
    const { cwd, env, mayPrompt } = this.#options;
    return gitCredentials({ cwd, env, mayPrompt });
  }

  #httpSettings(): HttpSettings {
    return httpSettingsFrom(this.#options.env, this.git.config.entries());
  }

  #client(): HttpClient {
    this.#http ??= HttpClient.open(this.#httpSettings());
    return this.#http;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const opened = await Promise.allSettled(this.#opened.values());
    for (const result of opened) {
      if (result.status === 'fulfilled') await result.value.remote[Symbol.asyncDispose]();
    }
    await this.#http?.close();
  }
}

/** For who is about to open a remote at one of these URLs or settings, and has git look for something before. */
export function preloadFor(urls: readonly (string | undefined)[]): void {
  if (!urls.some((url) => url !== undefined && /^https?:/i.test(url))) return;
  HttpClient.preload();
  import('../xet/cas/client.ts').catch(() => {});
}

/** As it stands where it is no escaped text: a lone % is one, too. */
function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The store of the repository at a path or file:// URL, by its own settings alone. */
function localStore(
  url: string,
  base: string,
  env: NodeJS.ProcessEnv,
): { readonly path: string; readonly repository: string } | undefined {
  const isPath = !/^file:/i.test(url) && !url.startsWith('/');
  const repository = repositoryAt(isPath ? `${base}/${url}` : url);
  if (repository === undefined) return undefined;
  const { commonDir } = repository;
  const config = GitConfig.load(commonDir, '^xet\\.store$', {
    env: { GIT_DIR: commonDir, GIT_CONFIG_PARAMETERS: undefined, GIT_CONFIG_COUNT: undefined },
  });
  return { path: storeDirectory(config, commonDir, env), repository: commonDir };
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === false;
}

/** Why no store can be made in `path`, in words; an error that is none of the system's stays. */
function unusable(path: string, error: unknown): unknown {
  const errno = errnoOf(error);
  if (errno === undefined || error instanceof Git2dbError) return error;
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    return new Git2dbError('DISK_FULL', `no store can be made in ${path} (${errno}): free some space there`, {
      cause: error,
    });
  }
  const why = isFile(path) ? 'it is no directory' : messageOf(error);
  return new Git2dbError('REMOTE_MISSING', `no store can be made in ${path}: ${why}; correct the address`, {
    cause: error,
  });
}
