/**
 * `git2db xet push` and the pre-push hook: before refs move, the content of every pointer that they lead to
 * must be at the remote. Which pointers these are git's history says; which of them are missing, the remote.
 */
import { count } from '../count.ts';
import { loadFilterConfig } from '../filter-process/config.ts';
import { quotePath } from '../filter-process/trace.ts';
import { withWholePaths } from '../git/listed-paths.ts';
import { findPathsOf } from '../git/refs.ts';
import { isHubUrl } from '../lfs/hub-host.ts';
import type { LfsObject } from '../lfs/objects.ts';
import { Git2dbError } from '../xet/errors.ts';
import { useBlake3 } from '../xet/hash/blake3.ts';
import { formatHash, parseHash } from '../xet/hash/xet-hash.ts';
import { shownUrl } from '../xet/remote/address.ts';
import { StoreLayout } from '../xet/store/layout.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import { registerUser } from '../xet/store/users.ts';
import type { FileOutcome, TransferEvent } from '../xet/transfer/transfer.ts';
import { ContentRemotes, preloadFor } from './content-remotes.ts';
import { GitRemotes } from './git-remotes.ts';
import { type PushedPointer, pushedPointers } from './pushed-pointers.ts';
import { type PushedRange, type RefSelection, selectRange } from './pushed-range.ts';
import type { Place } from './work-tree.ts';

export interface PushContentOptions extends Place {
  /** What was read of the same place a moment ago, where it was. */
  readonly git?: GitRemotes | undefined;
  /** Name or URL of the git remote. */
  readonly remote: string;
  /** What git pushes to, where git has said so. */
  readonly url?: string | undefined;
  /** Only say what is missing there. */
  readonly dryRun: boolean;
  readonly mayPrompt: boolean;
  readonly refresh?: boolean | undefined;
  readonly warn: (message: string) => void;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: TransferEvent) => void) | undefined;
  /** Bytes of LFS content since the last call. */
  readonly onLfsBytes?: ((bytes: number) => void) | undefined;
}

export interface PushedFile {
  /** One path that it has in what is pushed. */
  readonly path: Buffer;
  readonly kind: 'xet' | 'lfs';
  /** File hash, or the SHA-256 of an LFS pointer. */
  readonly hash: string;
  readonly size: number;
  /** `missing`: in a dry run, what would be sent. */
  readonly outcome: 'present' | 'sent' | 'missing' | 'failed';
  /** Of one that failed. */
  readonly error?: Git2dbError | undefined;
  /** Of one that failed: a commit that has it, where git knows one. */
  readonly commit?: string | undefined;
}

export interface PushContentResult {
  /** Undefined where there was nothing to send; several, with commas, where the pushed commits name several. */
  readonly place: string | undefined;
  readonly files: readonly PushedFile[];
  /** Bytes that were sent. */
  readonly wireBytes: number;
}

/** Only the walk takes git; a history without pointers asks nobody. Throws what `ContentRemotes.open` throws. */
export async function pushContent(
  range: PushedRange,
  options: PushContentOptions,
): Promise<PushContentResult> {
  await using remotes = new ContentRemotes(options);
  const results: PushContentResult[] = [];
  // Each place that the pushed commits name gets what they need.
  for (const tips of await remotes.git.groupByGitxet([...new Set(range.tips)]))
    results.push(await pushGroup(remotes, { ...range, tips }, options));
  return merged(results);
}

/**
 * What `selection` names, to everything that `git push` to the remote pushes to. Where some of several URLs cannot be
 * served the others are, and the error says which was not.
 */
export async function pushSelected(
  selection: RefSelection,
  options: Omit<PushContentOptions, 'url'>,
): Promise<PushContentResult> {
  const { remote, git = GitRemotes.load(options) } = options;
  const isSet = git.isPlaceSet(remote);
  const urls = isSet ? [] : await git.pushUrls(remote);
  preloadFor(isSet ? git.placeSettings(remote) : urls);
  if (urls.length < 2)
    return await pushContent(await selectRange(git, remote, selection), { ...options, git });
  const results: PushContentResult[] = [];
  const failures: { readonly url: string; readonly error: Git2dbError }[] = [];
  for (const url of urls) {
    try {
      const range = await selectRange(git, remote, selection, url);
      results.push(await pushContent(range, { ...options, git, url }));
    } catch (error) {
      if (!(error instanceof Git2dbError) || error.code === 'REF_INVALID') throw error;
      failures.push({ url: shownUrl(url), error });
    }
  }
  const [first] = failures;
  if (first === undefined) return merged(results);
  const which = failures.map(({ url, error }) => `${url}: ${error.message}`).join('; ');
  throw new Git2dbError(
    first.error.code,
    `${count(failures.length, 'push URL')} of the remote ${remote} could not be served, of ${urls.length}: ${which}`,
    { cause: first.error },
  );
}

