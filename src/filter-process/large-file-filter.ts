/**
 * The two conversions behind git's requests: clean (content -> pointer) and smudge (pointer ->
 * content). Both are total and give a fixed point: clean(pointer) = pointer, smudge(anything that is
 * no pointer) = the same bytes.
 *
 * There are two kinds of this filter. `xet` writes our pointers, `lfs` those of Git LFS; the stored content is the
 * same. Each gives content for its own pointers and passes the other's both ways unchanged.
 */
import { createHash, type Hash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { PARALLEL_BYTES, type VerifiedWindow } from '../xet/download.ts';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import { isZeroHash, parseHash } from '../xet/hash/xet-hash.ts';
import { formatLfsPointer, parseLooseLfsPointer } from '../xet/pointer/lfs-pointer.ts';
import { POINTER_MAX, type Pointer, sniffPointer } from '../xet/pointer/sniff.ts';
import { formatPointer } from '../xet/pointer/xet-pointer.ts';
import { QueuedFile } from '../xet/read-ahead.ts';
import type { FileUpload } from '../xet/upload.ts';
import type { ContentOutput } from './answer.ts';
import type { FilterConfig } from './config.ts';
import { Content } from './content.ts';
import { ContentFetcher, type MissingContent } from './content-fetcher.ts';
import { DelayQueue } from './delay-queue.ts';
import { ContentCheck, sendLfsObject } from './lfs-content.ts';
import type { Room } from './pkt-input.ts';
import type { CleanJob, Converter, OutputJob, SmudgeAnswer, SmudgeJob, SmudgeKeys } from './session.ts';
import { createSpoolMemory, Spool } from './spool.ts';
import { StagedPointers } from './staged-pointer.ts';
import { quotePath } from './trace.ts';

export type Report = (message: string) => void;

/** Which pointers a filter writes and reads. */
export type PointerKind = 'xet' | 'lfs';

/** A delayed file: what git will ask for again. */
interface Delayed {
  readonly file: QueuedFile;
  readonly pointer: Buffer;
  readonly path: Buffer;
  readonly wanted: Wanted;
}

/** The content of a pointer, and whether it is on this machine, as far as can be told without reading it. */
interface Wanted extends MissingContent {
  readonly isHere: () => boolean;
}

/** Names that a summary lists before it says "and N more". */
const LISTED = 5;

export class LargeFileFilter implements Converter {
  readonly #loadConfig: () => FilterConfig;
  readonly #report: Report;
  readonly #kind: PointerKind;
  readonly #delayed = new DelayQueue<Delayed>();
  /** Requests come one after another, so one spool is in use at a time. */
  readonly #spoolMemory = createSpoolMemory();
  readonly #missing: Buffer[] = [];
  readonly #plain: Buffer[] = [];
  readonly #extended: Buffer[] = [];
  #fetcher: ContentFetcher | undefined;
  #content: Content | undefined;
  #staged: StagedPointers | undefined;

  /** `loadConfig` is called once, at the first file; `report` prints a line for the user. */
  constructor(loadConfig: () => FilterConfig, report: Report, kind: PointerKind = 'xet') {
    this.#loadConfig = loadConfig;
    this.#report = report;
    this.#kind = kind;
  }

  beginClean(path: Buffer): CleanJob {
    if (this.#kind === 'xet')
      return new Clean(path, this.#open(), (hash, size) => this.#pointerFor(path, hash, size));
    return new LfsClean(path, this.#open(), (sha256, size) => this.#lfsPointerFor(path, sha256, size));
  }

  beginSmudge(keys: SmudgeKeys): SmudgeJob {
    const spool = new Spool([this.#open().config.repository.gitDir], this.#spoolMemory);
    return {
      room: () => spool.room(),
      advance: (count) => spool.advance(count),
      finish: () => this.#smudge(keys, spool),
      abort: () => spool.dispose(),
    };
  }

  isDelayed(path: Buffer): boolean {
    return this.#delayed.has(path);
  }

  available(): Buffer[] | Promise<Buffer[]> {
    this.#askForMissing();
    return this.#fetcher === undefined ? this.#list() : this.#listWhenReady();
  }

  /** Those that can be given at once: what is not read yet is read in the order of this list. */
  #list(): Buffer[] {
    const paths = this.#delayed.list(({ wanted }) => this.#isSettled(wanted));
    if (paths.length === 0) return paths;
    const { readAhead } = this.#open();
    for (const path of paths) readAhead.add((this.#delayed.get(path) as Delayed).file);
    readAhead.start();
    return paths;
  }

  async #listWhenReady(): Promise<Buffer[]> {
    for (;;) {
      const change = this.#fetcher?.change();
      const paths = this.#list();
      if (paths.length > 0 || this.#delayed.waiting === 0) return paths;
      await change;
    }
  }

  /** All that is missing among the delayed files is fetched as one batch. */
  #askForMissing(): void {
    if (this.#delayed.waiting === 0 || !this.#open().config.mayFetch(this.#kind)) return;
    const missing: MissingContent[] = [];
    for (const { wanted } of this.#delayed.values())
      if (this.#fetcher?.hasAsked(wanted) !== true && !wanted.isHere()) missing.push(wanted);
    if (missing.length > 0) this.#startFetcher().ask(missing);
  }

  #startFetcher(): ContentFetcher {
    this.#fetcher ??= new ContentFetcher({ cwd: process.cwd(), env: process.env });
    return this.#fetcher;
  }

  /** Here, or fetched, or not to be had. */
  #isSettled(wanted: Wanted): boolean {
    return this.#fetcher?.hasAsked(wanted) !== true || this.#fetcher.stateOf(wanted) !== undefined;
  }

  deliver(path: Buffer): OutputJob {
    const delayed = this.#delayed.deliver(path);
    if (delayed === undefined)
      throw new Git2dbError('PROTOCOL', 'git asks for a delayed file that was not delayed');
    const { file, pointer, wanted } = delayed;
    return this.#job(path, pointer, { file, wanted, isQueued: true });
  }

  meanwhile(): void {
    if (this.#delayed.outstanding > 0) this.#content?.readAhead.work();
  }

  report(path: Buffer | undefined, error: unknown): void {
    this.#report(path === undefined ? messageOf(error) : `${quotePath(path)}: ${messageOf(error)}`);
  }

  /** Publishes what was stored and prints the summaries. */
  async end(): Promise<void> {
    this.#staged?.close();
    await this.#fetcher?.close();
    await this.#content?.seal();
    if (this.#missing.length > 0) {
      this.#report(
        `${count(this.#missing, 'file is', 'files are')} left as pointers because the content is not here (xet.onMissing=pointer): ` +
          `${names(this.#missing)}. When it is, get it with: git2db xet pull`,
      );
    }
    if (this.#plain.length > 0) {
      this.#report(
        `${count(this.#plain, 'file has', 'files have')} filter=${this.#kind} but ${this.#plain.length === 1 ? 'is' : 'are'} stored in git as plain content: ` +
          `${names(this.#plain)}. To turn that into pointers: ` +
          (this.#kind === 'xet' ? 'git2db xet track --renormalize' : 'git add --renormalize .'),
      );
    }
    if (this.#extended.length > 0) {
      this.#report(
        `${count(this.#extended, 'file is', 'files are')} left as pointers because of LFS extensions, which git2db does not run: ` +
          `${names(this.#extended)}. Get the content with: git lfs checkout`,
      );
    }
  }

  #open(): Content {
    this.#content ??= new Content(this.#loadConfig(), this.#report);
    return this.#content;
  }

  #pointerFor(path: Buffer, hash: string, size: number): Buffer | Promise<Buffer> {
    return this.#stagedPointers().answer(path, formatPointer(hash, size), (staged) => {
      const pointer = sniffPointer(staged);
      if (pointer === undefined || pointer.kind === 'lfs' || pointer.kind === 'xet') return false;
      return pointer.hash === hash && (pointer.size === undefined || pointer.size === size);
    });
  }

  /** A pointer that git-lfs reads and would write otherwise today stays as it is in git. */
  #lfsPointerFor(path: Buffer, sha256: string, size: number): Buffer | Promise<Buffer> {
    return this.#stagedPointers().answer(path, formatLfsPointer(sha256, size), (staged) => {
      const pointer = parseLooseLfsPointer(staged);
      return pointer?.sha256 === sha256 && pointer.size === size && !pointer.hasExtensions;
    });
  }

  #stagedPointers(): StagedPointers {
    this.#staged ??= new StagedPointers(this.#open().config);
    return this.#staged;
  }

  /**
   * Git finds the index entry of a delayed file by its path alone. Of a path in conflict (`checkout
   * --theirs`) it may so take another stage: then it does not fetch the file, or notes one side's file
   * for the other's and does not write that later. A checkout of a tree has no such paths.
   */
  #isDelaySafe({ treeish, path }: SmudgeKeys): boolean {
    return treeish !== undefined || !this.#stagedPointers().mayBeUnmerged(path);
  }

  #smudge(keys: SmudgeKeys, spool: Spool): SmudgeAnswer {
    if (this.#kind === 'lfs') return this.#smudgeLfs(keys, spool);
    const bytes = spool.size <= POINTER_MAX ? spool.bytes() : undefined;
    const pointer = bytes && sniffPointer(bytes);
    if (bytes === undefined || pointer === undefined || pointer.kind === 'lfs') {
      if (pointer === undefined && spool.size > 0) this.#plain.push(keys.path);
      return { kind: 'content', write: (output) => spool.write(output), dispose: () => spool.dispose() };
    }
    const content = this.#open();
    if (content.config.skipSmudge) return verbatim(bytes);
    if (pointer.size === 0 || isZeroHash(parseHash(pointer.hash))) return emptyFile(pointer);
    const file = new QueuedFile(pointer.size ?? 0, () => content.plan(pointer.hash, pointer.size));
    const wanted = {
      kind: 'xet',
      hash: pointer.hash,
      size: pointer.size,
      treeish: oidOf(keys.treeish),
      isHere: () => content.findSize(pointer.hash) !== undefined,
    } as const;
    return this.#giveFile(keys, Buffer.from(bytes), file, wanted);
  }

  #smudgeLfs(keys: SmudgeKeys, spool: Spool): SmudgeAnswer {
    const bytes = spool.size < POINTER_MAX ? spool.bytes() : undefined;
    const pointer = bytes && parseLooseLfsPointer(bytes);
    if (bytes === undefined || pointer === undefined) {
      const isOther = bytes !== undefined && sniffPointer(bytes) !== undefined;
      if (!isOther && spool.size > 0) this.#plain.push(keys.path);
      return { kind: 'content', write: (output) => spool.write(output), dispose: () => spool.dispose() };
    }
    const content = this.#open();
    const { sha256, size } = pointer;
    const text = Buffer.from(bytes);
    if (pointer.hasExtensions) this.#extended.push(keys.path);
    if (pointer.hasExtensions || content.config.skipSmudge) return verbatim(text);
    if (size === 0) return { kind: 'content', write: () => {} };
    const source = content.findLfs(sha256, size);
    if (source?.kind === 'object')
      return { kind: 'content', write: (output) => sendLfsObject(source.path, sha256, size, output) };
    // As git-lfs has it: what need not be downloaded is given all the same.
    if (source === undefined && !content.config.lfs.mayDownload(keys.path)) return verbatim(text);
    const plan = source?.plan ?? (() => content.planLfs(sha256, size));
    const treeish = oidOf(keys.treeish);
    const wanted = { kind: 'lfs', hash: sha256, size, treeish, isHere: () => source !== undefined } as const;
    return this.#giveFile(keys, text, new QueuedFile(size, plan), wanted);
  }

  /** Content of a pointer whose text is `text`, now or when git asks again. */
  #giveFile(keys: SmudgeKeys, text: Buffer, file: QueuedFile, wanted: Wanted): SmudgeAnswer {
    if (keys.canDelay && this.#isDelaySafe(keys)) {
      this.#delayed.add(keys.path, { file, pointer: text, path: keys.path, wanted });
      return { kind: 'delayed' };
    }
    return this.#job(keys.path, text, { file, wanted, isQueued: false });
  }

  /** Content, or the pointer itself when the content is nowhere and the user prefers that. */
  #job(path: Buffer, pointer: Buffer, content: GivenContent): OutputJob {
    return {
      kind: 'content',
      write: (output) => {
        const given = new GivenOutput(output);
        try {
          this.#write(content, given);
        } catch (error) {
          // Missing content shows while planning; what goes missing after the first byte is a failure.
          if (given.hasBegun || !isMissing(error)) throw error;
          if (this.#open().config.mayFetch(this.#kind))
            return this.#fetchAndWrite(path, pointer, content, output);
          this.#leavePointer(path, pointer, output, error);
        }
      },
    };
  }

  #write({ file, wanted, isQueued }: GivenContent, output: ContentOutput): void {
    const { readAhead, downloader } = this.#open();
    const sha256 = wanted.kind === 'lfs' ? wanted.hash : undefined;
    if (!isQueued && file.size < PARALLEL_BYTES) {
      giveAll(downloader.read(file.plan()), file.size, output, sha256);
      return;
    }
    if (!isQueued) readAhead.add(file);
    giveAll(readAhead.read(file), file.size, output, sha256);
  }

  async #fetchAndWrite(
    path: Buffer,
    pointer: Buffer,
    { file, wanted }: GivenContent,
    output: ContentOutput,
  ): Promise<void> {
    const fetched = await this.#startFetcher().fetch(wanted);
    if (fetched !== true) return this.#leavePointer(path, pointer, output, withRemedy(fetched));
    const sha256 = wanted.kind === 'lfs' ? wanted.hash : undefined;
    giveAll(this.#open().downloader.read(file.plan()), file.size, output, sha256);
  }

  /** Throws `reason` unless pointers may stand for what is missing. */
  #leavePointer(path: Buffer, pointer: Buffer, output: ContentOutput, reason: unknown): void {
    if (this.#open().config.onMissing !== 'pointer') throw reason;
    this.#missing.push(path);
    output.content(pointer);
  }
}

