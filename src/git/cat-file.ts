/**
 * Reads objects through long-lived `git cat-file` processes: one answers what an object is
 * (`--batch-check`), the other hands out contents (`--batch`), each started at its first question.
 * Asking before loading keeps a large blob from ever being read into memory.
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
import { type RunningGit, startGit } from './process.ts';
import type { GitRun } from './runner.ts';
import { gitAtLeast } from './version.ts';

export type { ObjectHeader, ObjectType } from './answer-reader.ts';

export interface GitObject extends ObjectHeader {
  /** The caller's own copy. */
  readonly body: Buffer;
}

export interface ObjectReaderOptions extends Pick<GitRun, 'cwd' | 'env' | 'signal' | 'keepGitEnv'> {
  /** Largest object that is read, 64 MiB unless given. */
  readonly maxSize?: number;
}

const DEFAULT_MAX_SIZE = 64 * 2 ** 20;
/** Questions on their way at once in `readMany`. */
const WINDOW = 64;

export class ObjectReader {
  readonly #options: ObjectReaderOptions;
  readonly #maxSize: number;
  #closed = false;
  #check: Promise<Reader> | undefined;
  #contents: Promise<Reader> | undefined;

  constructor(options: ObjectReaderOptions = {}) {
    this.#options = options;
    this.#maxSize = options.maxSize ?? DEFAULT_MAX_SIZE;
  }

  /**
   * What `name` (an object id, `HEAD:path`, `:path`; bytes where the path is no UTF-8) is; undefined
   * when there is no such object. A newline in a name needs git 2.38.
   */
  async info(name: string | Uint8Array): Promise<ObjectHeader | undefined> {
    this.#check ??= this.#start('--batch-check');
    return (await this.#check).info(name);
  }

  /** The object `name` with its content. LIMIT_EXCEEDED, and nothing loaded, when it is larger than `maxSize`. */
  async read(name: string | Uint8Array): Promise<GitObject | undefined> {
    const header = await this.info(name);
    if (header === undefined) return undefined;
    if (header.size > this.#maxSize) throw tooLarge(header, this.#maxSize);
    return this.readSmall(header.oid);
  }

  /**
   * `read` for who knows from git how large the object is: one question instead of two. What is larger than
   * `maxSize` all the same is LIMIT_EXCEEDED, and its content passed over.
   */
  async readSmall(name: string | Uint8Array): Promise<GitObject | undefined> {
    this.#contents ??= this.#start('--batch');
    return (await this.#contents).read(name, this.#maxSize);
  }

  /**
   * `read` for many names, answered in their order, with a bounded number of questions in flight. `areSmall`: as
   * `readSmall`.
   */
  async *readMany<Name extends string | Uint8Array>(
    names: AsyncIterable<Name> | Iterable<Name>,
    { areSmall = false }: { readonly areSmall?: boolean } = {},
  ): AsyncIterable<{ readonly name: Name; readonly object: GitObject | undefined }> {
    const waiting: { readonly name: Name; readonly object: Promise<GitObject | undefined> }[] = [];
    for await (const name of names) {
      const object = areSmall ? this.readSmall(name) : this.read(name);
      object.catch(() => {}); // Reported when its turn comes.
      waiting.push({ name, object });
      if (waiting.length < WINDOW) continue;
      const first = waiting.shift()!;
      yield { name: first.name, object: await first.object };
    }
    for (const { name, object } of waiting) yield { name, object: await object };
  }

  /** Lets the processes end, after the questions already asked. No more can be asked. */
  async close(): Promise<void> {
    this.#closed = true;
    const started = await Promise.allSettled([this.#check, this.#contents]);
    await Promise.all(
      started.map((result) => (result.status === 'fulfilled' ? result.value?.close() : undefined)),
    );
  }

  async #start(mode: '--batch' | '--batch-check'): Promise<Reader> {
    if (this.#closed) throw new Error('this ObjectReader is closed');
    const nulTerminated = await gitAtLeast('2.38');
    const running = startGit(['cat-file', mode, ...(nulTerminated ? ['-z'] : [])], this.#options, true);
    return new Reader(running, nulTerminated ? 0 : NEWLINE);
  }
}

const NEWLINE = 0x0a;

/** One `git cat-file` process; questions are a name and a terminator. */
class Reader {
  readonly #running: RunningGit;
  readonly #terminator: number;
  readonly #answers: AnswerReader;
  #ended: { readonly error: unknown } | undefined;
  #isCorked = false;

  constructor(running: RunningGit, terminator: number) {
    this.#running = running;
    this.#terminator = terminator;
    this.#answers = new AnswerReader(() =>
      running.stop(new Git2dbError('GIT_FAILED', 'git cat-file answered what was not asked')),
    );
    running.stdout.on('data', (piece: Buffer) => this.#answers.receive(piece));
    running.ended.then(
      () => this.#fail(new Git2dbError('GIT_FAILED', 'git cat-file ended before it answered')),
      (error) => this.#fail(error),
    );
  }

  /** Of a process that hands out no contents. */
  info(name: string | Uint8Array): Promise<ObjectHeader | undefined> {
    return new Promise((resolve, reject) => {
      this.#ask({
        name: Buffer.from(name as Uint8Array),
        withBody: false,
        found(header) {
          resolve(header);
          return NOWHERE;
        },
        missing: () => resolve(undefined),
        reject,
      });
    });
  }

  /** Of a process that hands out contents. */
  read(name: string | Uint8Array, maxSize: number): Promise<GitObject | undefined> {
    return new Promise((resolve, reject) => {
      this.#ask({
        name: Buffer.from(name as Uint8Array),
        withBody: true,
        found(header) {
          if (header.size <= maxSize)
            return wholeBody(header.size, (body) => resolve({ ...header, body }), reject);
          reject(tooLarge(header, maxSize));
          return NOWHERE;
        },
        missing: () => resolve(undefined),
        reject,
      });
    });
  }

  async close(): Promise<void> {
    this.#running.stdin?.end();
    // What went wrong was told to whoever asked.
    await this.#running.ended.catch(() => {});
  }

  #ask(question: Question): void {
    const refused = whyNoQuestion(question.name, this.#terminator);
    if (refused !== undefined || this.#ended !== undefined) {
      question.reject(refused ?? this.#ended?.error);
      return;
    }
    this.#answers.expect(question);
    const { stdin } = this.#running;
    if (stdin === null) return;
    // Questions that are asked one after the other, or by a loop that waits for names in between, go in one
    // system call.
    if (!this.#isCorked) {
      this.#isCorked = true;
      stdin.cork();
      setImmediate(() => {
        this.#isCorked = false;
        stdin.uncork();
      });
    }
    stdin.write(Buffer.concat([question.name, Buffer.of(this.#terminator)]));
  }

  #fail(error: unknown): void {
    this.#ended ??= { error };
    this.#answers.fail(() => error);
  }
}
