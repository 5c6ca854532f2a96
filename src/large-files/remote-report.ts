/** The remotes of a repository with the places of their content, and whether a hook sends it, for people. */
import { Git2dbError } from '../xet/errors.ts';
import { ContentRemotes } from './content-remotes.ts';
import { type HookState, prePushHook } from './hook-files.ts';
import type { Candidate, ChosenPlace } from './remote-choice.ts';
import type { Place } from './work-tree.ts';

export interface RemoteReport {
  readonly name: string;
  /** Without secrets. */
  readonly url: string;
  /** Where its content is kept; undefined: nowhere. */
  readonly place: string | undefined;
  /** In the order of precedence. */
  readonly candidates: readonly Candidate[];
  /** Why the choice could not be made. */
  readonly error: Git2dbError | undefined;
}

export interface RemotesReport {
  readonly remotes: readonly RemoteReport[];
  /** Whose pre-push hook git runs here. */
  readonly hook: HookState;
}

/** `ask`: whether servers may be asked. Throws NOT_A_REPOSITORY. */
export async function reportRemotes(
  { cwd, env }: Place,
  { ask, signal }: { readonly ask: boolean; readonly signal?: AbortSignal | undefined },
): Promise<RemotesReport> {
  await using remotes = new ContentRemotes({
    cwd,
    env,
    signal,
    mayPrompt: false,
    offline: !ask,
    refresh: ask,
    warn: () => {},
  });
  const reports: RemoteReport[] = [];
  for (const name of remotes.git.names()) reports.push(await reportOne(remotes, name));
  const { state } = await prePushHook(cwd);
  return { remotes: reports, hook: state };
}

async function reportOne(remotes: ContentRemotes, name: string): Promise<RemoteReport> {
  try {
    const { url, place, candidates } = await remotes.choose(name, 'push');
    return { name, url, place: place && nameOfPlace(place), candidates, error: undefined };
  } catch (error) {
    if (!(error instanceof Git2dbError)) throw error;
    return { name, url: '', place: undefined, candidates: [], error };
  }
}

function nameOfPlace(place: ChosenPlace): string {
  switch (place.kind) {
    case 'directory':
      return place.path;
    case 'address':
      return place.address;
    case 'service':
      return place.casUrl;
    default:
      return place.url;
  }
}
