/** The git remotes of a repository, and what its configuration and `.gitxet` say about their content. */
import { ObjectReader } from '../git/cat-file.ts';
import { GitConfig } from '../git/config.ts';
import { findRepository, type RepositoryPaths } from '../git/repository.ts';
import { git, gitLinesZ, gitText } from '../git/runner.ts';
import { Git2dbError } from '../xet/errors.ts';
import { GITXET_FILE, GITXET_MAX, type GitxetFile, parseGitxet } from './gitxet-file.ts';
import type { Place } from './work-tree.ts';

export class GitRemotes {
  readonly repository: RepositoryPaths;
  readonly config: GitConfig;
  readonly #place: Place;
  /** By treeish; that of the index under the empty name. */
  readonly #gitxets = new Map<string, Promise<GitxetFile | Git2dbError | undefined>>();
  readonly #urls = new Map<string, Promise<readonly string[]>>();
  #branch: Promise<string> | undefined;

  private constructor(place: Place, repository: RepositoryPaths) {
    this.#place = place;
    this.repository = repository;
    this.config = GitConfig.load(place.cwd, undefined, { env: place.env });
  }

  /** Throws NOT_A_REPOSITORY. */
  static load(place: Place): GitRemotes {
    const repository = findRepository(place.cwd, place.env);
    if (repository === undefined)
      throw new Git2dbError('NOT_A_REPOSITORY', `${place.cwd} is in no git repository`);
    return new GitRemotes(place, repository);
  }

  /** Names, in the order of the configuration. */
  names(): string[] {
    const names = this.config
      .entries()
      .flatMap(({ key }) => /^remote\.(.+)\.(?:url|pushurl|xeturl)$/s.exec(key)?.[1] ?? []);
    return [...new Set(names)];
  }

  /** Whether `git push` to this remote takes every ref along. */
  isMirror(name: string): boolean {
    return this.config.bool(`remote.${name}.mirror`, false);
  }

  /** The URLs as they are written, by name. */
  urls(): Map<string, string> {
    return new Map(
      this.names().flatMap((name): [string, string][] => {
        const url = this.config.all(`remote.${name}.url`)[0];
        return url === undefined ? [] : [[name, url]];
      }),
    );
  }

  /** Where content is asked for, the likeliest first: the branch's own remote, origin, then all the others. */
  async inOrder(): Promise<string[]> {
    const names = this.names();
    const own = await this.#ofBranch('remote');
    const first = [own, 'origin'].filter(
      (name): name is string => name !== undefined && names.includes(name),
    );
    return [...new Set([...first, ...names])];
  }

  /** What `git push` would push to; undefined where there is no remote. */
  async forPush(): Promise<string | undefined> {
    const names = this.names();
    const wanted = [
      await this.#ofBranch('pushRemote'),
      this.config.get('remote.pushDefault'),
      await this.#ofBranch('remote'),
      'origin',
      names.length === 1 ? names[0] : undefined,
    ];
    return wanted.find((name) => name !== undefined && name !== '.' && names.includes(name));
  }

