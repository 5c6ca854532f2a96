/** Options that many commands of the registry share, and the words their manuals share. */
import { closeSync, openSync, readSync } from 'node:fs';
import { resolve } from 'node:path';
import type { AuthOptions, Person } from '../registry/index.ts';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import type { CommandContext, OptionSpecs, OptionValues } from './command.ts';

export const REGISTRY_OPTIONS = {
  registry: {
    type: 'string',
    describe: 'The directory of the registry (default: GIT2DB_REGISTRY, else the nearest one above)',
    complete: 'directory',
  },
} as const satisfies OptionSpecs;

export const WORKTREE_OPTIONS = {
  ...REGISTRY_OPTIONS,
  worktree: {
    type: 'string',
    describe: 'Do it in this worktree of the repository: its branch, path or id',
    complete: 'worktree',
  },
} as const satisfies OptionSpecs;

/** The last paragraph of the manuals of commands that take a repository. */
export const REPO_MANUAL = `REPO is the name, the id or the URL of a repository of the registry, or "." for the
one of the current directory; where no other operand follows it may be left out and
is "." then.`;

export const WORKTREE_MANUAL = `${REPO_MANUAL} It works in the main work tree, or in that which --worktree names;
with "." in the worktree of the current directory.`;

export const PATH_MANUAL =
  'A PATH starts at the top of the work tree; with "." as REPO, at the current directory.';

export const CONFLICT_MANUAL = `Stopped at conflicts, it leaves them in the files and exits with 61: resolve and stage
them, then --continue, or --abort to be where it began.`;

export const CONFLICT_KEYS = `Stopped at conflicts: {"stopped","conflicts":[{"path","kind","stages":{"base","ours",
"theirs"}}]}.`;

export const COMMON_EXIT_CODES = [
  [53, 'There is no such repository; near names are told'],
  [55, 'There is no registry, or it is broken'],
] as const;

// ---- who commits -----------------------------------------------------------------------------

export function parsePerson(option: string, text: string | undefined): Person | undefined {
  if (text === undefined) return undefined;
  const [, name, email] = /^\s*(.*?)\s*<([^<>]*)>\s*$/.exec(text) ?? [];
  if (name === undefined || email === undefined || name === '') {
    throw new Git2dbError('USAGE', `--${option}: expected 'Name <address>', found '${text}'`);
  }
  return { name, email };
}

export const SIGN_OPTIONS = {
  sign: { type: 'boolean', describe: 'Sign it with the configured key', conflicts: ['no-sign'] },
  'sign-key': { type: 'string', describe: 'Sign it with this key', conflicts: ['no-sign'] },
  'no-sign': { type: 'boolean', describe: 'Do not sign it, whatever is configured' },
} as const satisfies OptionSpecs;

export function signOf(options: OptionValues<typeof SIGN_OPTIONS>): boolean | string | undefined {
  if (options['no-sign']) return false;
  return options['sign-key'] ?? (options.sign ? true : undefined);
}

/** Several -m are paragraphs. */
export function messageText(
  options: { readonly message: readonly string[]; readonly file: string | undefined },
  context: CommandContext,
): string | undefined {
  if (options.file !== undefined) return readText(options.file, context);
  return options.message.length === 0 ? undefined : options.message.join('\n\n');
}

export const MESSAGE_OPTIONS = {
  message: {
    type: 'string',
    alias: 'm',
    repeat: true,
    describe: 'The message; given again, a further paragraph',
    conflicts: ['file'],
  },
  file: {
    type: 'string',
    alias: 'F',
    describe: 'A file with the message; - for standard input',
    complete: 'file',
  },
} as const satisfies OptionSpecs;

// ---- remotes ---------------------------------------------------------------------------------

export const AUTH_OPTIONS = {
  'token-file': {
    type: 'string',
    describe: 'A file whose first line is a token or password for an HTTP remote; - for standard input',
    complete: 'file',
    conflicts: ['token-env', 'ssh-key', 'anonymous'],
  },
  'token-env': {
    type: 'string',
    describe: 'The environment variable that holds the token',
    conflicts: ['ssh-key', 'anonymous'],
  },
  'token-user': { type: 'string', describe: 'The user name that goes with the token' },
  'token-for': {
    type: 'string',
    describe: 'https://HOST[:PORT] that may get the token, if not that of the URL',
  },
  'ssh-key': {
    type: 'string',
    describe: 'The private key for an ssh remote, and no other',
    complete: 'file',
    conflicts: ['anonymous'],
  },
  anonymous: { type: 'boolean', describe: 'Ask no credential helper' },
  'follow-redirects': {
    type: 'boolean',
    describe: 'Go where an HTTP server redirects to (never with the token)',
  },
} as const satisfies OptionSpecs;

export const AUTH_MANUAL = `Without another word git's own configuration is asked for credentials (helpers, agents).
A token is never an argument: it comes from a file, from standard input or from an
environment variable, goes to one host only, and is stored nowhere.`;

