/**
 * The request loop of git's filter protocol, version 2 (long-running-process-protocol). A request is a
 * list of keys and, but for list_available_blobs, the content; its answer:
 *
 *     converted     status=success, flush, content, flush, flush (an empty list: the status stands)
 *     failed        status=error, flush: and nothing else
 *     failed late   as converted, but the last list says status=error, which retracts the content
 *     delayed       status=delayed, flush: and nothing else
 *     paths         pathname=…, …, flush, status=success, flush
 *
 * Git writes its whole request before it reads anything, so nothing is sent before the request has been
 * read to its end: an early answer larger than a pipe would leave both sides waiting for each other.
 *
 * A failure of the converter costs that one file: it is reported, git is told, the loop goes on. A
 * failure of the streams ends the session.
 */

import { Git2dbError } from '../xet/errors.ts';
import { Answer, type ContentOutput } from './answer.ts';
import type { ContentSink, PktInput } from './pkt-input.ts';
import type { PktOutput } from './pkt-output.ts';
import { quotePath, type Trace } from './trace.ts';

export type { ContentOutput } from './answer.ts';

const LIST_AVAILABLE = 'list_available_blobs';

/** What git says about a file to be smudged. */
export interface SmudgeKeys {
  /** Relative to the top of the work tree, raw bytes. */
  readonly path: Buffer;
  /** Full name of the ref that is checked out, if git knows one. */
  readonly ref?: string;
  /** The commit or tree the file comes from, if known. */
  readonly treeish?: string;
  /** Object id of what is being smudged, if known. */
  readonly blob?: string;
  /** The answer may be 'delayed'. */
  readonly canDelay: boolean;
}

/**
 * Receives the content of a request. Exactly one of finish() and abort() is called, once: finish()
 * after the last byte; abort() if the stream ends before, or if room() or advance() has thrown. abort()
 * must not throw.
 */
export interface CleanJob extends ContentSink {
  /** The bytes for git: a pointer, or whatever the file is to become. Not changed until they are sent. */
  finish(): Uint8Array | Promise<Uint8Array>;
  abort(reason: unknown): void;
}

/** As CleanJob. */
export interface SmudgeJob extends ContentSink {
  finish(): SmudgeAnswer | Promise<SmudgeAnswer>;
  abort(reason: unknown): void;
}

export type SmudgeAnswer = { readonly kind: 'delayed' } | OutputJob;

/** Content that can be sent. */
export interface OutputJob {
  readonly kind: 'content';
  /**
   * Sends the content, all of it, before it returns or resolves. If it throws, git is told that the file
   * failed, whether or not some of the content has been sent.
   */
  write(output: ContentOutput): void | Promise<void>;
  /** Called once, when the last byte has been sent or given up: memory given to content() is free. */
  dispose?(): void;
}

/**
 * What the session is for. The calls that convert may throw: that file has failed, and report() is told
 * why. isDelayed() and report() must not.
 */
export interface Converter {
  beginClean(path: Buffer): CleanJob;
  beginSmudge(keys: SmudgeKeys): SmudgeJob;
  /** True if `path` was answered with 'delayed' and has not been delivered since. */
  isDelayed(path: Buffer): boolean;
  /**
   * Delayed paths that are ready now and were never listed before; waits until there is at least one.
   * Empty only if none is outstanding: git stops asking then.
   */
  available(): Buffer[] | Promise<Buffer[]>;
  /** The content of a delayed path, which git asks for by a second request. */
  deliver(path: Buffer): OutputJob | Promise<OutputJob>;
  /** Called after an answer, while git is busy with it: time for some milliseconds of work ahead. Must not throw. */
  meanwhile?(): void;
  /** Tells the user why a file failed; called before git is told. `path` is undefined if there is none. */
  report(path: Buffer | undefined, error: unknown): void;
}

/**
 * Serves requests until the input ends between two of them, then resolves to 'eof'. Rejects with
 * EndOfInput if it ends inside a request, FormatError PROTOCOL if git's packets are malformed,
 * OutputClosed if git stops reading, or the system's error if a stream fails otherwise. A converter
 * given as a function is made at the first request.
 */
export async function runSession(
  input: PktInput,
  output: PktOutput,
  source: Converter | (() => Promise<Converter>),
  trace?: Trace,
): Promise<'eof'> {
  let converter = typeof source === 'function' ? undefined : source;
  for (;;) {
    const lines = input.readList();
    if (lines === undefined) return 'eof';
    converter ??= await (source as () => Promise<Converter>)();
    const request = parseRequest(lines);
    const contentStart = input.position;
    trace?.(describe(request));
    const answer = new Answer(output);
    let reply: Reply | undefined;
    try {
      // A file that needs no waiting is served without a turn of the event loop.
      const received = receive(request, input, converter);
      reply = received instanceof Promise ? await received : received;
      const sent = send(reply, answer, request);
      if (sent instanceof Promise) await sent;
    } catch (error) {
      const lost = output.failure ?? input.failure;
      if (lost) throw lost.error;
      converter.report(request.path, error);
      if (request.command === LIST_AVAILABLE) answer.failAvailable();
      else answer.fail();
    } finally {
      if (reply?.kind === 'content') reply.dispose?.();
    }
    converter.meanwhile?.();
    trace?.(`${answer.status}: ${input.position - contentStart} bytes in, ${answer.size} out, framed`);
  }
}

