/**
 * `git push --porcelain`, with what became of each ref (git-push(1), "OUTPUT"):
 *
 *     To <url>
 *     <flag> TAB <from>:<to> TAB <summary> [(<reason>)]
 *     Done
 */
import { checkFullRefName, fullRefName, whyNoRefName } from '../../git/ref-name.ts';
import { SKIP_PUSH } from '../../large-files/skip-push.ts';
import { Git2dbError } from '../../xet/errors.ts';
import type { GitPlace } from '../git-place.ts';
import { currentBranch } from './commit.ts';
import { type Connection, withRemote } from './connection.ts';
import { existingHooks, isOwnAlone, NO_HOOKS } from './hooks.ts';
import { attempt, type Outcome } from './outcome.ts';
import { type ContentProgress, type PushedContent, pushContentFirst } from './push-content.ts';
import { checkPushRefspec } from './refspec.ts';

export interface PushOptions extends Connection {
  /** Branches, tags or refspecs (`a:b`, `HEAD:refs/heads/x`); the current branch, to its upstream or its own name, unless given. */
  readonly refs?: string | readonly string[] | undefined;
  /**
   * True: refs move whatever is lost. `with-lease`: only where the remote's ref is what our remote-tracking branch
   * says; an object: only where it is the object id given (null: where there is none).
   */
  readonly force?: boolean | 'with-lease' | Readonly<Record<string, string | null>> | undefined;
  /** Branches or tags (full names) to delete there. */
  readonly delete?: readonly string[] | undefined;
  /** All tags, or (`reachable`) annotated ones of what is pushed. */
  readonly tags?: 'all' | 'reachable' | undefined;
  /** Makes the pushed branches follow what they were pushed to. */
  readonly setUpstream?: boolean | undefined;
  /** All refs or none. */
  readonly atomic?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
  /** For the hooks of the remote. */
  readonly pushOptions?: readonly string[] | undefined;
  /** False: the pre-push hook does not run. The content of large files goes all the same. */
  readonly hooks?: boolean | undefined;
  /**
   * False: refs alone are pushed, and pointers may come to where their content is not. Else what the pushed commits
   * need is sent before any ref moves, and a push that would leave content behind throws (`data.files`) and moves none.
   */
  readonly content?: boolean | undefined;
  /** How far content is. */
  readonly onContent?: ((event: ContentProgress) => void) | undefined;
  /** Told what is worth a line to the user but fails nothing. */
  readonly warn?: ((message: string) => void) | undefined;
}

export interface PushedRef {
  /** Full name here; undefined for a deletion. */
  readonly source: string | undefined;
  /** Full name there. */
  readonly name: string;
  readonly kind: 'new' | 'fast-forward' | 'forced' | 'deleted' | 'up-to-date' | 'rejected';
  /** Abbreviated object ids, where git tells them. */
  readonly from: string | undefined;
  readonly to: string | undefined;
  /** Why it was rejected, by git here or by the remote. */
  readonly reason: string | undefined;
  readonly rejectedBy: 'us' | 'remote' | undefined;
}

export interface PushResult {
  /** The URL that git pushed to. */
  readonly url: string | undefined;
  readonly refs: readonly PushedRef[];
  /** No ref was rejected. */
  readonly ok: boolean;
  /** Ours is not among them: what it does was done. */
  readonly hooksSkipped: readonly string[];
  /** What became of each large file, for each URL that git pushes to; nothing where no pointer was pushed. */
  readonly content: readonly PushedContent[];
}

const PUSH_HOOKS = ['pre-push'] as const;

