/**
 * The server of one mount, from its making to its end. The main thread mounts, does slow work for the thread
 * that answers the kernel, and listens to signals; once there is a mount it never touches it, which would wait
 * for the process itself.
 *
 *     SIGTERM SIGINT SIGHUP   unmounts; while somebody uses the mount it is taken out of the tree and
 *                             served until they end. A second signal cuts them off. When the mount has
 *                             been taken out already, and is left in other mount namespaces or to those
 *                             who sit in it, the server ends as soon as nobody has a file open
 */
import { closeSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { readMountTable } from '../mount-table.ts';
import { errnoMessage } from '../system/errno.ts';
import { closeInherited } from '../system/inherited.ts';
import { prctl } from '../system/kernel.ts';
import {
  describeError,
  encodeRequest,
  HANDOVER_FD,
  receiveRequest,
  type ServerError,
  type ServerRequest,
  sendReport,
} from './handover.ts';
import { serveJobs } from './jobs.ts';
import { logLine } from './log.ts';
import {
  abortConnection,
  type MountedDevice,
  mountDevice,
  mountedDeviceNumber,
  raiseReadAhead,
  unmountDevice,
} from './mount-device.ts';
import type { ServingThread } from './serving-thread.ts';
import type { FromWorker, ToWorker } from './worker.ts';

/** Larger READs leave the processor's cache before the reader has seen them. */
const READ_AHEAD_KIB = 512;
const PR_SET_PDEATHSIG = 1;
const SIGTERM = 15;

/** How often a server that is to end looks whether anybody has a file open. */
const LOOK_MS = 50;

/** Who asked for the mount. One of these is called, once. */
export interface Asker {
  /** The mount answers. False when nobody wants it any more. */
  ready(device: string): boolean;
  /** There is no mount; nothing of it is left. */
  refused(error: ServerError): void;
}

/** The command that started this process, at the other end of `handover.ts`. */
const starter: Asker = {
  ready(device) {
    const isHeard = sendReport({ ready: true, device });
    closeSync(HANDOVER_FD);
    return isHeard;
  },
  refused(error) {
    sendReport({ error });
    process.exit(1);
  },
};

/** Runs the server with its thread; the process ends with the mount. */
export function runServer(thread: ServingThread): void {
  try {
    closeInherited();
    const request = receiveRequest();
    if (request === undefined) process.exit(1);
    new Server(thread, request, starter).start();
  } catch (error) {
    starter.refused(describeError(error));
  }
}

export class Server {
  readonly #thread: ServingThread;
  readonly #request: ServerRequest;
  readonly #asker: Asker;
  #mounted: MountedDevice | undefined;
  #device: string | undefined;
  #isReady = false;
  #hasFailed = false;
  #signals = 0;

  constructor(thread: ServingThread, request: ServerRequest, asker: Asker) {
    this.#thread = thread;
    this.#request = request;
    this.#asker = asker;
    thread.worker.on('message', (message: FromWorker) => this.#hear(message));
    thread.worker.on('error', (error) => void this.#fail(error));
    thread.worker.on('exit', () => void this.#fail(new Error('the serving thread has ended')));
  }

  start(): void {
    const { options, foreground } = this.#request;
    process.title = `git2db-mount ${options.merged.toString()}`;
    process.umask(0);
    if (foreground) prctl(PR_SET_PDEATHSIG, SIGTERM);
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => this.end());
    this.#tell({ open: encodeRequest(this.#request) });
  }

  /** As a signal does. */
  end(): void {
    void this.#onSignal();
  }

  #tell(message: ToWorker): void {
    this.#thread.worker.postMessage(message);
  }

  #hear(message: FromWorker): void {
    if ('opened' in message) this.#mount(message.opened);
    else if ('failed' in message) void this.#refuse(message.failed);
    else if ('ready' in message) this.#becomeReady();
    else this.#leave();
  }

  /** Nothing is left to serve. */
  #leave(): void {
    // What was refused is reported, and ended, by whoever refused it.
    if (this.#hasFailed) return;
    if (this.#isReady) this.#end(0);
    else void this.#fail(new Error('the mount was ended before it was ready'));
  }

  #mount(eventFd: number): void {
    const { options } = this.#request;
    serveJobs(this.#thread.jobs, eventFd);
    try {
      this.#mounted = mountDevice(options);
    } catch (error) {
      void this.#refuse(describeError(error));
      return;
    }
    this.#device = mountedDeviceNumber(options.merged);
    this.#tell({ serve: this.#mounted.fd });
  }

  #becomeReady(): void {
    const device = this.#device;
    if (device === undefined) {
      void this.#fail(new Error('the mount was gone before it was ready'));
      return;
    }
    raiseReadAhead(device, READ_AHEAD_KIB);
    this.#isReady = true;
    // Whoever asked for the mount is gone: nobody knows of it.
    if (!this.#asker.ready(device)) this.end();
  }

  /** There is to be no mount, or not this one. */
  async #refuse(error: ServerError): Promise<void> {
    this.#hasFailed = true;
    await this.#unmount(true);
    this.#asker.refused(error);
  }

  /** The worker is gone, or never served: the mount is cleared rather than left dead. */
  async #fail(error: unknown): Promise<void> {
    if (this.#hasFailed) return;
    if (!this.#isReady) return this.#refuse(describeError(error));
    this.#hasFailed = true;
    logLine('the server ends', error);
    await this.#unmount(true);
    this.#end(1);
  }

  async #onSignal(): Promise<void> {
    this.#signals++;
    if (this.#mounted === undefined) process.exit(1);
    if (this.#signals > 1) return this.#cutOff();
    if (!this.#isInTree()) return this.#endUnused();
    const code = await this.#unmount(false);
    if (code >= 0) return;
    logLine(`cannot unmount: ${errnoMessage(code)}; it is taken out of the tree and ends with its last user`);
    await this.#unmount(true);
  }

  #isInTree(): boolean {
    return readMountTable().some(({ device }) => device === this.#device);
  }

  /** No data is lost with that: what was written reaches this process when a file is closed, at the latest. */
  async #endUnused(): Promise<void> {
    while (Atomics.load(this.#thread.openHandles, 0) > 0) await sleep(LOOK_MS);
    await this.#cutOff();
  }

  async #cutOff(): Promise<void> {
    await this.#unmount(true);
    if (this.#device !== undefined && abortConnection(this.#device)) return;
    // The serving thread waits in the kernel, where only the end of the process reaches it.
    this.#removeRecord();
    process.kill(process.pid, 'SIGKILL');
  }

  async #unmount(lazily: boolean): Promise<number> {
    if (this.#mounted === undefined) return 0;
    return unmountDevice(this.#request.options.merged, this.#device, this.#mounted.mountedBy, { lazily });
  }

  #end(code: number): never {
    this.#removeRecord();
    process.exit(code);
  }

  #removeRecord(): void {
    const { recordFile } = this.#request;
    if (recordFile !== undefined) rmSync(recordFile, { force: true });
  }
}
