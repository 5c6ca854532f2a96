/**
 * The door to @napi-rs/blake-hash, an optional native module: two to three times as fast as our WASM
 * kernels, but not built for every platform, and dear to load.
 */
import { createRequire } from 'node:module';

interface NativeHasher {
  reset(): void;
  update(data: Uint8Array): unknown;
  digest(format: 'hex'): string;
}

interface NativeModule {
  readonly Blake3Hasher: { newKeyed(key: Buffer): NativeHasher };
}

/**
 * Loading takes 6 to 10 ms of CPU time, as much as it then saves on this many bytes. A process that
 * hashes a few small files, as most filters do, is better off without.
 */
const PAYS_FROM = 8 << 20;

let loaded: NativeModule | null | undefined;
let hashedWithout = 0;

function load(): NativeModule | null {
  const require = createRequire(import.meta.url);
  // On Linux the module asks Node for a report of the whole process, only to find out which C library is in
  // use: 10 to 20 ms. The usual one's binary does not load with another.
  const binary = `@napi-rs/blake-hash-linux-${process.arch}-gnu`;
  for (const name of process.platform === 'linux'
    ? [binary, '@napi-rs/blake-hash']
    : ['@napi-rs/blake-hash']) {
    try {
      return require(name) as NativeModule;
    } catch {
      // Not installed, or not for this machine.
    }
  }
  return null;
}

/**
 * Whether this thread should hash `length` more bytes by the native module: once it is loaded, or has
 * become worth loading, and does load.
 */
export function nativePays(length: number): boolean {
  if (loaded === undefined) {
    hashedWithout += length;
    if (hashedWithout < PAYS_FROM) return false;
    loaded = load();
  }
  return loaded !== null;
}

/**
 * A function that hashes under `key`, which must be 32 bytes long (the module ends the process if
 * not), or undefined where the module does not load. Data may lie in shared memory.
 */
export function nativeBlake3(key: Uint8Array): ((data: Uint8Array) => Uint8Array) | undefined {
  loaded ??= load();
  if (loaded === null) return undefined;
  const hasher = loaded.Blake3Hasher.newKeyed(Buffer.from(key));
  return (data) => {
    hasher.reset();
    hasher.update(data);
    // Not digestBuffer(): native Buffers are released by the event loop, which does not turn while a
    // file is hashed, so they would pile up, 300 bytes for each chunk. A string is also quicker.
    return Buffer.from(hasher.digest('hex'), 'hex');
  };
}
