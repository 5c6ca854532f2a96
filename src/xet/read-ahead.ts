/**
 * Files that will be asked for in a known order: while one is given out, the next ones are read and
 * verified, by other threads where there is much to do, else by this one between two requests. Memory is
 * that of the pump's slots, however many files wait.
 */
import { type Downloader, PARALLEL_BYTES, PARALLEL_FILE, type VerifiedWindow } from './download.ts';
import type { ReadPlan, Window } from './reconstruct/plan.ts';
import { windowsOf } from './reconstruct/plan.ts';
import type { WindowPump } from './window-pump.ts';

export class QueuedFile {
  readonly size: number;
  /** Finds the file; called when its turn comes. May throw. */
  readonly plan: () => ReadPlan;
  failure: unknown;
  /** Windows in the pump. */
  queued = 0;
  /** True when all windows have been added, or adding them failed. */
  fed = false;
  /** True when it has been given out, or will be without the pump. */
  done = false;

  constructor(size: number, plan: () => ReadPlan) {
    this.size = size;
    this.plan = plan;
  }
}

export class ReadAhead {
  readonly #downloader: Downloader;
  #files: QueuedFile[] = [];
  /** Of files for which threads pay. */
  #bytes = 0;
  #pump: WindowPump | undefined;
  /** Other threads read. */
  #isParallel = false;
  /** The file being fed to the pump, and its windows. */
  #feeding: { readonly file: QueuedFile; readonly windows: Iterator<Window> } | undefined;
  #next = 0;

  constructor(downloader: Downloader) {
    this.#downloader = downloader;
  }

  add(file: QueuedFile): void {
    this.#files.push(file);
    if (file.size >= PARALLEL_FILE) this.#bytes += file.size;
  }

  /** Starts reading the first files, as far as there is room. */
  start(): void {
    if (this.#pump === undefined) {
      this.#isParallel = this.#bytes >= PARALLEL_BYTES;
      this.#pump = this.#downloader.pump(this.#isParallel);
    }
    this.#feed(this.#pump);
  }

  /** Does a little of what will be asked for, while whoever asks is busy with what it got. */
  work(): void {
    if (this.#pump === undefined) return;
    this.#feed(this.#pump, this.#isParallel ? undefined : 1);
    this.#pump.work();
  }

  /** Verified windows of a file. Throws what its plan or a window throws. Files out of turn are read alone. */
  *read(file: QueuedFile): Generator<VerifiedWindow> {
    if (this.#pump === undefined) this.start();
    const pump = this.#pump as WindowPump;
    this.#skipDone(pump);
    if (this.#files[0] !== file) {
      file.done = true;
      yield* this.#downloader.read(file.plan());
      return;
    }
    try {
      for (;;) {
        // Alone, this thread finds out about the next files when nobody waits for it: see work().
        if (this.#isParallel || (file.queued === 0 && !file.fed)) this.#feed(pump);
        if (file.queued === 0) break;
        file.queued--;
        yield pump.take();
      }
      if (file.failure !== undefined) throw file.failure;
    } finally {
      file.done = true;
      this.#skipDone(pump);
    }
  }

  /** Drops files at the head that are done with, and what the pump holds of them. */
  #skipDone(pump: WindowPump): void {
    for (let first = this.#files[0]; first?.done === true; first = this.#files[0]) {
      for (; first.queued > 0; first.queued--) pump.drop();
      if (this.#feeding?.file === first) this.#feeding = undefined;
      this.#files.shift();
      if (this.#next > 0) this.#next--;
    }
  }

  /** Adds `most` windows, or as many as there is room for once there is room for several. */
  #feed(pump: WindowPump, most?: number): void {
    if (most === undefined && !pump.isHungry) return;
    for (let added = 0; pump.hasRoom && added !== most; ) {
      if (this.#feeding === undefined) {
        const file = this.#files[this.#next];
        if (file === undefined) return;
        this.#next++;
        if (file.done) continue;
        try {
          this.#feeding = { file, windows: windowsOf(file.plan()) };
        } catch (error) {
          file.failure = error;
          file.fed = true;
          continue;
        }
      }
      const { file, windows } = this.#feeding;
      try {
        const window = windows.next();
        if (window.done === true) {
          file.fed = true;
          this.#feeding = undefined;
          continue;
        }
        pump.add(window.value);
        file.queued++;
        added++;
      } catch (error) {
        file.failure = error;
        file.fed = true;
        this.#feeding = undefined;
      }
    }
  }
}