  async #ofBranch(key: string): Promise<string | undefined> {
    this.#branch ??= gitText(['symbolic-ref', '--quiet', '--short', 'HEAD'], {
      ...this.run,
      okStatus: [0, 1, 128],
    });
    const branch = await this.#branch;
    const value = branch === '' ? undefined : this.config.get(`branch.${branch}.${key}`);
    return value === '.' || value === '' ? undefined : value;
  }

  /** What git uses for a remote's name or URL, after insteadOf. */
  async url(remote: string, direction: 'fetch' | 'push'): Promise<string> {
    const [url] = await this.#allUrls(remote, direction);
    return url!;
  }

  /** All that `git push` to the remote of this name pushes to, each once. */
  async pushUrls(remote: string): Promise<string[]> {
    return [...new Set(await this.#allUrls(remote, 'push'))];
  }

  /** At least one; where git fetches from is the first. */
  #allUrls(remote: string, direction: 'fetch' | 'push'): Promise<readonly string[]> {
    const key = `${direction} ${remote}`;
    const urls = this.#urls.get(key) ?? this.#askUrls(remote, direction);
    this.#urls.set(key, urls);
    return urls;
  }

  async #askUrls(remote: string, direction: 'fetch' | 'push'): Promise<readonly string[]> {
    checkRemoteWord(remote);
    const plain = this.#plainUrls(remote, direction);
    if (plain !== undefined) return plain;
    if (direction === 'push' && this.names().includes(remote)) {
      const { stdout, status } = await git(['remote', 'get-url', '--push', '--all', '--', remote], {
        ...this.run,
        okStatus: [0, 2, 128],
      });
      const urls = stdout.toString('utf8').split('\n').filter(Boolean);
      if (status === 0 && urls.length > 0) return urls;
    }
    return [await gitText(['ls-remote', '--get-url', '--', remote], this.run)];
  }

  /**
   * As they stand in the configuration, where git uses them as they stand. Undefined where only git knows: something
   * may be put in their place (`url.<base>.insteadOf`), an empty one begins the list anew (since git 2.46), or the
   * remote is set elsewhere (gitrepository-layout, `remotes` and `branches`).
   */
  #plainUrls(remote: string, direction: 'fetch' | 'push'): readonly string[] | undefined {
    if (this.config.entries().some(({ key }) => key.startsWith('url.'))) return undefined;
    const urls = this.config.all(`remote.${remote}.url`);
    const pushUrls = this.config.all(`remote.${remote}.pushurl`);
    if (urls.length === 0 || [...urls, ...pushUrls].includes('')) return undefined;
    return direction === 'push' && pushUrls.length > 0 ? pushUrls : urls;
  }

  /** Whether the content of a remote has one place by a setting, whatever git pushes to. */
  isPlaceSet(remote: string): boolean {
    return this.placeSettings(remote).length > 0;
  }

  /** Where content may be asked for, as far as the configuration names it. */
  places(): string[] {
    const isPlace = (key: string) => /^(?:xet\.remote|remote\..*\.(?:url|xeturl))$/s.test(key);
    return this.config.entries().flatMap(({ key, value }) => (isPlace(key) ? (value ?? []) : []));
  }

  /** What is set of that place, the one that counts first. */
  placeSettings(remote: string): string[] {
    return [`remote.${remote}.xeturl`, 'xet.remote'].flatMap((key) => this.config.get(key) || []);
  }

  /** Where a relative path in a setting starts. */
  get base(): string {
    return this.repository.workTree ?? this.repository.gitDir;
  }

  /**
   * Of a commit, tag or tree, where one is given; else of the index, else of HEAD (a clone has no index while it
   * checks out). An error where it cannot be used.
   */
  gitxet(treeish?: string): Promise<GitxetFile | Git2dbError | undefined> {
    const key = treeish ?? '';
    const gitxet = this.#gitxets.get(key) ?? this.#readGitxet(treeish);
    this.#gitxets.set(key, gitxet);
    return gitxet;
  }

  async #readGitxet(treeish: string | undefined): Promise<GitxetFile | Git2dbError | undefined> {
    const found =
      treeish === undefined
        ? ((await this.#inIndex()) ?? (await this.#inTree('HEAD')))
        : await this.#inTree(treeish);
    if (found === undefined) return undefined;
    const { mode, oid, where } = found;
    if (!mode.startsWith('100')) {
      return new Git2dbError('INVALID_CONFIG', `${where} is no regular file (mode ${mode}): remove it`);
    }
    const reader = new ObjectReader({ ...this.run, maxSize: GITXET_MAX });
    try {
      const object = await reader.read(oid);
      return object === undefined ? undefined : parseGitxet(object.body, where);
    } catch (error) {
      if (error instanceof Git2dbError) return error;
      throw error;
    } finally {
      await reader.close();
    }
  }

  /** Object ids of commits, tags or trees, those with one `.gitxet` (or none) together. */
  async groupByGitxet(oids: readonly string[]): Promise<string[][]> {
    const groups = new Map<string, string[]>();
    const reader = new ObjectReader(this.run);
    try {
      for (const oid of oids) {
        const blob = oids.length === 1 ? undefined : await reader.info(`${oid}:${GITXET_FILE}`);
        const key = blob?.oid ?? '';
        const group = groups.get(key);
        if (group === undefined) groups.set(key, [oid]);
        else group.push(oid);
      }
    } finally {
      await reader.close();
    }
    return [...groups.values()];
  }

  async #inIndex(): Promise<TreeEntry | undefined> {
    const literal = { GIT_LITERAL_PATHSPECS: undefined };
    const args = ['ls-files', '-s', '-z', '--', `:(top,literal)${GITXET_FILE}`];
    if (this.repository.workTree === undefined) return undefined;
    const run = { ...this.run, cwd: this.repository.workTree, env: { ...this.run.env, ...literal } };
    const [line] = await gitLinesZ(args, run);
    const match = /^(\d+) ([0-9a-f]+) \d\t/.exec(line?.toString('latin1') ?? '');
    return match === null ? undefined : { mode: match[1]!, oid: match[2]!, where: GITXET_FILE };
  }

  async #inTree(treeish: string): Promise<TreeEntry | undefined> {
    const { stdout, status } = await git(
      // No "--": after the other one it would be a path, and a file may have that name.
      ['ls-tree', '-z', '--full-tree', '--end-of-options', treeish, GITXET_FILE],
      { ...this.run, okStatus: [0, 128] },
    );
    const match = /^(\d+) \w+ ([0-9a-f]+)\t/.exec(stdout.toString('latin1'));
    if (status !== 0 || match === null) return undefined;
    return { mode: match[1]!, oid: match[2]!, where: `${GITXET_FILE} of ${treeish}` };
  }

  /** Names of the remote-tracking refs of a remote (or patterns of them), by its refspecs. */
  trackingPatterns(remote: string): string[] {
    return this.config.all(`remote.${remote}.fetch`).flatMap((refspec) => {
      const target = /^\+?[^:]*:(refs\/.+)$/.exec(refspec)?.[1];
      // for-each-ref: a pattern without a star ends at a slash.
      return target === undefined || refspec.startsWith('^') ? [] : [target];
    });
  }

  /**
   * Those of them that only a fetch or a push moves. A mirror, or a refspec for tags, fetches over refs that are made
   * here, too: that one of those is there says nothing about the remote. Neither does what was fetched from one
   * repository about another one that is pushed to.
   */
  async provenPatterns(remote: string, url?: string): Promise<string[]> {
    const patterns = this.trackingPatterns(remote).filter((pattern) => pattern.startsWith('refs/remotes/'));
    return patterns.length > 0 && (await this.#isTracked(remote, url)) ? patterns : [];
  }

  /** Whether what is fetched from `remote` says what was pushed to its `url` (the first unless given). */
  async #isTracked(remote: string, url: string | undefined): Promise<boolean> {
    if (this.isPlaceSet(remote)) return true;
    const pushed = url ?? (await this.url(remote, 'push'));
    return isSameRepository(await this.url(remote, 'fetch'), pushed);
  }

  /** For git's runs in this place. */
  get run() {
    return { cwd: this.#place.cwd, env: this.#place.env, keepGitEnv: true } as const;
  }
}

