/** Things to be committed that come while a commit is under way go into the next one together. */
import { throwIfAborted } from './aborted.ts';

interface Waiting<T, R> {
  readonly item: T;
  readonly resolve: (result: R) => void;
  readonly reject: (reason: unknown) => void;
}

/** Items of one commit at most: the last of a long queue should not wait for what comes after it. */
const MAX_GROUP = 256;

export class GroupCommit<T, R> {
  readonly #commit: (items: readonly T[]) => Promise<readonly PromiseSettledResult<R>[]>;
  #waiting: Waiting<T, R>[] = [];
  #running: Promise<void> | undefined;

  /** `commit` gives a result for each item; when it rejects, that is the result of all. */
  constructor(commit: (items: readonly T[]) => Promise<readonly PromiseSettledResult<R>[]>) {
    this.#commit = commit;
  }

  /** Once the item is in a commit, `signal` has no effect on it. */
  async add(item: T, signal?: AbortSignal): Promise<R> {
    throwIfAborted(signal);
    let isOut = false;
    const { promise, entry } = waitingFor<T, R>(item);
    this.#waiting.push(entry);
    const leave = () => {
      if (!this.#waiting.includes(entry)) return;
      this.#waiting = this.#waiting.filter((other) => other !== entry);
      isOut = true;
      entry.reject(signal?.reason);
    };
    signal?.addEventListener('abort', leave, { once: true });
    this.#running ??= this.#run();
    try {
      return await promise;
    } catch (error) {
      if (isOut) throwIfAborted(signal);
      throw error;
    } finally {
      signal?.removeEventListener('abort', leave);
    }
  }

  /** Resolves when nothing waits any more. */
  async settled(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  async #run(): Promise<void> {
    // What is added in this turn comes along.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const group = this.#waiting.splice(0, MAX_GROUP);
      try {
        const results = await this.#commit(group.map(({ item }) => item));
        for (const [i, { resolve, reject }] of group.entries()) {
          const result = results[i];
          if (result?.status === 'fulfilled') resolve(result.value);
          else reject(result?.reason);
        }
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
    this.#running = undefined;
  }
}

function waitingFor<T, R>(item: T): { readonly promise: Promise<R>; readonly entry: Waiting<T, R> } {
  let entry: Waiting<T, R> | undefined;
  const promise = new Promise<R>((resolve, reject) => {
    entry = { item, resolve, reject };
  });
  return { promise, entry: entry as Waiting<T, R> };
}
