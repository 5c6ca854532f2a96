/**
 * The only door to `koffi`, and through it to the C library. A function is bound when it is first
 * called: starting up costs nothing for what is never used, and a machine without `koffi` gets one error
 * with the remedy at the first call, not a stack trace while modules load.
 */
import { createRequire } from 'node:module';
import type koffi from 'koffi';
import { Git2dbError, messageOf } from '../xet/errors.ts';

type Koffi = typeof koffi;

/** Where bytes lie: a view, an address as a number (see `addressOf`), or nowhere. */
export type Memory = Uint8Array | number | null;

type Call = (...parameters: (number | Memory)[]) => number;
/** The same call on a thread of libuv's pool. The caller keeps the memory alive until it ends. */
type AsyncCall = (...parameters: unknown[]) => void;

/**
 * Bytes that end in NUL, as the system wants paths and names; what follows it means nothing. With an
 * `address` they are `FixedBytes`.
 */
export type CString = Uint8Array & { readonly address?: number };

/**
 * Bytes for many calls of the system: these get the address, found once, which costs them far less than
 * the view does. 0 as long as it was not asked for.
 */
export interface FixedBytes extends Buffer {
  address: number;
}

/** Zeros. Below this size the engine may move what a view has. */
const FIXED_BYTES_MIN = 256;

export function fixedBytes(size: number): FixedBytes {
  return Object.assign(Buffer.alloc(Math.max(size, FIXED_BYTES_MIN)), { address: 0 });
}

let loaded: Koffi | undefined;
let library: ReturnType<Koffi['load']> | undefined;

/**
 * Loads the binding, or throws the error that says how to get it. Calling it early gives that error a
 * good place to appear; every call does it when needed.
 */
export function loadSystemLibrary(): Koffi {
  if (loaded !== undefined) return loaded;
  try {
    const module = loadKoffi();
    library = module.load(null);
    loaded = module;
    return module;
  } catch (error) {
    throw new Git2dbError(
      'NATIVE_MODULE_MISSING',
      `mounting needs the package koffi with its binary for ${process.platform}-${process.arch}, and it does not load ` +
        `(${messageOf(error).split('\n')[0]}); install it with: npm install koffi`,
      { cause: error },
    );
  }
}

/**
 * The binary by itself, where it lies in its package: what the packages do to find it takes twice as long as
 * loading it. It is the one for glibc, which does not load with musl; and an installer that hides it, or another
 * version that has it elsewhere, still has the packages.
 */
function loadKoffi(): Koffi {
  const require = createRequire(import.meta.url);
  const { platform, arch } = process;
  const packed = `@koromix/koffi-${platform}-${arch}`;
  let reason: unknown;
  for (const name of [`${packed}/${platform}_${arch}/koffi.node`, packed, 'koffi']) {
    try {
      return require(name) as Koffi;
    } catch (error) {
      reason = error;
    }
  }
  throw reason;
}

/**
 * Ends the process at once, as `_exit` does: nothing that Node would take apart before is taken apart, which
 * takes it longer than many a command. Who calls this has written all there is to write. Does nothing where the
 * C library has not been called yet: loading the binding for this would be no gain.
 */
export function exitAtOnce(code: number): void {
  library?.func('void _exit(int)')(code);
}

/** `prototypes`: C declarations by the name we call them. */
export function bindAll<Name extends string>(prototypes: Readonly<Record<Name, string>>): Record<Name, Call> {
  const calls = {} as Record<Name, Call>;
  for (const name of Object.keys(prototypes) as Name[]) {
    calls[name] = (...parameters) => {
      loadSystemLibrary();
      calls[name] = library!.func(prototypes[name]) as Call;
      return calls[name](...parameters);
    };
  }
  return calls;
}

/** The function bound by `bindAll`, run on another thread; resolves to a number >= 0 or `-errno`. */
export function callAsync(prototype: string, ...parameters: unknown[]): Promise<number> {
  loadSystemLibrary();
  let call = asyncCalls.get(prototype);
  if (call === undefined) {
    call = library!.func(prototype).async as AsyncCall;
    asyncCalls.set(prototype, call);
  }
  return new Promise((resolve, reject) => {
    call(...parameters, (error: unknown, returned: number) => {
      if (error) reject(error as Error);
      else resolve(result(returned));
    });
  });
}

const asyncCalls = new Map<string, AsyncCall>();

/** What the C library returned, with its -1 replaced by `-errno`. */
export function result(returned: number): number {
  return returned < 0 ? -loaded!.errno() : returned;
}

/** The same bytes in the form that a call takes quickest. */
export function placeOf(bytes: CString): Memory {
  return bytes.address === undefined ? bytes : fixedAddress(bytes as FixedBytes);
}

/** Valid as long as `bytes` is held. */
export function fixedAddress(bytes: FixedBytes): number {
  if (bytes.address === 0) bytes.address = addressOf(bytes);
  return bytes.address;
}

/** Where the bytes of a view begin. Valid while something holds on to the view's buffer. */
export function addressOf(bytes: Uint8Array): number {
  return Number(loadSystemLibrary().address(bytes));
}
