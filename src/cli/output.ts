/**
 * Everything the command line says. Data goes to standard output; notes, warnings, progress and
 * the log go to standard error (the log to GIT2DB_LOG_FILE when that is set).
 */
import { appendFileSync } from 'node:fs';
import { Git2dbError, messageOf } from '../xet/errors.ts';

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Where text goes; `process.stdout` and `process.stderr` are such. */
export interface Sink {
  write(text: string | Uint8Array): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  /** Of a stream: more was written than its reader has taken. */
  readonly writableNeedDrain?: boolean | undefined;
  readonly once?: ((event: string, listener: () => void) => unknown) | undefined;
}

export interface OutputOptions {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly quiet: boolean;
  readonly verbose: boolean;
  /** Of what goes to stderr. */
  readonly color: boolean;
  /** Of data; false unless given. */
  readonly colorData?: boolean;
  /** Undefined: no log. */
  readonly logLevel: LogLevel | undefined;
  /** Undefined: the log goes to stderr. */
  readonly logFile: string | undefined;
}

export interface Progress {
  /** `amount` more is done. */
  advance(amount: number): void;
  /** Removes the bar; harmless when called twice. */
  finish(): void;
}

const STYLES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
export type Style = keyof typeof STYLES;

export interface TableColumn {
  readonly title: string;
  readonly align?: 'left' | 'right';
}

const PROGRESS_AFTER_MS = 1000;
const PROGRESS_EVERY_MS = 100;
const CLEAR_LINE = '\r\x1b[K';

export class Output {
  readonly #options: OutputOptions;
  #barShown = false;
  #hasData = false;
  #hasLines = false;

  constructor(options: OutputOptions) {
    this.#options = options;
  }

  /** A line of what was asked for. */
  data(line: string): void {
    this.text(`${line}\n`);
  }

  /** Exactly these characters of what was asked for. */
  text(text: string): void {
    this.#hasData = true;
    this.#clearBar();
    this.#options.stdout.write(text);
  }

  /** Exactly these bytes of what was asked for, which need not be text. */
  bytes(bytes: Uint8Array): void {
    this.#hasData = true;
    this.#clearBar();
    this.#options.stdout.write(bytes);
  }

  /** One of the documents of a command that goes on telling: each on a line of its own. */
  jsonLine(document: unknown): void {
    this.#hasLines = true;
    this.data(JSON.stringify(document));
  }

  /** Resolves when whoever reads the data has taken enough of it for more to come, or has gone away. */
  async drained(): Promise<void> {
    const { stdout } = this.#options;
    if (stdout.writableNeedDrain !== true || stdout.once === undefined) return;
    await new Promise<void>((resolve) => {
      for (const event of ['drain', 'close', 'error']) stdout.once!(event, () => resolve());
    });
  }

  /** The one document of `--json`. */
  json(document: unknown): void {
    this.data(JSON.stringify(document, null, 2));
  }

