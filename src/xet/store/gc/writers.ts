/**
 * Waiting for the writers that may rely on what was put aside. A writer is gone when its directory is:
 * sealed by itself, or completed by whoever found it dead. Directories are renamed when they are taken
 * over (see recover.ts), so a writer is known by its name, wherever that stands.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { RESCUE_PREFIX } from '../incoming.ts';
import type { StoreLayout } from '../layout.ts';
import { probeLiveness } from '../liveness.ts';
import { LocalStore } from '../local-store.ts';
import { StoreWriter, type WriterOptions } from '../writer.ts';
import { namesIn, statOf } from './objects.ts';

const POLL_MS = 50;
/** Rescued directories stand in each other at most this deep; see recover.ts. */
const MAX_DEPTH = 4;

/** Names of all writers that have not sealed. */
export function listWriters(layout: StoreLayout): Set<string> {
  const names = new Set<string>();
  collect(layout.incoming, 0, names);
  return names;
}

function collect(directory: string, depth: number, names: Set<string>): void {
  for (const entry of namesIn(directory)) {
    if (entry.startsWith('.') || (depth > 0 && !entry.startsWith(RESCUE_PREFIX))) continue;
    // What is no directory is nobody's.
    if (statOf(join(directory, entry))?.isDirectory() === false) continue;
    names.add(depth === 0 ? entry : entry.slice(RESCUE_PREFIX.length));
    if (depth < MAX_DEPTH) collect(join(directory, entry), depth + 1, names);
  }
}

/** Completes what dead writers acknowledged. Trouble is told to `warn`, and leaves their directories. */
export async function completeDeadWriters(layout: StoreLayout, options: WriterOptions): Promise<void> {
  for (const name of namesIn(layout.incoming)) {
    if (name.startsWith('.') || (await probeLiveness(join(layout.incoming, name))) !== 'dead') continue;
    // Every writer completes all dead ones when it seals.
    const store = new LocalStore(layout.root);
    try {
      await StoreWriter.open(store, options).seal();
    } finally {
      store.close();
    }
    return;
  }
}

export interface WaitOptions extends WriterOptions {
  readonly waitMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Waits until all of `names` are gone, at most `waitMs`. Those that are still there. */
export async function waitForWriters(
  layout: StoreLayout,
  names: ReadonlySet<string>,
  options: WaitOptions,
): Promise<string[]> {
  const deadline = Date.now() + options.waitMs;
  const triedFor = new Set<string>();
  for (;;) {
    // Twice: a directory that moves while we look may stand behind us in one look, not in both.
    const present = new Set([...listWriters(layout), ...listWriters(layout)]);
    const left = [...names].filter((name) => present.has(name));
    if (left.length === 0) return [];
    for (const name of left) {
      if (triedFor.has(name) || (await probeLiveness(join(layout.incoming, name))) !== 'dead') continue;
      triedFor.add(name);
      await completeDeadWriters(layout, options);
    }
    if (Date.now() >= deadline) return left;
    await sleep(Math.min(POLL_MS, Math.max(1, deadline - Date.now())), undefined, { signal: options.signal });
  }
}
