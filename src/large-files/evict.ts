/**
 * `git2db xet evict`: content that a remote provably holds goes from the store of this machine; pointers, work
 * tree and history stay as they are, and a later checkout fetches it again. It is a gc that is told which files
 * it need not keep, so all that gc promises holds: what another repository of the store refers to stays, and
 * what any running process relies on does too.
 */
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { loadFilterConfig } from '../filter-process/config.ts';
import { Git2dbError } from '../xet/errors.ts';
import { useBlake3 } from '../xet/hash/blake3.ts';
import { parseHash } from '../xet/hash/xet-hash.ts';
import { collectGarbage } from '../xet/store/gc/collect.ts';
import type { GcProgress, GcReport } from '../xet/store/gc/report.ts';
import type { Roots } from '../xet/store/gc/survey.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import type { Store } from '../xet/store/store.ts';
import { listUsers } from '../xet/store/users.ts';
import { proveHeld } from '../xet/transfer/proof.ts';
import type { WantedFile } from '../xet/transfer/transfer.ts';
import { Uploader } from '../xet/upload.ts';
import { ContentRemotes } from './content-remotes.ts';
import { References } from './gc.ts';
import { readBlobFacts } from './pointer-blobs.ts';
import { referencedPointers } from './referenced-pointers.ts';
import type { Place } from './work-tree.ts';
import { openWorkTree, readXetEntries } from './xet-entries.ts';

export interface EvictOptions extends Place {
  /** Git's pathspecs: the content of these files of the index. All of the repository's history without any. */
  readonly pathspecs: readonly string[];
  readonly dryRun: boolean;
  readonly mayPrompt: boolean;
  /** How long to wait for writers of the store. */
  readonly waitMs: number;
  readonly warn: (message: string) => void;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: EvictProgress) => void) | undefined;
}

export type EvictProgress =
  | GcProgress
  | { readonly kind: 'proving'; readonly files: number; readonly place: string };

export interface EvictedFile {
  /** One path it has. */
  readonly path: Buffer;
  readonly hash: string;
  readonly size: number;
  /** `held`: a remote has it, and it goes. `kept`: it stays, and `reason` says why. */
  readonly outcome: 'held' | 'kept';
  /** Where it is, of one that goes. */
  readonly place: string | undefined;
  readonly reason: string | undefined;
}

export interface EvictResult {
  /** Those whose content is here; the others have nothing to give up. */
  readonly files: readonly EvictedFile[];
  /** What gc did, or would do; undefined where nothing may go. */
  readonly report: GcReport | undefined;
}

interface Candidate {
  readonly path: Buffer;
  readonly hash: string;
  readonly size: number;
}

/** Throws NOT_A_REPOSITORY, USAGE for a pathspec that matches nothing, REFUSED as gc does. */
export async function evict(options: EvictOptions): Promise<EvictResult> {
  const { cwd, env, signal, warn } = options;
  const config = loadFilterConfig(cwd, env);
  useBlake3(config.kernels.blake3);
  await using remotes = new ContentRemotes(options);
  const local = new LocalStore(config.storeDir);
  const references = new References(signal);
  const own = config.repository.commonDir;
  let files: EvictedFile[];
  try {
    if (!local.exists()) return { files: [], report: undefined };
    const candidates = await findCandidates(options, local);
    const others = await rootsOf(references, otherUsers(local, own));
    files = await new Prover(remotes, local, others, options).prove(candidates);
  } finally {
    local.close();
  }
  const released = new Set(files.flatMap(({ outcome, hash }) => (outcome === 'held' ? [hash] : [])));
  if (released.size === 0) return { files, report: undefined };
  const report = await collectGarbage(
    config.storeDir,
    async () => {
      // Anew each time: another repository may have come to need one of them.
      const roots = await rootsOf(references, otherUsers(local, own));
      const mine = await rootsOf(references, [own]);
      const kept = [...mine.files].filter((hash) => !released.has(hash));
      return {
        files: new Set([...roots.files, ...kept]),
        sha256s: new Set([...roots.sha256s, ...mine.sha256s]),
        released,
      };
    },
    {
      prune: !options.dryRun,
      // Nothing else goes, however old it is: that is for gc.
      graceMs: Number.POSITIVE_INFINITY,
      waitMs: options.waitMs,
      repack: true,
      fsync: config.fsync,
      signal,
      warn,
      onProgress: options.onProgress,
    },
  );
  return { files, report };
}

