/**
 * Re-hashing every chunk at the speed of the disk: windows of all xorbs, one after the other, through
 * the same threads that read for a checkout. It only tells which xorbs are not what they should be;
 * fsck-xorb.ts then finds out what is wrong with those few.
 */
import type { Downloader } from '../download.ts';
import { errnoOf, Git2dbError } from '../errors.ts';
import { verificationHash } from '../hash/verification.ts';
import { parseHash } from '../hash/xet-hash.ts';
import { windowsOf } from '../reconstruct/plan.ts';
import type { WindowPump } from '../window-pump.ts';
import { rawBytesBetween } from '../xorb/ends.ts';
import { provesXorb } from './fsck-records.ts';
import { listOf } from './fsck-xorb.ts';
import { closeSource, openXorbFile, type XorbSource } from './xorb-source.ts';

export interface ScannedXorb {
  /** String form; a made-up name for an unsealed xorb. */
  readonly name: string;
  /** Bytes of its file, for the progress. */
  readonly size: number;
  /** Throws the errno of open, or Git2dbError when the footer breaks the format. The scan closes it. */
  open(): XorbSource;
}

export interface ScanOptions {
  /** Look at footers only. */
  readonly quick: boolean;
  readonly signal: AbortSignal | undefined;
  /** Bytes of files that are done with. */
  readonly onBytes: (count: number) => void;
}

export interface ScanResult<X extends ScannedXorb> {
  readonly suspects: readonly X[];
  /** Xorbs that went away meanwhile. */
  readonly gone: readonly X[];
  readonly chunks: number;
}

/** A published xorb. Opening it also proves its chunk list. */
export function publishedXorb(
  name: string,
  path: string,
  size: number,
): ScannedXorb & { readonly path: string } {
  return {
    name,
    path,
    size,
    open: () => {
      const hash = parseHash(name);
      const source = openXorbFile(path, hash);
      if (provesXorb(listOf(source), hash)) return source;
      closeSource(source);
      throw new Git2dbError('INVALID_XORB', `${path}: the footer's chunks have another Merkle root`);
    },
  };
}

/** A xorb of which windows are under way. */
interface Reading<X> {
  readonly xorb: X;
  readonly source: XorbSource;
  windows: number;
  isFed: boolean;
}

/** How long this thread works before others get a turn (a signal, a progress bar). */
const TURN_MS = 50;

export async function scanXorbs<X extends ScannedXorb>(
  downloader: Downloader,
  xorbs: Iterable<X>,
  threads: boolean,
  options: ScanOptions,
): Promise<ScanResult<X>> {
  const suspects = new Set<X>();
  const gone: X[] = [];
  let chunks = 0;
  let pump: WindowPump | undefined;
  const waiting: Reading<X>[] = [];
  function take(from: WindowPump): void {
    const reading = waiting.shift() as Reading<X>;
    try {
      from.take();
    } catch (error) {
      if (!(error instanceof Git2dbError)) throw error;
      suspects.add(reading.xorb);
    } finally {
      reading.windows--;
      endIfDone(reading);
    }
  }
  let turnEnds = performance.now() + TURN_MS;
  try {
    for (const xorb of xorbs) {
      const source = openOr(xorb, suspects, gone);
      if (source === undefined) {
        options.onBytes(xorb.size);
        continue;
      }
      chunks += source.count;
      const reading: Reading<X> = { xorb, source, windows: 0, isFed: options.quick };
      if (!options.quick) {
        pump ??= downloader.pump(threads);
        for (const window of windowsOf(planOf(xorb.name, source))) {
          while (!pump.hasRoom) take(pump);
          pump.add(window);
          waiting.push(reading);
          reading.windows++;
        }
        reading.isFed = true;
      }
      endIfDone(reading);
      options.onBytes(xorb.size);
      if (performance.now() < turnEnds) continue;
      await new Promise((resolve) => setImmediate(resolve));
      options.signal?.throwIfAborted();
      turnEnds = performance.now() + TURN_MS;
    }
    while (pump !== undefined && waiting.length > 0) take(pump);
  } finally {
    pump?.stop();
    for (const source of new Set(waiting.map((reading) => reading.source))) closeSource(source);
  }
  return { suspects: [...suspects], gone, chunks };
}

function endIfDone<X>(reading: Reading<X>): void {
  if (reading.isFed && reading.windows === 0) closeSource(reading.source);
}

function openOr<X extends ScannedXorb>(xorb: X, suspects: Set<X>, gone: X[]): XorbSource | undefined {
  try {
    return xorb.open();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') gone.push(xorb);
    else if (error instanceof Git2dbError || typeof (error as { errno?: unknown }).errno === 'number')
      suspects.add(xorb);
    else throw error;
    return undefined;
  }
}

/** A plan that reads the xorb from its first chunk to its last. */
function planOf(name: string, source: XorbSource): Parameters<typeof windowsOf>[0] {
  const { count } = source;
  const rawBytes = rawBytesBetween(source, 0, count);
  const term = { name, xorbHash: undefined, start: 0, end: count, rawBytes, open: () => source };
  return { size: rawBytes, terms: [term], proofs: [verificationHash(source.hashes, 0, count)] };
}
