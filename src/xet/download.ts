/**
 * The smudge side in one page: file hash -> terms -> windows -> verified bytes.
 *
 * Windows are read and verified in order; with several threads the next ones are under way while
 * the first is given out. Windows of different files may follow each other, so that many small
 * files keep the threads as busy as a large one does.
 */
import { availableParallelism } from 'node:os';
import { Git2dbError, messageOf } from './errors.ts';
import { formatHash } from './hash/xet-hash.ts';
import { JobBoard, type JobRunner } from './parallel/job-board.ts';
import { createRunner } from './parallel/jobs.ts';
import { startWorkers, workerScratch } from './parallel/pool.ts';
import {
  openWindow,
  planFile,
  type ReadPlan,
  storedRange,
  type Window,
  windowsOf,
} from './reconstruct/plan.ts';
import { SLOT_SIZE, WindowSlot } from './reconstruct/window-reader.ts';
import type { LocalStore, StoredFile } from './store/local-store.ts';
import { recordStart, type XorbSource } from './store/xorb-source.ts';
import {
  ARENA_START,
  type Arena,
  createArena,
  type KernelChoice,
  type Kernels,
  loadKernels,
  SCRATCH_SIZE,
} from './wasm/kernels.ts';
import { chunksOf, WindowPump } from './window-pump.ts';
import { rawBytesBetween } from './xorb/ends.ts';

const SCRATCH = ARENA_START;
/** Windows under way at once: 10 of some 4.4 MiB each at most. One more slot is for reading alone. */
const SLOTS = 10;
const MAX_WORKERS = 4;
/**
 * Below this much work a thread costs more than it gives: its start, and what two busy threads of one
 * processor take from each other, while git itself keeps a processor busy.
 */
export const PARALLEL_BYTES = 256 << 20;
/**
 * Smaller files do not count for that: git makes and writes each of them before it asks for the next, which is
 * time enough for this thread.
 */
export const PARALLEL_FILE = 4 << 20;
/** As PARALLEL_BYTES, for a command that does not share the machine with git. */
export const PARALLEL_BYTES_ALONE = 64 << 20;

export interface DownloadOptions {
  readonly kernels?: KernelChoice | undefined;
  /** Threads besides this one; by default one fewer than there are processors, at most 4. */
  readonly workers?: number | undefined;
}

/** Bytes of a window: views that are valid until the next window is asked for. */
export interface VerifiedWindow {
  readonly fileOffset: number;
  readonly chunks: readonly Uint8Array[];
}

export class Downloader {
  readonly store: LocalStore;
  readonly #options: DownloadOptions;
  #workshop: Workshop | undefined;
  #started = false;

  constructor(store: LocalStore, options: DownloadOptions = {}) {
    this.store = store;
    this.#options = options;
  }

  /**
   * Finds a file and proves its chunk list. Throws CONTENT_MISSING or CONTENT_DAMAGED; when one
   * place of the file is damaged and another is not, the good one is taken. `size`, when given,
   * must be the file's.
   */
  plan(hash: Uint8Array, size?: number): ReadPlan {
    let failure: unknown;
    for (const attempt of ['as known', 'looked up again', 'without damaged tables'] as const) {
      // A xorb or shard may have moved (sealed, repacked) since it was looked up.
      if (attempt === 'looked up again') {
        this.store.forgetSources();
        this.store.catalog.reload();
      }
      if (attempt === 'without damaged tables' && this.store.catalog.dropDamaged().length === 0) break;
      for (const file of this.store.findFiles(hash)) {
        try {
          return { ...this.#planOne(file, size), again: () => this.plan(hash, size) };
        } catch (error) {
          failure = worse(failure, error);
        }
      }
    }
    throw worse(failure, this.#missing(hash));
  }

  #planOne(file: StoredFile, size: number | undefined): ReadPlan {
    if (size !== undefined && file.size !== size) {
      throw new Git2dbError(
        'CONTENT_DAMAGED',
        `the pointer says ${size} bytes, the stored file ${formatHash(file.hash)} has ${file.size}: the pointer was changed by hand or is damaged`,
        { data: { file: formatHash(file.hash), expected: size, found: file.size } },
      );
    }
    return planFile(file);
  }

  /** Not to be found; which is no proof of absence while there are shards that cannot be read. */
  #missing(hash: Uint8Array): Git2dbError {
    for (const [path, how] of this.store.damagedShards()) {
      return new Git2dbError(
        'CONTENT_DAMAGED',
        `file ${formatHash(hash)} is not found, and the shard ${path}, which may describe it, is damaged: ${how}; ` +
          'run `git2db xet fsck` to see all damage, `git2db xet fsck --repair` to mend what can be mended',
        { data: { file: formatHash(hash), shard: path } },
      );
    }
    return new Git2dbError(
      'CONTENT_MISSING',
      `file ${formatHash(hash)} is not in the store ${this.store.root}`,
      {
        data: { file: formatHash(hash) },
      },
    );
  }