/** `tips` have one `.gitxet`. */
async function pushGroup(
  remotes: ContentRemotes,
  range: PushedRange,
  options: PushContentOptions,
): Promise<PushContentResult> {
  const { remote, env, signal } = options;
  let { url } = options;
  const found = new Map<string, PushedPointer>();
  let isOpening = options.dryRun;
  const { repository, config } = remotes.git;
  for await (const pushed of pushedPointers(repository, { ...range, env, config, signal })) {
    const { pointer } = pushed;
    if (pointer.size === 0) continue;
    const key = pointer.kind === 'lfs' ? `lfs ${pointer.sha256}` : pointer.hash;
    if (!found.has(key)) found.set(key, pushed);
    if (isOpening || pointer.kind === 'lfs') continue;
    // It is needed now, and answers while git's history is still being read. A failure is told when it is used.
    isOpening = true;
    url ??= await remotes.git.url(remote, 'push');
    if (!isHubUrl(url, env)) remotes.open(remote, 'push', url, range.tips[0]).catch(() => {});
  }
  const pointers = [...found.values()];
  if (pointers.length === 0) return { place: undefined, files: [], wireBytes: 0 };
  // Awaited here: the remotes are closed when this function is left.
  url ??= await remotes.git.url(remote, 'push');
  const push = new ContentPush(remotes, range.tips[0], options);
  // Names are for whoever reads of it: they are made out while content is on its way.
  const naming = withWholePaths(repository, pointers, { signal });
  naming.catch(() => {});
  return await push.run(pointers, naming, url);
}

/** A file that went to several places is told of once: by the worst that happened to it. */
function merged(results: readonly PushContentResult[]): PushContentResult {
  const worst = ['present', 'sent', 'missing', 'failed'];
  const files = new Map<string, PushedFile>();
  for (const file of results.flatMap((result) => result.files)) {
    const key = `${file.kind} ${file.hash}`;
    const before = files.get(key);
    if (before === undefined || worst.indexOf(file.outcome) > worst.indexOf(before.outcome))
      files.set(key, file);
  }
  const places = new Set(results.flatMap(({ place }) => place ?? []));
  return {
    place: places.size === 0 ? undefined : [...places].join(', '),
    files: [...files.values()],
    wireBytes: results.reduce((sum, { wireBytes }) => sum + wireBytes, 0),
  };
}

class ContentPush {
  readonly #remotes: ContentRemotes;
  /** Something that is pushed, whose `.gitxet` counts. */
  readonly #treeish: string | undefined;
  readonly #options: PushContentOptions;
  #place: string | undefined;
  #wireBytes = 0;

  constructor(remotes: ContentRemotes, treeish: string | undefined, options: PushContentOptions) {
    this.#remotes = remotes;
    this.#treeish = treeish;
    this.#options = options;
  }

