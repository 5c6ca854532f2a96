/**
 * The text of a mount's record: one JSON document, described in docs/format/mount-records.md.
 *
 * Paths are bytes. Such are written as `{"text": "<text>"}`, and as `{"base64": "<bytes>"}` where they are
 * not UTF-8.
 */
import { isUtf8 } from 'node:buffer';
import { FormatError } from '../xet/errors.ts';
import type { MountOptions } from './mount-options.ts';
import type { MountRecord } from './mount-records.ts';

const VERSION = 1;

/** Bytes as they stand in JSON. */
type BytesText = { readonly text: string } | { readonly base64: string };

function encodeBytes(bytes: Buffer): BytesText {
  return isUtf8(bytes) ? { text: bytes.toString() } : { base64: bytes.toString('base64') };
}

export function encodeRecord(record: MountRecord): string {
  return `${JSON.stringify({ version: VERSION, ...record }, writeBytes, 2)}\n`;
}

/** Replacer of `JSON.stringify`, which has called `toJSON` of a Buffer by the time it asks. */
function writeBytes(this: unknown, key: string, value: unknown): unknown {
  const original = (this as Record<string, unknown>)[key];
  return Buffer.isBuffer(original) ? encodeBytes(original) : value;
}

/** Reviver of `JSON.parse`: the inverse. */
function readBytes(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const { text, base64, ...rest } = value as { text?: unknown; base64?: unknown };
  if (Object.keys(rest).length > 0) return value;
  if (typeof text === 'string' && base64 === undefined) return Buffer.from(text);
  if (typeof base64 === 'string' && text === undefined) return Buffer.from(base64, 'base64');
  return value;
}

/** Options as JSON text, for handing them to another process. */
export function encodeOptions(options: MountOptions): string {
  return JSON.stringify(options, writeBytes);
}

export function decodeOptions(text: string): MountOptions {
  return pickFields('options', JSON.parse(text, readBytes), OPTION_FIELDS);
}

/** Throws FormatError INVALID_RECORD. `id`: from the name of the file. */
export function decodeRecord(bytes: Buffer, id: string): MountRecord {
  let document: unknown;
  try {
    document = JSON.parse(bytes.toString(), readBytes);
  } catch (error) {
    throw new FormatError(
      'INVALID_RECORD',
      `record of a mount: expected JSON, found ${bytes.length} bytes of other text`,
      0,
      {
        cause: error,
      },
    );
  }
  const version = (document as { version?: unknown } | null)?.version;
  if (version !== VERSION) {
    throw new FormatError(
      'INVALID_RECORD',
      `record of a mount: expected version ${VERSION}, found ${JSON.stringify(version)}; use the git2db that wrote it`,
      0,
    );
  }
  const record = pickFields('record', document, RECORD_FIELDS);
  if (record.id !== id) {
    throw new FormatError('INVALID_RECORD', `record of a mount: expected id ${id}, found ${record.id}`, 0);
  }
  return { ...record, options: pickFields('options', record.options, OPTION_FIELDS) };
}

type Check = (value: unknown) => boolean;
type Fields<T> = { readonly [K in keyof T]-?: Check };

/** The known fields of `value`, each checked; what a newer writer has added is left out. */
function pickFields<T>(what: string, value: unknown, fields: Fields<T>): T {
  if (!isObject(value)) throw new FormatError('INVALID_RECORD', `${what} of a mount: expected an object`, 0);
  const picked: Record<string, unknown> = {};
  for (const [name, check] of Object.entries<Check>(fields)) {
    const found = (value as Record<string, unknown>)[name];
    if (!check(found)) {
      const text = JSON.stringify(found) ?? 'nothing';
      throw new FormatError('INVALID_RECORD', `${what} of a mount: '${name}' cannot be ${text}`, 0);
    }
    if (found !== undefined) picked[name] = found;
  }
  return picked as T;
}

const isObject: Check = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const isText: Check = (value) => typeof value === 'string';
const isFlag: Check = (value) => typeof value === 'boolean';
const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isNumber: Check = (value) => /^\d+$/.test(String(value)) && isText(value);
const isDuration: Check = (value) => typeof value === 'number' && value >= 0;
const isPath: Check = (value) => Buffer.isBuffer(value) && value[0] === 0x2f && !value.includes(0);
const isOneOf =
  (...words: readonly unknown[]): Check =>
  (value) =>
    words.includes(value);
const isListOf =
  (item: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(item);
const isMissingOr =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);
const isBackend = isOneOf('kernel', 'userns', 'fuse');

function has(value: unknown, fields: Readonly<Record<string, Check>>): boolean {
  if (!isObject(value)) return false;
  return Object.entries(fields).every(([name, check]) => check((value as Record<string, unknown>)[name]));
}

const isRange: Check = (value) => has(value, { inside: isCount, outside: isCount, count: isCount });
const isProcess: Check = (value) => has(value, { pid: isCount, startTime: isNumber });

const RECORD_FIELDS: Fields<MountRecord> = {
  id: (value) => typeof value === 'string' && /^[0-9a-f]{16}$/.test(value),
  options: isObject,
  backend: isBackend,
  phase: isOneOf('mounting', 'mounted', 'detached', 'lost'),
  bootId: isText,
  mountNamespace: isNumber,
  pidNamespace: isNumber,
  device: isMissingOr((value) => /^\d+:\d+$/.test(String(value))),
  upperIdentity: isMissingOr((value) => /^\d+:\d+$/.test(String(value))),
  process: isMissingOr(isProcess),
  users: isMissingOr(isListOf(isProcess)),
  since: isCount,
};

const OPTION_FIELDS: Fields<MountOptions> = {
  lowers: (value) => isListOf(isPath)(value) && (value as unknown[]).length > 0,
  upper: isMissingOr(isPath),
  work: isMissingOr(isPath),
  merged: isPath,
  source: isText,
  backend: isOneOf('kernel', 'userns', 'fuse', 'auto'),
  foreground: isFlag,
  debug: isFlag,
  readOnly: isFlag,
  volatile: isFlag,
  nonempty: isFlag,
  squashToUid: isMissingOr(isCount),
  squashToGid: isMissingOr(isCount),
  uidMapping: isListOf(isRange),
  gidMapping: isListOf(isRange),
  allowOther: isMissingOr(isFlag),
  defaultPermissions: isMissingOr(isFlag),
  xattrPermissions: isOneOf(0, 1, 2),
  noacl: isFlag,
  timeoutMs: isMissingOr(isDuration),
  whiteouts: isOneOf('auto', 'kernel', 'all'),
  passthrough: isMissingOr(isOneOf('auto', 'on', 'off')),
  index: isMissingOr(isFlag),
  metacopy: isMissingOr(isFlag),
  redirectDir: isMissingOr(isOneOf('on', 'off', 'follow', 'nofollow')),
  xino: isMissingOr(isOneOf('on', 'off', 'auto')),
  namespace: isMissingOr(isOneOf('trusted', 'user')),
  securityContexts: isListOf((value) => Buffer.isBuffer(value)),
  flags: isListOf(isOneOf('nosuid', 'nodev', 'noexec', 'noatime')),
};
