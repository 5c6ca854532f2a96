/**
 * The thread that owns the file system: makes it, then answers the kernel until the mount has ended. What
 * it and the main thread tell each other:
 *
 *     main -> worker  {open: request}            worker -> main  {opened: eventFd} or {failed: {..}}
 *     main -> worker  {serve: device}            worker -> main  {ready: true} or {failed: {..}}, at last {ended: true}
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { readCaller } from '../caller.ts';
import { EFD_CLOEXEC, eventfd, raiseOpenFiles } from '../system/kernel.ts';
import { BackingFiles } from './backing-files.ts';
import type { FileSystem, Waiting } from './file-system.ts';
import { decodeRequest, describeError, type ServerError, type ServerRequest } from './handover.ts';
import type { Session } from './init.ts';
import { JobQueue } from './jobs.ts';
import { logLine } from './log.ts';
import { type Leisure, Loop, RequestWaiting } from './loop.ts';
import { WarmUp } from './warm-up.ts';

/** Directories, handles and copies each need a descriptor. */
const OPEN_FILES_WANTED = 1 << 20;

const NO_PASSTHROUGH: ServerError = {
  code: 'BACKEND_UNAVAILABLE',
  message:
    'passthrough=on: it takes Linux 6.9, and root outside of user namespaces; mount as root, or leave it out',
};

/** What the thread is started with. */
export interface WorkerStart {
  /** Work goes out here. */
  readonly jobs: MessagePort;
  /** One number: how many files and directories are open. */
  readonly openHandles: Int32Array;
}

/** `open`: the request as its line of JSON, in which bytes stay what they are. */
export type ToWorker = { readonly open: string } | { readonly serve: number };

export type FromWorker =
  /** The eventfd that the end of work is to be told by. */
  | { readonly opened: number }
  | { readonly failed: ServerError }
  | { readonly ready: true }
  | { readonly ended: true };

/** What a file system may use of the server. */
export interface ServerServices {
  readonly waiting: Waiting;
  readonly backing: BackingFiles;
  /** How many descriptors the process may have. */
  readonly openFiles: number;
  /** One number, to be kept up to date: how many files and directories are open. */
  readonly openHandles: Int32Array;
}

export type OpenFileSystem = (request: ServerRequest, services: ServerServices) => FileSystem;

/** A file system that may be asked anything that does not change it. */
export type OpenForWarmUp = (services: ServerServices) => FileSystem;

/** To be called once, by the module that the thread runs. `open` may throw: nothing is mounted then. */
export function serveInWorker(open: OpenFileSystem, openForWarmUp?: OpenForWarmUp): void {
  const port = parentPort!;
  const { jobs: jobsPort, openHandles } = workerData as WorkerStart;
  const eventFd = eventfd(0, EFD_CLOEXEC);
  const jobs = new JobQueue(jobsPort, eventFd);
  const waiting = new RequestWaiting(jobs);
  const backing = new BackingFiles();
  const openFiles = raiseOpenFiles(OPEN_FILES_WANTED);
  let opened: { readonly fileSystem: FileSystem; readonly request: ServerRequest } | undefined;
  let leisure: Leisure | undefined;
  let isServing = false;
  const tell = (message: FromWorker) => port.postMessage(message);

  port.on('message', (message: ToWorker) => {
    if ('open' in message) {
      try {
        const request = decodeRequest(message.open);
        opened = { fileSystem: open(request, { waiting, backing, openFiles, openHandles }), request };
        tell({ opened: eventFd });
        leisure = openForWarmUp && new WarmUp(openForWarmUp({ waiting, backing, openFiles, openHandles }));
        // Until the other thread has mounted.
        if (leisure !== undefined) spend(leisure, () => isServing);
      } catch (error) {
        tell({ failed: describeError(error) });
      }
      return;
    }
    if (opened === undefined) return;
    isServing = true;
    const { passthrough } = opened.request.options;
    serve(message.serve, opened.fileSystem, opened.request, waiting, jobs, backing, leisure, (session) => {
      if (passthrough !== 'on' || session.passthrough) tell({ ready: true });
      else tell({ failed: NO_PASSTHROUGH });
    });
    tell({ ended: true });
    port.close();
  });
}

function spend(leisure: Leisure, isOver: () => boolean): void {
  setImmediate(() => {
    if (!isOver() && leisure.step()) spend(leisure, isOver);
  });
}

function serve(
  device: number,
  fileSystem: FileSystem,
  { options }: ServerRequest,
  waiting: RequestWaiting,
  jobs: JobQueue,
  backing: BackingFiles,
  leisure: Leisure | undefined,
  onReady: (session: Session) => void,
): void {
  const loop = new Loop(
    device,
    fileSystem,
    waiting,
    jobs,
    { posixAcl: !options.noacl, passthrough: options.passthrough !== 'off' && readCaller().isPrivileged },
    {
      onReady: (session) => {
        if (session.passthrough) backing.enable(device);
        onReady(session);
      },
      onFault: logLine,
      ...(leisure === undefined ? {} : { leisure }),
      ...(options.debug ? { trace: (line: string) => logLine(line) } : {}),
    },
  );
  try {
    loop.run();
  } finally {
    fileSystem.destroy();
  }
}
