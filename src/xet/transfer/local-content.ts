/** Content of this store, read and verified a window at a time, so that all else goes on meanwhile. */
import { createHash } from 'node:crypto';
import type { Downloader } from '../download.ts';
import type { ReadPlan } from '../reconstruct/plan.ts';
import { throwIfAborted } from './abort.ts';

/** Chunks of a plan in order. Throws what is wrong with them, and an AbortError. */
export async function* readWindows(
  downloader: Downloader,
  plan: ReadPlan,
  signal: AbortSignal | undefined,
): AsyncGenerator<readonly Uint8Array[]> {
  for (const { chunks } of downloader.read(plan)) {
    yield chunks;
    await new Promise((done) => setImmediate(done));
    throwIfAborted(signal);
  }
}

/** SHA-256, 64 digits. Throws as `readWindows` does. */
export async function digestOf(
  downloader: Downloader,
  plan: ReadPlan,
  signal: AbortSignal | undefined,
): Promise<string> {
  const digest = createHash('sha256');
  for await (const chunks of readWindows(downloader, plan, signal))
    for (const chunk of chunks) digest.update(chunk);
  return digest.digest('hex');
}
