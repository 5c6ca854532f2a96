/**
 * `git2db xet evict`: content that a remote provably holds goes from the store of this machine; pointers, work
 * tree and history stay as they are, and a later checkout fetches it again. It is a gc that is told which files
 * it need not keep, so all that gc promises holds: what another repository of the store refers to stays, and
 * what any running process relies on does too.
 */
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { loadFilterConfig } from '../filter-process/config.ts';
import { withWholePaths } from '../git/listed-paths.ts';
import { useBlake3 } from '../xet/hash/blake3.ts';
import { parseHash } from '../xet/hash/xet-hash.ts';
import { noteEvicted } from '../xet/store/evicted.ts';
import { collectGarbage } from '../xet/store/gc/collect.ts';
import type { GcProgress, GcReport } from '../xet/store/gc/report.ts';
import type { Roots } from '../xet/store/gc/survey.ts';
import { LocalStore } from '../xet/store/local-store.ts';
import type { Store } from '../xet/store/store.ts';
import { unwritable } from '../xet/store/unwritable.ts';
import { listUsers } from '../xet/store/users.ts';
import { Uploader } from '../xet/upload.ts';
import { ContentRemotes } from './content-remotes.ts';
import { References } from './gc.ts';
import { askRemotes } from './held-elsewhere.ts';
import { readBlobFacts } from './pointer-blobs.ts';
import { type ReferencedPointer, referencedPointers } from './referenced-pointers.ts';
import type { ChosenPlace } from './remote-choice.ts';
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
  await using remotes = new ContentRemotes({ ...options, refresh: true });
  const local = new LocalStore(config.storeDir);
  const references = new References(signal);
  const own = config.repository.commonDir;
  let files: EvictedFile[];
  try {
    if (!local.existsOrCan()) return { files: [], report: undefined };
    const candidates = await findCandidates(options, local);
    const others = await rootsOf(references, otherUsers(local, own));
    files = await judge(remotes, local, candidates, others, options);
    if (!options.dryRun) note(local, files);
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
  const referenced: ReferencedPointer[] = [];
  for await (const one of referencedPointers(repository, { signal, onMissing: () => {} }))
    if (one.pointer.kind !== 'lfs') referenced.push(one);
  for (const { path, pointer } of await withWholePaths(repository, referenced, { signal }))
    if (pointer.kind !== 'lfs') add(path, pointer.hash);
  return [...found.values()];
}

/** Throws STORE_UNWRITABLE. */
function note({ layout }: LocalStore, files: readonly EvictedFile[]): void {
  const provedAt = new Date();
  const notes = files.flatMap(({ hash, size, place }) =>
    place === undefined ? [] : [{ hash, size, provedAt, place }],
  );
  try {
    noteEvicted(layout, notes);
  } catch (error) {
    throw unwritable(layout.root, error);
  }
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

async function judge(
  remotes: ContentRemotes,
  local: LocalStore,
  candidates: readonly Candidate[],
  others: Roots,
  { signal, onProgress }: EvictOptions,
): Promise<EvictedFile[]> {
  const asked = candidates.filter(({ hash }) => !others.files.has(hash));
  const answers = await askRemotes(remotes, local, asked, {
    signal,
    objection: ({ choice: { place }, store }) => whyNoCopy(place, store, local, signal),
    onAsk: (files, place) => onProgress?.({ kind: 'proving', files, place }),
  });
  const byHash = new Map(asked.map(({ hash }, i) => [hash, answers[i]]));
  return candidates.map((one): EvictedFile => {
    const answer = byHash.get(one.hash);
    if (answer === undefined) {
      const reason = 'another repository that uses this store needs it';
      return { ...one, outcome: 'kept', place: undefined, reason };
    }
    if (answer.place !== undefined)
      return { ...one, outcome: 'held', place: answer.place, reason: undefined };
    return { ...one, outcome: 'kept', place: undefined, reason: answer.doubts.join('; ') };
  });
}

/** What is in our own store, by whatever way one comes to it, is no second copy. */
async function whyNoCopy(
  place: ChosenPlace,
  store: Store,
  local: LocalStore,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  if (place.kind === 'directory') return isSame(place.path, local.root) ? 'its store is this one' : undefined;
  return (await isThisStore(store, local, signal))
    ? 'its store is this one, served by another program'
    : undefined;
}

/**
 * A server, or a web server, may give out this very directory. It is asked for something that was never anywhere
 * but here.
 */
async function isThisStore(
  store: Store,
  local: LocalStore,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const uploader = new Uploader(local, { compression: 'none', fsync: 'none' });
  const upload = uploader.begin();
  upload.write(randomBytes(32));
  const { hash } = upload.finish();
  await uploader.seal();
  const [found] = await store.findFiles([parseHash(hash)], { signal });
  return found !== undefined;
}

/** Whether two paths are one directory, by whatever name. */
function isSame(a: string, b: string): boolean {
  const [first, second] = [a, b].map((path) => statSync(path, { throwIfNoEntry: false, bigint: true }));
  return first !== undefined && first.dev === second?.dev && first.ino === second.ino;
}