interface GivenContent {
  readonly file: QueuedFile;
  readonly wanted: Wanted;
  /** It is among the files that are read ahead. */
  readonly isQueued: boolean;
}

class GivenOutput implements ContentOutput {
  hasBegun = false;
  readonly #output: ContentOutput;

  constructor(output: ContentOutput) {
    this.#output = output;
  }

  content(bytes: Uint8Array): void {
    this.hasBegun = true;
    this.#output.content(bytes);
  }

  sync(): void {
    this.#output.sync();
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Git2dbError && error.code === 'CONTENT_MISSING';
}

function withRemedy(error: Git2dbError): Git2dbError {
  return new Git2dbError(
    error.code,
    `${error.message}. To let pointers stand for what cannot be had: git config xet.onMissing pointer`,
    { cause: error, data: error.data },
  );
}

class Clean implements CleanJob {
  readonly #upload: FileUpload;
  readonly #content: Content;
  readonly #pointerFor: (hash: string, size: number) => Buffer | Promise<Buffer>;

  constructor(
    path: Buffer,
    content: Content,
    pointerFor: (hash: string, size: number) => Buffer | Promise<Buffer>,
  ) {
    this.#content = content;
    this.#pointerFor = pointerFor;
    this.#upload = content.uploader.begin(sizeHint(path));
  }