interface Request {
  readonly command: string | undefined;
  readonly path: Buffer | undefined;
  readonly ref: string | undefined;
  readonly treeish: string | undefined;
  readonly blob: string | undefined;
  readonly canDelay: boolean;
}

type Writable<T> = { -readonly [Key in keyof T]: T[Key] };

const NO_KEYS: Request = {
  command: undefined,
  path: undefined,
  ref: undefined,
  treeish: undefined,
  blob: undefined,
  canDelay: false,
};

type Reply = SmudgeAnswer | { readonly kind: 'paths'; readonly paths: readonly Buffer[] };

/** Keys we do not know, and lines that are no key, belong to a later git and mean nothing to us. */
function parseRequest(lines: readonly string[]): Request {
  const request: Writable<Request> = { ...NO_KEYS };
  for (const line of lines) {
    const equals = line.indexOf('=');
    if (equals < 0) continue;
    const value = line.slice(equals + 1);
    switch (line.slice(0, equals)) {
      case 'command':
        request.command = value;
        break;
      case 'pathname':
        request.path = Buffer.from(value, 'latin1');
        break;
      case 'ref':
        request.ref = Buffer.from(value, 'latin1').toString();
        break;
      case 'treeish':
        request.treeish = value;
        break;
      case 'blob':
        request.blob = value;
        break;
      case 'can-delay':
        request.canDelay = value === '1';
        break;
    }
  }
  return request;
}

/** Reads the request to its end, also when it throws (unless the stream itself has failed). */
function receive(request: Request, input: PktInput, converter: Converter): Reply | Promise<Reply> {
  switch (request.command) {
    case 'clean': {
      const job = feed(input, () => converter.beginClean(requirePath(request)));
      return after(job.finish(), contentOf);
    }
    case 'smudge': {
      const { path, canDelay } = request;
      if (path && !canDelay && converter.isDelayed(path) && input.takeEmptyContent()) {
        return converter.deliver(path);
      }
      return feed(input, () => converter.beginSmudge(smudgeKeys(request))).finish();
    }
    case LIST_AVAILABLE:
      return after(converter.available(), (paths) => ({ kind: 'paths', paths }));
    default:
      return feed(input, () => {
        throw new Git2dbError('PROTOCOL', `git sent an unknown command: ${request.command ?? 'none'}`);
      });
  }
}

/** Begins a job and gives it the content. If either throws, the rest of the content is skipped first. */
function feed<Job extends CleanJob | SmudgeJob>(input: PktInput, begin: () => Job): Job {
  let job: Job | undefined;
  try {
    job = begin();
    input.readContent(job);
    return job;
  } catch (error) {
    job?.abort(error);
    if (!input.failure) input.drainContent();
    throw error;
  }
}

/** Answers. A promise only where the content comes from one. */
function send(reply: Reply, answer: Answer, request: Request): void | Promise<void> {
  switch (reply.kind) {
    case 'content':
      return after(reply.write(answer), () => answer.endContent());
    case 'delayed':
      if (!request.canDelay) throw new Error('the smudge was delayed, but git did not offer to wait');
      return answer.delayed();
    case 'paths':
      return answer.available(reply.paths);
  }
}

function requirePath(request: Request): Buffer {
  if (request.path === undefined) {
    throw new Git2dbError('PROTOCOL', `git sent "${request.command}" without a pathname`);
  }
  return request.path;
}

function smudgeKeys(request: Request): SmudgeKeys {
  const { ref, treeish, blob, canDelay } = request;
  return {
    path: requirePath(request),
    ...(ref !== undefined && { ref }),
    ...(treeish !== undefined && { treeish }),
    ...(blob !== undefined && { blob }),
    canDelay,
  };
}

function contentOf(bytes: Uint8Array): OutputJob {
  return { kind: 'content', write: (output) => output.content(bytes) };
}

function after<T, R>(value: T | Promise<T>, next: (value: T) => R): R | Promise<R> {
  return value instanceof Promise ? value.then(next) : next(value);
}

function describe({ command, path, ref, treeish, blob, canDelay }: Request): string {
  const words = [command ?? 'no command'];
  if (path) words.push(quotePath(path));
  if (ref) words.push(`ref=${ref}`);
  if (treeish) words.push(`treeish=${treeish}`);
  if (blob) words.push(`blob=${blob}`);
  if (canDelay) words.push('can-delay');
  return words.join(' ');
}