async function findCandidates(options: EvictOptions, local: LocalStore): Promise<Candidate[]> {
  const found = new Map<string, Candidate>();
  const add = (path: Buffer, hash: string) => {
    const size = found.has(hash) ? undefined : local.findFile(parseHash(hash))?.size;
    if (size !== undefined && size > 0) found.set(hash, { path, hash, size });
  };
  if (options.pathspecs.length > 0) {
    const tree = openWorkTree(options);
    const { entries } = await readXetEntries(tree, options.pathspecs);
    const blobs = await readBlobFacts(
      entries.map(({ oid }) => oid),
      tree.run,
    );
    for (const { path, oid } of entries) {
      const pointer = blobs.get(oid)?.pointer;
      if (pointer !== undefined && pointer.kind !== 'lfs') add(path, pointer.hash);
    }
    return [...found.values()];
  }
  const { repository } = loadFilterConfig(options.cwd, options.env);
  const { signal } = options;
  // What a partial clone has not fetched is no reason to keep what is known.
  for await (const { path, pointer } of referencedPointers(repository, { signal, onMissing: () => {} }))
    if (pointer.kind !== 'lfs') add(path, pointer.hash);
  return [...found.values()];
}

function otherUsers(local: LocalStore, own: string): string[] {
  const all = listUsers(local.layout).map(({ commonDir }) => commonDir);
  return [...new Set(all)].filter((commonDir) => commonDir !== own);
}

async function rootsOf(references: References, commonDirs: readonly string[]): Promise<Roots> {
  const roots = { files: new Set<string>(), sha256s: new Set<string>() };
  for (const commonDir of commonDirs) await references.addTo(roots, commonDir);
  return roots;
}

class Prover {
  readonly #remotes: ContentRemotes;
  readonly #local: LocalStore;
  readonly #others: Roots;
  readonly #options: EvictOptions;

  constructor(remotes: ContentRemotes, local: LocalStore, others: Roots, options: EvictOptions) {
    this.#remotes = remotes;
    this.#local = local;
    this.#others = others;
    this.#options = options;
  }

  async prove(candidates: readonly Candidate[]): Promise<EvictedFile[]> {
    const settled = new Map<string, EvictedFile>();
    const reasons = new Map<string, string[]>();
    for (const one of candidates) {
      if (!this.#others.files.has(one.hash)) continue;
      const reason = 'another repository that uses this store needs it';
      settled.set(one.hash, { ...one, outcome: 'kept', place: undefined, reason });
    }
    for (const name of await this.#remotes.git.inOrder()) {
      const left = candidates.filter(({ hash }) => !settled.has(hash));
      if (left.length === 0) break;
      for (const [i, doubt] of (await this.#ask(name, left)).entries()) {
        const one = left[i]!;
        if (typeof doubt === 'string') reasons.set(one.hash, [...(reasons.get(one.hash) ?? []), doubt]);
        else settled.set(one.hash, { ...one, outcome: 'held', place: doubt.place, reason: undefined });
      }
    }
    return candidates.map((one): EvictedFile => {
      const done = settled.get(one.hash);
      if (done !== undefined) return done;
      const said = reasons.get(one.hash) ?? ['there is no git remote that could have it'];
      return { ...one, outcome: 'kept', place: undefined, reason: said.join('; ') };
    });
  }

  /** The place of each that the remote provably holds, else why not. */
  async #ask(name: string, left: readonly Candidate[]): Promise<(string | { readonly place: string })[]> {
    try {
      const { store, choice } = await this.#remotes.open(name, 'fetch');
      if (store === undefined) return left.map(() => `${name}: the Hub keeps no content of filter=xet`);
      if (choice.place.kind === 'directory' && isSame(choice.place.path, this.#local.root))
        return left.map(() => `${name}: its store is this one`);
      if (choice.place.kind !== 'directory' && (await this.#isThisStore(store)))
        return left.map(() => `${name}: its store is this one, served by another program`);
      this.#options.onProgress?.({ kind: 'proving', files: left.length, place: store.place });
      const wanted = left.map(({ hash, size }): WantedFile => ({ hash: parseHash(hash), size }));
      const doubts = await proveHeld(this.#local, store, wanted, { signal: this.#options.signal });
      return doubts.map((doubt) =>
        doubt === undefined ? { place: store.place } : `${name}: ${doubt.message}`,
      );
    } catch (error) {
      if (!(error instanceof Git2dbError)) throw error;
      return left.map(() => `${name}: ${error.message}`);
    }
  }

  /**
   * A server, or a web server, may give out this very directory: what it holds is no second copy. It is asked for
   * something that was never anywhere but here.
   */
  async #isThisStore(store: Store): Promise<boolean> {
    const uploader = new Uploader(this.#local, { compression: 'none', fsync: 'none' });
    const upload = uploader.begin();
    upload.write(randomBytes(32));
    const { hash } = upload.finish();
    await uploader.seal();
    const [found] = await store.findFiles([parseHash(hash)], { signal: this.#options.signal });
    return found !== undefined;
  }
}

/** Whether two paths are one directory, by whatever name. */
function isSame(a: string, b: string): boolean {
  const [first, second] = [a, b].map((path) => statSync(path, { throwIfNoEntry: false, bigint: true }));
  return first !== undefined && first.dev === second?.dev && first.ino === second.ino;
}
