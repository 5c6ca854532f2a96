/**
 * Windows of contents, read ahead by all threads and given out in order. Windows of different files may follow each
 * other, so that many small files keep the threads as busy as a large one does.
 */
import type { VerifiedWindow } from './download.ts';
import type { JobBoard, JobRunner } from './parallel/job-board.ts';
import { JOB_READ, READ_OK, READ_RESULT, writeWindow } from './parallel/jobs.ts';
import { storedRange, type Window } from './reconstruct/plan.ts';
import type { WindowSlot } from './reconstruct/window-reader.ts';
import type { XorbSource } from './store/xorb-source.ts';

/** Windows are handed over so many at once, if there are: waking a thread costs as much as hashing 200 KiB. */
const BATCH = 5;

/** Where a window's bytes are to be written by the thread that reads it. */
export interface WriteTarget {
  readonly fd: number;
}

/** What a pump needs of the downloader it belongs to. */
interface WindowReading {
  expect(slot: WindowSlot, window: Window): XorbSource;
  readHere(slot: WindowSlot, window: Window, source: XorbSource): void;
}

interface Running {
  readonly slot: number;
  readonly window: Window;
  readonly source: XorbSource;
  readonly target: WriteTarget | undefined;
}

/** Reads windows ahead, in the order in which they are added. */
export class WindowPump {
  readonly #board: JobBoard;
  readonly #run: JobRunner;
  readonly #slots: readonly WindowSlot[];
  readonly #reading: WindowReading;
  readonly #free: number[];
  readonly #running: Running[] = [];
  /** The window given out last; its slot is free again with the next call. */
  #lent: number | undefined;

  constructor(board: JobBoard, run: JobRunner, slots: readonly WindowSlot[], reading: WindowReading) {
    this.#board = board;
    this.#run = run;
    this.#slots = slots;
    this.#reading = reading;
    this.#free = slots.map((_, i) => i);
  }

  /** True while another window may be added. */
  get hasRoom(): boolean {
    return this.#free.length > 0;
  }

  /** True while it is better to add windows than to wait for more room. */
  get isHungry(): boolean {
    return this.#free.length >= BATCH || this.#running.length < BATCH;
  }

  get pending(): number {
    return this.#running.length;
  }

  /** True if the oldest window can be taken without waiting. */
  get isReady(): boolean {
    const first = this.#running[0];
    return first !== undefined && this.#board.isDone(first.slot);
  }

  /** Begins reading a window; with a target its bytes are also written there. Throws if its xorb cannot be opened. */
  add(window: Window, target?: WriteTarget): void {
    const slot = this.#free.at(-1);
    if (slot === undefined) throw new Error('the pump has no room');
    const source = this.#reading.expect(this.#slots[slot] as WindowSlot, window);
    this.#free.pop();
    source.pins++;
    const { offset, length } = storedRange(source, window);
    const board = this.#board;
    board.set(slot, 0, JOB_READ);
    board.set(slot, 1, (this.#slots[slot] as WindowSlot).base);
    board.set(slot, 2, source.fd);
    board.setWide(slot, 3, offset);
    board.set(slot, 5, length);
    board.set(slot, 6, window.end - window.start);
    board.set(slot, 7, target?.fd ?? -1);
    board.setWide(slot, 8, window.fileOffset);
    board.post(slot);
    this.#running.push({ slot, window, source, target });
  }

  /** The oldest window, verified. Its views are valid until the next call of take, complete, drop or stop. */
  take(): VerifiedWindow {
    const { slot, window } = this.#finish();
    return { fileOffset: window.fileOffset, chunks: chunksOf(this.#slots[slot] as WindowSlot, window) };
  }

  /**
   * Waits until the oldest window's bytes, verified, are at its target, and reads others while it waits; returns how
   * many they are. Throws what take throws, and the error of writing.
   */
  complete(): number {
    this.#release();
    while (this.#running.length > 0 && !this.isReady && this.work());
    try {
      return this.#finish().window.rawBytes;
    } finally {
      this.#release();
    }
  }

  #finish(): Running {
    this.#release();
    const running = this.#running.shift();
    if (running === undefined) throw new Error('the pump is empty');
    const { slot, window, source, target } = running;
    this.#board.finish(slot, this.#run);
    this.#lent = slot;
    try {
      if (this.#board.get(slot, READ_RESULT) !== READ_OK) {
        // Again, here: to tell what is wrong, or because it was not the content's fault.
        this.#reading.readHere(this.#slots[slot] as WindowSlot, window, source);
        if (target !== undefined)
          writeWindow(
            this.#slots[slot] as WindowSlot,
            window.end - window.start,
            target.fd,
            window.fileOffset,
          );
      }
    } finally {
      source.pins--;
    }
    return running;
  }

  /** Reads the oldest window that nobody has begun: for a thread with nothing better to do. False if there is none. */
  work(): boolean {
    return this.#running.some(({ slot }) => this.#board.help(slot, this.#run));
  }

  /** Forgets the oldest window. */
  drop(): void {
    this.#release();
    const running = this.#running.shift();
    if (running === undefined) return;
    this.#board.finish(running.slot, this.#run);
    running.source.pins--;
    this.#free.push(running.slot);
  }

  /** Forgets all windows. */
  stop(): void {
    while (this.#running.length > 0) this.drop();
    this.#release();
  }

  #release(): void {
    if (this.#lent !== undefined) this.#free.push(this.#lent);
    this.#lent = undefined;
  }
}

/** The chunks of a window that was read, in its slot. */
export function chunksOf(slot: WindowSlot, window: Window): Uint8Array[] {
  return Array.from({ length: window.end - window.start }, (_, i) => slot.chunk(i));
}
