/**
 * `git2db xet pull`: puts content in the place of the pointers in the work tree. Git's own checkout
 * would collect each file in memory and write one after the other; here bytes go from the store to
 * the files, verified on the way, with all processors at work and bounded memory. What the store lacks is
 * fetched from the remotes before. Afterwards the index is told, so that the next `git status` need not read the files again.
 */
import { setImmediate } from 'node:timers/promises';
import { Content } from '../filter-process/content.ts';
import { quotePath } from '../filter-process/trace.ts';
import { type Git2dbError, messageOf } from '../xet/errors.ts';
import type { TransferEvent } from '../xet/transfer/transfer.ts';
import { findNotedFile } from './content-notes.ts';
import { requireSpace } from './disk-space.ts';
import { type IndexNote, noteInIndex } from './index-note.ts';
import { findPointerFile, type PointerFile } from './pointer-files.ts';
import { type FailedFile, missingFile } from './pull-failure.ts';
import { PullRun } from './pull-run.ts';
import { PullSession, recoverSessions } from './pull-session.ts';
import type { ExchangeStep } from './replacement.ts';
import type { Place } from './work-tree.ts';
import { type OpenWorkTree, openWorkTree, readXetEntries } from './xet-entries.ts';

export interface PullOptions extends Place {
  /** Git's pathspecs, relative to `cwd`; the whole work tree where there are none. */
  readonly pathspecs: readonly string[];
  readonly signal?: AbortSignal | undefined;
  /** False: what is not on this machine is not fetched. */
  readonly fetch?: boolean | undefined;
  /** Whether git may ask the user for a password; no unless given. */
  readonly mayPrompt?: boolean | undefined;
  readonly onProgress?: ((event: PullProgress) => void) | undefined;
  /**
   * Called once content that could be had is in the store, before files are written: where all files were asked for, or
   * some content was fetched. Resolves to whether files of the work tree have changed by it.
   */
  readonly onContent?: (() => Promise<boolean>) | undefined;
  /** Told what is worth a line to the user but fails nothing. */
  readonly warn: (message: string) => void;
  /** For tests: called when the content for `path` is complete, before each step that puts it in its place. */
  readonly beforeStep?: ((step: ExchangeStep, path: Buffer) => void) | undefined;
}

export type PullProgress =
  | { readonly kind: 'fetching'; readonly event: TransferEvent }
  | { readonly kind: 'found'; readonly files: number; readonly bytes: number }
  | { readonly kind: 'bytes'; readonly count: number };

export interface PullResult {
  readonly written: readonly PointerFile[];
  readonly failed: readonly FailedFile[];
  /** What became of the index; undefined where no file was written. */
  readonly index: IndexNote | undefined;
}

/** How long the event loop, and with it Ctrl-C, may wait. */
const PAUSE_EVERY_MS = 20;

/**
 * Throws NOT_A_REPOSITORY without a work tree, USAGE for a pathspec that matches nothing, DISK_FULL where
 * the files obviously do not fit. Rejects with AbortError when `signal` aborts: what was written by
 * then stays, no temporary file does.
 */
export async function pull(options: PullOptions): Promise<PullResult> {
  const { pathspecs, signal, warn, onProgress } = options;
  const tree = openWorkTree(options);
  const { gitDir } = tree.config.repository;
  const pause = pauses(signal);
  const earlier = await recoverSessions(gitDir, tree.root, warn);
  let files = await findPointerFiles(tree, pathspecs, pause, warn);
  const { reasons: unfetched, hasFetched } = await fetchMissing(tree, files, options);
  if ((hasFetched || pathspecs.length === 0) && (await options.onContent?.()) === true)
    files = await findPointerFiles(tree, pathspecs, pause, warn);
  onProgress?.({ kind: 'found', files: files.length, bytes: totalSize(files) });
  const session = files.length === 0 ? undefined : new PullSession(gitDir, tree.root);
  let index: IndexNote | undefined;
  let isNoted = false;
  try {
    const run = session && (await writeFiles(tree, session, files, pause, options));
    const own = (run?.notes ?? []).flatMap((note) => findNotedFile(tree.root, note) ?? []);
    const written = [...earlier.written, ...own];
    isNoted = written.length === 0;
    // Also after Ctrl-C: what is written is written, and git should know.
    if (!isNoted) index = await noteInIndex(tree, written, run?.stopped === undefined ? signal : undefined);
    isNoted ||= index?.kind !== 'left-alone';
    if (run?.stopped !== undefined)
      throw signal?.aborted ? interrupted(run.written.length, files.length) : run.stopped.reason;
    const failed = (run?.failed ?? []).map((file) => withReason(file, unfetched));
    return { written: run?.written ?? [], failed, index };
  } finally {
    session?.close(isNoted);
    if (isNoted) earlier.forget();
  }
}

interface Fetching {
  /** Why what the remotes did not give could not be had, by hash. */
  readonly reasons: ReadonlyMap<string, Git2dbError>;
  readonly hasFetched: boolean;
}

