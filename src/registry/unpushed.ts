/** Commits of one repository that no remote is known to have. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryAt } from '../git/repository.ts';
import { errnoOf } from '../xet/errors.ts';
import { type GitPlace, openPlace } from './git-place.ts';
import { readRemotes } from './remote-settings.ts';

export interface Unpushed {
  /** Names of refs whose newest commit is on no remote-tracking ref; `HEAD` when it is detached. */
  readonly refs: readonly string[];
  /** `stash@{0}`, ... */
  readonly stashes: readonly string[];
}

/** Copies of what remotes have, and refs of ours that hold nobody's work. */
const NOT_WORK = ['refs/remotes/', 'refs/prefetch/', 'refs/git2db/', 'refs/worktree/'];

export async function findUnpushed(
  place: GitPlace,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): Promise<Unpushed> {
  const env = { GIT_DIR: place.commonDir, GIT_NO_LAZY_FETCH: '1', GIT_NO_REPLACE_OBJECTS: '1' };
  const format = '%(objecttype) %(objectname) %(*objecttype) %(*objectname) %(refname)';
  const listed = await place.text(['for-each-ref', `--format=${format}`], { env, signal });
  const tips = new Map<string, string>();
  const pushed: string[] = [];
  const hasRemotes = readRemotes(place.commonDir).remotes.size > 0;
  for (const line of listed.split('\n')) {
    const match = /^(\S+) (\S+) (\S*) (\S*) (refs\/.+)$/.exec(line);
    if (match === null) continue;
    const [, type, oid, peeledType, peeled, name] = match as unknown as [
      string,
      string,
      string,
      string,
      string,
      string,
    ];
    const commit = type === 'commit' ? oid : peeledType === 'commit' ? peeled : undefined;
    if (commit === undefined) continue;
    if (name.startsWith('refs/remotes/') && hasRemotes) pushed.push(commit);
    if (name !== 'refs/stash' && !NOT_WORK.some((prefix) => name.startsWith(prefix))) tips.set(name, commit);
  }
  const { stdout, status } = await place.git(['rev-parse', '--verify', '--quiet', 'HEAD^{commit}'], {
    okStatus: [0, 1, 128],
    env,
    signal,
  });
  if (status === 0) tips.set('HEAD', stdout.toString('utf8').trim());
  const refs = pushed.length === 0 ? [...tips.keys()] : await unreached(place, tips, pushed, env, signal);
  return {
    // HEAD on a branch is that branch.
    refs: refs.filter(
      (name) => name !== 'HEAD' || !refs.some((ref) => ref !== 'HEAD' && tips.get(ref) === tips.get('HEAD')),
    ),
    stashes: await listStashes(place, env, signal),
  };
}

/** A ref holds something that is not pushed exactly if its newest commit is not. */
async function unreached(
  place: GitPlace,
  tips: ReadonlyMap<string, string>,
  pushed: readonly string[],
  env: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const wanted = new Set(tips.values());
  const input = `${[...wanted, ...pushed.map((oid) => `^${oid}`)].join('\n')}\n`;
  const { stdout } = place.stream(['rev-list', '--stdin'], { input, env, signal });
  const found = new Set<string>();
  let rest = '';
  for await (const piece of stdout) {
    const lines = (rest + piece.toString('latin1')).split('\n');
    rest = lines.pop()!;
    for (const oid of lines) if (wanted.has(oid)) found.add(oid);
  }
  return [...tips].filter(([, oid]) => found.has(oid)).map(([name]) => name);
}

async function listStashes(
  place: GitPlace,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const exists = await place.git(['rev-parse', '--verify', '--quiet', 'refs/stash'], {
    okStatus: [0, 1],
    env,
    signal,
  });
  if (exists.status !== 0) return [];
  const listed = await place.text(['log', '--walk-reflogs', '--format=%gd', 'refs/stash', '--'], {
    env,
    signal,
  });
  const names = listed.split('\n').filter((name) => name !== '');
  return names.length === 0 ? ['stash@{0}'] : names;
}

/** The repositories of submodules, which lie in that of the whole and go with it. */
export async function openSubmodules(place: GitPlace): Promise<GitPlace[]> {
  const places: GitPlace[] = [];
  for (const directory of moduleDirectories(join(place.commonDir, 'modules'))) {
    places.push(await openPlace(directory, { trusted: place.trusted, env: place.env }));
  }
  return places;
}

/** A submodule's name may hold slashes, and it may have submodules itself. */
function moduleDirectories(directory: string): string[] {
  let entries: string[];
  try {
    entries = readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => join(directory, name));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  }
  return entries.flatMap((path) => {
    const found = repositoryAt(path);
    return found?.commonDir === path
      ? [path, ...moduleDirectories(join(path, 'modules'))]
      : moduleDirectories(path);
  });
}
