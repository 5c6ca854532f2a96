/**
 * One `git cat-file` that answers questions in their order:
 *
 *     question:  [info SP | contents SP] <name> (LF | NUL)
 *     answer:    <oid> SP <type> SP <size> LF [<contents> LF]
 *                <name as asked> SP (missing | ambiguous | submodule) LF
 *
 * (git-cat-file(1), "BATCH OUTPUT"; a NUL ends a question with `-z`, git 2.38 and newer.)
 */
import { Git2dbError } from '../xet/errors.ts';
import type { GitObject, ObjectHeader, ObjectType } from './cat-file.ts';
import type { RunningGit } from './runner.ts';

export type BatchMode = 'command' | 'check' | 'contents';

/** An object whose content comes piece by piece. */
export interface ObjectStream extends ObjectHeader {
  /** Once. Leaving the loop early is no failure. */
  readonly body: AsyncIterable<Buffer>;
  /** For a stream that is not read, or not to its end. */
  close(): Promise<void>;
}

/** The process went away with questions unanswered. `first`: this question was the one it was at. */
export class BatchEnded extends Error {
  readonly first: boolean;

  constructor(cause: unknown, first: boolean) {
    super('git cat-file ended before it answered', { cause });
    this.name = 'BatchEnded';
    this.first = first;
  }
}

interface Question {
  readonly name: Buffer;
  readonly withBody: boolean;
  /** Called with the header, before any content; returns where the content goes. */
  answered(header: ObjectHeader | undefined): Sink;
  readonly reject: (error: unknown) => void;
}

interface Sink {
  /** Bytes of the content, in order; a view that is only good during the call. */
  write(piece: Buffer): void;
  end(): void;
  fail(error: unknown): void;
}

const NOWHERE: Sink = { write() {}, end() {}, fail() {} };
const NEWLINE = 0x0a;
const HEADER = /^([0-9a-f]{40}|[0-9a-f]{64}) (commit|tree|blob|tag) (\d+)$/;
const OBJECT_ID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
/** Content that nobody wants is read and thrown away up to this size; for more, the process is ended. */
const SKIPPED_SIZE = 2 ** 20;
/** Bytes of a stream that wait for their reader before git is made to wait. */
const STREAM_AHEAD = 2 ** 20;
/** Longest answer without content: a name as it was asked, and a word. */
const LONGEST_NAME = 64 * 1024;

export class BatchProcess {
  readonly mode: BatchMode;
  readonly #running: RunningGit;
  readonly #terminator: number;
  readonly #questions: Question[] = [];
  #next = 0;
  #ended: { readonly error: unknown } | undefined;
  #rest: Buffer = Buffer.alloc(0);
  /** Where the content that is coming goes, and how much of it, with its final newline, is to come. */
  #sink: Sink | undefined;
  #toCome = 0;
  #corked = false;
  #closing = false;

