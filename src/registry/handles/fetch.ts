/** `git fetch`, with what became of each ref. */
import { Git2dbError } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';
import { type Connection, withRemote } from './connection.ts';
import { dateText, type GitDate } from './identity.ts';
import { LineCollector } from './lines.ts';
import { attempt } from './outcome.ts';
import { checkFetchRefspec } from './refspec.ts';

export interface FetchOptions extends Connection {
  /** Those of the remote's configuration unless given. */
  readonly refspecs?: readonly string[] | undefined;
  /** Deletes remote-tracking branches that the remote has no more. What is configured, unless given. */
  readonly prune?: boolean | undefined;
  /** Only the last commits of each branch; `Infinity` completes a shallow repository. */
  readonly depth?: number | undefined;
  /** So many commits more than there are. */
  readonly deepen?: number | undefined;
  readonly shallowSince?: GitDate | undefined;
  /** Those of what is fetched (what is configured, unless given), all, or none. */
  readonly tags?: 'auto' | 'all' | 'none' | undefined;
  /** Refs move also where that is no fast-forward, and tags are replaced. */
  readonly force?: boolean | undefined;
  /** All refs or none. */
  readonly atomic?: boolean | undefined;
  /** Of a partial clone: `blob:none`, `blob:limit=1m`, `tree:0`. */
  readonly filter?: string | undefined;
}

export interface FetchedRef {
  /** Full name here. */
  readonly name: string;
  readonly kind: 'new' | 'fast-forward' | 'forced' | 'deleted' | 'tag-updated' | 'rejected';
  /** Before, and after; undefined where there was or is none. */
  readonly from: string | undefined;
  readonly to: string | undefined;
  /** Why it was rejected. */
  readonly reason: string | undefined;
}

export interface FetchResult {
  /** Refs that changed or were rejected; those that are as they were are left out. */
  readonly refs: readonly FetchedRef[];
  /** No ref was rejected. */
  readonly ok: boolean;
}

export async function fetch(
  place: GitPlace,
  remote: string,
  options: FetchOptions = {},
): Promise<FetchResult> {
  const args = fetchArgs(options);
  if (options.depth === Number.POSITIVE_INFINITY && (await isShallow(place))) args.push('--unshallow');
  const refspecs = (options.refspecs ?? []).map(checkFetchRefspec);
  const before = await snapshot(place);
  const lines = new LineCollector();
  const outcome = await withRemote(place, remote, 'fetch', options, async (operand, run) => {
    const done = await attempt(place, [...args, '--', operand, ...refspecs], {
      ...run,
      config: [...(run.config ?? []), ['fetch.output', 'full']],
      onStderr: (piece) => {
        lines.take(piece);
        run.onStderr?.(piece);
      },
    });
    // Within, so that the refused hosts are told.
    if (done.status !== 0 && !isAboutRefs(lines.all())) throw done.error();
    return done;
  });
  const refs = fetchedRefs(lines.all(), before, await snapshot(place));
  if (outcome.status !== 0 && !refs.some(({ kind }) => kind === 'rejected')) throw outcome.error();
  return { refs, ok: outcome.status === 0 };
}

function fetchArgs(options: FetchOptions): string[] {
  const args = ['fetch', '--progress', '--no-recurse-submodules', '--no-auto-maintenance'];
  if (options.prune !== undefined) args.push(options.prune ? '--prune' : '--no-prune');
  if (options.tags === 'all') args.push('--tags');
  if (options.tags === 'none') args.push('--no-tags');
  if (options.force === true) args.push('--force');
  if (options.atomic === true) args.push('--atomic');
  if (options.depth !== undefined && options.depth !== Number.POSITIVE_INFINITY)
    args.push(`--depth=${positive(options.depth, 'depth')}`);
  if (options.deepen !== undefined) args.push(`--deepen=${positive(options.deepen, 'deepen')}`);
  if (options.shallowSince !== undefined)
    args.push(`--shallow-since=${dateText(options.shallowSince).replace(/^@(\d+) \+0000$/, '@$1')}`);
  if (options.filter !== undefined) args.push(`--filter=${checkFilter(options.filter)}`);
  return args;
}

