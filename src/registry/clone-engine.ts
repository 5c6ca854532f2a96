/**
 * A clone in a directory that nobody else knows of yet.
 *
 * It is `git init`, configuration, `git fetch`, `git checkout` rather than `git clone`, because the filter
 * must be configured before the first file is written, because a token must not be in the URL that git
 * keeps, and because `git clone` cannot go on with what an interrupted one has fetched. What is left
 * behind is what `git clone` would have left: the same refs, the same settings.
 */
import { classified } from '../git/classify.ts';
import { git } from '../git/runner.ts';
import { makeDirectories } from '../make-directories.ts';
import { type AuthOptions, type AuthSession, configuredAuth, httpAuthority, openAuth } from './auth.ts';
import { explainRemoteFailure } from './clone-failure.ts';
import type { CheckedCloneOptions, CloneStage } from './clone-options.ts';
import { CloneSteps } from './clone-steps.ts';
import type { RegistryConfig } from './config.ts';
import { setUpLargeFiles } from './filter-setup.ts';
import { type GitPlace, openPlace, type PlaceRun } from './git-place.ts';
import { declinePushHook, setUpPushHook } from './push-hook.ts';
import { findRemoteRefs, type RemoteRefs } from './remote-refs.ts';
import { credentialsOf, type RemoteUrl } from './remote-url.ts';
import { wholeEnvironment } from './whole-environment.ts';

export interface CloneRequest {
  readonly remote: RemoteUrl;
  /** As the caller wrote it; may hold a secret, so it is only looked at. */
  readonly givenUrl: string;
  readonly options: CheckedCloneOptions;
  readonly config: RegistryConfig;
  /** The whole environment of git's runs; that of the process unless given. */
  readonly env: NodeJS.ProcessEnv | undefined;
  /** The registry's store; undefined: the repository's own. */
  readonly store: string | undefined;
}

export interface CloneResult {
  /** What HEAD's branch follows, `origin/main`; undefined for a detached HEAD and in a bare repository. */
  readonly trackingRef: string | undefined;
}

export interface RemoteQuestion extends AsyncDisposable {
  readonly session: AuthSession;
  readonly refs: RemoteRefs;
}

/** First contact: credentials and refs. Keep it open until the clone is done. `cwd`: outside of any repository. */
export async function askRemote(request: CloneRequest, cwd: string): Promise<RemoteQuestion> {
  const { remote, options, env } = request;
  const session = await openAuth(cloneAuth(request), remote.url, {
    followRedirects: options.followRedirects,
  });
  try {
    const access = {
      url: remote.url,
      cwd,
      config: session.config,
      env: { ...wholeEnvironment(env), ...session.env },
      signal: options.signal,
    };
    const refs = await findRemoteRefs(access, options.want);
    return { session, refs, [Symbol.asyncDispose]: () => session[Symbol.asyncDispose]() };
  } catch (error) {
    const failure = explainRemoteFailure(error, session, remote.url);
    await session[Symbol.asyncDispose]();
    throw failure;
  }
}

/** Makes or completes the repository in `directory`. Failures leave it as it is. */
export async function makeClone(
  request: CloneRequest,
  directory: string,
  { session, refs }: RemoteQuestion,
): Promise<CloneResult> {
  const { remote, options, env, store } = request;
  const { trusted, bare, signal } = options;
  const stage = (name: CloneStage) => options.progress?.({ kind: 'stage', stage: name });
  await initialise(directory, request, refs.objectFormat);
  const place = await openPlace(directory, { trusted, env });
  try {
    const run: PlaceRun = { config: session.config, env: session.env, signal };
    const steps = new CloneSteps(place, run, request, refs);
    await steps.configure();
    stage('fetching');
    await steps.fetch();
    const hasCommit = await steps.setHead();
    // A bare repository has worktrees one day, whose files pass through the filter too.
    await setUpLargeFiles(place, { store, signal });
    await setUpHook(place, options);
    if (!bare && hasCommit) {
      stage('checkout');
      await steps.checkOut();
      if (options.submodules !== false) {
        stage('submodules');
        await steps.submodules();
      }
    }
    return { trackingRef: bare ? undefined : steps.trackedBranch };
  } catch (error) {
    throw explainRemoteFailure(error, session, remote.url);
  } finally {
    await place.close();
  }
}

async function setUpHook(place: GitPlace, { hooks, signal, progress }: CheckedCloneOptions): Promise<void> {
  if (!hooks) return declinePushHook(place, signal);
  const problem = await setUpPushHook(place, signal);
  if (problem !== undefined) progress?.({ kind: 'warning', message: problem });
}

/** What the caller gave; else what the URL says; else a token of our configuration that is for this host. */
function cloneAuth({ givenUrl, remote, options, config }: CloneRequest): AuthOptions | undefined {
  if (options.auth !== undefined) return options.auth;
  if (remote.scheme !== 'https' && remote.scheme !== 'http') return undefined;
  const said = credentialsOf(givenUrl);
  if (said !== undefined && (said.password !== '' || looksLikeToken(said.username))) {
    // A URL with a password in it says by itself where that goes, plain http or not.
    const authority = httpAuthority(remote.url)!;
    return { kind: 'token', username: said.username, token: said.password || said.username, authority };
  }
  return configuredAuth(config, remote.url);
}

/** `https://<token>@host` is common; `https://<name>@host` is a hint for the user's own helper, which asks by host. */
function looksLikeToken(name: string): boolean {
  return (
    /^(?:hf_|gh[a-z]_|github_pat_|glpat-)/.test(name) ||
    (name.length >= 20 && /\d/.test(name) && /[a-z]/i.test(name))
  );
}

/** Again on what is there is harmless. No templates for an untrusted one: they are where hooks come from. */
async function initialise(directory: string, request: CloneRequest, objectFormat: string): Promise<void> {
  const { options, env } = request;
  makeDirectories(directory);
  const args = ['init', '--quiet', `--object-format=${objectFormat}`];
  if (!options.trusted) args.push('--template=');
  if (options.bare) args.push('--bare');
  try {
    await git([...args, '--', directory], {
      cwd: directory,
      signal: options.signal,
      env: wholeEnvironment(env),
    });
  } catch (error) {
    throw classified(error);
  }
}
