/**
 * The thread that owns the file system: makes it, then answers the kernel until the mount has ended. What
 * it and the main thread tell each other:
 *
 *     main -> worker  {open: request}            worker -> main  {opened: true} or {failed: {..}}
 *     main -> worker  {serve: device}            worker -> main  {ready: true}, at last {ended: true}
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { readCaller } from '../caller.ts';
import { raiseOpenFiles } from '../system/kernel.ts';
import { BackingFiles } from './backing-files.ts';
import type { FileSystem, Waiting } from './file-system.ts';
import { decodeRequest, describeError, type ServerError, type ServerRequest } from './handover.ts';
import { JobQueue } from './jobs.ts';
import { logLine } from './log.ts';
import { Loop, RequestWaiting } from './loop.ts';

/** Directories, handles and copies each need a descriptor. */
const OPEN_FILES_WANTED = 1 << 20;

/** What the thread is started with. */
export interface WorkerStart {
  /** Work goes out here, its end is told by `eventFd`. */
  readonly jobs: MessagePort;
  readonly eventFd: number;
}

/** `open`: the request as its line of JSON, in which bytes stay what they are. */
export type ToWorker = { readonly open: string } | { readonly serve: number };

export type FromWorker =
  | { readonly opened: true }
  | { readonly failed: ServerError }
  | { readonly ready: true }
  | { readonly ended: true };

/** What a file system may use of the server. */
export interface ServerServices {
  readonly waiting: Waiting;
  readonly backing: BackingFiles;
  /** How many descriptors the process may have. */
  readonly openFiles: number;
}

export type OpenFileSystem = (request: ServerRequest, services: ServerServices) => FileSystem;

/** To be called once, by the module that the thread runs. `open` may throw: nothing is mounted then. */
export function serveInWorker(open: OpenFileSystem): void {
  const port = parentPort!;
  const { jobs: jobsPort, eventFd } = workerData as WorkerStart;
  const jobs = new JobQueue(jobsPort, eventFd);
  const waiting = new RequestWaiting(jobs);
  const backing = new BackingFiles();
  const openFiles = raiseOpenFiles(OPEN_FILES_WANTED);
  let opened: { readonly fileSystem: FileSystem; readonly request: ServerRequest } | undefined;
  const tell = (message: FromWorker) => port.postMessage(message);

  port.on('message', (message: ToWorker) => {
    if ('open' in message) {
      try {
        const request = decodeRequest(message.open);
        opened = { fileSystem: open(request, { waiting, backing, openFiles }), request };
        tell({ opened: true });
      } catch (error) {
        tell({ failed: describeError(error) });
      }
      return;
    }
    if (opened === undefined) return;
    serve(message.serve, opened.fileSystem, opened.request, waiting, jobs, backing, () =>
      tell({ ready: true }),
    );
    tell({ ended: true });
    port.close();
  });
}

function serve(
  device: number,
  fileSystem: FileSystem,
  { options }: ServerRequest,
  waiting: RequestWaiting,
  jobs: JobQueue,
  backing: BackingFiles,
  onReady: () => void,
): void {
  const loop = new Loop(
    device,
    fileSystem,
    waiting,
    jobs,
    { posixAcl: !options.noacl, passthrough: readCaller().isPrivileged },
    {
      onReady: (session) => {
        if (session.passthrough) backing.enable(device);
        onReady();
      },
      onFault: logLine,
      ...(options.debug ? { trace: (line: string) => logLine(line) } : {}),
    },
  );
  try {
    loop.run();
  } finally {
    fileSystem.destroy();
  }
}
