/**
 * Contents of many small blobs, in bulk: git hands out what it has when its buffer is full, and at the end, instead of
 * one answer after the other, each of which would wake both sides (`git cat-file --buffer`).
 */
import { Git2dbError } from '../xet/errors.ts';
import { tooLarge } from './answer-reader.ts';
import { batched, splitRecords } from './records.ts';
import { type GitRun, gitStream } from './runner.ts';

export interface SmallBlob {
  readonly oid: string;
  /** The caller's own. */
  readonly body: Buffer;
}

export interface SmallBlobsRun extends Pick<GitRun, 'cwd' | 'env' | 'keepGitEnv' | 'signal'> {
  readonly maxSize: number;
}

type ObjectIds = Iterable<string> | AsyncIterable<string>;

const NEWLINE = 0x0a;
const NOTHING = Buffer.alloc(0);

/** Those of `oids` that are blobs of at most `maxSize` bytes, and here, in their order. Nothing of others is read. */
export async function* selectSmallBlobs(
  oids: ObjectIds,
  { maxSize, ...run }: SmallBlobsRun,
): AsyncIterable<string> {
  const format = '--batch-check=%(objecttype) %(objectsize) %(objectname)';
  const { stdout } = gitStream(['cat-file', '--buffer', format], { ...run, input: batched(lines(oids)) });
  for await (const line of splitRecords(stdout, NEWLINE)) {
    const [type, size, oid] = line.toString('latin1').split(' ');
    if (type === 'blob' && Number(size) <= maxSize) yield oid!;
  }
}

/**
 * The contents of `oids`, of which is known that they are small, in their order; one that is not here is left out.
 * Throws LIMIT_EXCEEDED for one of more than `maxSize` bytes.
 */
export async function* readSmallBlobs(
  oids: ObjectIds,
  { maxSize, ...run }: SmallBlobsRun,
): AsyncIterable<SmallBlob> {
  const format = '--batch=%(objectname) %(objectsize)';
  let asked = 0;
  async function* questions(): AsyncIterable<Buffer> {
    for await (const line of lines(oids)) {
      asked++;
      yield line;
    }
  }
  const { stdout } = gitStream(['cat-file', '--buffer', format], { ...run, input: batched(questions()) });
  let answered = 0;
  let held: Buffer = NOTHING;
  for await (const piece of stdout) {
    held = held.length === 0 ? piece : Buffer.concat([held, piece]);
    let at = 0;
    for (let end = held.indexOf(NEWLINE); end >= 0; end = held.indexOf(NEWLINE, at)) {
      // <oid> SP <size> LF <contents> LF, or <oid> SP missing LF
      const [oid, word] = held.toString('latin1', at, end).split(' ') as [string, string];
      if (word === 'missing') {
        answered++;
        at = end + 1;
        continue;
      }
      const size = Number(word);
      if (!(size <= maxSize)) throw tooLarge({ oid, type: 'blob', size }, maxSize);
      if (held.length < end + 1 + size + 1) break;
      answered++;
      yield { oid, body: Buffer.from(held.subarray(end + 1, end + 1 + size)) };
      at = end + 1 + size + 1;
    }
    held = held.subarray(at);
  }
  if (answered < asked)
    throw new Git2dbError(
      'GIT_FAILED',
      `git cat-file ended with ${answered} of ${asked} answers: run "git fsck" there`,
    );
}

async function* lines(oids: ObjectIds): AsyncIterable<Buffer> {
  for await (const oid of oids) yield Buffer.from(`${oid}\n`);
}
