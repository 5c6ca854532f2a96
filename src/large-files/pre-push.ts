/**
 * The pre-push hook (githooks(5)): git says what it is about to push, one line a ref on standard input, and
 * stops when the hook fails.
 *
 *     <local ref> SP <local oid> SP <remote ref> SP <remote oid> LF
 *
 * A local oid of zeros is a deletion, a remote one of zeros a new ref.
 */
import { Git2dbError } from '../xet/errors.ts';
import { GitRemotes } from './git-remotes.ts';
import { type PushContentOptions, type PushContentResult, pushContent } from './push.ts';
import { trackingOids } from './pushed-range.ts';
import { SKIP_PUSH } from './skip-push.ts';

export interface RefUpdate {
  readonly localRef: string;
  /** Undefined: the ref is deleted. */
  readonly localOid: string | undefined;
  readonly remoteRef: string;
  /** Undefined: there is none yet. */
  readonly remoteOid: string | undefined;
}

const ZEROS = /^0+$/;

/** The updates that are left to the hook. */
export function updatesToSee(updates: readonly RefUpdate[], env: NodeJS.ProcessEnv): readonly RefUpdate[] {
  const words = (env[SKIP_PUSH] ?? '').split(' ').filter(Boolean);
  if (words.length === 0) return updates;
  if (words.length === 1 && /^(?:1|true|yes|on)$/i.test(words[0]!)) return [];
  const sent = new Set(words);
  return updates.filter(({ localOid }) => localOid === undefined || !sent.has(localOid));
}

/** Throws PROTOCOL for what git would not write. */
export function parseUpdates(text: string): RefUpdate[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const match = /^(\S+) ([0-9a-f]{40}|[0-9a-f]{64}) (\S+) ([0-9a-f]{40}|[0-9a-f]{64})$/.exec(line);
      if (match === null) {
        throw new Git2dbError(
          'PROTOCOL',
          `expected "REF OID REF OID" from git on standard input, found ${JSON.stringify(line.slice(0, 120))}`,
        );
      }
      const [, localRef, localOid, remoteRef, remoteOid] = match as unknown as [
        string,
        string,
        string,
        string,
        string,
      ];
      return {
        localRef,
        localOid: ZEROS.test(localOid) ? undefined : localOid,
        remoteRef,
        remoteOid: ZEROS.test(remoteOid) ? undefined : remoteOid,
      };
    });
}

/** Sends what the updates need. `remote` is the remote's name, or its URL where it has none. */
export async function prePush(
  updates: readonly RefUpdate[],
  options: PushContentOptions,
): Promise<PushContentResult> {
  const tips = updates.flatMap(({ localOid }) => localOid ?? []);
  if (tips.length === 0) return { place: undefined, files: [], wireBytes: 0 };
  const git = options.git ?? GitRemotes.load(options);
  const known = updates.flatMap(({ remoteOid }) => remoteOid ?? []);
  // Those that are not here (a forced push over something unknown, a shallow clone) count for nothing.
  const boundaries = [...known, ...(await trackingOids(git, options))];
  return pushContent({ tips, boundaries }, { ...options, git });
}
