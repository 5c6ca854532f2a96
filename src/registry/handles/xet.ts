/**
 * The large files of one repository: `handle.xet` for `filter=xet`, `handle.lfs` for what Git LFS left in
 * history. What runs is src/large-files.
 */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { guardMethods } from '../../arguments.ts';
import { loadFilterConfig, storeDirectory } from '../../filter-process/config.ts';
import { Content } from '../../filter-process/content.ts';
import { GitConfig } from '../../git/config.ts';
import type { StoreUsage } from '../../large-files/du.ts';
import type { EvictOptions, EvictResult } from '../../large-files/evict.ts';
import type {
  FetchOptions as FetchContentsOptions,
  FetchResult as FetchContentsResult,
} from '../../large-files/fetch.ts';
import type { FsckOptions } from '../../large-files/fsck.ts';
import type { FsckReport } from '../../large-files/fsck-report.ts';
import type { CollectOptions, CollectResult } from '../../large-files/gc.ts';
import type { HookChange } from '../../large-files/hook-files.ts';
import type { LargeFile } from '../../large-files/list.ts';
import type { DryPull, PullOptions, PullResult } from '../../large-files/pull.ts';
import type { PushContentOptions, PushContentResult } from '../../large-files/push.ts';
import type { WorkTreeStatus } from '../../large-files/status.ts';
import type { ListedPattern, TrackResult, UntrackResult } from '../../large-files/track.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { sniffPointer } from '../../xet/pointer/sniff.ts';
import { XetConfig } from '../../xet/xet-config.ts';
import { XetStorage } from '../../xet/xet-storage.ts';
import { setUpLargeFiles } from '../filter-setup.ts';
import type { GitPlace } from '../git-place.ts';
import { installPushHook, type PushHookOptions } from '../push-hook.ts';
import { trustSettings } from '../trust.ts';
import { fullEnvironment } from '../whole-environment.ts';
import { completeWorktrees } from '../worktree/completion.ts';
import type { WorktreeHome } from '../worktree/driver.ts';

export { LfsFacet } from './lfs.ts';

interface Surroundings {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
}

type Warn = (message: string) => void;

/** What is younger may be of an operation whose result nothing refers to yet. */
const DEFAULT_GRACE_MS = 14 * 86_400_000;
const DEFAULT_WAIT_MS = 60_000;

export class XetFacet {
  readonly #place: GitPlace;
  readonly #home: WorktreeHome | undefined;

  /** `home`: of the repository's worktrees, where it has one. */
  constructor(place: GitPlace, home?: WorktreeHome) {
    this.#place = place;
    this.#home = home;
  }

