/**
 * Commits, as a stream. One record of `git log -z` per commit:
 *
 *     oid LF tree LF parents LF author LF address LF date LF committer LF address LF date LF message
 *
 * A name or an address holds no newline (git takes them out), a message no NUL.
 */
import { checkRevision } from '../../git/ref-name.ts';
import { pathArgs, type TreePath } from '../../git/tree-path.ts';
import { Git2dbError } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';
import { dateText, type GitDate } from './identity.ts';
import { resolveCommit } from './revision.ts';

const ORDERS = {
  date: '--date-order',
  'author-date': '--author-date-order',
  topological: '--topo-order',
} as const;

export interface Ident {
  readonly name: string;
  readonly email: string;
  /** Seconds since 1970. */
  readonly date: number;
  /** Offset of the writer's clock from UTC, in minutes. */
  readonly offsetMinutes: number;
}

export interface CommitInfo {
  readonly oid: string;
  readonly tree: string;
  /** As git shows them: rewritten where `paths` or `follow` leave commits out. */
  readonly parents: readonly string[];
  readonly author: Ident;
  readonly committer: Ident;
  /** First paragraph, on one line. */
  readonly subject: string;
  /** The whole message as it is in the commit, with its final newline. */
  readonly message: string;
}

export type LogField = keyof CommitInfo;

