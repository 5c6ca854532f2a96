/**
 * One `git cat-file` that answers questions in their order; answer-reader.ts takes its answers apart.
 *
 *     question:  [info SP | contents SP] <name> (LF | NUL)
 *     flush:     flush (LF | NUL)
 *
 * (a NUL ends a question with `-z`, git 2.38 and newer.) In the mode `command` git runs with `--buffer`: it begins to
 * answer at a flush, which comes after the questions of each turn of the event loop, and writes its answers in larger
 * pieces, which takes both sides less of their time.
 */
import { Git2dbError } from '../xet/errors.ts';
import {
  AnswerReader,
  NOWHERE,
  type ObjectHeader,
  type Question,
  tooLarge,
  wholeBody,
  whyNoQuestion,
} from './answer-reader.ts';
import type { GitObject } from './cat-file.ts';
import { ObjectFlow, type ObjectStream } from './object-flow.ts';
import type { RunningGit } from './process.ts';

export type BatchMode = 'command' | 'check' | 'contents';

/** The process went away with questions unanswered. `first`: this question was the one it was at. */
export class BatchEnded extends Error {
  readonly first: boolean;

  constructor(cause: unknown, first: boolean) {
    super('git cat-file ended before it answered', { cause });
    this.name = 'BatchEnded';
    this.first = first;
  }
}

const NEWLINE = 0x0a;
const [CONTENTS, INFO, FLUSH] = ['contents ', 'info ', 'flush'].map((word) => Buffer.from(word)) as [
  Buffer,
  Buffer,
  Buffer,
];
const OBJECT_ID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
/** Content that nobody wants is read and thrown away up to this size; for more, the process is ended. */
const SKIPPED_SIZE = 2 ** 20;

export class BatchProcess {
  readonly mode: BatchMode;
  readonly #running: RunningGit;
  readonly #terminator: Buffer;
  readonly #answers: AnswerReader;
  #ended: { readonly error: unknown } | undefined;
  /** Questions of this turn, as they are to be written. */
  readonly #asked: Buffer[] = [];
  #closing = false;

  constructor(running: RunningGit, mode: BatchMode, nulTerminated: boolean) {
    this.mode = mode;
    this.#running = running;
    this.#terminator = Buffer.of(nulTerminated ? 0 : NEWLINE);
    this.#answers = new AnswerReader(() =>
      running.stop(new Git2dbError('GIT_FAILED', 'git cat-file answered what was not asked')),
    );
    running.keepAlive(false);
    running.stdout.on('data', (piece: Buffer) => {
      this.#answers.receive(piece);
      if (this.#answers.isIdle && !this.#closing) running.keepAlive(false);
    });
    running.ended.then(
      () => this.#fail(new Git2dbError('GIT_FAILED', 'git cat-file ended before it answered')),
      (error) => this.#fail(error),
    );
  }

  /** Questions that wait for an answer. */
  get pending(): number {
    return this.#answers.pending;
  }

  get ended(): boolean {
    return this.#ended !== undefined;
  }

  info(name: string | Uint8Array): Promise<ObjectHeader | undefined> {
    return new Promise((resolve, reject) => {
      this.#ask(name, false, resolve, reject, (header) => {
        resolve(header);
        return NOWHERE;
      });
    });
  }

  read(name: string | Uint8Array, maxSize: number): Promise<GitObject | undefined> {
    return new Promise((resolve, reject) => {
      this.#ask(name, true, resolve, reject, (header) => {
        if (header.size > maxSize) {
          reject(tooLarge(header, maxSize, ': open it as a stream'));
          if (header.size > SKIPPED_SIZE) this.#running.stop();
          return NOWHERE;
        }
        return wholeBody(header.size, (body) => resolve({ ...header, body }), reject);
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
      this.#ask(name, true, resolve, reject, (header) => {
        const flow = new ObjectFlow(this.#running, signal, released);
        resolve({ ...header, body: flow.read(), close: () => flow.close() });
        return {
          write: (piece) => flow.write(piece),
          end: () => flow.end(),
          // Half of the content is there already: no other process can go on with it.
          fail: (error) => flow.fail(error instanceof BatchEnded ? error.cause : error),
        };
      });
    });
  }

  /** Lets the process end, after the questions already asked. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#running.keepAlive(true);
    this.#send();
    this.#running.stdin?.end();
    // What went wrong was told to whoever asked.
    await this.#running.ended.catch(() => {});
  }

  #ask(
    name: string | Uint8Array,
    withBody: boolean,
    resolve: (nothing: undefined) => void,
    reject: (error: unknown) => void,
    found: Question['found'],
  ): void {
    const bytes = Buffer.from(name as Uint8Array);
    const refused = whyNoQuestion(bytes, this.#terminator[0]!);
    if (refused !== undefined || this.#ended !== undefined) {
      reject(refused ?? new BatchEnded(this.#ended?.error, false));
      return;
    }
    if (this.pending === 0) this.#running.keepAlive(true);
    const missing = () => this.#missing(bytes, resolve, reject);
    this.#answers.expect({ name: bytes, withBody, found, missing, reject });
    // Questions of one turn of the event loop go out in one system call.
    if (this.#asked.length === 0) process.nextTick(() => this.#send());
    if (this.mode === 'command') this.#asked.push(withBody ? CONTENTS : INFO);
    this.#asked.push(bytes, this.#terminator);
  }

  #send(): void {
    if (this.#asked.length === 0) return;
    if (this.mode === 'command') this.#asked.push(FLUSH, this.#terminator);
    this.#running.stdin?.write(Buffer.concat(this.#asked.splice(0)));
  }

  #fail(error: unknown): void {
    this.#ended ??= { error };
    this.#answers.fail((first) => new BatchEnded(error, first));
  }

  /** An object that is there and damaged is "missing" to git too, but for what it says on stderr. */
  #missing(bytes: Buffer, resolve: (nothing: undefined) => void, reject: (error: unknown) => void): void {
    const name = bytes.toString('latin1');
    if (!OBJECT_ID.test(name)) {
      resolve(undefined);
      return;
    }
    // That was written before the answer: it is in the pipe, and is read in this turn of the event loop or the next.
    setImmediate(() =>
      setImmediate(() => {
        const said = this.#running.stderr();
        const line = said.split('\n').find((text) => text.includes(name) || text.includes(looseFile(name)));
        if (line === undefined) {
          resolve(undefined);
          return;
        }
        reject(damaged(name, line));
        // What it said stays with the process: the next answer about this object comes from another one.
        this.#running.stop();
      }),
    );
  }
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
