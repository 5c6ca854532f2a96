/** Git's configuration as it is in force for a place, trust included: one process for all of it. */
import { splitZ } from '../../git/records.ts';
import { gitVersion } from '../../git/version.ts';
import type { GitPlace } from '../git-place.ts';
import type { DriverContext } from './driver.ts';

export class Settings {
  readonly #entries: readonly (readonly [key: string, value: string | undefined])[];

  constructor(entries: readonly (readonly [string, string | undefined])[]) {
    this.#entries = entries;
  }

  /** The last value; undefined: not set, or set without one. Keys in lower case. */
  get(key: string): string | undefined {
    return this.#entries.findLast(([each]) => each === key)?.[1];
  }

  /** False also where it is not set; a key without a value is true. */
  isTrue(key: string): boolean {
    const entry = this.#entries.findLast(([each]) => each === key);
    if (entry === undefined) return false;
    return entry[1] === undefined || /^(true|yes|on|[+-]?0*[1-9]\d*)$/i.test(entry[1]);
  }

  below(prefix: string): (readonly [key: string, value: string | undefined])[] {
    return this.#entries.filter(([key]) => key.startsWith(prefix));
  }

  entries(): Iterable<readonly [key: string, value: string | undefined]> {
    return this.#entries;
  }
}

/** The repository's settings, who commits here, and git's version: each is a process, and all can run at once. */
export interface GitAnswers {
  readonly settings: Promise<Settings>;
  readonly identity: Promise<string>;
}

/** Asks git before the answers are needed, so that they come while other processes run. */
export function askAhead({ place, signal }: Pick<DriverContext, 'place' | 'signal'>): GitAnswers {
  const answers = {
    settings: listSettings(place, signal),
    identity: askIdentity(place, signal),
    version: gitVersion(),
  };
  // A failure is told to whoever needs the answer.
  for (const answer of Object.values(answers)) answer.catch(() => {});
  return answers;
}

export function readSettings({
  place,
  signal,
  answers,
}: Pick<DriverContext, 'place' | 'signal' | 'answers'>): Promise<Settings> {
  return answers?.settings ?? listSettings(place, signal);
}

/** `Name <email> seconds zone`, for a reflog: who commits here, or we where git knows nobody. */
export function committerIdentity({
  place,
  signal,
  answers,
}: Pick<DriverContext, 'place' | 'signal' | 'answers'>): Promise<string> {
  return answers?.identity ?? askIdentity(place, signal);
}

async function listSettings(place: GitPlace, signal: AbortSignal | undefined): Promise<Settings> {
  const { stdout } = await place.git(['config', '--list', '-z'], { signal });
  return new Settings(
    [...splitZ(stdout)].map((record) => {
      const text = record.toString('utf8');
      const newline = text.indexOf('\n');
      return newline < 0 ? [text, undefined] : [text.slice(0, newline), text.slice(newline + 1)];
    }),
  );
}

async function askIdentity(place: GitPlace, signal: AbortSignal | undefined): Promise<string> {
  const { stdout, status } = await place.git(['var', 'GIT_COMMITTER_IDENT'], { okStatus: [0, 128], signal });
  if (status === 0) return stdout.toString('utf8').trim();
  return `git2db <git2db@localhost> ${Math.floor(Date.now() / 1000)} +0000`;
}
