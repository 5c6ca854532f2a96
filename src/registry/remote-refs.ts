/**
 * What a remote has, as far as a clone must know beforehand: the object format, where HEAD leads, and
 * whether the wanted ref is a branch or a tag. One `git ls-remote`, which servers answer for just the
 * refs in question.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { classified } from '../git/classify.ts';
import { whyNoRefName } from '../git/ref-name.ts';
import { git } from '../git/runner.ts';
import { refMissing, type WantedRef } from './clone-options.ts';
import { nearMatches } from './near-matches.ts';
import { OWN_PREFIX } from './registry-layout.ts';
import { type ConfigPair, configEnvironment } from './trust.ts';

/** What HEAD becomes. */
export type CheckoutWish =
  /** `ref` is refs/heads/...; nothing there yet in an empty repository. */
  | { readonly kind: 'branch'; readonly ref: string; readonly isBorn: boolean }
  /** A tag, or another ref that is no branch. */
  | { readonly kind: 'ref'; readonly ref: string }
  | { readonly kind: 'oid'; readonly oid: string }
  /** The start of an object id, to be looked up once all is there. */
  | { readonly kind: 'short-oid'; readonly prefix: string }
  /** The remote's HEAD leads to a branch that is not there. */
  | { readonly kind: 'none' };

export interface RemoteRefs {
  readonly objectFormat: 'sha1' | 'sha256';
  readonly wish: CheckoutWish;
  /** What the remote's HEAD stands for; undefined where it is detached or not told. */
  readonly defaultBranch: string | undefined;
}

export interface RemoteAccess {
  /** As given to git; without secrets. */
  readonly url: string;
  /** Outside of any repository. */
  readonly cwd: string;
  readonly config: readonly ConfigPair[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal | undefined;
}

/** Throws REF_INVALID, naming what is near; AUTH_FAILED, NETWORK and the like. */
export async function findRemoteRefs(access: RemoteAccess, want: WantedRef): Promise<RemoteRefs> {
  const candidates = candidateRefs(want);
  const listed = await listRemote(access, ['HEAD', ...candidates]);
  const anyOid = listed.oids.values().next().value;
  const wishOf = (): CheckoutWish | undefined => {
    const found = candidates.find((ref) => listed.oids.has(ref));
    if (found !== undefined) {
      return found.startsWith('refs/heads/')
        ? { kind: 'branch', ref: found, isBorn: true }
        : { kind: 'ref', ref: found };
    }
    if (want.kind === 'oid') return { kind: 'oid', oid: want.oid };
    if (want.kind === 'any' && /^[0-9a-f]{4,63}$/i.test(want.name))
      return { kind: 'short-oid', prefix: want.name };
    if (want.kind !== 'default') return undefined;
    const head = listed.oids.get('HEAD');
    if (listed.head === undefined) return head === undefined ? { kind: 'none' } : { kind: 'oid', oid: head };
    return { kind: 'branch', ref: listed.head, isBorn: head !== undefined };
  };
  const wish = wishOf();
  if (wish === undefined) throw await missing(access, want);
  if (wish.kind === 'none') return askEmptyRemote(access);
  const format = anyOid ?? (want.kind === 'oid' ? want.oid : undefined);
  return {
    objectFormat: format?.length === 64 ? 'sha256' : 'sha1',
    wish,
    defaultBranch: listed.head,
  };
}

/**
 * Without refs `ls-remote` tells neither the object format nor the name of the branch that is to come, but
 * git tells both to a clone of its own, which costs as little here.
 */
async function askEmptyRemote(access: RemoteAccess): Promise<RemoteRefs> {
  const scratch = await mkdtemp(join(access.cwd, `${OWN_PREFIX}-clone-`));
  const probe = join(scratch, 'probe');
  try {
    await runGit(access, ['clone', '--quiet', '--bare', '--depth=1', '--template=', '--', access.url, probe]);
    const format = await runGit(access, ['--git-dir', probe, 'rev-parse', '--show-object-format']);
    const head = await runGit(access, ['--git-dir', probe, 'symbolic-ref', 'HEAD']);
    const isEmpty = (await runGit(access, ['--git-dir', probe, 'for-each-ref', '--count=1'])) === '';
    return {
      objectFormat: format.trim() === 'sha256' ? 'sha256' : 'sha1',
      wish: isEmpty ? { kind: 'branch', ref: head.trim(), isBorn: false } : { kind: 'none' },
      defaultBranch: undefined,
    };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

function candidateRefs(want: WantedRef): string[] {
  if (want.kind === 'any') return [`refs/heads/${want.name}`, `refs/tags/${want.name}`];
  return want.kind === 'default' || want.kind === 'oid' ? [] : [want.ref];
}

const OID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

interface Listed {
  readonly oids: ReadonlyMap<string, string>;
  /** Where HEAD leads. */
  readonly head: string | undefined;
}

/** `refs`: full names. As a pattern such a name also fits the end of longer ones, which are left out. */
async function listRemote(access: RemoteAccess, refs: readonly string[]): Promise<Listed> {
  const stdout = await lsRemote(access, ['--symref'], refs);
  const oids = new Map<string, string>();
  let head: string | undefined;
  for (const line of stdout.split('\n')) {
    const [first, name] = line.split('\t');
    if (first === undefined || name === undefined) continue;
    if (first.startsWith('ref: ')) {
      const target = first.slice('ref: '.length);
      // A server can say anything; what is no branch is as good as nothing.
      const isBranch = target.startsWith('refs/heads/') && whyNoRefName(target) === undefined;
      if (name === 'HEAD' && isBranch) head = target;
    } else if (refs.includes(name) && OID.test(first)) {
      oids.set(name, first);
    }
  }
  return { oids, head };
}

/** Only when something is missing is the whole list worth its price. */
async function missing(access: RemoteAccess, want: WantedRef): Promise<Error> {
  const kinds =
    want.kind === 'branch'
      ? ['--heads']
      : want.kind === 'tag'
        ? ['--tags']
        : want.kind === 'full'
          ? []
          : ['--heads', '--tags'];
  const stdout = await lsRemote(access, [...kinds, '--refs'], []);
  const isFull = want.kind === 'full';
  const names = stdout
    .split('\n')
    .map((line) => line.split('\t')[1])
    .filter((name) => name !== undefined)
    .map((name) => (isFull ? name : name.replace(/^refs\/(?:heads|tags)\//, '')));
  const given = want.kind === 'any' ? want.name : 'given' in want ? want.given : '';
  const what = want.kind === 'any' ? 'branch or tag' : want.kind === 'full' ? 'ref' : want.kind;
  return refMissing(`${what} ${JSON.stringify(given)}`, nearMatches(given, names), access.url);
}

function lsRemote(
  access: RemoteAccess,
  flags: readonly string[],
  patterns: readonly string[],
): Promise<string> {
  return runGit(access, ['ls-remote', ...flags, '--end-of-options', access.url, ...patterns]);
}

async function runGit({ cwd, config, env, signal }: RemoteAccess, args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await git(args, {
      cwd,
      signal,
      env: {
        ...env,
        // Whatever repository lies around it has no say.
        GIT_CEILING_DIRECTORIES: dirname(cwd),
        ...configEnvironment(config, { ...process.env, ...env }),
      },
    });
    return stdout.toString('utf8');
  } catch (error) {
    throw classified(error);
  }
}
