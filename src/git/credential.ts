/**
 * Git's credential helpers (gitcredentials(7)), for services beside a git remote: what the user has set up
 * for git counts for them too. The secret goes through pipes only, never through an argument, the
 * environment or a file of ours.
 */
import { Git2dbError } from '../xet/errors.ts';
import { type GitRun, git } from './runner.ts';

export interface Credential {
  readonly username: string;
  readonly password: string;
}

export interface GitCredentials {
  /** Undefined where no helper knows any, and nobody could or would be asked. */
  fill(url: string): Promise<Credential | undefined>;
  /** The server took it: helpers may keep it. */
  approve(url: string, credential: Credential): Promise<void>;
  /** The server refused it: helpers forget it. */
  reject(url: string, credential: Credential): Promise<void>;
}

export interface CredentialOptions extends Pick<GitRun, 'cwd' | 'env' | 'signal'> {
  /** True: git may ask on the terminal, or by the user's askpass program. */
  readonly mayPrompt: boolean;
}

export function gitCredentials({ mayPrompt, ...place }: CredentialOptions): GitCredentials {
  const askNobody = { GIT_TERMINAL_PROMPT: '0', GIT_ASKPASS: '', SSH_ASKPASS: '' };
  const run: GitRun = {
    ...place,
    keepGitEnv: true,
    interactive: mayPrompt,
    env: { ...place.env, ...(mayPrompt ? {} : askNobody) },
  };
  async function tell(operation: 'approve' | 'reject', url: string, credential: Credential): Promise<void> {
    const input = describe(url, credential);
    if (input === undefined) return;
    // A helper that cannot keep or forget says so itself; the transfer does not depend on it.
    await git(['credential', operation], { ...run, input, okStatus: [0, 1, 128] });
  }
  return {
    async fill(url) {
      const input = describe(url);
      if (input === undefined) return undefined;
      // -c: without it, git's own askpass setting would be used where nobody may be asked.
      const quiet = mayPrompt ? [] : ['-c', 'core.askPass='];
      const { stdout, status } = await git([...quiet, 'credential', 'fill'], {
        ...run,
        input,
        okStatus: [0, 1, 128],
      });
      return status === 0 ? parse(stdout.toString('utf8'), url) : undefined;
    },
    approve: (url, credential) => tell('approve', url, credential),
    reject: (url, credential) => tell('reject', url, credential),
  };
}

/** The fields of git's protocol (git-credential(1), "INPUT/OUTPUT FORMAT"); undefined for no http(s) URL. */
function describe(url: string, credential?: Credential): string | undefined {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    return undefined;
  }
  const { protocol, host, pathname } = parsed;
  if (protocol !== 'https:' && protocol !== 'http:') return undefined;
  const fields: [string, string][] = [
    ['protocol', protocol.slice(0, -1)],
    ['host', host],
    // Git drops it unless credential.useHttpPath is set.
    ['path', decodePath(pathname.slice(1))],
  ];
  const username = credential?.username ?? decodePath(parsed.username);
  if (username !== '') fields.push(['username', username]);
  if (credential !== undefined) fields.push(['password', credential.password]);
  for (const [name, value] of fields) {
    if (/[\n\0]/.test(value)) {
      throw new Git2dbError('AUTH_FAILED', `the ${name} for ${protocol}//${host} holds a line break`);
    }
  }
  return `${fields.map(([name, value]) => `${name}=${value}\n`).join('')}\n`;
}

function parse(text: string, url: string): Credential | undefined {
  const fields = new Map(
    text.split('\n').flatMap((line): [string, string][] => {
      const equals = line.indexOf('=');
      return equals < 0 ? [] : [[line.slice(0, equals), line.slice(equals + 1)]];
    }),
  );
  // A helper may answer with another host; that is nobody's credential for this one.
  const { host, protocol } = new URL(url);
  if (
    (fields.get('host') ?? host) !== host ||
    `${fields.get('protocol') ?? protocol.slice(0, -1)}:` !== protocol
  )
    return undefined;
  const [username, password] = [fields.get('username'), fields.get('password')];
  return username === undefined || password === undefined || password === ''
    ? undefined
    : { username, password };
}

function decodePath(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
