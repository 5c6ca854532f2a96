/**
 * The thread that answers the kernel, seen from the main thread. It is started before anything else is loaded:
 * making an engine takes as long as all that the main thread has to do until then.
 */
import { readdirSync } from 'node:fs';
import { setPriority } from 'node:os';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import type { WorkerStart } from './worker.ts';

/** Names come and go with the requests: few of them are still there when the young generation is full. */
const YOUNG_MIB = 8;
const OLD_MIB = 4096;

const HELPER_NICENESS = 10;

export interface ServingThread {
  readonly worker: Worker;
  /** Slow work for the main thread comes from here. */
  readonly jobs: MessagePort;
  /** One number: how many files and directories are open. */
  readonly openHandles: Int32Array;
}

/** Runs the module `program`, which calls `serveInWorker`. */
export function startServingThread(program: URL): ServingThread {
  yieldHelpers();
  const { port1, port2 } = new MessageChannel();
  const openHandles = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(program, {
    workerData: { jobs: port2, openHandles } satisfies WorkerStart,
    transferList: [port2],
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB, maxOldGenerationSizeMb: OLD_MIB },
    stdin: false,
  });
  return { worker, jobs: port1, openHandles };
}

/**
 * The engine's own threads, all that there are by now beside this one, get a processor when nobody else
 * wants it: compiling in the background is of use only if it keeps neither the serving thread nor the users
 * of the mount waiting.
 */
function yieldHelpers(): void {
  try {
    for (const thread of readdirSync('/proc/self/task').map(Number)) {
      if (thread !== process.pid) setPriority(thread, HELPER_NICENESS);
    }
  } catch {
    // Without /proc, or without the right to, they compete like any other.
  }
}
