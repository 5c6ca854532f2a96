/**
 * Serving a mount in the process that was asked to make it, for a command that is not waited for. It begins as any
 * command, and becomes a server when the mount is there: `detach`.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { Git2dbError, messageOf } from '../../xet/errors.ts';
import { closeInherited } from '../system/inherited.ts';
import { dup2, setsid } from '../system/kernel.ts';
import type { ServerError, ServerRequest } from './handover.ts';
import { loopProgram } from './programs.ts';
import type { Server } from './server.ts';
import { type ServingThread, startServingThread } from './serving-thread.ts';

export class ServingHere {
  readonly #thread: ServingThread;
  #threadEnd: string | undefined;
  #server: Server | undefined;
  #logFd: number | undefined;

  /** Starts the thread, for a mount that may come. To be made before anything else is opened. */
  constructor() {
    closeInherited();
    this.#thread = startServingThread(loopProgram());
    this.#thread.worker.once('error', (error) => {
      this.#threadEnd = messageOf(error);
    });
    this.#thread.worker.once('exit', () => {
      this.#threadEnd ??= 'the serving thread has ended';
    });
    // Nothing is to wait for it as long as there is no mount.
    this.#thread.worker.unref();
  }

  /** Whether there is a mount: without this process it would be dead. */
  get isServing(): boolean {
    return this.#server !== undefined;
  }

  /**
   * Resolves when the mount answers; rejects when it could not be made. `logFile`: what there is to say after
   * `detach` is added there.
   */
  async serve(request: ServerRequest, logFile: string): Promise<void> {
    const logFd = openSync(logFile, 'a', 0o600);
    const { Server } = await import('./server.ts');
    if (this.#threadEnd !== undefined) throw new Git2dbError('SERVER_FAILED', this.#threadEnd);
    this.#thread.worker.ref();
    await new Promise<void>((resolve, reject) => {
      const server = new Server(this.#thread, request, {
        ready: () => {
          this.#server = server;
          this.#logFd = logFd;
          resolve();
          return true;
        },
        refused: ({ code, message }: ServerError) => reject(new Git2dbError(code, message)),
      });
      server.start();
    });
  }

  /** Lets go of all that belongs to the command: terminal, directory, standard streams, environment. */
  detach(): void {
    // Fails only where this is the leader of its group, which no terminal stops or interrupts by itself.
    setsid();
    process.chdir('/');
    const nowhere = openSync('/dev/null', constants.O_RDWR);
    for (const [fd, stream] of [
      [nowhere, 0],
      [nowhere, 1],
      [this.#logFd ?? nowhere, 2],
    ] as const)
      dup2(fd, stream);
    for (const fd of [nowhere, this.#logFd]) if (fd !== undefined) closeSync(fd);
    for (const name of Object.keys(process.env)) if (name !== 'PATH') delete process.env[name];
  }

  /** Ends the mount, and with it the process. */
  end(): void {
    this.#server?.end();
  }
}