  /** Makes `patterns` large files, in the .gitattributes at the top; `renormalize` turns what is committed as content into pointers. */
  async track(
    patterns: string | readonly string[],
    options: { readonly dryRun?: boolean; readonly renormalize?: boolean } = {},
  ): Promise<TrackResult> {
    const { track } = await import('../../large-files/track.ts');
    const { dryRun = false, renormalize = false } = options;
    return track({ ...(await this.#there()), patterns: listOf(patterns), dryRun, renormalize });
  }

  async untrack(
    patterns: string | readonly string[],
    options: { readonly dryRun?: boolean } = {},
  ): Promise<UntrackResult> {
    const { untrack } = await import('../../large-files/track.ts');
    return untrack({ ...(await this.#there()), patterns: listOf(patterns), dryRun: options.dryRun === true });
  }

  async tracked(): Promise<ListedPattern[]> {
    const { listTracked } = await import('../../large-files/track.ts');
    return listTracked(await this.#there());
  }

  /** The large files of the index, and whether their content is in the work tree and in the store. */
  async status(
    options: { readonly paths?: readonly string[]; readonly warn?: Warn } = {},
  ): Promise<WorkTreeStatus> {
    const { status } = await import('../../large-files/status.ts');
    return status({ ...(await this.#there()), pathspecs: options.paths ?? [], warn: options.warn ?? ignore });
  }

  /**
   * Puts content in the place of pointers in the work tree. A file that fails is named in the result. Overlay
   * worktrees get it in the tree that they share, as far as they can be mounted anew now; see `worktree().complete`.
   */
  async pull(
    options: { readonly paths?: readonly string[]; readonly warn?: Warn } & Pick<
      PullOptions,
      'signal' | 'onProgress'
    > = {},
  ): Promise<PullResult> {
    const { pull } = await import('../../large-files/pull.ts');
    const { paths = [], warn = ignore, ...rest } = options;
    const onContent = () => this.#complete(options.signal);
    return pull({ ...(await this.#there()), ...rest, pathspecs: paths, warn, onContent });
  }

  /** True if a worktree shows content now that it did not before. */
  async #complete(signal: AbortSignal | undefined): Promise<boolean> {
    if (this.#home === undefined) return false;
    const reports = await completeWorktrees(this.#place, this.#home, { signal });
    return reports.some(({ outcome }) => outcome === 'moved');
  }

  /**
   * Sends the content that `refs` (HEAD unless given), or with `all` every branch and tag, need to the place of the
   * git remote: before `remote().push()`, which moves the refs. A file that fails is named in the result.
   */
  async push(
    options: {
      readonly remote?: string;
      readonly refs?: readonly string[];
      readonly all?: boolean;
    } & Partial<Pick<PushContentOptions, 'dryRun' | 'signal' | 'onProgress' | 'warn'>> = {},
  ): Promise<PushContentResult> {
    const [{ pushContent }, { selectRange }, { GitRemotes }] = await Promise.all([
      import('../../large-files/push.ts'),
      import('../../large-files/pushed-range.ts'),
      import('../../large-files/git-remotes.ts'),
    ]);
    const there = await this.#there();
    const { refs = [], all = false, remote: named, ...rest } = options;
    const git = GitRemotes.load(there);
    const remote = named ?? (await git.forPush());
    if (remote === undefined)
      throw new Git2dbError('REMOTE_MISSING', 'there is no git remote to push to: add one, or name a URL');
    const range = await selectRange(git, remote, { refs: listOf(refs), all });
    return pushContent(range, {
      dryRun: false,
      warn: ignore,
      ...rest,
      ...there,
      git,
      remote,
      mayPrompt: false,
    });
  }

  /**
   * Fetches content into the store: of the index, of `refs`, or (`all`) of the whole history. Overlay worktrees that
   * lack some of it get it; see `worktree().complete`.
   */
  async fetch(
    options: Partial<Omit<FetchContentsOptions, 'cwd' | 'env' | 'mayPrompt'>> = {},
  ): Promise<FetchContentsResult> {
    const { fetch } = await import('../../large-files/fetch.ts');
    const result = await fetch({
      remote: undefined,
      all: false,
      recent: false,
      recentDays: undefined,
      include: [],
      exclude: [],
      dryRun: false,
      refresh: false,
      warn: ignore,
      ...options,
      refs: listOf(options.refs ?? []),
      ...(await this.#there()),
      mayPrompt: false,
    });
    if (result.files.some(({ outcome }) => outcome === 'moved')) await this.#complete(options.signal);
    return result;
  }

  /** Drops content that a remote provably holds from the store of this machine; a dry run unless told. */
  async evict(
    options: { readonly paths?: readonly string[] } & Partial<
      Pick<EvictOptions, 'dryRun' | 'waitMs' | 'signal' | 'onProgress' | 'warn'>
    > = {},
  ): Promise<EvictResult> {
    const { evict } = await import('../../large-files/evict.ts');
    const { paths = [], ...rest } = options;
    const defaults = { dryRun: true, waitMs: DEFAULT_WAIT_MS, warn: ignore };
    return evict({ ...defaults, ...rest, ...(await this.#there()), pathspecs: paths, mayPrompt: false });
  }

  /** What `pull` would write, and what it would not find. */
  async planPull(
    options: { readonly paths?: readonly string[]; readonly warn?: Warn; readonly signal?: AbortSignal } = {},
  ): Promise<DryPull> {
    const { planPull } = await import('../../large-files/pull.ts');
    const { paths = [], warn = ignore, signal } = options;
    return planPull({ ...(await this.#there()), signal, pathspecs: paths, warn });
  }

  /** Those of the index, or of a commit or tree. */
  async lsFiles(options: { readonly ref?: string } = {}): Promise<LargeFile[]> {
    const { listLargeFiles } = await import('../../large-files/list.ts');
    return listLargeFiles({ ...(await this.#there()), ref: options.ref });
  }

  async fsck(options: Partial<Omit<FsckOptions, 'cwd' | 'env'>> = {}): Promise<FsckReport> {
    const { fsck } = await import('../../large-files/fsck.ts');
    return fsck({ quick: false, repair: false, ...options, ...(await this.#there()) });
  }

  /** A report of what could be given back, unless `prune`. The store may serve other repositories: all are looked at. */
  async gc(options: Partial<Omit<CollectOptions, 'cwd' | 'env'>> = {}): Promise<CollectResult> {
    const { collect } = await import('../../large-files/gc.ts');
    return collect({
      prune: false,
      rehearse: false,
      graceMs: DEFAULT_GRACE_MS,
      waitMs: DEFAULT_WAIT_MS,
      repack: true,
      forget: [],
      warn: ignore,
      ...options,
      ...(await this.#there()),
    });
  }

  async du(options: { readonly signal?: AbortSignal } = {}): Promise<StoreUsage> {
    const { diskUsage } = await import('../../large-files/du.ts');
    return diskUsage({ ...(await this.#there()), ...options });
  }

  /** Makes this repository's own configuration name our filter (and `store`, if given). */
  async installFilter(
    options: { readonly store?: string; readonly signal?: AbortSignal } = {},
  ): Promise<void> {
    await setUpLargeFiles(this.#place, options);
  }

  /**
   * Makes a plain `git push` send the content of large files, by a pre-push hook. Throws REFUSED where another hook
   * stands, unless `chain`: that one is kept then, and runs after ours.
   */
  async installHook(options: PushHookOptions = {}): Promise<HookChange[]> {
    return installPushHook(this.#place, options);
  }

  /**
   * The content of the pointer `pointer` (of a file that was not smudged), from this repository's store or
   * one of a remote on this machine. Throws INVALID_POINTER, CONTENT_MISSING, CONTENT_DAMAGED: whoever
   * asked never gets the pointer's text for the content.
   */
  async load(pointer: string | Uint8Array): Promise<Buffer> {
    const { cwd, env } = await this.#there();
    const bytes = typeof pointer === 'string' ? Buffer.from(pointer) : pointer;
    const found = sniffPointer(bytes);
    if (found === undefined || found.kind === 'lfs') {
      throw new Git2dbError(
        'INVALID_POINTER',
        'expected the text of a pointer, found something else: give the whole of a file that was not smudged',
      );
    }
    const config = loadFilterConfig(cwd, env);
    const content = new Content(config, ignore);
    try {
      // Takes what only the store of a remote has into ours.
      if (found.size !== 0) content.plan(found.hash, found.size);
    } finally {
      await content.seal();
    }
    await using storage = XetStorage.open(config.storeDir);
    return await storage.smudgeBytes(bytes);
  }

  /** This repository's store, for contents without git. The caller disposes of it. */
  async storage(): Promise<XetStorage> {
    const { cwd, env } = await this.#there();
    const config = GitConfig.load(cwd, '^xet\\.(store|compression)$', { env });
    const compression = config.get('xet.compression') as XetConfig['compression'] | undefined;
    const store = storeDirectory(config, this.#place.commonDir, env);
    return XetStorage.open(new XetConfig(store, compression === undefined ? {} : { compression }));
  }

  #there(): Promise<Surroundings> {
    return largeFileSurroundings(this.#place);
  }
}

/**
 * Where functions of src/large-files work on `place`. They read files by themselves, so a place that only
 * another mount namespace sees is refused. And they start git as a command in that directory would, so in
 * an untrusted repository there must be nothing that git would run: what trust.ts would lay over, and the
 * one hook that git runs when it writes an index.
 */
export async function largeFileSurroundings(place: GitPlace): Promise<Surroundings> {
  const cwd = place.workTree ?? place.gitDir;
  if (!place.reachable) {
    throw new Git2dbError(
      'NOT_REACHABLE',
      `${cwd} is seen in another mount namespace only: run git2db there, with git2db-mount exec`,
      { data: { path: cwd } },
    );
  }
  const env = fullEnvironment(place.env);
  const { neutralized } = await trustSettings(place.trusted, place, { env });
  const keys = neutralized.map(({ key }) => key);
  const hook = join(place.commonDir, 'hooks', 'post-index-change');
  const reason =
    keys.length > 0
      ? `its own configuration sets ${keys.join(', ')}`
      : !place.trusted && isExecutable(hook)
        ? `it has the hook ${hook}`
        : undefined;
  if (reason === undefined) return { cwd, env };
  const remedy = keys.every((key) => key.startsWith('filter.xet.'))
    ? 'set the filter up again (installFilter)'
    : 'remove that';
  throw new Git2dbError(
    'TRUST_REQUIRED',
    `${cwd} is not trusted, and ${reason}, which git would run for large files: ${remedy}, or trust the repository`,
    { data: { path: cwd, keys } },
  );
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function listOf(patterns: string | readonly string[]): readonly string[] {
  return typeof patterns === 'string' ? [patterns] : patterns;
}

function ignore(): void {}

guardMethods(XetFacet, {
  track: ['patterns:text|texts', 'options?'],
  untrack: ['patterns:text|texts', 'options?'],
  status: ['options?'],
  pull: ['options?'],
  push: ['options?'],
  fetch: ['options?'],
  evict: ['options?'],
  planPull: ['options?'],
  lsFiles: ['options?'],
  fsck: ['options?'],
  gc: ['options?'],
  du: ['options?'],
  installFilter: ['options?'],
  installHook: ['options?'],
  load: ['pointer:text|bytes'],
});