  constructor(running: RunningGit, mode: BatchMode, nulTerminated: boolean) {
    this.mode = mode;
    this.#running = running;
    this.#terminator = nulTerminated ? 0 : NEWLINE;
    running.keepAlive(false);
    running.stdout.on('data', (piece: Buffer) => this.#receive(piece));
    running.ended.then(
      () => this.#fail(new Git2dbError('GIT_FAILED', 'git cat-file ended before it answered')),
      (error) => this.#fail(error),
    );
  }

  /** Questions that wait for an answer. */
  get pending(): number {
    return this.#questions.length - this.#next;
  }

  get ended(): boolean {
    return this.#ended !== undefined;
  }

  info(name: string | Uint8Array): Promise<ObjectHeader | undefined> {
    return new Promise((resolve, reject) => {
      this.#ask(name, false, reject, (header) => {
        resolve(header);
        return NOWHERE;
      });
    });
  }

  read(name: string | Uint8Array, maxSize: number): Promise<GitObject | undefined> {
    return new Promise((resolve, reject) => {
      this.#ask(name, true, reject, (header) => {
        if (header === undefined) {
          resolve(undefined);
          return NOWHERE;
        }
        if (header.size > maxSize) {
          reject(tooLarge(header, maxSize));
          if (header.size > SKIPPED_SIZE) this.#running.stop();
          return NOWHERE;
        }
        const body = Buffer.allocUnsafeSlow(header.size);
        let filled = 0;
        return {
          write(piece) {
            filled += piece.copy(body, filled);
          },
          end: () => resolve({ ...header, body }),
          fail: reject,
        };
      });
    });
  }

  /** `released` is called once, when the process may be used for something else, or (`ended`) has been ended. */
  open(
    name: string | Uint8Array,
    signal: AbortSignal | undefined,
    released: (ended: boolean) => void,
  ): Promise<ObjectStream | undefined> {
    return new Promise((resolve, reject) => {
      this.#ask(name, true, reject, (header) => {
        if (header === undefined) {
          resolve(undefined);
          return NOWHERE;
        }
        const flow = new Flow(this.#running, signal, released);
        resolve({ ...header, body: flow.read(), close: () => flow.close() });
        return flow;
      });
    });
  }

  /** Lets the process end, after the questions already asked. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#running.keepAlive(true);
    this.#running.stdin?.end();
    // What went wrong was told to whoever asked.
    await this.#running.ended.catch(() => {});
  }

  #ask(
    name: string | Uint8Array,
    withBody: boolean,
    reject: (error: unknown) => void,
    answered: Question['answered'],
  ): void {
    const bytes = Buffer.from(name as Uint8Array);
    const refused = whyRefused(bytes, this.#terminator);
    if (refused !== undefined || this.#ended !== undefined) {
      reject(refused ?? new BatchEnded(this.#ended?.error, false));
      return;
    }
    if (this.pending === 0) this.#running.keepAlive(true);
    this.#questions.push({ name: bytes, withBody, answered, reject });
    const { stdin } = this.#running;
    if (stdin === null) return;
    if (!this.#corked) {
      // Questions of one turn of the event loop go out in one system call.
      this.#corked = true;
      stdin.cork();
      process.nextTick(() => {
        this.#corked = false;
        stdin.uncork();
      });
    }
    if (this.mode === 'command') stdin.write(withBody ? 'contents ' : 'info ');
    stdin.write(Buffer.concat([bytes, Buffer.of(this.#terminator)]));
  }

  #fail(error: unknown): void {
    this.#ended ??= { error };
    const questions = this.#questions.splice(0).slice(this.#next);
    this.#next = 0;
    const sink = this.#sink;
    this.#sink = undefined;
    sink?.fail(new BatchEnded(error, true));
    for (const [index, question] of questions.entries()) {
      question.reject(new BatchEnded(error, index === 0 && sink === undefined));
    }
  }

  #receive(piece: Buffer): void {
    const bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    let at = 0;
    while (at < bytes.length) {
      const used =
        this.#sink === undefined ? this.#header(bytes.subarray(at)) : this.#content(bytes.subarray(at));
      if (used === 0) break;
      at += used;
    }
    this.#rest = at < bytes.length ? Buffer.from(bytes.subarray(at)) : Buffer.alloc(0);
    if (this.pending === 0 && this.#sink === undefined && !this.#closing) this.#running.keepAlive(false);
  }

  #content(bytes: Buffer): number {
    const used = Math.min(bytes.length, this.#toCome);
    const sink = this.#sink!;
    // The last byte is the newline after the content.
    const content = used === this.#toCome ? used - 1 : used;
    if (content > 0) sink.write(bytes.subarray(0, content));
    this.#toCome -= used;
    if (this.#toCome === 0) {
      this.#sink = undefined;
      sink.end();
    }
    return used;
  }

  /** An object that is there and damaged is "missing" to git too, but for what it says on stderr. */
  #missing(question: Question): void {
    const name = question.name.toString('latin1');
    if (!OBJECT_ID.test(name)) {
      question.answered(undefined);
      return;
    }
    // That was written before the answer: it is in the pipe, and is read in this turn of the event loop or the next.
    setImmediate(() =>
      setImmediate(() => {
        const said = this.#running.stderr();
        const line = said.split('\n').find((text) => text.includes(name) || text.includes(looseFile(name)));
        if (line === undefined) {
          question.answered(undefined);
          return;
        }
        question.reject(damaged(name, line));
        // What it said stays with the process: the next answer about this object comes from another one.
        this.#running.stop();
      }),
    );
  }

  /** Answers the first question from the start of `bytes`; the bytes used, or 0 when more must come first. */
  #header(bytes: Buffer): number {
    const question = this.#questions[this.#next];
    if (question === undefined) {
      this.#running.stop(new Git2dbError('GIT_FAILED', 'git cat-file answered what was not asked'));
      return bytes.length;
    }
    const { name } = question;
    // A name that is repeated may itself hold newlines.
    const repeated = bytes.length > name.length && bytes.subarray(0, name.length).equals(name);
    const lineEnd = bytes.indexOf(NEWLINE, repeated ? name.length : 0);
    if (lineEnd < 0) return 0;
    this.#next++;
    if (this.#next === this.#questions.length) {
      this.#questions.length = 0;
      this.#next = 0;
    }
    const header = HEADER.exec(bytes.toString('latin1', 0, Math.min(lineEnd, 120)));
    if (header === null) {
      const outcome = repeated ? bytes.toString('latin1', name.length + 1, lineEnd) : undefined;
      if (outcome === 'missing' || outcome === 'submodule') this.#missing(question);
      else question.reject(unexpectedAnswer(name, bytes.toString('utf8', 0, lineEnd)));
      return lineEnd + 1;
    }
    const [, oid, type, digits] = header as unknown as [string, string, ObjectType, string];
    const size = Number(digits);
    const sink = question.answered({ oid, type, size });
    if (question.withBody) {
      this.#sink = sink;
      this.#toCome = size + 1;
    }
    return lineEnd + 1;
  }
}

