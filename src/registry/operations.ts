/** How much goes on at once, and what. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { abortedError } from './errors.ts';

export interface Operation {
  readonly id: number;
  readonly description: string;
  readonly state: 'waiting' | 'running';
  readonly since: Date;
}

interface Entry {
  readonly id: number;
  readonly description: string;
  state: Operation['state'];
  since: Date;
}

/**
 * A fair limit: who waits longest goes next. What an operation starts inside itself shares its slot, so
 * that operations built from others cannot block themselves.
 */
export class Operations {
  readonly #limit: number;
  readonly #entries = new Map<number, Entry>();
  readonly #waiting: { readonly start: () => void }[] = [];
  readonly #inside = new AsyncLocalStorage<{ active: boolean }>();
  #running = 0;
  #nextId = 1;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** What waits or runs now, oldest first. */
  list(): Operation[] {
    return [...this.#entries.values()].map((entry) => ({ ...entry }));
  }

  /** Runs `fn` when a slot is free; the entry goes when it ends, however it ends. */
  async run<T>(
    description: string,
    fn: (signal: AbortSignal | undefined) => Promise<T>,
    { signal }: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<T> {
    if (signal?.aborted) throw abortedError(description, signal.reason);
    const outer = this.#inside.getStore();
    const entry: Entry = { id: this.#nextId++, description, state: 'waiting', since: new Date() };
    this.#entries.set(entry.id, entry);
    // Of an operation that has ended, something may still be on its way; that needs a slot of its own.
    const needsSlot = outer?.active !== true;
    let hasSlot = false;
    const scope = { active: true };
    try {
      if (needsSlot) await this.#acquire(description, signal);
      hasSlot = needsSlot;
      entry.state = 'running';
      entry.since = new Date();
      return await this.#inside.run(scope, () => fn(signal));
    } finally {
      scope.active = false;
      this.#entries.delete(entry.id);
      if (hasSlot) this.#release();
    }
  }

  #acquire(description: string, signal: AbortSignal | undefined): Promise<void> {
    if (this.#running < this.#limit) {
      this.#running++;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const waiter = {
        start: () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      const onAbort = () => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(abortedError(description, signal?.reason));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  /** The slot goes straight to the next, so that nobody who comes now gets in between. */
  #release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running--;
    else next.start();
  }
}
