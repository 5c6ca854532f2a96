/**
 * Memory that comes with every read from a socket and is of no use a moment later. The engine counts it with all that
 * lies outside its heap, and begins a full collection for each 64 MiB of that, on all processors: a sixth of the
 * processor time of who receives gigabytes. A collection of the young generation, where these buffers are, frees them
 * for a tenth of that, but is due only when the generation itself is full, and the objects that stand for the buffers
 * are small.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

type Collect = (options: { readonly type: 'minor' }) => void;

/** Well before the engine begins by itself, with all that else is outside the heap. */
const COLLECTED_AFTER = 8 << 20;
/** Bytes without which nothing is done: nobody has noticed them. */
const BEFORE = 64 << 20;

let received = 0;
let sinceCollected = 0;
let collect: Collect | undefined;
let isThere = true;

/** To be told of bytes that have come and that nobody needs any more where they came. */
export function dropShortLived(bytes: number): void {
  received += bytes;
  sinceCollected += bytes;
  if (received < BEFORE || sinceCollected < COLLECTED_AFTER || !isThere) return;
  sinceCollected = 0;
  collect ??= findCollect();
  collect?.({ type: 'minor' });
}

/**
 * The engine's own function, which only programs see that were started with `--expose-gc`; of others a context that is
 * made for it does, and nobody after it.
 */
function findCollect(): Collect | undefined {
  let found: unknown = (globalThis as { readonly gc?: unknown }).gc;
  if (typeof found !== 'function') {
    try {
      setFlagsFromString('--expose-gc');
      found = runInNewContext('globalThis.gc');
    } catch {
      // An engine that makes no context now: it collects as it thinks best.
    } finally {
      setFlagsFromString('--no-expose-gc');
    }
  }
  isThere = typeof found === 'function';
  return isThere ? (found as Collect) : undefined;
}
