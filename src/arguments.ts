/**
 * The checked door of what programs call: JavaScript knows no types, and a text where an object belongs would end
 * somewhere inside, in a TypeError about something else, or be taken for "true".
 */
import { types } from 'node:util';
import { Git2dbError } from './xet/errors.ts';

const KINDS = {
  text: ['text', (value) => typeof value === 'string'],
  number: ['a number', (value) => typeof value === 'number'],
  flag: ['true or false', (value) => typeof value === 'boolean'],
  function: ['a function', (value) => typeof value === 'function'],
  null: ['null', (value) => value === null],
  // By what they are, not by whose class: a test environment has classes of its own.
  date: ['a Date', types.isDate],
  signal: ['an AbortSignal', isSignal],
  bytes: ['a Uint8Array', isBytes],
  array: ['an array', (value) => Array.isArray(value)],
  objects: ['an array of objects', (value) => isListOf(value, isObject)],
  iterable: ['something to iterate over', isIterable],
  texts: ['an array of texts', (value) => isListOf(value, isText)],
  paths: [
    'an array of texts or Uint8Arrays',
    (value) => isListOf(value, (each) => isText(each) || isBytes(each)),
  ],
  object: ['an object', isObject],
  /** One whose fields are not looked at. */
  any: ['an object', isObject],
} as const satisfies Record<string, readonly [says: string, holds: (value: unknown) => boolean]>;

type Kind = keyof typeof KINDS;

/** Of options: what a field of this name takes, wherever it is met. Names with several meanings are not here. */
const FIELDS = new Map<string, readonly Kind[]>(
  (
    [
      [
        'text',
        'branch email id message mode newBranch onto ref remote repo revision shallowSince strategy tag',
      ],
      ['text', 'contains noMerged pointsAt order pickaxe driver backend cleanup store'],
      ['number', 'depth limit context mainline maxConcurrent intervalMs deepen'],
      [
        'flag',
        'allowEmpty allowEmptyMessage allowUnrelated amend autosquash autostash bare cached chain counts detach',
      ],
      [
        'flag',
        'dryRun ephemeral firstParent followRedirects hooks intent keepEmpty keepIndex noCommit prune readOnly',
      ],
      ['flag', 'recordOrigin recursive renormalize signoff squash staged trust trusted adopted all'],
      ['object', 'config env metadata manager'],
      ['function', 'authFor onContent onProgress onWait progress warn'],
      ['signal', 'signal'],
      ['text', 'name path'],
      ['text null', 'url trackingRef from to'],
      ['flag', 'force'],
      ['paths', 'paths'],
      [
        'texts',
        'branches delete exclude exec fields heads ignoreRevisions include pushOptions strategyOptions',
      ],
      ['flag texts', 'patterns'],
      ['array', 'trailers lines'],
      ['text texts', 'refs'],
      ['text object', 'author committer'],
      ['text number date', 'date'],
    ] as const
  ).flatMap(([kinds, names]) => names.split(' ').map((name) => [name, kinds.split(' ') as Kind[]] as const)),
);

/**
 * `'name'` is text, `'options'` an object whose fields are looked at, and `'name:kind|kind'` anything else; with `?`
 * after the name it may be left out.
 */
export type Parameter = string;

interface Expected {
  readonly name: string;
  readonly isOptional: boolean;
  readonly kinds: readonly Kind[];
}

function expectedOf(parameter: Parameter): Expected {
  const [shown, given] = parameter.split(':') as [string, string | undefined];
  const name = shown.replace('?', '');
  const kinds = (given ?? (name === 'options' ? 'object' : 'text')).split('|') as Kind[];
  return { name, isOptional: name !== shown, kinds };
}

/** Throws USAGE, naming `owner`, the parameter, what is expected and what was found. */
export function checkArguments(
  owner: string,
  parameters: readonly Parameter[],
  values: readonly unknown[],
): void {
  checkAll(owner, parameters.map(expectedOf), values);
}

function checkAll(owner: string, expected: readonly Expected[], values: readonly unknown[]): void {
  for (let index = 0; index < expected.length; index++) {
    const { name, isOptional, kinds } = expected[index]!;
    const value = values[index];
    if (value === undefined && isOptional) continue;
    checkValue(owner, name, kinds, value);
    if (kinds.includes('object') && isObject(value)) checkFields(owner, value as object);
  }
}

/** Of `options`, the fields whose names are known and that are not undefined. */
export function checkFields(owner: string, options: object): void {
  for (const [name, value] of Object.entries(options)) {
    const kinds = FIELDS.get(name);
    if (value !== undefined && kinds !== undefined) checkValue(owner, name, kinds, value);
  }
}

function checkValue(owner: string, name: string, kinds: readonly Kind[], value: unknown): void {
  if (kinds.some((kind) => KINDS[kind][1](value))) return;
  const expected = kinds.map((kind) => KINDS[kind][0]).join(', or ');
  const found = foundWord(value);
  throw new Git2dbError('USAGE', `${owner}: ${name}: expected ${expected}, found ${found}`, {
    data: { parameter: name, expected, found },
  });
}

function isIterable(value: unknown): boolean {
  return (
    typeof value === 'object' && value !== null && (Symbol.iterator in value || Symbol.asyncIterator in value)
  );
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !isBytes(value);
}

function isText(value: unknown): boolean {
  return typeof value === 'string';
}

function isSignal(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { aborted, addEventListener } = value as Partial<AbortSignal>;
  return typeof aborted === 'boolean' && typeof addEventListener === 'function';
}

function isBytes(value: unknown): boolean {
  return types.isUint8Array(value);
}

function isListOf(value: unknown, isOne: (each: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every(isOne);
}

/** What it is; never a text itself, which may be a secret in the wrong place. */
function foundWord(value: unknown): string {
  if (value === null || value === undefined || typeof value === 'boolean') return String(value);
  if (typeof value === 'number' || typeof value === 'bigint') return `the number ${value}`;
  if (isText(value)) return 'text';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object') return isBytes(value) ? 'a Uint8Array' : 'an object';
  return `a ${typeof value}`;
}

type Methods<T> = { readonly [M in keyof T]?: readonly Parameter[] };

/** Lets methods of a class check their arguments: those that give a promise reject it, the `throwing` ones throw. */
export function guardMethods<T extends object>(
  { name: owner, prototype }: { readonly name: string; readonly prototype: T },
  rejecting: Methods<T>,
  throwing: Methods<T> = {},
): void {
  for (const [methods, isAsync] of [
    [rejecting, true],
    [throwing, false],
  ] as const) {
    for (const [name, parameters] of Object.entries(methods) as [keyof T & string, readonly Parameter[]][]) {
      const inner = prototype[name] as (...values: unknown[]) => unknown;
      const value = guarded(`${owner}.${name}`, parameters, inner, isAsync);
      Object.defineProperty(prototype, name, { value, writable: true, configurable: true });
    }
  }
}

/** `inner` behind the door; `isAsync`: it gives a promise. */
export function guarded<T, A extends unknown[], R>(
  owner: string,
  parameters: readonly Parameter[],
  inner: (this: T, ...values: A) => R,
  isAsync = true,
): (this: T, ...values: A) => R {
  const expected = parameters.map(expectedOf);
  return function (...values) {
    try {
      checkAll(owner, expected, values);
    } catch (error) {
      if (isAsync) return Promise.reject(error) as R;
      throw error;
    }
    return inner.apply(this, values);
  };
}