/** Content on its way from git to a reader that may be slower. */
class Flow implements Sink {
  readonly #running: RunningGit;
  readonly #signal: AbortSignal | undefined;
  readonly #released: (ended: boolean) => void;
  readonly #pieces: Buffer[] = [];
  #waitingBytes = 0;
  #state: 'flowing' | 'complete' | 'left' = 'flowing';
  #error: unknown;
  #wake: (() => void) | undefined;
  #isReleased = false;

  constructor(running: RunningGit, signal: AbortSignal | undefined, released: (ended: boolean) => void) {
    this.#running = running;
    this.#signal = signal;
    this.#released = released;
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted) this.#onAbort();
  }

  readonly #onAbort = (): void => {
    this.fail(aborted(this.#signal?.reason));
    this.#running.stop();
  };

  write(piece: Buffer): void {
    if (this.#state === 'left') return;
    this.#pieces.push(Buffer.from(piece));
    this.#waitingBytes += piece.length;
    if (this.#waitingBytes >= STREAM_AHEAD) this.#running.stdout.pause();
    this.#wake?.();
  }

  end(): void {
    if (this.#state === 'flowing') this.#state = 'complete';
    this.#release(false);
    this.#wake?.();
  }

  fail(error: unknown): void {
    if (this.#state === 'flowing') {
      this.#error ??= error instanceof BatchEnded ? error.cause : error;
      this.#state = 'complete';
    }
    this.#release(true);
    this.#wake?.();
  }

  async *read(): AsyncIterable<Buffer> {
    try {
      for (;;) {
        const piece = this.#pieces.shift();
        if (piece !== undefined) {
          this.#waitingBytes -= piece.length;
          if (this.#waitingBytes < STREAM_AHEAD / 2) this.#running.stdout.resume();
          yield piece;
          continue;
        }
        if (this.#error !== undefined) throw this.#error;
        if (this.#state !== 'flowing') return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    } finally {
      await this.close();
    }
  }

  async close(): Promise<void> {
    const unfinished = this.#state === 'flowing';
    this.#state = this.#state === 'flowing' ? 'left' : this.#state;
    this.#pieces.length = 0;
    if (unfinished) {
      this.#running.stop();
      await this.#running.ended.catch(() => {});
    } else {
      this.#running.stdout.resume();
    }
    this.#release(unfinished);
    this.#wake?.();
  }

  #release(ended: boolean): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#released(ended);
  }
}

function whyRefused(name: Buffer, terminator: number): Git2dbError | undefined {
  const shown = JSON.stringify(name.toString('utf8', 0, 200));
  if (name.length > LONGEST_NAME) {
    return new Git2dbError(
      'REF_INVALID',
      `the object name ${shown}... has ${name.length} bytes, expected at most ${LONGEST_NAME}`,
    );
  }
  if (name.length === 0)
    return new Git2dbError('REF_INVALID', 'expected the name of an object, found an empty one');
  if (name.includes(0)) return new Git2dbError('REF_INVALID', `the object name ${shown} holds a NUL byte`);
  if (name.includes(terminator)) {
    return new Git2dbError(
      'REF_INVALID',
      `the object name ${shown} holds a newline, which needs git 2.38 or newer`,
    );
  }
  return undefined;
}

function tooLarge(header: ObjectHeader, limit: number): Git2dbError {
  return new Git2dbError(
    'LIMIT_EXCEEDED',
    `git object ${header.oid} has ${header.size} bytes, expected at most ${limit}: open it as a stream`,
    { data: { ...header, limit } },
  );
}

function unexpectedAnswer(name: Buffer, answer: string): Git2dbError {
  const ambiguous = answer.endsWith(' ambiguous');
  return new Git2dbError(
    ambiguous ? 'REF_INVALID' : 'GIT_FAILED',
    `cannot look up the git object ${JSON.stringify(name.toString())}: ` +
      (ambiguous ? 'more than one object has this name; give more digits' : `git answered ${answer}`),
    { data: { answer } },
  );
}

function looseFile(oid: string): string {
  return `objects/${oid.slice(0, 2)}/${oid.slice(2)}`;
}

function damaged(oid: string, said: string): Git2dbError {
  return new Git2dbError(
    'OBJECT_MISSING',
    `git object ${oid} cannot be read: ${said}; "git fsck" tells more`,
    {
      data: { oid },
    },
  );
}

function aborted(reason: unknown): Error {
  const error = new Error('reading a git object was stopped before it ended', { cause: reason });
  error.name = 'AbortError';
  return error;
}
