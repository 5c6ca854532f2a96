/** Taking values out of a JSON text, with errors that say where in it they are wrong. */
import { isUtf8 } from 'node:buffer';
import { FormatError } from '../xet/errors.ts';
import { findFieldOffset } from './json-offset.ts';

export type Json = Readonly<Record<string, unknown>>;
/** Keys and indices that lead to a value. */
export type Field = readonly (string | number)[];

/** Throws REGISTRY_INVALID for bytes that are no UTF-8. `file` is for messages. */
export function decodeText(bytes: Uint8Array, file: string): string {
  const lenient = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  if (isUtf8(bytes)) return lenient;
  const offset = Math.max(0, lenient.indexOf('\uFFFD'));
  throw invalid(file, lenient, offset, 'expected UTF-8, found other bytes');
}

/** Checks values that were parsed from `text`, and says where they are when they are wrong. */
export class FieldReader {
  readonly #file: string;
  readonly #text: string;

  constructor(file: string, text: string) {
    this.#file = file;
    this.#text = text;
  }

  object(value: unknown, at: Field, key?: string): Json {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
    throw this.wrong(key === undefined ? at : [...at, key], 'an object', value);
  }

  /** The place, `at` and then `key`, is put together only for a message. */
  text(value: unknown, at: Field, key?: string): string {
    if (typeof value === 'string') return value;
    throw this.wrong(key === undefined ? at : [...at, key], 'a string', value);
  }

  optionalText(value: unknown, at: Field, key: string): string | undefined {
    return value === undefined ? undefined : this.text(value, at, key);
  }

  /** False where it is missing. */
  flag(value: unknown, at: Field, key: string): boolean {
    if (value === undefined) return false;
    if (typeof value === 'boolean') return value;
    throw this.wrong([...at, key], 'true or false', value);
  }

  integer(value: unknown, at: Field): number {
    if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
    throw this.wrong(at, 'a number that counts', value);
  }

  /** None where it is missing. */
  texts(value: unknown, at: Field, key: string): Record<string, string> {
    if (value === undefined) return {};
    const given = this.object(value, at, key);
    for (const name in given) if (typeof given[name] !== 'string') this.text(given[name], [...at, key], name);
    return given as Record<string, string>;
  }

  wrong(at: Field, expected: string, found: unknown): FormatError {
    const shown = found === undefined ? 'nothing' : JSON.stringify(found).slice(0, 80);
    return this.fault(at, `expected ${expected}, found ${shown}`);
  }

  fault(at: Field, what: string): FormatError {
    const name = at.map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`)).join('');
    const offset = findFieldOffset(this.#text, at) ?? 0;
    return invalid(this.#file, this.#text, offset, `${name === '' ? 'the whole' : name.slice(1)}: ${what}`);
  }
}

/** `offset` counts UTF-16 units of `text`; the error has bytes. */
export function invalid(file: string, text: string, offset: number, what: string): FormatError {
  const before = text.slice(0, offset);
  const line = before.split('\n').length;
  const column = offset - before.lastIndexOf('\n');
  const at = Buffer.byteLength(before);
  return new FormatError(
    'REGISTRY_INVALID',
    `${file} is broken at line ${line}, column ${column} (byte ${at}): ${what}. Nothing was changed. ` +
      'Correct the file, or let `git2db repair` put it aside and restore the last good one',
    at,
    { data: { file, line, column } },
  );
}
