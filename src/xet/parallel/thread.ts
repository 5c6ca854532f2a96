/** Starting a thread. It costs some 35 ms of CPU. */
import { createRequire } from 'node:module';
import type { Worker } from 'node:worker_threads';

/** Runs the module `program`, which never keeps the process alive. Throws where there can be no more threads. */
export function startThread(program: URL, workerData?: unknown): Worker {
  // Loaded here and not above: most processes need no thread.
  const { Worker: WorkerClass } = createRequire(import.meta.url)('node:worker_threads') as {
    Worker: typeof Worker;
  };
  const worker = new WorkerClass(program, {
    workerData,
    // Else Node opens process.stdout to forward the thread's output, which makes the pipe to git
    // non-blocking: every full pipe would then cost a pause.
    stdout: true,
    stderr: true,
  });
  worker.unref();
  return worker;
}
