/** What a failed exchange with a remote means, where git's own words do not say what to do. */
import { withoutSecrets } from '../git/failure.ts';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import type { AuthSession } from './auth.ts';
import { AuthError, NetworkError, ReferenceError_ } from './errors.ts';

/** `error` itself where there is nothing to add. */
export function explainRemoteFailure(error: unknown, session: AuthSession, url: string): unknown {
  if (!(error instanceof Git2dbError)) return error;
  const text = withoutSecrets(`${messageOf(error)}\n${String(error.data.stderr ?? '')}`);
  const data = { url, stderr: error.data.stderr };
  if (/returned error: 30[12378]|unable to update url base from redirection/.test(text)) {
    return new NetworkError(
      `${url} answers with a redirection to another URL, which is not followed: use that URL, or allow it with followRedirects`,
      { cause: error, data },
    );
  }
  const unknown = /not our ref ([0-9a-f]+)|unadvertised object ([0-9a-f]+)/.exec(text);
  if (unknown !== null) {
    return new ReferenceError_(
      `${url} has no object ${unknown[1] ?? unknown[2]}, or does not give it out: give a branch or tag that holds it`,
      { cause: error, data },
    );
  }
  if (error.code === 'AUTH_FAILED' && session.refused.length > 0) {
    return new AuthError(
      `${session.refused.join(', ')} asked for credentials, which are for ${url} alone and were not sent there: correct the URL, or give the credentials of that host`,
      { cause: error, data: { ...data, refused: session.refused } },
    );
  }
  return error;
}