/** Throws USAGE. */
export function authOf(
  options: OptionValues<typeof AUTH_OPTIONS>,
  context: CommandContext,
): { readonly auth?: AuthOptions; readonly followRedirects: boolean } {
  const followRedirects = options['follow-redirects'];
  const token = tokenOf(options, context);
  for (const name of ['token-user', 'token-for'] as const) {
    if (token === undefined && options[name] !== undefined) {
      throw new Git2dbError('USAGE', `--${name} is about a token: give --token-file or --token-env`);
    }
  }
  if (token !== undefined) {
    const { 'token-user': username, 'token-for': authority } = options;
    const auth: AuthOptions = {
      kind: 'token',
      token,
      ...(username === undefined ? {} : { username }),
      ...(authority === undefined ? {} : { authority }),
    };
    return { auth, followRedirects };
  }
  const key = options['ssh-key'];
  if (key !== undefined)
    return { auth: { kind: 'ssh-key', path: resolve(context.cwd, key) }, followRedirects };
  return options.anonymous ? { auth: { kind: 'none' }, followRedirects } : { followRedirects };
}

function tokenOf(options: OptionValues<typeof AUTH_OPTIONS>, context: CommandContext): string | undefined {
  const { 'token-env': variable, 'token-file': file } = options;
  if (variable === undefined && file === undefined) return undefined;
  const where = variable === undefined ? `--token-file ${file}` : `--token-env ${variable}`;
  const text = variable === undefined ? readText(file!, context) : context.env[variable];
  const token = text?.split('\n', 1)[0]?.trim();
  if (token === undefined || token === '') {
    throw new Git2dbError(
      'USAGE',
      `${where}: expected a token, found ${text === undefined ? 'nothing' : 'an empty one'}`,
    );
  }
  return token;
}

// ---- files and numbers -----------------------------------------------------------------------

/** Enough for any message, and an end to `/dev/zero`. */
const MAX_TEXT = 16 << 20;

/** A file named on the command line, `-` for standard input. Throws USAGE. */
export function readText(path: string, { cwd, stdin }: CommandContext): string {
  let fd: number | undefined;
  try {
    fd = path === '-' ? stdin : openSync(resolve(cwd, path), 'r');
    const pieces: Buffer[] = [];
    for (let total = 0; total <= MAX_TEXT; ) {
      const piece = Buffer.alloc(65536);
      const length = readSync(fd, piece);
      if (length === 0) return Buffer.concat(pieces).toString('utf8');
      pieces.push(piece.subarray(0, length));
      total += length;
    }
  } catch (error) {
    throw new Git2dbError('USAGE', `cannot read ${path}: ${messageOf(error)}`, { cause: error });
  } finally {
    if (fd !== undefined && path !== '-') closeSync(fd);
  }
  throw new Git2dbError('USAGE', `cannot read ${path}: it holds more than ${MAX_TEXT} bytes`);
}

/** Throws USAGE. */
export function wholeNumber(option: string, value: number | undefined, least = 0): number | undefined {
  if (value === undefined || (Number.isSafeInteger(value) && value >= least)) return value;
  throw new Git2dbError('USAGE', `--${option} needs a whole number from ${least}, found ${value}`);
}

/** `KEY=VALUE`, several. Throws USAGE. */
export function parsePairs(option: string, words: readonly string[]): Record<string, string> {
  const pairs: Record<string, string> = {};
  for (const word of words) {
    const equals = word.indexOf('=');
    if (equals < 1) throw new Git2dbError('USAGE', `--${option}: expected KEY=VALUE, found '${word}'`);
    pairs[word.slice(0, equals)] = word.slice(equals + 1);
  }
  return pairs;
}

export const RESUME_OPTIONS = {
  continue: {
    type: 'boolean',
    describe: 'Go on after conflicts were resolved and staged',
    conflicts: ['abort'],
  },
  abort: { type: 'boolean', describe: 'Go back to where it began' },
} as const satisfies OptionSpecs;

export const SKIP_OPTIONS = {
  continue: { ...RESUME_OPTIONS.continue, conflicts: ['abort', 'skip'] },
  abort: { ...RESUME_OPTIONS.abort, conflicts: ['skip'] },
  skip: { type: 'boolean', describe: 'Go on without the commit at which it stopped' },
} as const satisfies OptionSpecs;

/** Which of these was asked for; then there is no other operand than REPO. Throws USAGE. */
export function resumption<K extends string>(
  options: Readonly<Record<K, unknown>>,
  keys: readonly K[],
  operands: readonly string[],
): K | undefined {
  const key = keys.find((each) => options[each] === true);
  if (key !== undefined && operands.length > 1) {
    throw new Git2dbError('USAGE', `--${key} takes no other operand than REPO, found '${operands[1]}'`);
  }
  return key;
}

/** Throws USAGE for fewer operands, unless something is resumed. */
export function requireOperands(usage: string, least: number, operands: readonly string[]): void {
  if (operands.length >= least) return;
  const found = operands.length === 0 ? 'nothing' : String(operands.length);
  throw new Git2dbError('USAGE', `expected ${usage}, found ${found}`);
}