interface TreeEntry {
  readonly mode: string;
  readonly oid: string;
  readonly where: string;
}

/** Of two URLs, one of which may be for ssh. */
export function isSameRepository(a: string, b: string): boolean {
  if (a === b) return true;
  const [one, other] = [partsOf(a), partsOf(b)];
  if (one === undefined || other === undefined) return false;
  if (one.host !== other.host || one.path !== other.path) return false;
  return one.isSsh !== other.isSsh || one.port === other.port;
}

function partsOf(url: string) {
  const ssh = /^(?:(?:git\+)?ssh:\/\/)?(?:[^@/]*@)?([^/:@]+)(?::(\d+)(?=\/)|:)?\/?(.*)$/s;
  const isSsh = /^(?:git\+)?ssh:\/\//.test(url) || /^[^/:]+:(?!\/\/)/.test(url);
  const web = /^(?:https?|git):\/\/(?:[^@/]*@)?([^/:]+)(?::(\d+))?\/+(.*)$/s;
  const match = (isSsh ? ssh : web).exec(url);
  if (match === null) return undefined;
  const [, host = '', port, path = ''] = match;
  return { isSsh, host: host.toLowerCase(), port, path: path.replace(/\/+$/, '').replace(/\.git$/, '') };
}

/** A name or URL that git cannot take for an option, nor for a program to run. Throws URL_INVALID. */
export function checkRemoteWord(remote: string): void {
  if (remote !== '' && !remote.startsWith('-') && !/[\0\n]/.test(remote) && !/^[^/]*::/.test(remote)) return;
  throw new Git2dbError(
    'URL_INVALID',
    `expected the name of a git remote or a URL, found ${JSON.stringify(remote.slice(0, 80))}`,
  );
}
