/**
 * The server's loop: read a request, have it answered, write the reply, all in one thread and blocking,
 * which costs the least by far. Only while jobs are under way it polls, for the device and for the
 * eventfd that tells of their end.
 *
 * A request whose method said DEFERRED is copied and put behind its job. When the job has ended, those
 * that wait for it are dispatched again in the order in which they came.
 */
import { EAGAIN, EINTR, EINVAL, EIO, ENODEV, ENOENT, ENOTCONN, errnoMessage } from '../system/errno.ts';
import { POLLERR, POLLHUP, POLLIN, poll } from '../system/kernel.ts';
import { fcntl, read, write } from '../system/libc.ts';
import { ContentPipe } from './content-pipe.ts';
import { copyFrame, createFrame, type Frame, getUint64, opcodeOf, uniqueOf } from './decode.ts';
import { Dispatcher, type DispatchHooks, REQUEST_BUFFER_SIZE } from './dispatch.ts';
import { encodeAttributesNotice, NOTICE_SIZE } from './encode.ts';
import { DEFERRED, type FileSystem, type Job, type Waiting, type Work } from './file-system.ts';
import type { InitWishes, Session } from './init.ts';
import type { JobQueue } from './jobs.ts';
import { INTERRUPT, opcodeName } from './opcodes.ts';
import { REQUEST_HEADER } from './protocol.ts';

const F_SETFL = 4;
const O_RDWR = 2;
const O_NONBLOCK = 0o4000;

/** How many requests may be read ahead while a long one asks whether it was interrupted. */
const READ_AHEAD_MAX = 64;

export interface LoopHooks {
  /** The mount answers from now on. */
  onReady(session: Session): void;
  /** One line for the log: what should not have happened, and went on all the same. */
  onFault(message: string, error?: unknown): void;
  /** What to do from `onReady` on until the first request comes. */
  readonly leisure?: Leisure;
  /** With tracing: one line for each request. */
  readonly trace?: (line: string) => void;
}

/** Work that can be left at any time, in steps no longer than a request may wait. */
export interface Leisure {
  /** False: there is no more to do. */
  step(): boolean;
  end(): void;
}

/** Waits for jobs on behalf of requests. Given to the file system before there is a loop. */
export class RequestWaiting implements Waiting {
  /** The job that the request at hand was told to wait for. */
  job: Job | undefined;
  /** Its number, the same when it is dispatched anew. */
  request = 0;
  /** Nodes whose attributes the kernel is to ask for again. */
  readonly changed = new Set<number>();
  loop: Loop | undefined;
  readonly #jobs: JobQueue;

  constructor(jobs: JobQueue) {
    this.#jobs = jobs;
  }

  waitFor(job: Job): void {
    this.job = job;
  }

  start(work: Work, finish: (result: number) => void): Job {
    return this.#jobs.start(work, finish);
  }

  attributesChanged(node: number): void {
    this.changed.add(node);
  }

  get isInterrupted(): boolean {
    return this.loop?.isCurrentInterrupted() ?? false;
  }
}

interface Waiter {
  readonly frame: Frame;
  readonly unique: number;
  readonly job: Job;
}

export class Loop {
  readonly #device: number;
  readonly #jobs: JobQueue;
  readonly #waiting: RequestWaiting;
  readonly #hooks: LoopHooks;
  readonly #dispatcher: Dispatcher;
  readonly #frame = createFrame(REQUEST_BUFFER_SIZE);
  /** In order of arrival. */
  #waiters: Waiter[] = [];
  /** Read while another request was in work. */
  #ahead: Frame[] = [];
  #current = 0;
  #leisure: Leisure | undefined;
  #currentInterrupted = false;
  #polling = false;
  readonly #notice = new Uint32Array(NOTICE_SIZE / 4);
  readonly #noticeBytes = new Uint8Array(this.#notice.buffer);
  // struct pollfd: fd i32(0), events i16(4), revents i16(6).
  readonly #polled = Buffer.alloc(16);

