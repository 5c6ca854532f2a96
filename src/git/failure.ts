/** How a run of git that did not end well is told: the command, without secrets, and git's own last words. */

import { statSync } from 'node:fs';
import { errnoOf, Git2dbError } from '../xet/errors.ts';
import { type GitArg, shownWord } from './byte-words.ts';
import type { GitRun } from './runner.ts';

const STDERR_SHOWN_LINES = 12;
/** Git's progress goes to stderr too; `remote: ` before what the other side does. */
const PROGRESS = /^(?:remote: )?[A-Z][a-z ]+: +\d+(?:% \(\d+\/\d+\).*|(?:, done\.)?)$/;
/** Somebody asked git to stop; any other signal is a crash and reported as a failure. */
const STOP_SIGNALS: readonly string[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];

/** `text` with the user and password of every URL, and the value of any extra HTTP header, taken out. */
export function withoutSecrets(text: string): string {
  return text
    .replace(/:\/\/[^/\s'"]*@/g, '://')
    .replace(/(extraheader=|authorization:\s*)[^'"\n]*/gi, '$1***');
}

function commandLine(args: readonly GitArg[]): string {
  const words = args.map((arg) => {
    const known = withoutSecrets(shownWord(arg));
    const shown = known.length > 200 ? `${known.slice(0, 200)}...` : known;
    return /^[\w@%+=:,./^~{}-]+$/.test(shown) ? shown : JSON.stringify(shown);
  });
  const shown = words.length > 40 ? [...words.slice(0, 40), `... (${words.length - 40} more)`] : words;
  return ['git', ...shown].join(' ');
}

/** What an ended git is to be reported as; undefined for a status in `okStatus`. */
export function failureOf(
  args: readonly GitArg[],
  options: Pick<GitRun, 'cwd' | 'okStatus'>,
  status: number | null,
  signalName: NodeJS.Signals | null,
  stderrText: string,
): Error | undefined {
  if (signalName !== null && STOP_SIGNALS.includes(signalName)) return abortError(args, signalName);
  if (signalName === null && (options.okStatus ?? [0]).includes(status ?? -1)) return undefined;
  const how = signalName === null ? `failed with status ${status}` : `was killed by ${signalName}`;
  const stderr = withoutSecrets(stderrText);
  const lines = stderr.split(/[\r\n]+/).filter((line) => line.trim() !== '' && !PROGRESS.test(line));
  const shown = lines.slice(-STDERR_SHOWN_LINES).join('\n').slice(-2000);
  const place = options.cwd === undefined ? '' : ` in ${options.cwd}`;
  return new Git2dbError(
    'GIT_FAILED',
    `${commandLine(args)}${place} ${how}${shown === '' ? '' : `: ${shown}`}`,
    {
      data: {
        args: args.map((arg) => withoutSecrets(shownWord(arg))),
        cwd: options.cwd,
        status,
        signal: signalName,
        stderr,
      },
    },
  );
}

/** Why git could not be started: not there, a bad directory, or what the system said. */
export function notStarted(args: readonly GitArg[], options: Pick<GitRun, 'cwd'>, cause: unknown): Error {
  const errno = errnoOf(cause);
  const data = { args: args.map((arg) => withoutSecrets(shownWord(arg))), cwd: options.cwd };
  const { cwd } = options;
  if (cwd !== undefined && statSync(cwd, { throwIfNoEntry: false })?.isDirectory() !== true) {
    return new Git2dbError('GIT_FAILED', `cannot run git in ${cwd}: no such directory`, { cause, data });
  }
  if (errno === 'ENOENT' || errno === 'EACCES') {
    return new Git2dbError(
      'GIT_MISSING',
      'the program git was not found on PATH: install git (https://git-scm.com) or correct PATH',
      { cause, data },
    );
  }
  return new Git2dbError('GIT_FAILED', `cannot start ${commandLine(args)}: ${String(errno ?? cause)}`, {
    cause,
    data,
  });
}

export function tooMuchOutput(args: readonly GitArg[], limit: number): Error {
  return new Git2dbError(
    'LIMIT_EXCEEDED',
    `${commandLine(args)} wrote more than the ${limit} bytes allowed`,
    {
      data: { args: args.map((arg) => withoutSecrets(shownWord(arg))), limit },
    },
  );
}

/** Named AbortError; `cause` is the reason of the signal, or the name of the system's. */
export function abortError(args: readonly GitArg[], cause: unknown): Error {
  const error = new Error(`${commandLine(args)} was stopped before it ended`, { cause });
  error.name = 'AbortError';
  return error;
}
