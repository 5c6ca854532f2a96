/** Who writes a commit or tag, and when; whatever is not given is git's own answer (environment, configuration). */
import { Git2dbError } from '../../xet/errors.ts';

/** A Date; whole seconds since 1970 (UTC); or text that git understands, such as `2024-03-01T12:00:00+0100`. */
export type GitDate = Date | number | string;

export interface Person {
  readonly name: string;
  readonly email: string;
  readonly date?: GitDate | undefined;
}

export interface IdentityOptions {
  readonly author?: Person | undefined;
  readonly committer?: Person | undefined;
  /** Of author and committer, where they do not bring their own. */
  readonly date?: GitDate | undefined;
}

/** GIT_AUTHOR_* and GIT_COMMITTER_*, as far as something is given. Throws USAGE. */
export function identityEnv(options: IdentityOptions): Record<string, string> {
  return {
    ...roleEnv('AUTHOR', options.author, options.date),
    ...roleEnv('COMMITTER', options.committer, options.date),
  };
}

function roleEnv(
  role: 'AUTHOR' | 'COMMITTER',
  person: Person | undefined,
  date: GitDate | undefined,
): Record<string, string> {
  const env: Record<string, string> = {};
  if (person !== undefined) {
    env[`GIT_${role}_NAME`] = checkWord(person.name, 'name');
    env[`GIT_${role}_EMAIL`] = checkWord(person.email, 'e-mail address');
  }
  const when = person?.date ?? date;
  if (when !== undefined) env[`GIT_${role}_DATE`] = dateText(when);
  return env;
}

/** `Name <address>`, for `--author`. */
export function identText({ name, email }: Person): string {
  return `${checkWord(name, 'name')} <${checkWord(email, 'e-mail address')}>`;
}

export function dateText(date: GitDate): string {
  if (typeof date === 'string') {
    if (date.trim() !== '' && !/[\0\n]/.test(date)) return date;
  } else {
    const seconds = typeof date === 'number' ? date : Math.floor(date.getTime() / 1000);
    if (Number.isSafeInteger(seconds) && seconds >= 0) return `@${seconds} +0000`;
  }
  throw new Git2dbError(
    'USAGE',
    `expected a date, whole seconds since 1970 or text that git reads as a date, found ${JSON.stringify(date)}`,
  );
}

function checkWord(text: string, what: string): string {
  if (typeof text === 'string' && !/[\0\n<>]/.test(text)) return text;
  throw new Git2dbError(
    'USAGE',
    `expected a ${what} without "<", ">" and newlines, found ${JSON.stringify(text)}`,
  );
}
