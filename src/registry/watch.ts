/** Changes of a registry as they happen, whichever process makes them: the difference of two snapshots. */
import { type FSWatcher, watch } from 'node:fs';
import { basename } from 'node:path';
import type { RepositoryRecord } from './metadata.ts';
import type { RegistryStore } from './registry-store.ts';
import type { Snapshot } from './snapshot.ts';

export type RegistryEvent =
  | { readonly kind: 'added'; readonly record: RepositoryRecord }
  | { readonly kind: 'updated'; readonly record: RepositoryRecord; readonly previous: RepositoryRecord }
  | { readonly kind: 'removed'; readonly record: RepositoryRecord };

export interface WatchOptions {
  /** Ends the events; no error. */
  readonly signal?: AbortSignal | undefined;
  /** How often to look where the system does not tell of changes (a network file system), 1000 unless given. */
  readonly intervalMs?: number | undefined;
}

/**
 * Several changes between two looks come as one: what was added and removed again is not told. A file that
 * cannot be read ends the events with its error.
 */
export async function* watchRegistry(
  store: RegistryStore,
  { signal, intervalMs = 1000 }: WatchOptions = {},
): AsyncGenerator<RegistryEvent, void, void> {
  if (signal?.aborted) return;
  let known = store.snapshot();
  let wake: () => void = () => {};
  let isDue = false;
  function look(): void {
    isDue = true;
    wake();
  }
  const watcher = watchDirectory(store.layout.own, basename(store.layout.metadata), look);
  const timer = setInterval(look, intervalMs);
  // At once, also while nobody asks for the next event: neither may keep the process alive.
  function end(): void {
    clearInterval(timer);
    watcher?.close();
    look();
  }
  signal?.addEventListener('abort', end, { once: true });
  try {
    for (;;) {
      if (!isDue) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      isDue = false;
      if (signal?.aborted) return;
      const now = store.snapshot();
      if (now === known) continue;
      const events = difference(known, now);
      known = now;
      for (const event of events) {
        yield event;
        if (signal?.aborted) return;
      }
    }
  } finally {
    signal?.removeEventListener('abort', end);
    end();
  }
}

/** The directory, because the file is replaced. Undefined where the system cannot tell: there is the timer. */
function watchDirectory(directory: string, file: string, onChange: () => void): FSWatcher | undefined {
  try {
    const watcher = watch(directory, (_, name) => {
      if (name === null || name === file) onChange();
    });
    watcher.on('error', () => watcher.close());
    return watcher;
  } catch {
    return undefined;
  }
}

/** Removals first, so that a name that changed hands is free when it comes again. */
export function difference(before: Snapshot, after: Snapshot): RegistryEvent[] {
  const removed = before.list().filter(({ id }) => after.byId(id) === undefined);
  const events: RegistryEvent[] = removed.map((record) => ({ kind: 'removed', record }));
  for (const record of after.list()) {
    const previous = before.byId(record.id);
    if (previous === undefined) events.push({ kind: 'added', record });
    else if (!sameRecord(previous, record)) events.push({ kind: 'updated', record, previous });
  }
  return events;
}

function sameRecord(a: RepositoryRecord, b: RepositoryRecord): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
