/**
 * Who wrote each line of a file, from `git blame --porcelain` (git-blame(1), "The Porcelain Format"):
 *
 *     <oid> SP <line there> SP <line here> [SP <lines in this group>]
 *     author, author-mail, author-time, author-tz, committer..., summary, [boundary], [previous ...], filename: once per commit
 *     TAB <content>
 */
import { unquotePath } from '../../git/quoted-path.ts';
import { checkPath, type PathText, pathText, type TreePath } from '../../git/tree-path.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type GitPlace, requireWorkTree } from '../git-place.ts';
import { type Ident, ident } from './log.ts';
import { resolveCommit } from './revision.ts';

export interface BlameOptions {
  /** The file as it is there; in the work tree unless given. */
  readonly revision?: string | undefined;
  /** Lines from 1, without the end: `[3, 5]` are lines 3 and 4. */
  readonly lines?: readonly [start: number, end: number] | undefined;
  readonly ignoreRevisions?: readonly string[] | undefined;
  readonly ignoreWhitespace?: boolean | undefined;
  /** Finds lines that were moved within the file, or (`copies`) copied from other files of the commit. */
  readonly moves?: boolean | undefined;
  readonly copies?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface BlameCommit {
  /** Zeros: not committed yet. */
  readonly oid: string;
  readonly author: Ident;
  readonly committer: Ident;
  /** First line of the message. */
  readonly subject: string;
  /** History that was looked at ends here (the first commit, or a shallow one). */
  readonly isBoundary: boolean;
}

export interface BlameLine {
  /** From 1, in the file that was asked for. */
  readonly line: number;
  /** From 1, in the file of the commit. */
  readonly originalLine: number;
  /** The same object for all lines of a commit. */
  readonly commit: BlameCommit;
  /** What the file was called there. */
  readonly file: PathText;
  /** Without its newline. */
  readonly content: Buffer;
}

export async function blame(
  place: GitPlace,
  path: TreePath,
  options: BlameOptions = {},
): Promise<BlameLine[]> {
  const args: string[] = ['blame', '--porcelain', '--no-progress', '--encoding=UTF-8'];
  if (options.revision === undefined) await requireWorkTree(place, 'blame of the work tree');
  if (options.lines !== undefined) {
    const [start, end] = options.lines;
    if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 1 || end <= start) {
      throw new Git2dbError(
        'USAGE',
        `expected lines [start, end) from 1 with start before end, found [${start}, ${end})`,
      );
    }
    args.push('-L', `${start},${end - 1}`);
  }
  if (options.ignoreWhitespace === true) args.push('-w');
  if (options.moves === true) args.push('-M');
  if (options.copies === true) args.push('-C');
  for (const revision of options.ignoreRevisions ?? [])
    args.push('--ignore-rev', await resolveCommit(place, revision));
  if (options.revision !== undefined) args.push(await resolveCommit(place, options.revision));
  const { stdout } = await place.git([...args, '--', checkPath(path)], {
    signal: options.signal,
    pathspecs: 'literal',
    config: [
      ['blame.ignoreRevsFile', ''],
      ['blame.markIgnoredLines', 'false'],
      ['blame.markUnblamableLines', 'false'],
    ],
  });
  return parseBlame(stdout);
}

export function parseBlame(output: Buffer): BlameLine[] {
  const lines: BlameLine[] = [];
  const commits = new Map<string, BlameCommit>();
  const files = new Map<string, PathText>();
  let at = 0;
  const next = (): Buffer => {
    const end = output.indexOf(0x0a, at);
    const line = output.subarray(at, end < 0 ? output.length : end);
    at = end < 0 ? output.length : end + 1;
    return line;
  };
  while (at < output.length) {
    const [oid, originalLine, line] = next().toString('latin1').split(' ') as [string, string, string];
    const headers = new Map<string, Buffer>();
    let header = next();
    while (header[0] !== 0x09) {
      if (at >= output.length && header.length === 0) break;
      const space = header.indexOf(0x20);
      const key = header.toString('latin1', 0, space < 0 ? header.length : space);
      headers.set(key, space < 0 ? Buffer.alloc(0) : header.subarray(space + 1));
      header = next();
    }
    let commit = commits.get(oid);
    if (commit === undefined) {
      commit = commitOf(oid, headers);
      commits.set(oid, commit);
    }
    const name = headers.get('filename');
    // Given again where a commit has lines from more than one file.
    if (name !== undefined) files.set(oid, pathText(unquotePath(name)));
    lines.push({
      line: Number(line),
      originalLine: Number(originalLine),
      commit,
      file: files.get(oid)!,
      content: Buffer.from(header.subarray(1)),
    });
  }
  return lines;
}

function commitOf(oid: string, headers: ReadonlyMap<string, Buffer>): BlameCommit {
  const text = (key: string) => headers.get(key)?.toString('utf8') ?? '';
  const person = (role: string) =>
    ident(
      text(role),
      text(`${role}-mail`).replace(/^<|>$/g, ''),
      `${text(`${role}-time`)} ${text(`${role}-tz`)}`,
    );
  return {
    oid,
    author: person('author'),
    committer: person('committer'),
    subject: text('summary'),
    isBoundary: headers.has('boundary'),
  };
}
