/** One conversation with a remote: the operand for git, the credentials while it lasts, and progress. */
import { checkRemoteName } from '../../git/ref-name.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type AuthOptions, openAuth } from '../auth.ts';
import { AuthError } from '../errors.ts';
import type { GitPlace, PlaceRun } from '../git-place.ts';
import { type GitProgress, progressLines } from '../git-progress.ts';
import { parseRemoteUrl } from '../remote-url.ts';

/** What all operations over the network take. */
export interface Connection {
  /** What the user's own git configuration says, unless given. */
  readonly auth?: AuthOptions | undefined;
  /** Asked where `auth` is not given, with the first URL that is used. */
  readonly authFor?: ((url: string) => AuthOptions | undefined) | undefined;
  /** HTTP redirects; to another host they never bring a token along. False unless given. */
  readonly followRedirects?: boolean | undefined;
  readonly onProgress?: ((event: GitProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Calls `operate` with the operand for git (the name of a remote, or a URL) and the settings of its run. All URLs
 * the operation would use are checked before anything is sent: git would start a program for some.
 */
export async function withRemote<T>(
  place: GitPlace,
  remote: string,
  direction: 'fetch' | 'push',
  connection: Connection,
  operate: (operand: string, run: PlaceRun, urls: readonly string[]) => Promise<T>,
): Promise<T> {
  const { operand, urls } = await lookUp(place, remote, direction);
  const auth = connection.auth ?? connection.authFor?.(urls[0]!);
  await using session = await openAuth(auth, urls[0]!, {
    followRedirects: connection.followRedirects,
  });
  if (auth?.kind === 'token' && urls.some((url) => originOf(url) !== originOf(urls[0]!))) {
    throw new AuthError(
      `the remote ${remote} has URLs on several hosts: a token can be for one of them only`,
    );
  }
  const { onProgress, signal } = connection;
  try {
    return await operate(
      operand,
      {
        config: session.config,
        env: session.env,
        signal,
        ...(onProgress === undefined ? {} : { onStderr: progressLines(onProgress) }),
      },
      urls,
    );
  } catch (error) {
    throw session.refused.length === 0 ? error : withRefused(error, session.refused);
  }
}

function withRefused(error: unknown, refused: readonly string[]): unknown {
  if (!(error instanceof Git2dbError)) return error;
  return new Git2dbError(
    error.code,
    `${error.message}; ${refused.join(', ')} asked for the token too, and did not get it`,
    {
      cause: error,
      data: { ...error.data, refused },
    },
  );
}

async function lookUp(
  place: GitPlace,
  remote: string,
  direction: 'fetch' | 'push',
): Promise<{ operand: string; urls: readonly string[] }> {
  const push = direction === 'push' ? ['--push', '--all'] : [];
  if (isName(remote)) {
    const { stdout, status } = await place.git(['remote', 'get-url', ...push, '--', remote], {
      okStatus: [0, 2, 128],
    });
    const urls = stdout.toString('utf8').split('\n').filter(Boolean);
    if (status === 0 && urls.length > 0) {
      for (const url of urls) parseRemoteUrl(url, { cwd: place.workTree ?? place.gitDir });
      return { operand: remote, urls };
    }
  }
  const { url } = parseRemoteUrl(remote, { cwd: place.workTree ?? place.gitDir });
  return { operand: url, urls: [url] };
}

function isName(remote: string): boolean {
  try {
    checkRemoteName(remote);
    return true;
  } catch {
    return false;
  }
}

function originOf(url: string): string {
  try {
    return new URL(url).origin;
  } catch {
    return url;
  }
}