  room(): Room {
    return this.#upload.room();
  }

  advance(count: number): void {
    this.#upload.advance(count);
  }

  finish(): Uint8Array | Promise<Uint8Array> {
    const head = this.#upload.head(POINTER_MAX);
    if (head !== undefined) {
      if (head.length === 0) return Buffer.alloc(0);
      const pointer = sniffPointer(head);
      if (pointer !== undefined) {
        const bytes = Buffer.from(head);
        this.#upload.abort();
        this.#content.register();
        return pointer.kind === 'xet' ? formatPointer(pointer.hash, pointer.size) : bytes;
      }
    }
    const { hash, size } = this.#upload.finish();
    // Before the pointer is given, and not sooner: this has made the store if there was none.
    this.#content.register();
    return this.#pointerFor(hash, size);
  }

  abort(): void {
    this.#upload.abort();
  }
}

/** As Clean, for LFS pointers: the SHA-256 is computed of the same bytes, and the store finds the file by it. */
class LfsClean implements CleanJob {
  readonly #upload: FileUpload;
  readonly #content: Content;
  readonly #pointerFor: (sha256: string, size: number) => Buffer | Promise<Buffer>;
  readonly #hash: Hash = createHash('sha256');
  #room: Room | undefined;

  constructor(
    path: Buffer,
    content: Content,
    pointerFor: (sha256: string, size: number) => Buffer | Promise<Buffer>,
  ) {
    this.#content = content;
    this.#pointerFor = pointerFor;
    this.#upload = content.uploader.begin(sizeHint(path));
  }