export interface LogOptions {
  /** Revisions to start from (HEAD unless given) and ranges (`a..b`, `a...b`, `^a`). */
  readonly revisions?: string | readonly string[] | undefined;
  /** From all refs instead. */
  readonly all?: boolean | undefined;
  readonly paths?: readonly TreePath[] | undefined;
  /** Goes on past renames; with one path. */
  readonly follow?: boolean | undefined;
  readonly limit?: number | undefined;
  readonly skip?: number | undefined;
  readonly since?: GitDate | undefined;
  readonly until?: GitDate | undefined;
  /** Extended regular expressions. */
  readonly author?: string | undefined;
  readonly committer?: string | undefined;
  readonly message?: string | undefined;
  /** Commits that change the number of occurrences of this text. */
  readonly pickaxe?: string | undefined;
  readonly firstParent?: boolean | undefined;
  readonly merges?: 'only' | 'none' | undefined;
  readonly reverse?: boolean | undefined;
  readonly order?: 'date' | 'author-date' | 'topological' | undefined;
  /** Only these are filled in, the others are empty: less to read for many commits. */
  readonly fields?: readonly LogField[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

const FIELDS = ['%H', '%T', '%P', '%an', '%ae', '%ad', '%cn', '%ce', '%cd', '%B'] as const;

export async function* log(place: GitPlace, options: LogOptions = {}): AsyncIterable<CommitInfo> {
  const args = [
    'log',
    '-z',
    `--format=tformat:${format(options.fields)}`,
    '--date=raw',
    '--no-patch',
    '--no-color',
    '--no-notes',
  ];
  args.push('--no-show-signature', '--no-decorate', '--encoding=UTF-8', '--no-mailmap');
  args.push(...selection(options));
  const words = await revisions(place, options);
  const paths = pathArgs(options.paths);
  if (options.follow === true) {
    if (options.paths?.length !== 1)
      throw new Git2dbError('USAGE', `follow needs one path, found ${options.paths?.length ?? 0}`);
    args.push('--follow');
  }
  const { stdout } = place.stream([...args, ...words, ...(paths.length === 0 ? ['--'] : paths)], {
    signal: options.signal,
    pathspecs: 'literal',
    config: [['log.follow', 'false']],
  });
  let rest: Buffer | undefined;
  for await (const piece of stdout) {
    const bytes: Buffer = rest === undefined ? piece : Buffer.concat([rest, piece]);
    const last = bytes.lastIndexOf(0);
    if (last < 0) {
      rest = bytes;
      continue;
    }
    // Decoding a whole piece at once is what makes this keep up with git.
    for (const record of bytes.toString('utf8', 0, last).split('\0')) yield parseCommit(record);
    rest = last + 1 < bytes.length ? bytes.subarray(last + 1) : undefined;
  }
  if (rest !== undefined && rest.length > 0) yield parseCommit(rest.toString('utf8'));
}

/** A field that was not asked for is an empty line. */
function format(fields: readonly LogField[] | undefined): string {
  if (fields === undefined) return FIELDS.join('%n');
  const wanted = new Set(fields);
  const has = [
    true,
    wanted.has('tree'),
    wanted.has('parents'),
    ...[1, 2, 3].map(() => wanted.has('author')),
    ...[1, 2, 3].map(() => wanted.has('committer')),
    wanted.has('message') || wanted.has('subject'),
  ];
  return FIELDS.map((field, index) => (has[index] ? field : '')).join('%n');
}

function selection(options: LogOptions): string[] {
  const args: string[] = [];
  if (options.limit !== undefined) args.push(`--max-count=${wholeNumber(options.limit, 'limit')}`);
  if (options.skip !== undefined) args.push(`--skip=${wholeNumber(options.skip, 'skip')}`);
  if (options.since !== undefined)
    args.push(`--since=${dateText(options.since).replace(/^@(\d+) \+0000$/, '@$1')}`);
  if (options.until !== undefined)
    args.push(`--until=${dateText(options.until).replace(/^@(\d+) \+0000$/, '@$1')}`);
  if (options.author !== undefined) args.push(`--author=${options.author}`);
  if (options.committer !== undefined) args.push(`--committer=${options.committer}`);
  if (options.message !== undefined) args.push(`--grep=${options.message}`);
  if (options.author !== undefined || options.committer !== undefined || options.message !== undefined) {
    args.push('--extended-regexp', '--all-match');
  }
  if (options.pickaxe !== undefined) args.push(`-S${options.pickaxe}`);
  if (options.firstParent === true) args.push('--first-parent');
  if (options.merges !== undefined) args.push(options.merges === 'only' ? '--merges' : '--no-merges');
  if (options.reverse === true) args.push('--reverse');
  if (options.order !== undefined) args.push(orderFlag(options.order));
  if (options.all === true) args.push('--exclude=refs/git2db/*', '--all');
  return args;
}

async function revisions(place: GitPlace, options: LogOptions): Promise<string[]> {
  const given = options.revisions;
  const list = given === undefined ? [] : typeof given === 'string' ? [given] : given;
  if (list.length === 0) return options.all === true ? [] : [await resolveCommit(place, 'HEAD')];
  const words: string[] = [];
  for (const text of list) {
    checkRevision(text);
    // Ends of ranges become object ids, so that none can be an option or a path.
    const range = /^(.*?)(\.{2,3})([^.].*|)$/s.exec(text);
    if (range !== null) {
      const from = await resolveCommit(place, range[1] || 'HEAD');
      words.push(`${from}${range[2]}${await resolveCommit(place, range[3] || 'HEAD')}`);
    } else if (text.startsWith('^')) {
      words.push(`^${await resolveCommit(place, text.slice(1))}`);
    } else {
      words.push(await resolveCommit(place, text));
    }
  }
  return words;
}

function parseCommit(record: string): CommitInfo {
  const ends: number[] = [];
  let at = -1;
  for (let i = 0; i < 9; i++) {
    at = record.indexOf('\n', at + 1);
    ends.push(at);
  }
  const field = (index: number): string => record.slice(index === 0 ? 0 : ends[index - 1]! + 1, ends[index]);
  const message = record.slice(at + 1);
  const parents = field(2);
  return {
    oid: field(0),
    tree: field(1),
    parents: parents === '' ? [] : parents.split(' '),
    author: ident(field(3), field(4), field(5)),
    committer: ident(field(6), field(7), field(8)),
    subject: subjectOf(message),
    message,
  };
}

export function ident(name: string, email: string, raw: string): Ident {
  const space = raw.indexOf(' ');
  const zone = raw.slice(space + 1);
  const sign = zone[0] === '-' ? -1 : 1;
  const minutes = space < 0 ? 0 : sign * (Number(zone.slice(1, 3)) * 60 + Number(zone.slice(3, 5)));
  return {
    name,
    email,
    date: Number(space < 0 ? raw || 0 : raw.slice(0, space)),
    offsetMinutes: minutes === 0 ? 0 : minutes,
  };
}

export function subjectOf(message: string): string {
  const newline = message.indexOf('\n');
  // Most messages: one line, or a line and an empty one.
  if (newline > 0 && (newline === message.length - 1 || message[newline + 1] === '\n'))
    return message.slice(0, newline);
  return message
    .replace(/^\n+/, '')
    .split(/\n[ \t]*\n/, 1)[0]!
    .trimEnd()
    .replace(/\n/g, ' ');
}

function wholeNumber(value: number, what: string): number {
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new Git2dbError('USAGE', `expected a whole number for ${what}, found ${value}`);
}

function orderFlag(order: keyof typeof ORDERS): string {
  if (Object.hasOwn(ORDERS, order)) return ORDERS[order];
  throw new Git2dbError(
    'USAGE',
    `order: expected one of ${Object.keys(ORDERS).join(', ')}, found ${JSON.stringify(order)}`,
  );
}
