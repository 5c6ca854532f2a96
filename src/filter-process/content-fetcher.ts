/**
 * Content that is not on this machine, asked of a process beside the filter. The filter itself has no network
 * code: it starts `git2db xet hook fetch-content`, once, when the first content is missing, and tells it what.
 *
 *     to it      xet <file hash> <size or ->       one line a file; behind it the oid of the commit or tree
 *                lfs <SHA-256> <size or ->         that is checked out, where git has said it
 *                an empty line                     begin with these
 *     from it    part <kind> <hash> <part>         so far it can be read: see part-line.ts
 *                ok <kind> <hash>                  the store has it now, for every process
 *                no <kind> <hash> <code> <message as a JSON string>
 *
 * The end of its input is its end. It inherits stderr, for its progress on a terminal.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { EXIT_CODES } from '../exit-codes.ts';
import { quickStart } from '../node-start.ts';
import { type ErrorCode, Git2dbError, messageOf } from '../xet/errors.ts';
import type { FilePart } from '../xet/transfer/file-part.ts';
import { parsePart } from './part-line.ts';

/** What a pointer names. */
export interface MissingContent {
  readonly kind: 'xet' | 'lfs';
  readonly hash: string;
  readonly size: number | undefined;
  /** Commit or tree that git checks out; undefined where it says none. */
  readonly treeish?: string | undefined;
}

export interface FetcherOptions {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Of the fetcher: program and arguments; that beside this program unless given. */
  readonly command?: readonly [string, ...string[]] | undefined;
}

const MAX_LINE = 64 * 1024;

export class ContentFetcher {
  readonly #options: FetcherOptions;
  readonly #asked = new Map<string, 'waiting' | 'there' | Git2dbError>();
  /** Of those that wait, in the order in which they were told. */
  readonly #parts = new Map<string, FilePart[]>();
  readonly #wakers: (() => void)[] = [];
  #child: ChildProcess | undefined;
  #closed: Promise<void> | undefined;
  #failure: Git2dbError | undefined;
  #rest = '';

  constructor(options: FetcherOptions) {
    this.#options = options;
  }

  /** Begins to fetch those that were not asked for before. */
  ask(contents: Iterable<MissingContent>): void {
    let text = '';
    for (const { kind, hash, size, treeish } of contents) {
      const key = `${kind} ${hash}`;
      if (this.#asked.has(key)) continue;
      this.#asked.set(key, this.#failure ?? 'waiting');
      text += `${key} ${size ?? '-'}${treeish === undefined ? '' : ` ${treeish}`}\n`;
    }
    if (text === '' || this.#failure !== undefined) return;
    try {
      this.#start().stdin?.write(`${text}\n`);
    } catch (error) {
      this.#fail(`cannot be started: ${messageOf(error)}`);
    }
  }

  hasAsked({ kind, hash }: MissingContent): boolean {
    return this.#asked.has(`${kind} ${hash}`);
  }

  /** Undefined while it is on its way; true when the store has it; else why it does not. */
  stateOf({ kind, hash }: MissingContent): true | Git2dbError | undefined {
    const state = this.#asked.get(`${kind} ${hash}`);
    if (state === 'waiting') return undefined;
    if (state === 'there') return true;
    return state ?? new Git2dbError('CONTENT_MISSING', 'the content was not asked for');
  }

  /** Whether it is on its way, and some of it can be read. */
  isComing({ kind, hash }: MissingContent): boolean {
    return this.#parts.has(`${kind} ${hash}`);
  }

  /** The part that begins at `offset`, while the rest is on its way. */
  partAt({ kind, hash }: MissingContent, offset: number): FilePart | undefined {
    return this.#parts.get(`${kind} ${hash}`)?.find((part) => part.offset === offset);
  }

  /** Resolves when something has changed since it was called. */
  change(): Promise<void> {
    return new Promise((resolve) => this.#wakers.push(resolve));
  }

  /** Ends the process and waits for its end: what it has fetched is published then. */
  async close(): Promise<void> {
    this.#child?.stdin?.end();
    await this.#closed;
  }

  #start(): ChildProcess {
    if (this.#child !== undefined) return this.#child;
    const [program, ...args] = this.#options.command ?? fetcherCommand();
    const { cwd } = this.#options;
    const env = program === process.execPath ? quickStart(this.#options.env) : this.#options.env;
    const child = spawn(program, args, { cwd, env, stdio: ['pipe', 'pipe', 'inherit'], windowsHide: true });
    this.#child = child;
    this.#closed = new Promise((resolve) => {
      child.once('error', (error) => {
        this.#fail(`cannot be started: ${messageOf(error)}`);
        resolve();
      });
      child.once('close', (status, signal) => {
        this.#fail(signal === null ? `ended with status ${status}` : `was ended by ${signal}`);
        resolve();
      });
    });
    // That it is gone is told by its end.
    child.stdin?.on('error', () => {});
    child.stdout?.on('data', (piece: Buffer) => this.#receive(piece.toString('utf8')));
    return child;
  }

  #receive(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() as string;
    for (const line of lines) this.#take(line);
    if (this.#rest.length > MAX_LINE) {
      this.#fail('answered a line without an end');
      this.#child?.kill();
    }
    for (const wake of this.#wakers.splice(0)) wake();
  }

  #take(line: string): void {
    const [, coming, text] = /^part ((?:xet|lfs) [0-9a-f]{64}) (.*)$/.exec(line) ?? [];
    if (coming !== undefined) {
      this.#takePart(coming, parsePart(text ?? ''));
      return;
    }
    const [, word, key, code, told] =
      /^(ok|no) ((?:xet|lfs) [0-9a-f]{64})(?: ([A-Z0-9_]+) (".*"))?$/.exec(line) ?? [];
    if (key === undefined || !this.#asked.has(key)) return;
    this.#asked.set(key, word === 'ok' ? 'there' : toldError(code, told));
    this.#parts.delete(key);
  }

  #takePart(key: string, part: FilePart | undefined): void {
    if (part === undefined || this.#asked.get(key) !== 'waiting') return;
    const parts = this.#parts.get(key);
    if (parts === undefined) this.#parts.set(key, [part]);
    else parts.push(part);
  }

  /** All that wait will not come. */
  #fail(how: string): void {
    this.#failure ??= new Git2dbError(
      'CONTENT_MISSING',
      `the content is not on this machine, and the program that fetches it (git2db xet hook fetch-content) ${how}`,
    );
    for (const [key, state] of this.#asked) if (state === 'waiting') this.#asked.set(key, this.#failure);
    this.#parts.clear();
    for (const wake of this.#wakers.splice(0)) wake();
  }
}

function toldError(code: string | undefined, told: string | undefined): Git2dbError {
  let message = 'the content could not be fetched';
  try {
    if (told !== undefined) message = String(JSON.parse(told));
  } catch {
    // The plain message, then.
  }
  const isKnown = code !== undefined && Object.hasOwn(EXIT_CODES, code);
  return new Git2dbError(isKnown ? (code as ErrorCode) : 'CONTENT_MISSING', message, {
    data: { asked: true },
  });
}

/** git2db of the same installation as the running filter. */
function fetcherCommand(): readonly [string, ...string[]] {
  const words = ['xet', 'hook', 'fetch-content'] as const;
  const own = process.argv[1];
  const beside = own === undefined ? undefined : join(dirname(realpathSync(own)), 'git2db.js');
  if (beside !== undefined && existsSync(beside)) return [process.execPath, beside, ...words];
  return ['git2db', ...words];
}
