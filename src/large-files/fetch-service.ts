/**
 * The other end of src/filter-process/content-fetcher.ts: a process beside a filter that fetches what it asks
 * for, batch after batch, until the filter ends. The remotes stay open between batches.
 */
import { formatPart } from '../filter-process/part-line.ts';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import type { FilePart } from '../xet/transfer/file-part.ts';
import { ContentRemotes } from './content-remotes.ts';
import {
  type ContentOutcome,
  type FetchContentOptions,
  fetchContent,
  type WantedContent,
} from './fetch-content.ts';

export interface FetchServiceOptions
  extends Omit<FetchContentOptions, 'onFile' | 'onPart' | 'from' | 'treeishes'> {
  readonly mayPrompt: boolean;
  /** Lines of the filter. */
  readonly input: AsyncIterable<Buffer>;
  /** Writes a line for the filter. */
  readonly answer: (line: string) => void;
  /** A batch begins, of so many files. */
  readonly onBatch?: ((files: number) => void) | undefined;
  readonly onBatchEnd?: (() => void) | undefined;
}

const MAX_LINE = 256;

/** Ends with the input. What was under way then is given up; what was fetched of it is kept. */
export async function serveFetches(options: FetchServiceOptions): Promise<void> {
  const ended = new AbortController();
  const signal =
    options.signal === undefined ? ended.signal : AbortSignal.any([ended.signal, options.signal]);
  await using remotes = new ContentRemotes({ ...options, signal });
  let working: Promise<void> = Promise.resolve();
  let failure: { readonly error: unknown } | undefined;
  let batch: Question[] = [];
  for await (const line of linesOf(options.input)) {
    if (line !== '') {
      batch.push(parseQuestion(line));
      continue;
    }
    const wanted = batch;
    batch = [];
    working = working
      .then(() => answerBatch(remotes, wanted, { ...options, signal }))
      .catch((error) => {
        failure ??= { error };
      });
  }
  ended.abort();
  await working;
  if (failure !== undefined && !(failure.error as Error).name?.includes('Abort')) throw failure.error;
}

async function answerBatch(
  remotes: ContentRemotes,
  wanted: readonly Question[],
  options: FetchServiceOptions,
): Promise<void> {
  const treeishes = [...new Set(wanted.flatMap(({ treeish }) => treeish ?? []))];
  const open = new Map(wanted.map((one) => [`${one.kind} ${one.hash}`, one]));
  const onFile = (outcome: ContentOutcome) => {
    if (!open.delete(`${outcome.kind} ${outcome.hash}`)) return;
    options.answer(formatAnswer(outcome));
  };
  options.onBatch?.(wanted.length);
  try {
    const onPart = ({ kind, hash }: WantedContent, part: FilePart) =>
      options.answer(`part ${kind} ${hash} ${formatPart(part)}`);
    await fetchContent(remotes, wanted, { ...options, treeishes, onFile, onPart });
  } catch (error) {
    if ((error as Error).name === 'AbortError') throw error;
    // Our own store cannot be written, or the unforeseen: nobody is left without an answer.
    const told = error instanceof Git2dbError ? error : new Git2dbError('CONTENT_MISSING', messageOf(error));
    for (const one of [...open.values()]) onFile({ ...one, outcome: 'failed', error: told });
  } finally {
    options.onBatchEnd?.();
  }
}

function formatAnswer({ kind, hash, error }: ContentOutcome): string {
  if (error === undefined) return `ok ${kind} ${hash}`;
  return `no ${kind} ${hash} ${error.code} ${JSON.stringify(error.message)}`;
}

interface Question extends WantedContent {
  /** What git checks out, where it says so. */
  readonly treeish: string | undefined;
}

function parseQuestion(line: string): Question {
  const match = /^(xet|lfs) ([0-9a-f]{64}) (\d{1,16}|-)(?: ([0-9a-f]{40}|[0-9a-f]{64}))?$/.exec(line);
  const size = match?.[3] === '-' ? undefined : Number(match?.[3]);
  if (match === null || (size !== undefined && !Number.isSafeInteger(size))) {
    throw new Git2dbError(
      'PROTOCOL',
      `expected "xet HASH SIZE [TREEISH]", "lfs SHA256 SIZE [TREEISH]" or an empty line, found ${JSON.stringify(line.slice(0, 120))}: ` +
        'this command is started by git2db-filter',
    );
  }
  return { kind: match[1] as 'xet' | 'lfs', hash: match[2]!, size, treeish: match[4] };
}

async function* linesOf(input: AsyncIterable<Buffer>): AsyncIterable<string> {
  let rest = '';
  for await (const piece of input) {
    const lines = (rest + piece.toString('latin1')).split('\n');
    rest = lines.pop() as string;
    if (rest.length > MAX_LINE)
      throw new Git2dbError('PROTOCOL', `expected lines of at most ${MAX_LINE} bytes`);
    yield* lines;
  }
}
