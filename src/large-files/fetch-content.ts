/**
 * Brings content into the repository's store, from whichever of its remotes has it: one remote after the other is
 * asked for what is still missing, and what each of them said is what is told in the end.
 */
import { type FilterConfig, loadFilterConfig } from '../filter-process/config.ts';
import type { LfsOutcome } from '../lfs/objects.ts';
import { type ErrorCode, Git2dbError } from '../xet/errors.ts';
import { useBlake3 } from '../xet/hash/blake3.ts';
import { formatHash, parseHash } from '../xet/hash/xet-hash.ts';
import { shownUrl } from '../xet/remote/address.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import { registerUser } from '../xet/store/users.ts';
import { StoreWriter } from '../xet/store/writer.ts';
import type { FilePart } from '../xet/transfer/file-part.ts';
import { sizeIfPresent } from '../xet/transfer/present-file.ts';
import type { TransferEvent } from '../xet/transfer/transfer.ts';
import type { ContentRemotes } from './content-remotes.ts';
import type { Place } from './work-tree.ts';

/** What a pointer names. */
export interface WantedContent {
  readonly kind: 'xet' | 'lfs';
  /** File hash, or the SHA-256 of an LFS pointer. */
  readonly hash: string;
  /** Bytes; undefined where the pointer does not say. */
  readonly size: number | undefined;
}

export interface ContentOutcome extends WantedContent {
  /** `present`: it was here. */
  readonly outcome: 'present' | 'moved' | 'failed';
  readonly error?: Git2dbError | undefined;
}

export interface FetchContentOptions extends Place {
  /** Names or URLs of git remotes, in the order in which they are asked; all of the repository unless given. */
  readonly from?: readonly string[] | undefined;
  /** Commits, tags or trees that the content is of: their `.gitxet` count before that of the index or HEAD. */
  readonly treeishes?: readonly string[] | undefined;
  readonly warn: (message: string) => void;
  readonly signal?: AbortSignal | undefined;
  /** Told of each file as soon as every process can read it, or nothing more can be tried. */
  readonly onFile?: ((outcome: ContentOutcome) => void) | undefined;
  /** Told of a file on its way, as far as every process can read it; another try of it begins anew. */
  readonly onPart?: ((content: WantedContent, part: FilePart) => void) | undefined;
  readonly onProgress?: ((event: TransferEvent) => void) | undefined;
}

export interface FetchContentResult {
  /** In the order asked for, each content once. */
  readonly files: readonly ContentOutcome[];
  /** Bytes that were moved. */
  readonly wireBytes: number;
}

/** No other remote would help. */
const OURS: ReadonlySet<ErrorCode> = new Set(['STORE_UNWRITABLE', 'STORE_UNSUPPORTED', 'DISK_FULL']);

/** `remotes`: of the place in `options`. A file that fails fails alone. Throws an AbortError, and what makes our own store unusable. */
export async function fetchContent(
  remotes: ContentRemotes,
  wanted: readonly WantedContent[],
  options: FetchContentOptions,
): Promise<FetchContentResult> {
  const config = loadFilterConfig(options.cwd, options.env, remotes.git.config);
  useBlake3(config.kernels.blake3);
  const names = options.from ?? (await remotes.git.inOrder());
  const run = new ContentFetch(remotes, config, names, options);
  const distinct = [...new Map(wanted.map((one) => [`${one.kind} ${one.hash}`, one])).values()];
  await run.settlePresent(distinct);
  await run.fetchXet(distinct.filter(({ kind }) => kind === 'xet'));
  await run.fetchLfs(distinct.filter(({ kind }) => kind === 'lfs'));
  return run.result(distinct);
}

class ContentFetch {
  readonly #remotes: ContentRemotes;
  readonly #config: FilterConfig;
  readonly #names: readonly string[];
  readonly #options: FetchContentOptions;
  readonly #outcomes = new Map<string, ContentOutcome>();
  /** What was said of each content, by key; of all, under the empty key. */
  readonly #told = new Map<string, Said[]>();
  #wireBytes = 0;

  constructor(
    remotes: ContentRemotes,
    config: FilterConfig,
    names: readonly string[],
    options: FetchContentOptions,
  ) {
    this.#remotes = remotes;
    this.#config = config;
    this.#names = names;
    this.#options = options;
  }

