/** What a clone can be asked for, checked once. */
import { checkFullRefName, fullRefName } from '../git/ref-name.ts';
import { Git2dbError } from '../xet/errors.ts';
import type { AuthOptions } from './auth.ts';
import { ReferenceError_ } from './errors.ts';

export interface CloneOptions {
  /** `model` or `org/model`; the last part of the URL's path unless given. */
  readonly name?: string | undefined;
  /** What to check out: a branch, a tag, a full ref name or an object id. The remote's HEAD unless given. */
  readonly ref?: string | undefined;
  /** As `ref`, but nothing else than a branch (or a tag) will do. At most one of the three. */
  readonly branch?: string | undefined;
  readonly tag?: string | undefined;
  /** Commits of history, at least 1. As with git, only what is checked out is fetched then. */
  readonly depth?: number | undefined;
  /** History after a date, in any form git reads. */
  readonly shallowSince?: string | undefined;
  /** Partial clone: `blob:none`, `blob:limit=1m`, `tree:0`. */
  readonly filter?: string | undefined;
  /** `true`: the files of the top directory; or the directories to have beside them (cone mode). */
  readonly sparse?: boolean | readonly string[] | undefined;
  readonly bare?: boolean | undefined;
  /** Off unless asked. */
  readonly submodules?: boolean | 'recursive' | undefined;
  readonly auth?: AuthOptions | undefined;
  /** Whether git may run what the repository's own configuration and hooks say. Not unless told. */
  readonly trust?: boolean | undefined;
  /** False: without the pre-push hook that sends the content of large files at a plain `git push`. */
  readonly hooks?: boolean | undefined;
  /** The caller's own notes, for the registry. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** Of HTTP, to where the server says. Not unless told; a token never follows to another authority. */
  readonly followRedirects?: boolean | undefined;
  readonly progress?: ((event: CloneProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type CloneStage = 'waiting' | 'connecting' | 'fetching' | 'checkout' | 'submodules' | 'finishing';

export type CloneProgress =
  /** `resumed`: an earlier clone of this name was interrupted, and what it has is used. */
  | { readonly kind: 'stage'; readonly stage: CloneStage; readonly resumed?: boolean }
  /** Worth a line to the user, and fails nothing. */
  | { readonly kind: 'warning'; readonly message: string }
  /** A line of git's own progress, `Receiving objects`; `total` where git knows it. */
  | { readonly kind: 'git'; readonly title: string; readonly done: number; readonly total?: number };

/** What is wanted of a remote, by the words of the options. */
export type WantedRef =
  | { readonly kind: 'default' }
  | { readonly kind: 'branch' | 'tag' | 'full'; readonly ref: string; readonly given: string }
  /** A branch, else a tag; and where it is neither but looks like one, the start of an object id. */
  | { readonly kind: 'any'; readonly name: string }
  | { readonly kind: 'oid'; readonly oid: string };

export interface CheckedCloneOptions {
  readonly want: WantedRef;
  readonly depth: number | undefined;
  readonly shallowSince: string | undefined;
  readonly filter: string | undefined;
  /** Undefined: everything; else the directories, none for the top directory alone. */
  readonly sparse: readonly string[] | undefined;
  readonly bare: boolean;
  readonly submodules: false | 'direct' | 'recursive';
  readonly auth: AuthOptions | undefined;
  readonly trusted: boolean;
  readonly hooks: boolean;
  readonly followRedirects: boolean;
  readonly progress: ((event: CloneProgress) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

const FILTER =
  /^(blob:none|blob:limit=\d+[kmg]?|tree:\d+|object:type=(blob|tree|commit|tag)|sparse:oid=[\w./:-]+|combine:[\w.:=+%/-]+)$/i;

/** Throws USAGE or REF_INVALID for what cannot be; nothing has been started then. */
export function checkCloneOptions(options: CloneOptions): CheckedCloneOptions {
  const { depth, shallowSince, filter, bare = false, sparse, submodules = false } = options;
  if (depth !== undefined && (!Number.isSafeInteger(depth) || depth < 1 || depth > 0x7fffffff)) {
    throw usage(`depth: expected a number of commits from 1, found ${JSON.stringify(depth)}`);
  }
  if (depth !== undefined && shallowSince !== undefined) {
    throw usage('depth and shallowSince are two ways to say how much history: give one');
  }
  if (shallowSince !== undefined && (shallowSince.trim() === '' || /[\0\n]/.test(shallowSince))) {
    throw usage(`shallowSince: expected a date, found ${JSON.stringify(shallowSince)}`);
  }
  if (filter !== undefined && !FILTER.test(filter)) {
    throw usage(
      `filter: expected blob:none, blob:limit=<n>, tree:<depth> or another of git rev-list --filter, found ${JSON.stringify(filter)}`,
    );
  }
  const directories = sparse === true ? [] : sparse === false ? undefined : sparse;
  for (const directory of directories ?? []) checkSparseDirectory(directory);
  if (bare && directories !== undefined)
    throw usage('sparse is about the work tree, which a bare repository lacks: give one of the two');
  if (bare && submodules !== false)
    throw usage('submodules need a work tree, which a bare repository lacks: give one of the two');
  return {
    want: wantedRef(options),
    depth,
    shallowSince,
    filter,
    sparse: directories,
    bare,
    submodules: submodules === true ? 'direct' : submodules,
    auth: options.auth,
    trusted: options.trust === true,
    hooks: options.hooks !== false,
    followRedirects: options.followRedirects === true,
    progress: options.progress,
    signal: options.signal,
  };
}

function wantedRef({ ref, branch, tag }: CloneOptions): WantedRef {
  if ([ref, branch, tag].filter((word) => word !== undefined).length > 1) {
    throw usage('ref, branch and tag all say what to check out: give one');
  }
  if (branch !== undefined) return { kind: 'branch', ref: fullRefName('branch', branch), given: branch };
  if (tag !== undefined) return { kind: 'tag', ref: fullRefName('tag', tag), given: tag };
  if (ref === undefined || ref === 'HEAD') return { kind: 'default' };
  if (/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/i.test(ref)) return { kind: 'oid', oid: ref.toLowerCase() };
  if (ref.startsWith('refs/')) return { kind: 'full', ref: checkFullRefName(ref), given: ref };
  fullRefName('branch', ref);
  return { kind: 'any', name: ref };
}

/** Cone mode takes directories from the top, in lines. */
function checkSparseDirectory(directory: unknown): void {
  const sound =
    typeof directory === 'string' &&
    directory !== '' &&
    !/[\0\n\r"*?[\]\\]/.test(directory) &&
    !/^[/!#-]/.test(directory) &&
    !directory.split('/').some((part) => part === '..' || part === '.');
  if (!sound)
    throw usage(
      `sparse: expected directories from the top of the repository, such as "docs/images", found ${JSON.stringify(directory)}`,
    );
}

export function refMissing(what: string, near: readonly string[], url: string): ReferenceError_ {
  const hint = near.length === 0 ? '' : `; there are ${near.map((name) => JSON.stringify(name)).join(', ')}`;
  return new ReferenceError_(`${url} has no ${what}${hint}: correct the name`, { data: { what, near } });
}

function usage(message: string): Git2dbError {
  return new Git2dbError('USAGE', message);
}