/** Fetches what remotes elsewhere may have. */
async function fetchMissing(
  tree: OpenWorkTree,
  files: readonly PointerFile[],
  options: PullOptions,
): Promise<Fetching> {
  const reasons = new Map<string, Git2dbError>();
  const nothing = { reasons, hasFetched: false };
  if (options.fetch === false || files.length === 0 || !tree.config.mayFetch('xet')) return nothing;
  const content = new Content(tree.config, options.warn);
  const missing = files.filter(({ hash, size }) => size > 0 && content.findSize(hash) === undefined);
  await content.seal();
  if (missing.length === 0) return nothing;
  const [{ ContentRemotes }, { fetchContent }] = await Promise.all([
    import('./content-remotes.ts'),
    import('./fetch-content.ts'),
  ]);
  const { cwd, env, warn, signal, onProgress, mayPrompt = false } = options;
  await using remotes = new ContentRemotes({ cwd, env, warn, signal, mayPrompt, refresh: true });
  const wanted = missing.map(({ hash, size }) => ({ kind: 'xet', hash, size }) as const);
  const { files: fetched } = await fetchContent(remotes, wanted, {
    cwd,
    env,
    warn,
    signal,
    onProgress: (event) => onProgress?.({ kind: 'fetching', event }),
  });
  for (const { hash, error } of fetched) if (error !== undefined) reasons.set(hash, error);
  return { reasons, hasFetched: fetched.some(({ outcome }) => outcome === 'moved') };
}

/** Of a file whose content is nowhere: what the remotes said. */
function withReason(file: FailedFile, reasons: ReadonlyMap<string, Git2dbError>): FailedFile {
  const reason = file.kind === 'missing' ? reasons.get(file.hash) : undefined;
  return reason === undefined ? file : { ...file, message: reason.message };
}

/** What was done, and why it was not all, if something else than a file stopped it. */
interface Writing extends Pick<PullRun, 'written' | 'notes' | 'failed'> {
  readonly stopped: { readonly reason: unknown } | undefined;
}

async function writeFiles(
  tree: OpenWorkTree,
  session: PullSession,
  files: readonly PointerFile[],
  pause: () => Promise<void>,
  { warn, onProgress, beforeStep }: PullOptions,
): Promise<Writing> {
  const content = new Content(tree.config, warn);
  try {
    content.store.existsOrCan();
    requireSpace(tree.root, files, (hash) => content.findSize(hash));
    const run = new PullRun(tree.root, session, content, totalSize(files), {
      warn,
      beforeStep,
      pause,
      onBytes: (count) => onProgress?.({ kind: 'bytes', count }),
    });
    const { written, notes, failed } = run;
    try {
      await run.write(files);
      return { written, notes, failed, stopped: undefined };
    } catch (reason) {
      return { written, notes, failed, stopped: { reason } };
    }
  } finally {
    // Content that was taken over from another store is published.
    await content.seal();
  }
}

export interface DryPull {
  /** The pointers that `pull` would replace. */
  readonly available: readonly PointerFile[];
  /** Those whose content is in no store that can be reached. */
  readonly missing: readonly FailedFile[];
}

/** What `pull` would do, as far as can be said without reading content. Writes nothing. */
export async function planPull(options: Omit<PullOptions, 'onProgress' | 'beforeStep'>): Promise<DryPull> {
  const tree = openWorkTree(options);
  const files = await findPointerFiles(tree, options.pathspecs, pauses(options.signal), options.warn);
  const content = new Content(tree.config, options.warn);
  const available: PointerFile[] = [];
  const missing: FailedFile[] = [];
  for (const file of files) {
    if (file.size === 0 || content.findSize(file.hash) !== undefined) available.push(file);
    else missing.push(missingFile(file, content.places()));
  }
  await content.seal();
  return { available, missing };
}

async function findPointerFiles(
  tree: OpenWorkTree,
  pathspecs: readonly string[],
  pause: () => Promise<void>,
  warn: (message: string) => void,
): Promise<PointerFile[]> {
  const root = Buffer.from(`${tree.root}/`);
  const found: PointerFile[] = [];
  const { entries } = await readXetEntries(tree, pathspecs);
  for (const entry of entries) {
    await pause();
    try {
      const file = findPointerFile(root, entry);
      if (file !== undefined) found.push(file);
    } catch (error) {
      warn(`${quotePath(entry.path)} cannot be read, so it is left out: ${messageOf(error)}`);
    }
  }
  return found;
}

function totalSize(files: readonly PointerFile[]): number {
  return files.reduce((sum, { size }) => sum + size, 0);
}

/** A function that now and then lets the event loop run, and throws once `signal` aborts. */
function pauses(signal: AbortSignal | undefined): () => Promise<void> {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < PAUSE_EVERY_MS) return;
    await setImmediate();
    last = performance.now();
    signal?.throwIfAborted();
  };
}

function interrupted(written: number, all: number): Error {
  const error = new Error(
    `interrupted: ${written} of ${all} files are written, the others are still pointers; run it again to go on`,
  );
  error.name = 'AbortError';
  return error;
}