export async function push(place: GitPlace, remote: string, options: PushOptions = {}): Promise<PushResult> {
  const skips = !place.trusted || options.hooks === false;
  const args = ['push', '--porcelain', '--progress', '--no-recurse-submodules', ...forceArgs(options.force)];
  args.push(options.tags === 'reachable' ? '--follow-tags' : '--no-follow-tags');
  if (options.tags === 'all') args.push('--tags');
  if (options.setUpstream === true) args.push('--set-upstream');
  if (options.atomic === true) args.push('--atomic');
  if (options.dryRun === true) args.push('--dry-run');
  for (const word of options.pushOptions ?? []) {
    if (/[\0\n]/.test(word))
      throw new Git2dbError('USAGE', `a push option is one line, found ${JSON.stringify(word)}`);
    args.push(`--push-option=${word}`);
  }
  const refspecs = await refspecsOf(place, remote, options);
  const hasContent = options.content !== false;
  return withRemote(place, remote, 'push', options, async (operand, run, urls) => {
    const words = ['--', operand, ...refspecs];
    async function wouldMove(): Promise<string[]> {
      const quiet = { ...run, onStderr: undefined, config: [...(run.config ?? []), ...NO_HOOKS] };
      const outcome = await attempt(place, [...args, '--dry-run', '--no-verify', ...words], quiet);
      const { refs } = parsePush(outcome.stdout.toString('utf8'));
      if (outcome.status !== 0 && !refs.some(({ kind }) => kind === 'rejected'))
        throw await failure(place, outcome, true);
      return refs.flatMap(({ kind, source }) => (MOVING.has(kind) && source !== undefined ? [source] : []));
    }
    const { content, tips } = hasContent
      ? await pushContentFirst(
          place,
          remote,
          { urls, run, sources: await sourcesOf(place, refspecs, options), wouldMove },
          options,
        )
      : { content: [], tips: [] };
    const outcome = await attempt(place, [...args, ...words], {
      ...run,
      env: { ...run.env, [SKIP_PUSH]: hasContent ? seenTo(tips) : '1' },
      config: [...(run.config ?? []), ...(skips ? NO_HOOKS : [])],
    });
    const { url, refs } = parsePush(outcome.stdout.toString('utf8'));
    if (outcome.status !== 0 && !refs.some(({ kind }) => kind === 'rejected'))
      throw await failure(place, outcome, skips);
    const skipped = skips ? await existingHooks(place, PUSH_HOOKS) : [];
    return {
      url,
      refs,
      ok: outcome.status === 0,
      hooksSkipped: hasContent && (await isOwnAlone(place, PUSH_HOOKS[0])) ? [] : skipped,
      content,
    };
  });
}

/** Kinds of results whose objects the remote gets. */
const MOVING: ReadonlySet<PushedRef['kind']> = new Set(['new', 'fast-forward', 'forced']);

/** More would not fit into the environment; the hook then looks for itself what is missing. */
const MOST_TIPS = 1000;

function seenTo(tips: readonly string[]): string | undefined {
  return tips.length === 0 || tips.length > MOST_TIPS ? undefined : tips.join(' ');
}

/** The revisions and refs that the refspecs may push, and no fewer. */
async function sourcesOf(
  place: GitPlace,
  refspecs: readonly string[],
  { tags }: PushOptions,
): Promise<string[]> {
  const sources: string[] = [];
  const patterns: string[] = tags === 'all' ? ['refs/tags/*'] : [];
  for (const refspec of refspecs) {
    const [source] = refspec.replace(/^\+/, '').split(/:(?=[^:]*$)/) as [string];
    if (source.includes('*')) patterns.push(source);
    else if (source !== '') sources.push(source);
    // The branches that both have.
    else if (/^\+?:$/.test(refspec)) patterns.push('refs/heads/*');
  }
  if (patterns.length === 0) return sources;
  const names = (await place.text(['for-each-ref', '--format=%(refname)'])).split('\n');
  for (const pattern of patterns) {
    const [head, tail] = pattern.split('*') as [string, string];
    sources.push(...names.filter((name) => name.startsWith(head) && name.endsWith(tail)));
  }
  return sources;
}

