/**
 * What a `git cat-file` that answers many questions writes, cut into its answers:
 *
 *     <oid> SP <type> SP <size> LF [<contents> LF]
 *     <name as asked> SP (missing | ambiguous | submodule) LF
 *
 * (git-cat-file(1), "BATCH OUTPUT"). Answers come in the order of the questions; whether contents follow is
 * the question's to know.
 */
import { Git2dbError } from '../xet/errors.ts';

export type ObjectType = 'commit' | 'tree' | 'blob' | 'tag';

export interface ObjectHeader {
  readonly oid: string;
  readonly type: ObjectType;
  readonly size: number;
}

/** What was asked, and who is told the answer. */
export interface Question {
  readonly name: Buffer;
  readonly withBody: boolean;
  /** Called with the header, before any content; returns where the content goes. */
  found(header: ObjectHeader): Sink;
  missing(): void;
  reject(error: unknown): void;
}

export interface Sink {
  /** Bytes of the content, in order; a view that is only good during the call. */
  write(piece: Buffer): void;
  end(): void;
  fail(error: unknown): void;
}

export const NOWHERE: Sink = { write() {}, end() {}, fail() {} };

const NEWLINE = 0x0a;
const HEADER = /^([0-9a-f]{40}|[0-9a-f]{64}) (commit|tree|blob|tag) (\d+)$/;
/** Longest answer without content: a name as it was asked, and a word. */
const LONGEST_NAME = 64 * 1024;

export class AnswerReader {
  readonly #questions: Question[] = [];
  /** Of the first question that has no answer yet. */
  #next = 0;
  readonly #unasked: () => void;
  #rest: Buffer = Buffer.alloc(0);
  /** Where the content that is coming goes, and how much of it, with its final newline, is to come. */
  #sink: Sink | undefined;
  #toCome = 0;

  /** `unasked` is told of an answer too many. */
  constructor(unasked: () => void) {
    this.#unasked = unasked;
  }

  /** Questions that wait for an answer. */
  get pending(): number {
    return this.#questions.length - this.#next;
  }

  /** Nothing is to come. */
  get isIdle(): boolean {
    return this.pending === 0 && this.#sink === undefined;
  }

  expect(question: Question): void {
    this.#questions.push(question);
  }

  receive(piece: Buffer): void {
    const bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    let at = 0;
    while (at < bytes.length) {
      const used =
        this.#sink === undefined ? this.#header(bytes.subarray(at)) : this.#content(bytes.subarray(at));
      if (used === 0) break;
      at += used;
    }
    this.#rest = at < bytes.length ? Buffer.from(bytes.subarray(at)) : Buffer.alloc(0);
  }

  /** No more will come. `errorFor` is asked once for each that waits; `first`: it was the one being answered. */
  fail(errorFor: (first: boolean) => unknown): void {
    const questions = this.#questions.splice(0).slice(this.#next);
    this.#next = 0;
    const sink = this.#sink;
    this.#sink = undefined;
    sink?.fail(errorFor(true));
    for (const [index, question] of questions.entries())
      question.reject(errorFor(index === 0 && sink === undefined));
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

  /** Answers the first question from the start of `bytes`; the bytes used, or 0 when more must come first. */
  #header(bytes: Buffer): number {
    const question = this.#questions[this.#next];
    if (question === undefined) {
      this.#unasked();
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
      if (outcome === 'missing' || outcome === 'submodule') question.missing();
      else question.reject(unexpectedAnswer(name, bytes.toString('utf8', 0, lineEnd)));
      return lineEnd + 1;
    }
    const [, oid, type, digits] = header as unknown as [string, string, ObjectType, string];
    const size = Number(digits);
    const sink = question.found({ oid, type, size });
    if (question.withBody) {
      this.#sink = sink;
      this.#toCome = size + 1;
    }
    return lineEnd + 1;
  }
}

/** Where the content of one object goes when it is wanted as a whole. */
export function wholeBody(size: number, done: (body: Buffer) => void, fail: Sink['fail']): Sink {
  const body = Buffer.allocUnsafeSlow(size);
  let filled = 0;
  return {
    write(piece) {
      filled += piece.copy(body, filled);
    },
    end: () => done(body),
    fail,
  };
}

/** Why `name` cannot be asked of a process whose questions end with the byte `terminator`. */
export function whyNoQuestion(name: Buffer, terminator: number): Git2dbError | undefined {
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

export function tooLarge(header: ObjectHeader, limit: number, remedy = ''): Git2dbError {
  return new Git2dbError(
    'LIMIT_EXCEEDED',
    `git object ${header.oid} has ${header.size} bytes, expected at most ${limit}${remedy}`,
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
