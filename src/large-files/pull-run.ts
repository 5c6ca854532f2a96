/**
 * Writing the content of many files: windows of all of them, in order, go through one pump, whose
 * threads read, verify and write them at their place; a file takes its pointer's place when its last
 * window is there. What fails concerns one file; the others go on.
 */
import type { Content } from '../filter-process/content.ts';
import { quotePath } from '../filter-process/trace.ts';
import { PARALLEL_BYTES_ALONE } from '../xet/download.ts';
import { Git2dbError } from '../xet/errors.ts';
import { isZeroHash, parseHash } from '../xet/hash/xet-hash.ts';
import { type ReadPlan, type Window, windowsOf } from '../xet/reconstruct/plan.ts';
import type { WindowPump } from '../xet/window-pump.ts';
import type { ContentNote } from './content-notes.ts';
import { diskFull, freeBytes, isOutOfSpace } from './disk-space.ts';
import type { PointerFile } from './pointer-files.ts';
import { type FailedFile, failedFile, systemReason } from './pull-failure.ts';
import type { PullSession } from './pull-session.ts';
import { type ExchangeStep, Replacement } from './replacement.ts';
import { nameIn, WorkTreeDirectory } from './work-tree-directory.ts';
import { WriteBack } from './write-back.ts';

export interface PullRunOptions {
  /** Called between windows; ends the run by throwing. */
  readonly pause: () => Promise<void>;
  readonly onBytes: (count: number) => void;
  readonly warn: (message: string) => void;
  readonly beforeStep: ((step: ExchangeStep, path: Buffer) => void) | undefined;
}

/** A file whose content is on the way. */
interface Target {
  readonly replacement: Replacement;
  readonly windows: Iterator<Window>;
  /** Windows in the pump. */
  queued: number;
  /** True when there are no more windows to add. */
  isFed: boolean;
  failure: unknown;
}

export class PullRun {
  readonly written: PointerFile[] = [];
  /** Of the same files. */
  readonly notes: ContentNote[] = [];
  readonly failed: FailedFile[] = [];
  readonly #root: Buffer;
  readonly #content: Content;
  readonly #options: PullRunOptions;
  readonly #session: PullSession;
  readonly #pump: WindowPump;
  readonly #writeBack: WriteBack;
  /** In order; windows in the pump belong to the first ones. */
  readonly #targets: Target[] = [];
  /** The directory that was used last. */
  #directory: WorkTreeDirectory | undefined;
  /** True once a write found no room. */
  #isTight = false;

  /** `bytes`: about how much there is to write, to tell whether threads pay. */
  constructor(root: string, session: PullSession, content: Content, bytes: number, options: PullRunOptions) {
    this.#root = Buffer.from(root);
    this.#session = session;
    this.#content = content;
    this.#options = options;
    this.#pump = content.downloader.pump(bytes >= PARALLEL_BYTES_ALONE);
    this.#writeBack = new WriteBack(bytes);
  }

  /** Once. Leaves no temporary file behind, however it ends. */
  async write(files: Iterable<PointerFile>): Promise<void> {
    try {
      for (const file of files) {
        const target = this.#begin(file);
        while (target !== undefined && this.#addWindow(target)) await this.#options.pause();
        this.#endCompleted();
        await this.#options.pause();
      }
      while (this.#targets.length > 0) {
        this.#completeWindow();
        await this.#options.pause();
      }
    } finally {
      this.#pump.stop();
      for (const { replacement } of this.#targets.splice(0)) this.#abandon(replacement);
      this.#directory?.release();
    }
  }

  #begin(file: PointerFile): Target | undefined {
    // What files that failed took up is free again when they have ended.
    while (this.#isTight && this.#targets.length > 0) this.#completeWindow();
    try {
      const plan = this.#plan(file);
      const directory = this.#directoryOf(file.path);
      if (this.#isTight) requireRoom(directory, file.size);
      const replacement = new Replacement(file, directory, this.#session);
      const target = { replacement, windows: windowsOf(plan), queued: 0, isFed: false, failure: undefined };
      this.#targets.push(target);
      return target;
    } catch (error) {
      this.#fail(file, error);
      return undefined;
    }
  }

  #plan({ hash, size }: PointerFile): ReadPlan {
    const isEmpty = isZeroHash(parseHash(hash));
    if (isEmpty !== (size === 0)) {
      throw new Git2dbError('INVALID_POINTER', `the pointer says ${size} bytes but names file ${hash}`);
    }
    return isEmpty ? { size: 0, terms: [], proofs: [] } : this.#content.plan(hash, size);
  }

  #directoryOf(path: Buffer): WorkTreeDirectory {
    const { directoryPath } = nameIn(path);
    if (this.#directory?.path.equals(directoryPath) !== true) {
      this.#directory?.release();
      this.#directory = undefined;
      this.#directory = WorkTreeDirectory.open(this.#root, directoryPath);
    }
    return this.#directory;
  }

  /** Adds the target's next window to the pump; false when there is none to add. */
  #addWindow(target: Target): boolean {
    try {
      const window = target.windows.next();
      if (window.done !== true) {
        while (!this.#pump.hasRoom) this.#completeWindow();
        // Its own windows are among those that were completed.
        if (target.failure === undefined) {
          this.#pump.add(window.value, target.replacement);
          target.queued++;
          return true;
        }
      }
    } catch (error) {
      target.failure ??= error;
    }
    target.isFed = true;
    return false;
  }

  #completeWindow(): void {
    const target = this.#targets[0] as Target;
    target.queued--;
    try {
      if (target.failure === undefined) this.#completeOf(target);
      else this.#pump.drop();
    } catch (error) {
      target.failure = error;
    }
    this.#endCompleted();
  }

  #completeOf(target: Target): void {
    const { replacement } = target;
    const count = this.#pump.complete();
    this.#options.onBytes(count);
    this.#writeBack.wrote(replacement.contentPath, count, (error) => {
      if (this.#targets.includes(target)) target.failure ??= error;
      else {
        const path = quotePath(replacement.file.path);
        this.#options.warn(
          `${path} may be damaged: ${systemReason(error)}; when the disk is well, remove it and run \`git checkout -- FILE\``,
        );
      }
    });
  }

  #endCompleted(): void {
    for (let first = this.#targets[0]; first?.isFed && first.queued === 0; first = this.#targets[0]) {
      this.#targets.shift();
      this.#end(first);
    }
  }

  #end({ replacement, failure }: Target): void {
    const { file } = replacement;
    try {
      if (failure !== undefined) throw failure;
      this.notes.push(replacement.commit((step) => this.#options.beforeStep?.(step, file.path)));
      this.written.push(file);
    } catch (error) {
      this.#fail(file, error);
      this.#abandon(replacement);
    }
  }

  #abandon(replacement: Replacement): void {
    try {
      replacement.abandon();
    } catch (error) {
      this.#options.warn(`a temporary file is left for the next run to remove: ${systemReason(error)}`);
    }
  }

  #fail(file: PointerFile, error: unknown): void {
    if (isOutOfSpace(error)) this.#isTight = true;
    this.failed.push(failedFile(file, error));
  }
}

function requireRoom(directory: WorkTreeDirectory, size: number): void {
  const free = freeBytes(directory.entry(Buffer.from('.')));
  if (free !== undefined && free < size) throw diskFull('it', size, free);
}