  /**
   * The document of a command with `--json` that failed as a whole. Where its own document was begun or given before,
   * standard error alone tells; where it goes on telling, this is the last line.
   */
  jsonError(document: unknown): void {
    if (!this.#hasData) this.json(document);
    else if (this.#hasLines) this.jsonLine(document);
  }

  /** A line for the person at the terminal; `--quiet` leaves it out. */
  note(line: string): void {
    this.log('info', line);
    if (!this.#options.quiet) this.#tell(line);
  }

  /** A line for those who asked for more with `--verbose`. */
  detail(line: string): void {
    this.log('debug', line);
    if (this.#options.verbose) this.#tell(line);
  }

  /** `text` in a colour, for data that a person looks at; as it is where standard output is no terminal. */
  style(style: Style, text: string): string {
    return this.#options.colorData === true ? `\x1b[${STYLES[style]}m${text}\x1b[0m` : text;
  }

  warn(line: string): void {
    this.log('warn', line);
    this.#tell(`git2db: ${this.#paint(33, 'warning:')} ${line}`);
  }

  error(line: string): void {
    this.log('error', line);
    this.#tell(`${this.#paint(31, 'git2db:')} ${line}`);
  }

  /** What GIT2DB_LOG asks for; a person at the terminal is addressed with note and warn. */
  log(level: LogLevel, text: string): void {
    const { logLevel, logFile, stderr } = this.#options;
    if (logLevel === undefined || LOG_LEVELS.indexOf(level) > LOG_LEVELS.indexOf(logLevel)) return;
    const line = `${new Date().toISOString()} ${level} ${text}\n`;
    if (logFile === undefined) {
      this.#clearBar();
      stderr.write(line);
      return;
    }
    try {
      appendFileSync(logFile, line, { mode: 0o600 });
    } catch (error) {
      throw new Git2dbError('INVALID_CONFIG', `cannot write GIT2DB_LOG_FILE: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  /** True when a line of the log at `level` would be written; saves composing it. */
  logs(level: LogLevel): boolean {
    const { logLevel } = this.#options;
    return logLevel !== undefined && LOG_LEVELS.indexOf(level) <= LOG_LEVELS.indexOf(logLevel);
  }

  /**
   * A bar on stderr, drawn only on a terminal and only when the work takes longer than a second.
   * `total` and the amounts are bytes or items, as `unit` says.
   */
  progress(label: string, unit: 'bytes' | 'items', total?: number): Progress {
    const { stderr, quiet } = this.#options;
    if (quiet || stderr.isTTY !== true) return { advance: () => {}, finish: () => {} };
    const start = performance.now();
    let done = 0;
    let nextDraw = start + PROGRESS_AFTER_MS;
    return {
      advance: (amount) => {
        done += amount;
        const now = performance.now();
        if (now < nextDraw) return;
        nextDraw = now + PROGRESS_EVERY_MS;
        const text = progressText(label, unit, done, total, (now - start) / 1000);
        stderr.write(CLEAR_LINE + text.slice(0, Math.max(0, (stderr.columns ?? 80) - 1)));
        this.#barShown = true;
      },
      finish: () => this.#clearBar(),
    };
  }

  /** As `progress`, for work whose amount is not known: what is done, and for how long already. */
  activity(label: string): { finish(): void } {
    const { stderr, quiet } = this.#options;
    if (quiet || stderr.isTTY !== true) return { finish: () => {} };
    const start = performance.now();
    const timer = setInterval(() => {
      const seconds = Math.floor((performance.now() - start) / 1000);
      stderr.write(`${CLEAR_LINE}${label}: ${seconds} s`.slice(0, Math.max(0, (stderr.columns ?? 80) - 1)));
      this.#barShown = true;
    }, PROGRESS_AFTER_MS);
    timer.unref();
    return {
      finish: () => {
        clearInterval(timer);
        this.#clearBar();
      },
    };
  }

  #tell(line: string): void {
    this.#clearBar();
    this.#options.stderr.write(`${line}\n`);
  }

  #clearBar(): void {
    if (!this.#barShown) return;
    this.#barShown = false;
    this.#options.stderr.write(CLEAR_LINE);
  }

  #paint(code: number, text: string): string {
    return this.#options.color ? `\x1b[${code}m${text}\x1b[0m` : text;
  }
}

export interface OutputEnvironment {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Settles what the flags and the environment say about talking. */
export function createOutput(flags: { quiet: boolean; verbose: boolean }, host: OutputEnvironment): Output {
  const { NO_COLOR: noColor, GIT2DB_LOG: level, GIT2DB_LOG_FILE: logFile, TERM: term } = host.env;
  const isPlain = Boolean(noColor) || term === 'dumb';
  return new Output({
    stdout: host.stdout,
    stderr: host.stderr,
    quiet: flags.quiet,
    verbose: flags.verbose,
    color: host.stderr.isTTY === true && !isPlain,
    colorData: host.stdout.isTTY === true && !isPlain,
    logLevel: parseLogLevel(level, logFile),
    logFile: logFile || undefined,
  });
}

/** A log file without a level means `info`. */
function parseLogLevel(level: string | undefined, logFile: string | undefined): LogLevel | undefined {
  if (!level) return logFile ? 'info' : undefined;
  const found = LOG_LEVELS.find((known) => known === level);
  if (found === undefined) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `GIT2DB_LOG is '${level}'; expected one of ${LOG_LEVELS.join(', ')}`,
    );
  }
  return found;
}

function progressText(
  label: string,
  unit: 'bytes' | 'items',
  done: number,
  total: number | undefined,
  seconds: number,
): string {
  const amount = (n: number) => (unit === 'bytes' ? formatBytes(n) : String(Math.round(n)));
  const share =
    total === undefined || total === 0
      ? amount(done)
      : `${Math.min(100, Math.floor((100 * done) / total))}% (${amount(done)} of ${amount(total)})`;
  return `${label}: ${share}, ${amount(done / seconds)}/s`;
}

/** `1536` -> `1.5 KiB`. */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`;
}

/** Lines of a table whose columns are padded to the widest cell; no line ends in a space. */
export function formatTable(columns: readonly TableColumn[], rows: readonly (readonly string[])[]): string[] {
  const widths = columns.map((column, c) =>
    rows.reduce((widest, row) => Math.max(widest, shownWidth(row[c] ?? '')), column.title.length),
  );
  const line = (cells: readonly string[]) =>
    columns
      .map(({ align }, c) => {
        const cell = cells[c] ?? '';
        const padding = ' '.repeat(widths[c]! - shownWidth(cell));
        return align === 'right' ? padding + cell : cell + padding;
      })
      .join('  ')
      .trimEnd();
  const titled = columns.some((column) => column.title !== '');
  return [...(titled ? [line(columns.map((column) => column.title))] : []), ...rows.map(line)];
}

/** Characters that take room: colours take none. */
function shownWidth(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours begin with one
  return text.includes('\x1b') ? text.replace(/\x1b\[\d+m/g, '').length : text.length;
}
