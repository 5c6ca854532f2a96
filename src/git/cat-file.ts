/**
 * Reads objects through long-lived `git cat-file` processes: one answers what an object is
 * (`--batch-check`), the other hands out contents (`--batch`), each started at its first question.
 * Asking before loading keeps a large blob from ever being read into memory.
 */

import { Git2dbError } from '../xet/errors.ts';
import { type GitRun, gitAtLeast, type RunningGit, startGit } from './runner.ts';

export type ObjectType = 'commit' | 'tree' | 'blob' | 'tag';

export interface ObjectHeader {
  readonly oid: string;
  readonly type: ObjectType;
  readonly size: number;
}

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
  #check: Promise<BatchProcess> | undefined;
  #contents: Promise<BatchProcess> | undefined;

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
    return (await this.#check).ask(name);
  }

  /** The object `name` with its content. LIMIT_EXCEEDED, and nothing loaded, when it is larger than `maxSize`. */
  async read(name: string | Uint8Array): Promise<GitObject | undefined> {
    const header = await this.info(name);
    if (header === undefined) return undefined;
    if (header.size > this.#maxSize) {
      throw new Git2dbError(
        'LIMIT_EXCEEDED',
        `git object ${header.oid} has ${header.size} bytes, expected at most ${this.#maxSize}`,
        { data: { ...header, limit: this.#maxSize } },
      );
    }
    this.#contents ??= this.#start('--batch');
    const found = await (await this.#contents).ask(header.oid);
    return found?.body === undefined ? undefined : { ...found, body: found.body };
  }

  /** `read` for many names, answered in their order, with a bounded number of questions in flight. */
  async *readMany<Name extends string | Uint8Array>(
    names: AsyncIterable<Name> | Iterable<Name>,
  ): AsyncIterable<{ readonly name: Name; readonly object: GitObject | undefined }> {
    const waiting: { readonly name: Name; readonly object: Promise<GitObject | undefined> }[] = [];
    for await (const name of names) {
      const object = this.read(name);
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

  async #start(mode: '--batch' | '--batch-check'): Promise<BatchProcess> {
    if (this.#closed) throw new Error('this ObjectReader is closed');
    const nulTerminated = await gitAtLeast('2.38');
    const running = startGit(['cat-file', mode, ...(nulTerminated ? ['-z'] : [])], this.#options, true);
    return new BatchProcess(running, mode === '--batch', nulTerminated ? 0 : NEWLINE);
  }
}

interface Reply extends ObjectHeader {
  /** Undefined from `--batch-check`. */
  readonly body: Buffer | undefined;
}

interface Question {
  readonly name: Buffer;
  readonly resolve: (reply: Reply | undefined) => void;
  readonly reject: (error: unknown) => void;
}

const NEWLINE = 0x0a;
const HEADER = /^([0-9a-f]{40}|[0-9a-f]{64}) (commit|tree|blob|tag) (\d+)$/;

/**
 * One `git cat-file` process. Questions are a name and a terminator; answers come in the same order:
 *
 *     <oid> SP <type> SP <size> LF [<contents> LF]
 *     <name as asked> SP (missing | ambiguous | submodule) LF
 */
class BatchProcess {
  readonly #running: RunningGit;
  readonly #withBody: boolean;
  readonly #terminator: number;
  readonly #questions: Question[] = [];
  #ended: { readonly error: unknown } | undefined;
  #pieces: Buffer[] = [];
  #length = 0;
  /** Bytes that must have come before looking at them again pays. */
  #needed = 1;

  constructor(running: RunningGit, withBody: boolean, terminator: number) {
    this.#running = running;
    this.#withBody = withBody;
    this.#terminator = terminator;
    running.stdout.on('data', (piece: Buffer) => this.#receive(piece));
    running.ended.then(
      () => this.#fail(new Git2dbError('GIT_FAILED', 'git cat-file ended before it answered')),
      (error) => this.#fail(error),
    );
  }

  ask(name: string | Uint8Array): Promise<Reply | undefined> {
    const bytes = Buffer.from(name as Uint8Array);
    if (bytes.includes(this.#terminator) || bytes.includes(0)) {
      const what = bytes.includes(0) ? 'a NUL byte' : 'a newline, which needs git 2.38 or newer';
      const message = `the object name ${JSON.stringify(bytes.toString())} holds ${what}`;
      return Promise.reject(new Git2dbError('USAGE', message));
    }
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) return reject(this.#ended.error);
      this.#questions.push({ name: bytes, resolve, reject });
      this.#running.stdin?.write(Buffer.concat([bytes, Buffer.of(this.#terminator)]));
    });
  }

  async close(): Promise<void> {
    this.#running.stdin?.end();
    // What went wrong was told to whoever asked.
    await this.#running.ended.catch(() => {});
  }

  #fail(error: unknown): void {
    this.#ended ??= { error };
    for (const question of this.#questions.splice(0)) question.reject(this.#ended.error);
  }

  #receive(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#length += piece.length;
    if (this.#length < this.#needed) return;
    const bytes = this.#pieces.length === 1 ? piece : Buffer.concat(this.#pieces, this.#length);
    let at = 0;
    let used: number;
    do {
      used = this.#answer(bytes.subarray(at));
      at += used;
    } while (used > 0);
    this.#pieces = at < bytes.length ? [bytes.subarray(at)] : [];
    this.#length = bytes.length - at;
  }

  /** Answers the first question from the start of `bytes`; the bytes used, or 0 when more must come first. */
  #answer(bytes: Buffer): number {
    this.#needed = bytes.length + 1;
    const question = this.#questions[0];
    if (question === undefined || bytes.length === 0) return 0;
    const { name } = question;
    // A name that is repeated may itself hold newlines.
    const repeated = bytes.length > name.length && bytes.subarray(0, name.length).equals(name);
    const lineEnd = bytes.indexOf(NEWLINE, repeated ? name.length : 0);
    if (lineEnd < 0) return 0;
    const header = HEADER.exec(bytes.toString('latin1', 0, lineEnd));
    if (header === null) {
      this.#questions.shift();
      const outcome = repeated ? bytes.toString('latin1', name.length + 1, lineEnd) : undefined;
      if (outcome === 'missing' || outcome === 'submodule') question.resolve(undefined);
      else question.reject(unexpectedAnswer(name, bytes.toString('utf8', 0, lineEnd)));
      return lineEnd + 1;
    }
    const [, oid, type, digits] = header as unknown as [string, string, ObjectType, string];
    const size = Number(digits);
    if (!this.#withBody) {
      this.#questions.shift();
      question.resolve({ oid, type, size, body: undefined });
      return lineEnd + 1;
    }
    const end = lineEnd + 1 + size + 1;
    if (bytes.length < end) {
      this.#needed = end;
      return 0;
    }
    this.#questions.shift();
    question.resolve({ oid, type, size, body: Buffer.from(bytes.subarray(lineEnd + 1, end - 1)) });
    return end;
  }
}

function unexpectedAnswer(name: Buffer, answer: string): Git2dbError {
  const why = answer.endsWith(' ambiguous') ? 'more than one object has this name' : `git answered ${answer}`;
  return new Git2dbError(
    'GIT_FAILED',
    `cannot look up the git object ${JSON.stringify(name.toString())}: ${why}`,
    {
      data: { answer },
    },
  );
}
