/**
 * What the program says. Data goes to standard output; all else to standard error, and to the log that
 * GIT2DB_LOG and GIT2DB_LOG_FILE ask for.
 */
import { appendFileSync } from 'node:fs';
import { Git2dbError, messageOf } from '../xet/errors.ts';

const PROGRAM = 'git2db-mount';
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface Sink {
  write(text: string): unknown;
}

export interface ReportSettings {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly logLevel: LogLevel | undefined;
  readonly logFile: string | undefined;
}

export class Report {
  readonly #settings: ReportSettings;
  #logIsLost = false;
  #hasData = false;

  constructor(settings: ReportSettings) {
    this.#settings = settings;
  }

  /** What was asked for. */
  data(text: string): void {
    this.#hasData = true;
    this.#settings.stdout.write(`${text}\n`);
  }

  json(document: unknown): void {
    this.data(JSON.stringify(document, null, 2));
  }

  /** The document of a command that failed; one that has given its own before has given enough. */
  jsonError(document: unknown): void {
    if (!this.#hasData) this.json(document);
  }

  /** `--quiet` leaves it out. */
  note(line: string): void {
    this.#log('info', line);
    if (!this.#settings.quiet) this.#tell(line);
  }

  /** For those who asked for more with `--verbose`. */
  detail(line: string): void {
    this.#log('debug', line);
    if (this.#settings.verbose) this.#tell(line);
  }

  error(line: string): void {
    this.#log('error', line);
    this.#tell(line);
  }

  #tell(line: string): void {
    this.#settings.stderr.write(`${PROGRAM}: ${line}\n`);
  }

  #log(level: LogLevel, text: string): void {
    const { logLevel, logFile, stderr } = this.#settings;
    if (logLevel === undefined || LOG_LEVELS.indexOf(level) > LOG_LEVELS.indexOf(logLevel)) return;
    const line = `${new Date().toISOString()} ${level} ${text}\n`;
    try {
      if (logFile === undefined) stderr.write(line);
      else if (!this.#logIsLost) appendFileSync(logFile, line, { mode: 0o600 });
    } catch (error) {
      // A mount does not fail for want of a log.
      this.#logIsLost = true;
      this.#tell(`cannot write GIT2DB_LOG_FILE: ${messageOf(error)}`);
    }
  }
}

/** A log file without a level means `info`. Throws INVALID_CONFIG for a level that is none. */
export function readLogSettings(
  env: Readonly<Record<string, string | undefined>>,
): Pick<ReportSettings, 'logLevel' | 'logFile'> {
  const { GIT2DB_LOG: level, GIT2DB_LOG_FILE: logFile } = env;
  if (!level) return { logLevel: logFile ? 'info' : undefined, logFile: logFile || undefined };
  const logLevel = LOG_LEVELS.find((known) => known === level);
  if (logLevel === undefined) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `GIT2DB_LOG is '${level}'; expected one of ${LOG_LEVELS.join(', ')}`,
    );
  }
  return { logLevel, logFile: logFile || undefined };
}
