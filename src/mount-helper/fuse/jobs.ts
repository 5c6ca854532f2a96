/**
 * Slow work, done apart from the thread that answers the kernel. The server's thread hands `Work` over a
 * message port and goes on; the other side, the main thread, has it done by libuv's pool, answers over
 * the port and adds to an eventfd, which wakes the server's thread from its poll.
 *
 * Descriptors in `Work` stay open until the job has ended: whoever started it sees to that.
 */
import { fdatasync, fsync, read, write } from 'node:fs';
import { promisify } from 'node:util';
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { EINVAL, EIO, ENOSYS, ENXIO, EOPNOTSUPP, EXDEV, negativeErrno } from '../system/errno.ts';
import {
  copyFileRangeAsync,
  ftruncate,
  lseek,
  read as readDescriptor,
  reflink,
  SEEK_DATA,
  SEEK_HOLE,
} from '../system/libc.ts';
import type { Job, Work } from './file-system.ts';

interface WorkMessage {
  readonly id: number;
  readonly work: Work;
}

interface ResultMessage {
  readonly id: number;
  readonly result: number;
}

interface OpenJob extends Job {
  isDone: boolean;
  readonly finish: (result: number) => void;
}

/** The server's end. */
export class JobQueue {
  /** Readable when a job has ended. */
  readonly eventFd: number;
  readonly #port: MessagePort;
  readonly #open = new Map<number, OpenJob>();
  readonly #counter = new Uint8Array(8);
  #lastId = 0;

  constructor(port: MessagePort, eventFd: number) {
    this.#port = port;
    this.eventFd = eventFd;
  }

  /** Jobs that have not ended. */
  get size(): number {
    return this.#open.size;
  }

  start(work: Work, finish: (result: number) => void): Job {
    const job: OpenJob = { id: ++this.#lastId, isDone: false, finish };
    this.#open.set(job.id, job);
    this.#port.postMessage({ id: job.id, work } satisfies WorkMessage);
    return job;
  }

  /**
   * Takes what has ended: each job's `finish` runs, then `each`. Call it when `eventFd` is readable; it is
   * not afterwards, unless more ended meanwhile.
   */
  collect(each: (job: Job) => void): void {
    readDescriptor(this.eventFd, this.#counter, 0, 8);
    for (;;) {
      const received = receiveMessageOnPort(this.#port) as { message: ResultMessage } | undefined;
      if (received === undefined) return;
      const { id, result } = received.message;
      const job = this.#open.get(id);
      if (job === undefined) continue;
      this.#open.delete(id);
      job.isDone = true;
      job.finish(result);
      each(job);
    }
  }
}

const writeAsync = promisify(write);
const ONE = new Uint8Array(8);
ONE[0] = 1;

/** The other end: does what arrives at `port`, several jobs at a time. */
export function serveJobs(port: MessagePort, eventFd: number): void {
  port.on('message', async ({ id, work }: WorkMessage) => {
    const result = await perform(work);
    port.postMessage({ id, result } satisfies ResultMessage);
    await writeAsync(eventFd, ONE);
  });
}

/** Resolves to a count or `-errno`; never rejects. */
export async function perform(work: Work): Promise<number> {
  try {
    if (work.kind === 'sync') return await sync(work.fd, work.dataOnly);
    return await copy(work.from, work.to, work.size, work.sync);
  } catch (error) {
    return negativeErrno(error);
  }
}

function sync(fd: number, dataOnly: boolean): Promise<number> {
  return new Promise((resolve) => {
    (dataOnly ? fdatasync : fsync)(fd, (error) => resolve(error ? negativeErrno(error) : 0));
  });
}

/** Bytes that one call moves: small enough that a job can be given up, large enough to cost nothing. */
const PIECE = 4 << 20;

async function copy(from: number, to: number, size: number, withSync: boolean): Promise<number> {
  let code = reflink(from, to);
  if (code < 0) code = await copySegments(from, to, size);
  // The end may be a hole, and a file that was cloned may have grown.
  if (code >= 0) code = ftruncate(to, size);
  if (code >= 0 && withSync) code = await sync(to, true);
  return code < 0 ? code : size;
}

/** Data as the source has it; what is a hole there is left out. */
async function copySegments(from: number, to: number, size: number): Promise<number> {
  for (let at = 0; at < size; ) {
    const start = lseek(from, at, SEEK_DATA);
    // ENXIO: nothing but a hole. Some file systems know no holes.
    if (start === -ENXIO) break;
    const hole = start < 0 ? size : lseek(from, start, SEEK_HOLE);
    const begin = start < 0 ? at : start;
    const end = Math.min(hole < 0 ? size : hole, size);
    if (begin >= size) break;
    const code = await copySegment(from, to, begin, end);
    if (code < 0) return code;
    at = end;
  }
  return 0;
}

async function copySegment(from: number, to: number, start: number, end: number): Promise<number> {
  for (let at = start; at < end; ) {
    const copied = await copyFileRangeAsync(from, at, to, at, Math.min(end - at, PIECE));
    const isUnable =
      copied === -EXDEV || copied === -EINVAL || copied === -EOPNOTSUPP || copied === -ENOSYS || copied === 0;
    if (isUnable) return copyThroughBuffer(from, to, at, end);
    if (copied < 0) return copied;
    at += copied;
  }
  return 0;
}

const readAsync = promisify(read);

/** Where the kernel does not copy between these two; it says 0 for some files that have content. */
async function copyThroughBuffer(from: number, to: number, start: number, end: number): Promise<number> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(1 << 20, end - start));
  for (let at = start; at < end; ) {
    const { bytesRead } = await readAsync(from, buffer, 0, Math.min(buffer.length, end - at), at);
    // Shorter than it said: somebody cut it off meanwhile, so there is no whole copy.
    if (bytesRead === 0) return -EIO;
    for (let written = 0; written < bytesRead; ) {
      const { bytesWritten } = await writeAsync(to, buffer, written, bytesRead - written, at + written);
      written += bytesWritten;
    }
    at += bytesRead;
  }
  return 0;
}
