/** What every bench is told on its command line. */
export interface SharedOptions<Case extends string> {
  readonly cases: ReadonlySet<Case>;
  readonly rounds: number;
  readonly json: boolean;
  /**
   * Where to work; the inputs stay there for the next time. A directory that is removed unless given. For mounts it
   * must be on a file system that can hold an upper.
   */
  readonly dir: string | undefined;
}

/** For `parseArgs`. */
export const SHARED_OPTIONS = {
  case: { type: 'string', multiple: true },
  rounds: { type: 'string' },
  json: { type: 'boolean' },
  dir: { type: 'string' },
  help: { type: 'boolean' },
} as const;

interface SharedValues {
  readonly case?: string[] | undefined;
  readonly rounds?: string | undefined;
  readonly json?: boolean | undefined;
  readonly dir?: string | undefined;
}

/** All cases, and so many rounds, unless `values` say otherwise. Throws an Error with a message for a person. */
export function sharedOptions<Case extends string>(
  values: SharedValues,
  cases: readonly Case[],
  rounds: number,
): SharedOptions<Case> {
  return {
    cases: new Set((values.case ?? cases).map((name) => known('--case', name, cases))),
    rounds: whole('--rounds', values.rounds, rounds),
    json: values.json === true,
    dir: values.dir,
  };
}

export function known<Name extends string>(option: string, text: string, names: readonly Name[]): Name {
  const found = names.find((name) => name === text);
  if (found === undefined) throw new Error(`${option} ${text}: expected one of ${names.join(', ')}`);
  return found;
}

export function positive(option: string, text: string | undefined, fallback: number): number {
  const number = text === undefined ? fallback : Number(text);
  if (!(number > 0)) throw new Error(`${option} ${text}: expected a number above 0`);
  return number;
}

export function whole(option: string, text: string | undefined, fallback: number): number {
  const number = positive(option, text, fallback);
  if (!Number.isInteger(number)) throw new Error(`${option} ${text}: expected a whole number from 1`);
  return number;
}
