/**
 * Keyed BLAKE3 of bytes that lie anywhere. Nothing is loaded before it is used, and the native module
 * not before it pays: all this may happen in a process that lives for a few milliseconds.
 */
import { Git2dbError } from '../errors.ts';
import { blake3KeyedJs } from './blake3-js.ts';
import { nativeBlake3, nativePays } from './blake3-native.ts';
import { wasmBlake3 } from './blake3-wasm.ts';
import { HASH_SIZE, type Hash } from './xet-hash.ts';

export type Blake3Choice = 'native' | 'wasm' | 'js';
type KeyedHash = (key: Uint8Array, data: Uint8Array) => Hash;

/** A call into the native module costs 2 us more than one into WASM: below this many bytes it is slower. */
const NATIVE_FROM = 4096;

const MAX_NATIVE_HASHERS = 16;

let chosen: KeyedHash | undefined;
let portable: KeyedHash | undefined;

/** 32 bytes of BLAKE3 of `data` under `key`, which is 32 bytes long. */
export function blake3Keyed(key: Uint8Array, data: Uint8Array): Hash {
  if (key.length !== HASH_SIZE)
    throw new RangeError(`a BLAKE3 key has ${HASH_SIZE} bytes, not ${key.length}`);
  if (chosen !== undefined) return chosen(key, data);
  if (data.length >= NATIVE_FROM && nativePays(data.length)) return blake3KeyedNative(key, data);
  portable ??= wasmBlake3() ?? blake3KeyedJs;
  return portable(key, data);
}

/**
 * Makes this thread's blake3Keyed use one implementation; undefined: the fastest for each input that
 * loads. Throws INVALID_CONFIG when the one asked for does not load.
 */
export function useBlake3(choice: Blake3Choice | undefined): void {
  const keyedHash = choice === undefined ? undefined : load(choice);
  if (choice !== undefined && keyedHash === undefined) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `the ${choice} implementation of BLAKE3 was asked for, but does not load here`,
    );
  }
  chosen = keyedHash;
}

function load(choice: Blake3Choice): KeyedHash | undefined {
  if (choice === 'js') return blake3KeyedJs;
  if (choice === 'wasm') return wasmBlake3();
  return nativeBlake3(new Uint8Array(HASH_SIZE)) && blake3KeyedNative;
}

const hashersByKey = new Map<string, (data: Uint8Array) => Uint8Array>();

/** For where the native module is known to load. Its hashers are made for one key, and few keys are used. */
function blake3KeyedNative(key: Uint8Array, data: Uint8Array): Hash {
  const name = Buffer.from(key.buffer, key.byteOffset, HASH_SIZE).toString('latin1');
  let hash = hashersByKey.get(name);
  if (hash === undefined) {
    if (hashersByKey.size === MAX_NATIVE_HASHERS) hashersByKey.clear();
    hash = nativeBlake3(key) as (data: Uint8Array) => Uint8Array;
    hashersByKey.set(name, hash);
  }
  // A plain array: slice() of the module's Buffer would not copy.
  return new Uint8Array(hash(data));
}