  result(wanted: readonly WantedContent[]): FetchContentResult {
    const files = wanted.map((one) => this.#outcomes.get(keyOf(one)) as ContentOutcome);
    return { files, wireBytes: this.#wireBytes };
  }

  /** What is here is missed by nobody, also where no remote can be asked. It is renewed, so that gc leaves it alone. */
  async settlePresent(wanted: readonly WantedContent[]): Promise<void> {
    const { storeDir, fsync } = this.#config;
    const local = new LocalStore(storeDir);
    try {
      if (wanted.length === 0 || !local.existsOrCan()) return;
      const writer = new StoreWriter(local, { fsync, warn: this.#options.warn });
      try {
        for (const one of wanted) {
          const { hash, size } = one;
          const found = one.kind === 'xet' ? [parseHash(hash)] : local.findSha256(hash);
          if (
            found.some((each) => sizeIfPresent(local, writer, { hash: each, size }, 'sealed') !== undefined)
          )
            this.#settle(one, 'present');
        }
      } finally {
        await writer.seal();
      }
    } finally {
      local.close();
    }
  }

  async fetchXet(wanted: readonly WantedContent[]): Promise<void> {
    await this.#eachRemote(wanted, async (name, left, treeish) => {
      const { remote } = await this.#remotes.open(name, 'fetch', undefined, treeish);
      const { storeDir, repository, fsync } = this.#config;
      const { signal, warn, onProgress, onPart } = this.#options;
      // Of its own: the engine has a writer on it.
      const local = new LocalStore(storeDir);
      const byHash = new Map(left.map((one) => [one.hash, one]));
      try {
        local.layout.create();
        registerUser(local.layout, repository.commonDir);
        const { files, wireBytes } = await remote.fetch(
          local,
          left.map(({ hash, size }) => ({ hash: parseHash(hash), size })),
          {
            writer: { fsync, warn },
            signal,
            onProgress,
            onPart: ({ hash }, part) => {
              const one = byHash.get(formatHash(hash));
              if (one !== undefined) onPart?.(one, part);
            },
            onFile: ({ hash, outcome }) => {
              const one = byHash.get(formatHash(hash));
              if (one !== undefined && outcome !== 'failed') this.#settle(one, outcome);
            },
          },
        );
        this.#wireBytes += wireBytes;
        for (const [i, { error }] of files.entries())
          if (error !== undefined) this.#say(keyOf(left[i]!), { name, place: remote.place, error });
      } finally {
        local.close();
      }
    });
  }

  async fetchLfs(wanted: readonly WantedContent[]): Promise<void> {
    if (wanted.every((one) => this.#outcomes.has(keyOf(one)))) return;
    const { fetchLfs } = await import('../lfs/fetch.ts');
    await this.#eachRemote(wanted, async (name, left, treeish) => {
      const { signal, warn } = this.#options;
      const choice = await this.#remotes.choose(name, 'fetch', undefined, treeish);
      const isStore = choice.place !== undefined && choice.place.kind !== 'hub';
      const store = isStore ? await this.#storeOf(name, treeish) : undefined;
      const objects = left.map(({ hash, size = 0 }) => ({ sha256: hash, size }));
      const outcomes = await fetchLfs(this.#remotes.lfsPlace(), objects, {
        remote: name,
        store,
        signal,
        warn,
        onProgress: (bytes) => {
          this.#wireBytes += bytes;
        },
        onFile: (outcome) => this.#lfsFile(outcome),
      });
      for (const { sha256, size, error } of outcomes)
        if (error !== undefined)
          this.#say(keyOf({ kind: 'lfs', hash: sha256, size }), { name, place: choice.url, error });
    });
  }

  /** There may be an LFS server, too: a store that cannot be opened is no reason not to ask that. */
  async #storeOf(name: string, treeish: string | undefined) {
    try {
      return (await this.#remotes.open(name, 'fetch', undefined, treeish)).store;
    } catch (error) {
      if (error instanceof Git2dbError) return undefined;
      throw error;
    }
  }

  #lfsFile({ sha256, size, outcome }: LfsOutcome): void {
    if (outcome !== 'failed') this.#settle({ kind: 'lfs', hash: sha256, size }, outcome);
  }