  /** `naming`: the same pointers with whole paths. */
  async run(
    pointers: readonly PushedPointer[],
    naming: Promise<readonly PushedPointer[]>,
    url: string,
  ): Promise<PushContentResult> {
    const xet = pointers.filter(({ pointer }) => pointer.kind !== 'lfs');
    const lfs = pointers.filter(({ pointer }) => pointer.kind === 'lfs');
    if (xet.length > 0 && isHubUrl(url, this.#options.env)) throw refusedByHub(await naming);
    const files = [...(await this.#pushXet(xet, url)), ...(await this.#pushLfs(lfs, url))];
    const commits = await this.#commitsOf(files, pointers);
    const paths = new Map((await naming).map((pushed) => [nameOf(pushed).hash, pushed.path]));
    return {
      place: this.#place,
      files: files.map((file) => ({
        ...file,
        path: paths.get(file.hash) ?? file.path,
        commit: commits.get(file.hash),
      })),
      wireBytes: this.#wireBytes,
    };
  }

  async #pushXet(pointers: readonly PushedPointer[], url: string): Promise<PushedFile[]> {
    if (pointers.length === 0) return [];
    const { dryRun, signal, onProgress, remote, cwd, env } = this.#options;
    if (dryRun && (await this.#isUnmade(url)))
      return pointers.map((pushed) => ({ ...nameOf(pushed), outcome: 'missing' }));
    const { remote: target, choice } = await this.#remotes.open(remote, 'push', url, this.#treeish);
    this.#place = target.place;
    for (const { verdict, reason } of choice.candidates)
      if (verdict === 'invalid' || verdict === 'untrusted') this.#options.warn(`.gitxet: ${reason}`);
    if (target.isReadOnly) {
      throw new Git2dbError(
        'REMOTE_FORBIDDEN',
        `${target.place} can only be read: name a place to push to (git config remote.${remote}.xeturl URL)`,
      );
    }
    const wanted = pointers.map(({ pointer }) => ({
      hash: parseHash((pointer as { hash: string }).hash),
      size: pointer.size,
    }));
    if (dryRun) {
      const missing = await target.missing(wanted, { signal });
      const names = new Set(missing.map(({ hash }) => formatHash(hash)));
      return pointers.map((pushed) => ({
        ...nameOf(pushed),
        outcome: names.has(nameOf(pushed).hash) ? 'missing' : 'present',
      }));
    }
    const config = loadFilterConfig(cwd, env, this.#remotes.git.config);
    useBlake3(config.kernels.blake3);
    const local = new LocalStore(config.storeDir);
    try {
      if (local.existsOrCan()) registerUser(local.layout, config.repository.commonDir);
      const { files, wireBytes } = await target.send(local, wanted, { signal, onProgress });
      this.#wireBytes += wireBytes;
      return files.map((outcome, i) => pushedFile(pointers[i]!, outcome));
    } finally {
      local.close();
    }
  }

  /** A directory that the first push would make. */
  async #isUnmade(url: string): Promise<boolean> {
    const { place } = await this.#remotes.choose(this.#options.remote, 'push', url, this.#treeish);
    if (place?.kind !== 'directory' || new StoreLayout(place.path).exists()) return false;
    this.#place = place.path;
    return true;
  }

  async #pushLfs(pointers: readonly PushedPointer[], url: string): Promise<PushedFile[]> {
    if (pointers.length === 0) return [];
    const { dryRun, signal, warn, remote, onLfsBytes } = this.#options;
    if (dryRun && (await this.#isUnmade(url)))
      return pointers.map((pushed) => ({ ...nameOf(pushed), outcome: 'missing' }));
    const choice = await this.#remotes.choose(remote, 'push', url, this.#treeish);
    const isDirectory = choice.place?.kind === 'directory';
    const opened = isDirectory ? await this.#remotes.open(remote, 'push', url, this.#treeish) : undefined;
    this.#place ??= opened?.remote.place ?? choice.url;
    const objects = pointers.map(
      ({ pointer }): LfsObject => ({ sha256: shaOf(pointer), size: pointer.size ?? 0 }),
    );
    if (dryRun) {
      const { missingLfs } = await import('./push-lfs-missing.ts');
      const to = { remote, url, store: opened?.store, signal };
      const found = await missingLfs(this.#remotes.lfsPlace(), objects, to);
      return found.map((answer, i) => ({ ...nameOf(pointers[i]!), ...answer }));
    }
    const { pushLfs } = await import('../lfs/push.ts');
    const outcomes = await pushLfs(this.#remotes.lfsPlace(), objects, {
      remote,
      url,
      store: opened?.store,
      signal,
      warn,
      onProgress: (bytes) => {
        this.#wireBytes += bytes;
        onLfsBytes?.(bytes);
      },
    });
    return outcomes.map(({ outcome, error }, i) => ({
      ...nameOf(pointers[i]!),
      outcome: outcome === 'moved' ? 'sent' : outcome,
      error,
    }));
  }

  /** Where those that failed are, for the message. */
  async #commitsOf(
    files: readonly PushedFile[],
    pointers: readonly PushedPointer[],
  ): Promise<Map<string, string>> {
    const failed = new Set(files.filter(({ outcome }) => outcome === 'failed').map(({ hash }) => hash));
    if (failed.size === 0) return new Map();
    const blobs = new Map(pointers.map((pushed) => [nameOf(pushed).hash, pushed.oid]));
    const oids = [...failed].flatMap((hash) => blobs.get(hash) ?? []);
    const places = await findPathsOf(this.#remotes.git.repository, oids, { signal: this.#options.signal });
    return new Map(
      [...failed].flatMap((hash): [string, string][] => {
        const commit = places.get(blobs.get(hash)!)?.commit;
        return commit === undefined ? [] : [[hash, commit]];
      }),
    );
  }
}

function pushedFile(pushed: PushedPointer, { outcome, error, size }: FileOutcome): PushedFile {
  const named = nameOf(pushed);
  return { ...named, size: size ?? named.size, outcome: outcome === 'moved' ? 'sent' : outcome, error };
}

function nameOf({ path, pointer }: PushedPointer): Pick<PushedFile, 'path' | 'kind' | 'hash' | 'size'> {
  const size = pointer.size ?? 0;
  return pointer.kind === 'lfs'
    ? { path, kind: 'lfs', hash: pointer.sha256, size }
    : { path, kind: 'xet', hash: pointer.hash, size };
}

function shaOf(pointer: PushedPointer['pointer']): string {
  return pointer.kind === 'lfs' ? pointer.sha256 : '';
}

function refusedByHub(pushed: readonly PushedPointer[]): Git2dbError {
  const pointers = pushed.filter(({ pointer }) => pointer.kind !== 'lfs');
  const shown = pointers.slice(0, 5).map(({ path }) => quotePath(path));
  const more = pointers.length > 5 ? ` and ${pointers.length - 5} more` : '';
  return new Git2dbError(
    'REFUSED',
    `the Hugging Face Hub reads Git LFS pointers only, and what is pushed has pointers of filter=xet: ` +
      `${shown.join(', ')}${more}. Convert them: git2db xet migrate to-lfs`,
    { data: { paths: pointers.map(({ path }) => path.toString('utf8')) } },
  );
}