async function isShallow(place: GitPlace): Promise<boolean> {
  return (await place.text(['rev-parse', '--is-shallow-repository'])) === 'true';
}

function positive(value: number, what: string): number {
  if (Number.isSafeInteger(value) && value > 0 && value < 2 ** 31) return value;
  throw new Git2dbError('USAGE', `expected a whole number from 1 for ${what}, found ${value}`);
}

function checkFilter(filter: string): string {
  if (
    /^(?:blob:(?:none|limit=\d+[kmg]?)|tree:\d+|object:type=(?:commit|tree|blob|tag)|combine:[\w:=+%.-]+|sparse:oid=[\w:/.-]+)$/.test(
      filter,
    )
  )
    return filter;
  throw new Git2dbError(
    'USAGE',
    `expected a filter such as blob:none, blob:limit=1m or tree:0, found ${JSON.stringify(filter)}`,
  );
}

/** Full name -> object id. */
async function snapshot(place: GitPlace): Promise<Map<string, string>> {
  const text = await place.text(['for-each-ref', '--format=%(refname) %(objectname)']);
  return new Map(text === '' ? [] : text.split('\n').map((line) => line.split(' ') as [string, string]));
}

/** ` <flag> <summary> <from> -> <to> [(<reason>)]` (git-fetch(1), "OUTPUT"). */
const LINE = /^ ([ +\-t*!=]) (\[[^\]]*\]|[0-9a-f]+\.{2,3}[0-9a-f]+) +(\S+) +-> +(\S+)(?: +\((.*)\))?$/;

function isAboutRefs(lines: readonly string[]): boolean {
  return lines.some((line) => LINE.exec(line)?.[1] === '!');
}

/** What git says, for refs that did change: a line has a ref's short name only, which the snapshots complete. */
export function fetchedRefs(
  lines: readonly string[],
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): FetchedRef[] {
  const changed = new Set<string>();
  for (const name of [...before.keys(), ...after.keys()])
    if (before.get(name) !== after.get(name)) changed.add(name);
  const refs = new Map<string, FetchedRef>();
  for (const line of lines) {
    const [, flag, summary, , to, reason] = LINE.exec(line) ?? [];
    if (flag === undefined || to === undefined || flag === '=') continue;
    const names = [to, `refs/${to}`, `refs/tags/${to}`, `refs/heads/${to}`, `refs/remotes/${to}`];
    if (flag === '!') {
      const isTag = /tag/.test(`${summary} ${reason}`);
      const known = names.filter((name) => name.startsWith('refs/') && (before.has(name) || after.has(name)));
      const name =
        known.find((other) => other.startsWith('refs/tags/') === isTag) ??
        known[0] ??
        (to.startsWith('refs/') ? to : `refs/remotes/${to}`);
      refs.set(name, {
        name,
        kind: 'rejected',
        from: before.get(name),
        to: after.get(name),
        reason: reason ?? summary,
      });
      continue;
    }
    for (const name of names) {
      if (!changed.has(name) || refs.has(name)) continue;
      const kind =
        flag === '-'
          ? 'deleted'
          : flag === '*'
            ? 'new'
            : flag === '+'
              ? 'forced'
              : flag === 't'
                ? 'tag-updated'
                : 'fast-forward';
      const [old, now] = [before.get(name), after.get(name)];
      // Of several refs with one short name, the one that changed in the way the line says.
      if ((kind === 'new') !== (old === undefined) || (kind === 'deleted') !== (now === undefined)) continue;
      refs.set(name, { name, kind, from: old, to: now, reason: undefined });
      break;
    }
  }
  return [...refs.values()];
}
