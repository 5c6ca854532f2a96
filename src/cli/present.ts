/** Things of the registry as a person or a program reads them. */
import { isUtf8 } from 'node:buffer';
import { quotePath } from '../filter-process/trace.ts';
import { pathText } from '../git/tree-path.ts';
import type { GitProgress, RepositoryRecord } from '../registry/index.ts';
import type { Output, Progress } from './output.ts';

export { count } from '../count.ts';

/** A value as JSON has it: undefined is null, bytes are base64. */
export function plain(value: unknown): unknown {
  if (value === undefined) return null;
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

export function recordDocument(record: RepositoryRecord, path: string): object {
  const { id, name, url, adopted, bare, trusted, trackingRef, createdAt, updatedAt, metadata } = record;
  return plain({
    id,
    name,
    url,
    path,
    adopted,
    bare,
    trusted,
    trackingRef,
    createdAt,
    updatedAt,
    metadata,
  }) as object;
}

export const RECORD_KEYS = `{"id","name","url","path","adopted","bare","trusted","trackingRef",
"createdAt","updatedAt","metadata"}`;

/**
 * A path is bytes and JSON is text: where it is not UTF-8, its bytes stand beside it as `pathBytes`, in base64.
 */
export function pathDocument(bytes: Buffer): { readonly path: string; readonly pathBytes?: string } {
  const { path, pathBytes } = pathText(bytes);
  return pathBytes === undefined ? { path } : { path, pathBytes: pathBytes.toString('base64') };
}

/** As `pathDocument`, for a list under the key `name`: all of their bytes, where one of them is not UTF-8. */
export function pathsDocument(name: string, paths: readonly Buffer[]): Record<string, readonly string[]> {
  const shown = { [name]: paths.map((path) => path.toString('utf8')) };
  if (paths.every((path) => isUtf8(path))) return shown;
  return { ...shown, [`${name}Bytes`]: paths.map((path) => path.toString('base64')) };
}

/** A path that need not be UTF-8, on one line. */
export function showPath({
  path,
  pathBytes,
}: {
  readonly path: string;
  readonly pathBytes?: Buffer;
}): string {
  return quotePath(pathBytes ?? Buffer.from(path));
}

/** Text that somebody else wrote: what would command the terminal is shown, not sent. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (character) => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}

export function shortOid(oid: string | undefined): string {
  return oid === undefined ? '-' : oid.slice(0, 10);
}

/** `2024-03-01 12:00:00 +0100`. */
export function showDate(seconds: number, offsetMinutes = 0): string {
  const text = new Date((seconds + offsetMinutes * 60) * 1000).toISOString();
  const offset = Math.abs(offsetMinutes);
  const two = (n: number) => String(n).padStart(2, '0');
  const zone = `${offsetMinutes < 0 ? '-' : '+'}${two(Math.floor(offset / 60))}${two(offset % 60)}`;
  return `${text.slice(0, 10)} ${text.slice(11, 19)} ${zone}`;
}

/** Hooks that did not run are told: a person may count on them. */
export function noteHooks(hooks: readonly string[], trusted: boolean, output: Output): void {
  if (hooks.length === 0) return;
  const why = trusted
    ? 'as asked'
    : "because the repository is not trusted ('git2db update REPO --trust' changes that)";
  output.note(`hooks that did not run, ${why}: ${hooks.join(', ')}`);
}

/** Git's own progress, one bar after the other. */
export class GitBars {
  readonly #output: Output;
  #title = '';
  #done = 0;
  #bar: Progress | undefined;

  constructor(output: Output) {
    this.#output = output;
  }

  show({ title, done, total }: GitProgress): void {
    if (title !== this.#title) {
      this.finish();
      this.#title = title;
      this.#bar = this.#output.progress(title, 'items', total);
    }
    this.#bar?.advance(done - this.#done);
    this.#done = done;
  }

  finish(): void {
    this.#bar?.finish();
    this.#bar = undefined;
    this.#title = '';
    this.#done = 0;
  }
}