  async #eachRemote(
    wanted: readonly WantedContent[],
    ask: (name: string, left: readonly WantedContent[], treeish: string | undefined) => Promise<void>,
  ): Promise<void> {
    const left = () => wanted.filter((one) => !this.#outcomes.has(keyOf(one)));
    for (const name of this.#names) {
      // What the place that a commit names does not have may be where the branch that is checked out names another.
      for (const treeish of await this.#placesOf(name)) {
        const some = left();
        if (some.length === 0) return;
        this.#options.signal?.throwIfAborted();
        try {
          await ask(name, some, treeish);
        } catch (error) {
          if (!(error instanceof Git2dbError) || OURS.has(error.code)) throw error;
          for (const one of some) this.#say(keyOf(one), { name, place: undefined, error });
        }
        if (this.#isHopeless(some)) break;
      }
      if (this.#isHopeless(left())) break;
    }
    for (const one of left()) this.#settle(one, 'failed', this.#nowhere(one));
  }

  /** Treeishes, one for each place that they name for a remote. */
  async #placesOf(name: string): Promise<(string | undefined)[]> {
    const { treeishes = [] } = this.#options;
    if (treeishes.length === 0) return [undefined];
    const found = new Map<string, string | undefined>();
    for (const [first] of await this.#remotes.git.groupByGitxet([...treeishes])) {
      const key = await this.#placeKey(name, first);
      if (!found.has(key)) found.set(key, first);
    }
    const key = await this.#placeKey(name, undefined);
    if (!found.has(key)) found.set(key, undefined);
    return [...found.values()];
  }

  async #placeKey(name: string, treeish: string | undefined): Promise<string> {
    try {
      const { place, candidates } = await this.#remotes.choose(name, 'fetch', undefined, treeish);
      return JSON.stringify(place ?? candidates);
    } catch (error) {
      // It is told to whoever asks there.
      if (error instanceof Git2dbError) return `${error.code} ${error.message}`;
      throw error;
    }
  }

  #isHopeless(some: readonly WantedContent[]): boolean {
    return some.flatMap((one) => this.#told.get(keyOf(one)) ?? []).some(({ error }) => OURS.has(error.code));
  }

  #say(key: string, said: Said): void {
    const before = this.#told.get(key);
    if (before === undefined) this.#told.set(key, [said]);
    else before.push(said);
  }

  #settle(one: WantedContent, outcome: ContentOutcome['outcome'], error?: Git2dbError): void {
    const settled = { ...one, outcome, error };
    this.#outcomes.set(keyOf(one), settled);
    this.#options.onFile?.(settled);
  }

  /** One message with what every place said. */
  #nowhere(one: WantedContent): Git2dbError {
    const said = this.#told.get(keyOf(one)) ?? [];
    const what = `${one.size ?? 'unknown number of'} bytes, ${one.kind === 'lfs' ? 'SHA-256' : 'hash'} ${one.hash}`;
    const ours = said.find(({ error }) => OURS.has(error.code))?.error;
    if (ours !== undefined) return ours;
    const places = said.map(({ name, place, error }) => {
      const where = place === undefined || place === name ? shownUrl(name) : `${shownUrl(name)} (${place})`;
      return `${where}: ${error.code === 'CONTENT_MISSING' && one.kind === 'xet' ? 'does not have it' : error.message}`;
    });
    // Where a place could not be asked, that is what can be mended.
    const worst = said.find(
      ({ error }) => error.code !== 'CONTENT_MISSING' && error.code !== 'REMOTE_MISSING',
    );
    const code = worst?.error.code ?? 'CONTENT_MISSING';
    const where =
      places.length === 0
        ? 'is not in the store, and there is no git remote to ask'
        : `could not be had: ${places.join('; ')}`;
    return new Git2dbError(code, `the content (${what}) ${where}`, {
      data: { hash: one.hash, places },
      ...(worst === undefined ? {} : { cause: worst.error }),
    });
  }
}

interface Said {
  readonly name: string;
  /** Undefined: it could not be opened. */
  readonly place: string | undefined;
  readonly error: Git2dbError;
}

function keyOf({ kind, hash }: WantedContent): string {
  return `${kind} ${hash}`;
}