  constructor(
    device: number,
    fileSystem: FileSystem,
    waiting: RequestWaiting,
    jobs: JobQueue,
    wishes: InitWishes,
    hooks: LoopHooks,
  ) {
    this.#device = device;
    this.#jobs = jobs;
    this.#waiting = waiting;
    this.#hooks = hooks;
    waiting.loop = this;
    const dispatchHooks: DispatchHooks = {
      wishes,
      content: new ContentPipe(device),
      onInit: (session) => {
        hooks.onReady(session);
        this.#leisure = hooks.leisure;
      },
      onInterrupt: (unique) => this.#interrupt(unique),
      onFault: (opcode, error) => hooks.onFault(`${opcodeName(opcode)} failed`, error),
    };
    this.#dispatcher = new Dispatcher(fileSystem, dispatchHooks);
    this.#polled.writeInt32LE(device, 0);
    this.#polled.writeInt16LE(POLLIN, 4);
    this.#polled.writeInt32LE(jobs.eventFd, 8);
    this.#polled.writeInt16LE(POLLIN, 12);
  }

  /** Serves until the file system is unmounted or the connection aborted. Throws for what a server cannot survive. */
  run(): void {
    const frame = this.#frame;
    for (;;) {
      if (this.#jobs.size > 0 || this.#polling) this.#awaitEvent();
      if (this.#leisure !== undefined) this.#spend(this.#leisure);
      const code = read(this.#device, frame.bytes, 0, REQUEST_BUFFER_SIZE);
      if (code <= 0) {
        if (code === -ENODEV || code === 0) return;
        // ENOENT: the request was interrupted while we took it.
        if (code === -EINTR || code === -EAGAIN || code === -ENOENT) continue;
        throw new Error(`reading a request from the kernel failed: ${errnoMessage(code)}`);
      }
      frame.length = code;
      this.#handle(frame);
      while (this.#ahead.length > 0) this.#handle(this.#ahead.shift()!);
    }
  }

  #spend(leisure: Leisure): void {
    this.#leisure = undefined;
    while (poll(this.#polled, 1, 0) === 0 && leisure.step());
    leisure.end();
  }

  /** Answers one request, or puts it behind the job it waits for. */
  #handle(frame: Frame): void {
    this.#current = frame.length < REQUEST_HEADER ? 0 : uniqueOf(frame);
    this.#currentInterrupted = false;
    this.#waiting.request = this.#current;
    this.#waiting.job = undefined;
    const length = this.#dispatcher.dispatch(frame);
    if (this.#hooks.trace !== undefined) this.#traceRequest(frame, length);
    // Before the answer: who has it is to see no older attributes any more.
    if (this.#waiting.changed.size > 0) this.#tellChanges();
    if (length > 0) this.#reply(length);
    else if (length === DEFERRED) this.#defer(frame);
  }

  /**
   * Of attributes only: for these the kernel takes no lock that a request of ours could hold, so this thread
   * may do it. Whatever it answers (ENOENT: it does not have the node any more) needs nothing from us.
   */
  #tellChanges(): void {
    for (const node of this.#waiting.changed) {
      encodeAttributesNotice(this.#notice, node);
      write(this.#device, this.#noticeBytes, 0, NOTICE_SIZE);
    }
    this.#waiting.changed.clear();
  }

  #reply(length: number): void {
    const code = write(this.#device, this.#dispatcher.reply, 0, length);
    // ENOENT: the caller has gone. ENODEV, ENOTCONN: so has the mount, and the next read says it.
    if (code >= 0 || code === -ENOENT || code === -ENODEV || code === -ENOTCONN) return;
    this.#hooks.onFault(`the kernel refused a reply of ${length} bytes: ${errnoMessage(code)}`);
    if (code === -EINVAL) this.#replyPlainly();
  }

  /** For a reply that the kernel could not make sense of: without an answer its caller would hang. */
  #replyPlainly(): void {
    const header = viewOf(this.#dispatcher.reply);
    header.setUint32(0, 16, true);
    header.setInt32(4, -EIO, true);
    write(this.#device, this.#dispatcher.reply, 0, 16);
  }

  #defer(frame: Frame): void {
    const job = this.#waiting.job;
    if (job === undefined || job.isDone) {
      this.#hooks.onFault(`${opcodeName(opcodeOf(frame))} waits for nothing`);
      this.#reply(this.#dispatcher.refuse(frame, -EIO));
      return;
    }
    const kept = frame === this.#frame ? copyFrame(frame) : frame;
    this.#waiters.push({ frame: kept, unique: uniqueOf(kept), job });
  }

  /**
   * Waits until there is a request, having dealt with the jobs that ended before. The device is not to
   * block meanwhile: a request that woke us may be taken back before we read it.
   */
  #awaitEvent(): void {
    if (!this.#polling) this.#setPolling(true);
    while (this.#jobs.size > 0) {
      const code = poll(this.#polled, 2, -1);
      if (code < 0 && code !== -EINTR) throw new Error(`polling failed: ${errnoMessage(code)}`);
      if (code <= 0) continue;
      if ((this.#polled.readInt16LE(14) & POLLIN) !== 0) this.#jobs.collect((job) => this.#resume(job));
      if ((this.#polled.readInt16LE(6) & (POLLIN | POLLERR | POLLHUP)) !== 0) return;
    }
    this.#setPolling(false);
  }

  #setPolling(polling: boolean): void {
    fcntl(this.#device, F_SETFL, polling ? O_RDWR | O_NONBLOCK : O_RDWR);
    this.#polling = polling;
  }

  #resume(job: Job): void {
    const ready = this.#waiters.filter((waiter) => waiter.job === job);
    this.#waiters = this.#waiters.filter((waiter) => waiter.job !== job);
    for (const { frame } of ready) this.#handle(frame);
  }

  /** Answers EINTR for a request that waits. One that is unknown was answered already, or comes first. */
  #interrupt(unique: number): void {
    if (unique === this.#current) {
      this.#currentInterrupted = true;
      return;
    }
    const waiter = this.#waiters.find((candidate) => candidate.unique === unique);
    const frame = waiter?.frame ?? this.#ahead.find((candidate) => uniqueOf(candidate) === unique);
    if (frame === undefined) return;
    this.#waiters = this.#waiters.filter((candidate) => candidate !== waiter);
    this.#ahead = this.#ahead.filter((candidate) => candidate !== frame);
    this.#reply(this.#dispatcher.refuse(frame, -EINTR));
  }

  /**
   * Looks whether the kernel has an INTERRUPT for the request in work; it hands those out before all
   * others. Requests that come along are kept for later.
   */
  isCurrentInterrupted(): boolean {
    while (!this.#currentInterrupted && this.#ahead.length < READ_AHEAD_MAX) {
      if (poll(this.#polled, 1, 0) <= 0) break;
      const frame = createFrame(REQUEST_BUFFER_SIZE);
      const blocks = !this.#polling;
      if (blocks) fcntl(this.#device, F_SETFL, O_RDWR | O_NONBLOCK);
      const length = read(this.#device, frame.bytes, 0, REQUEST_BUFFER_SIZE);
      if (blocks) fcntl(this.#device, F_SETFL, O_RDWR);
      if (length < REQUEST_HEADER) break;
      frame.length = length;
      if (opcodeOf(frame) === INTERRUPT && length >= REQUEST_HEADER + 8) {
        const unique = getUint64(frame.view, REQUEST_HEADER);
        if (unique === this.#current) this.#currentInterrupted = true;
        else this.#interrupt(unique);
      } else {
        this.#ahead.push(copyFrame(frame));
      }
    }
    return this.#currentInterrupted;
  }

  #traceRequest(frame: Frame, length: number): void {
    if (frame.length < REQUEST_HEADER) return;
    const { view } = frame;
    const reply = viewOf(this.#dispatcher.reply);
    const answer =
      length === DEFERRED ? 'waits' : length === 0 ? '' : `${reply.getInt32(4, true)} ${length - 16} bytes`;
    const node = getUint64(view, 16);
    this.#hooks.trace?.(`${uniqueOf(frame)} ${opcodeName(opcodeOf(frame))} node ${node} -> ${answer}`);
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