  room(): Room {
    this.#room = this.#upload.room();
    return this.#room;
  }

  advance(count: number): void {
    const { bytes, offset } = this.#room as Room;
    this.#hash.update(bytes.subarray(offset, offset + count));
    this.#upload.advance(count);
  }

  finish(): Uint8Array | Promise<Uint8Array> {
    const head = this.#upload.head(POINTER_MAX);
    if (head?.length === 0) return Buffer.alloc(0);
    if (head !== undefined && (parseLooseLfsPointer(head) ?? sniffPointer(head)) !== undefined) {
      const bytes = Buffer.from(head);
      this.#upload.abort();
      this.#content.register();
      return bytes;
    }
    const sha256 = this.#hash.digest('hex');
    const { size } = this.#upload.finish({ sha256 });
    // Before the pointer is given, and not sooner: this has made the store if there was none.
    this.#content.register();
    return this.#pointerFor(sha256, size);
  }

  abort(): void {
    this.#upload.abort();
  }
}

/**
 * Sends verified windows. The last one is left to be sent with the answer's end, in one call. With `sha256` the
 * content must have that, else this throws in the end, and git drops what it got.
 */
function giveAll(
  windows: Iterable<VerifiedWindow>,
  size: number,
  output: ContentOutput,
  sha256: string | undefined,
): void {
  const check = sha256 === undefined ? undefined : new ContentCheck(sha256, 'what the store has for it');
  let given = 0;
  for (const { chunks } of windows) {
    for (const chunk of chunks) {
      check?.update(chunk);
      output.content(chunk);
      given += chunk.length;
    }
    // The window's memory is free for other windows when the next one is asked for.
    if (given < size) output.sync();
  }
  check?.finish();
}

/** Git says a full object id; anything else is nobody's. */
function oidOf(treeish: string | undefined): string | undefined {
  return treeish !== undefined && /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(treeish) ? treeish : undefined;
}

function verbatim(bytes: Uint8Array): OutputJob {
  return { kind: 'content', write: (output) => output.content(bytes) };
}

function emptyFile(pointer: Exclude<Pointer, { kind: 'lfs' }>): OutputJob {
  if (pointer.size !== undefined && pointer.size !== 0) {
    throw new Git2dbError(
      'INVALID_POINTER',
      `the pointer names the empty file but says ${pointer.size} bytes`,
    );
  }
  if (!isZeroHash(parseHash(pointer.hash))) {
    throw new Git2dbError('INVALID_POINTER', `the pointer says 0 bytes but names file ${pointer.hash}`);
  }
  return { kind: 'content', write: () => {} };
}

/** The size of the file at `path`, if that is what is being cleaned. Only a hint. */
function sizeHint(path: Buffer): number {
  try {
    return lstatSync(path).size;
  } catch {
    return 0;
  }
}

function count(paths: readonly Buffer[], one: string, many: string): string {
  return `${paths.length} ${paths.length === 1 ? one : many}`;
}

function names(paths: readonly Buffer[]): string {
  const listed = paths
    .slice(0, LISTED)
    .map((path) => quotePath(path))
    .join(', ');
  return paths.length > LISTED ? `${listed} and ${paths.length - LISTED} more` : listed;
}