  /** Verified windows of one file that overlap bytes [start, end), by default all, read on this thread alone. */
  *read(plan: ReadPlan, start = 0, end: number = Number.POSITIVE_INFINITY): Generator<VerifiedWindow> {
    const slot = this.#prepare().alone;
    for (const window of windowsOf(plan)) {
      if (window.fileOffset >= end) return;
      if (window.fileOffset + window.rawBytes <= start) continue;
      const source = this.#expect(slot, window);
      this.#readHere(slot, window, source);
      yield { fileOffset: window.fileOffset, chunks: chunksOf(slot, window) };
    }
  }

  /** A pump that keeps threads busy with the windows it is fed, or reads when asked if `threads` is false. */
  pump(threads: boolean): WindowPump {
    const { arena, board, run, slots } = this.#prepare();
    const workers = this.#options.workers ?? availableParallelism() - 1;
    if (threads && !this.#started) {
      startWorkers(Math.min(MAX_WORKERS, workers), arena, board, WORKERS_AT, this.#options.kernels);
      this.#started = true;
    }
    return new WindowPump(board, run, slots, {
      expect: (slot, window) => this.#expect(slot, window),
      readHere: (slot, window, source) => this.#readHere(slot, window, source),
    });
  }

  #prepare(): Workshop {
    if (this.#workshop === undefined) {
      // The whole range is reserved, but only what is used takes memory.
      const arena = createArena(SLOTS_AT + SLOT_SIZE * (SLOTS + 1));
      const kernels = loadKernels(arena, SCRATCH, this.#options.kernels);
      const slots = Array.from({ length: SLOTS }, (_, i) => new WindowSlot(arena, SLOTS_AT + SLOT_SIZE * i));
      const alone = new WindowSlot(arena, SLOTS_AT + SLOT_SIZE * SLOTS);
      this.#workshop = {
        arena,
        kernels,
        board: new JobBoard(),
        run: createRunner(arena, kernels),
        slots,
        alone,
      };
    }
    return this.#workshop;
  }

  #expect(slot: WindowSlot, window: Window): XorbSource {
    const source = openWindow(window);
    const base = recordStart(source, window.start);
    slot.expect(
      source.hashes,
      window.start,
      window.end - window.start,
      (chunk) => (source.recordEnds[chunk] as number) - base,
      (chunk) => rawBytesBetween(source, chunk, chunk + 1),
    );
    return source;
  }

  /** Reads on this thread, and says exactly what is wrong when something is. */
  #readHere(slot: WindowSlot, window: Window, source: XorbSource): void {
    const { offset, length } = storedRange(source, window);
    let failure: ReturnType<WindowSlot['read']>;
    try {
      failure = slot.read(this.#prepare().kernels, source.fd, offset, length, window.end - window.start);
    } catch (error) {
      throw new Git2dbError(
        'CONTENT_DAMAGED',
        `cannot read ${source.path} at ${offset}: ${messageOf(error)}`,
        { cause: error },
      );
    }
    if (failure === undefined) return;
    const chunk = window.start + failure.chunk;
    throw new Git2dbError(
      'CONTENT_DAMAGED',
      `${source.path} is damaged: chunk ${chunk} at offset ${recordStart(source, chunk)}: ${failure.error.message}; ` +
        'run `git2db xet fsck` to see all damage, `git2db xet fsck --repair` to mend what can be mended',
      { cause: failure.error, data: { xorb: window.term.name, chunk } },
    );
  }
}

const WORKERS_AT = SCRATCH + SCRATCH_SIZE + 64;
const SLOTS_AT = (WORKERS_AT + workerScratch(MAX_WORKERS) + 65535) & ~65535;

/** Memory and threads, made when the first byte is to be read. */
interface Workshop {
  readonly arena: Arena;
  readonly kernels: Kernels;
  readonly board: JobBoard;
  readonly run: JobRunner;
  readonly slots: readonly WindowSlot[];
  readonly alone: WindowSlot;
}

/** Of two failures the one to report: damage rather than absence. */
function worse(first: unknown, second: unknown): unknown {
  if (first === undefined) return second;
  return isMissing(first) && !isMissing(second) ? second : first;
}

function isMissing(error: unknown): boolean {
  return error instanceof Git2dbError && error.code === 'CONTENT_MISSING';
}
