/**
 * Who makes a commit, by git's own rules: GIT_AUTHOR_* and GIT_COMMITTER_*, author.*, committer.*, user.*,
 * EMAIL, and what git finds out about the machine unless user.useConfigOnly forbids it.
 *
 * Our configuration (`gitName`, `gitEmail`) comes in where nobody told git a name or an address, before
 * git guesses one. It is git that is asked and that writes the result, so escaping and dates are its own.
 */
import { git } from '../git/runner.ts';
import { Git2dbError } from '../xet/errors.ts';
import type { RegistryConfig } from './config.ts';
import { type ConfigPair, configEnvironment } from './trust.ts';

export interface Signature {
  readonly name: string;
  readonly email: string;
  /** Seconds since 1970, UTC. */
  readonly timestamp: number;
  /** `+0200`. */
  readonly timezone: string;
}

export interface SignatureOptions {
  readonly name?: string | undefined;
  readonly email?: string | undefined;
  /** Whose variables and settings count; the author's unless given. */
  readonly role?: 'author' | 'committer' | undefined;
  /** The repository whose settings count; the current directory unless given. */
  readonly cwd?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface SignatureSources {
  readonly config: Pick<RegistryConfig, 'gitName' | 'gitEmail'>;
  /** Laid over this process's environment. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
}

/** Throws INVALID_CONFIG where nobody says who it is, and USAGE for a name or address that git refuses. */
export async function findSignature(
  options: SignatureOptions,
  { config, env = {} }: SignatureSources,
): Promise<Signature> {
  for (const part of ['name', 'email'] as const) checkPart(part, options[part]);
  const role = options.role === 'committer' ? 'COMMITTER' : 'AUTHOR';
  const { name, email } = options;
  const told: ConfigPair[] = [['user.useConfigOnly', 'true']];
  // Whoever says less of our own goes first: what git was told is never replaced by our configuration.
  const attempts: { name?: string | undefined; email?: string | undefined; settings: ConfigPair[] }[] = [
    { name, email, settings: told },
    { name: name ?? config.gitName, email, settings: told },
    { name, email: email ?? config.gitEmail, settings: told },
    { name: name ?? config.gitName, email: email ?? config.gitEmail, settings: told },
    { name: name ?? config.gitName, email: email ?? config.gitEmail, settings: [] },
  ];
  const tried = new Set<string>();
  let lastWords = '';
  for (const attempt of attempts) {
    const key = JSON.stringify(attempt);
    if (tried.has(key)) continue;
    tried.add(key);
    const { stdout, stderr, status } = await git(['var', `GIT_${role}_IDENT`], {
      cwd: options.cwd,
      signal: options.signal,
      okStatus: [0, 128],
      env: {
        ...env,
        ...(attempt.name === undefined ? {} : { [`GIT_${role}_NAME`]: attempt.name }),
        ...(attempt.email === undefined ? {} : { [`GIT_${role}_EMAIL`]: attempt.email }),
        ...configEnvironment(attempt.settings, { ...process.env, ...env }),
      },
    });
    if (status === 0) return parseIdent(stdout.toString('utf8'));
    lastWords = stderr.trim().split('\n').at(-1) ?? '';
  }
  throw new Git2dbError(
    'INVALID_CONFIG',
    `nobody says who makes commits (${lastWords.replace(/^fatal: /, '')}): set user.name and user.email with git config --global, or GIT2DB_GIT_NAME and GIT2DB_GIT_EMAIL`,
    { data: { role: role.toLowerCase() } },
  );
}

/** `A U Thor <author@example.org> 1112354055 +0200` */
export function parseIdent(text: string): Signature {
  const parts = /^([^<>]*?) ?<([^<>]*)> (\d+) ([+-]\d{4})\n?$/.exec(text);
  if (parts === null) {
    throw new Git2dbError(
      'PROTOCOL',
      `expected "name <email> seconds zone" of git var, found ${JSON.stringify(text)}`,
    );
  }
  const [, name, email, seconds, timezone] = parts as unknown as [string, string, string, string, string];
  return { name, email, timestamp: Number(seconds), timezone };
}

/** Git takes out what it does not like; a caller that gives such a thing is told instead. */
function checkPart(part: 'name' | 'email', value: string | undefined): void {
  if (value === undefined || (value.trim() !== '' && !/[<>\n\0]/.test(value))) return;
  throw new Git2dbError(
    'USAGE',
    `expected as ${part} text in one line without < and >, found ${JSON.stringify(value)}`,
  );
}