async function failure(place: GitPlace, outcome: Outcome, skips: boolean): Promise<Error> {
  const silent = outcome.code === undefined || outcome.code === 'NETWORK';
  const refused =
    !skips &&
    /failed to push some refs/.test(outcome.stderr) &&
    (await existingHooks(place, PUSH_HOOKS)).length > 0;
  return outcome.error(silent && refused ? 'HOOK_FAILED' : undefined);
}

function forceArgs(force: PushOptions['force']): string[] {
  if (force === undefined || force === false) return [];
  if (force === true) return ['--force'];
  if (force === 'with-lease') return ['--force-with-lease'];
  return Object.entries(force).map(([name, oid]) => {
    const why =
      whyNoRefName(name) ??
      (oid === null || /^[0-9a-f]{40}(?:[0-9a-f]{24})?$/.test(oid) ? undefined : 'its lease is no object id');
    if (why !== undefined)
      throw new Git2dbError('REF_INVALID', `cannot take a lease on ${JSON.stringify(name)}: ${why}`);
    return `--force-with-lease=${name}:${oid ?? ''}`;
  });
}

async function refspecsOf(place: GitPlace, remote: string, options: PushOptions): Promise<string[]> {
  const given = typeof options.refs === 'string' ? [options.refs] : options.refs;
  const refspecs = (given ?? []).map(checkPushRefspec);
  for (const name of options.delete ?? []) {
    if (name.startsWith('refs/')) checkFullRefName(name);
    else fullRefName('branch', name);
    refspecs.push(`:${name}`);
  }
  if (refspecs.length > 0 || given !== undefined || options.tags === 'all') {
    // Without any refspec git would push what its configuration says.
    if (refspecs.length === 0 && options.tags !== 'all')
      throw new Git2dbError('USAGE', 'expected refs to push, found none');
    return refspecs;
  }
  const branch = await currentBranch(place);
  if (branch === undefined) {
    throw new Git2dbError(
      'REF_INVALID',
      'HEAD is on no branch: say which refs to push, such as HEAD:refs/heads/name',
    );
  }
  const setting = async (name: string) =>
    (await place.git(['config', '--get', `branch.${branch}.${name}`], { okStatus: [0, 1] })).stdout
      .toString('utf8')
      .trimEnd();
  const merge = (await setting('remote')) === remote ? await setting('merge') : '';
  return [`refs/heads/${branch}:${merge.startsWith('refs/heads/') ? merge : `refs/heads/${branch}`}`];
}

export function parsePush(text: string): { url: string | undefined; refs: PushedRef[] } {
  let url: string | undefined;
  const refs: PushedRef[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('To '))
      url ??= line.slice('To '.length).replace(/^([a-z+]+:\/\/)[^/@]*:[^/@]*@/i, '$1');
    const [flag, pair, told] = line.split('\t');
    if (flag === undefined || flag.length !== 1 || pair === undefined || told === undefined) continue;
    const colon = pair.lastIndexOf(':');
    const [source, name] = [pair.slice(0, colon), pair.slice(colon + 1)];
    const [, summary, reason] = /^(\[[^\]]*\]|\S+)(?: \((.*)\))?$/s.exec(told) ?? [
      undefined,
      told,
      undefined,
    ];
    const oids = /^([0-9a-f]+)\.{2,3}([0-9a-f]+)$/.exec(summary ?? '');
    refs.push({
      source: source === '' || source === '(delete)' ? undefined : source,
      name,
      kind: KINDS[flag] ?? 'rejected',
      from: oids?.[1],
      to: oids?.[2],
      reason: flag === '!' ? (reason ?? summary) : undefined,
      rejectedBy: flag !== '!' ? undefined : /^\[remote /.test(summary ?? '') ? 'remote' : 'us',
    });
  }
  return { url, refs };
}

const KINDS: Readonly<Record<string, PushedRef['kind']>> = {
  '*': 'new',
  ' ': 'fast-forward',
  '+': 'forced',
  '-': 'deleted',
  '=': 'up-to-date',
  '!': 'rejected',
};
