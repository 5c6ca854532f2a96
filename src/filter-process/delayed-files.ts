/** Files that were delayed: what is here is named to git first, while the rest is fetched as one batch. */
import type { MissingContent } from './content-fetcher.ts';
import { DelayQueue } from './delay-queue.ts';
import type { FilterContext } from './filter-context.ts';
import type { GivenContent, Wanted } from './given-content.ts';

export class DelayedFiles {
  readonly #context: FilterContext;
  readonly #queue = new DelayQueue<GivenContent>();

  constructor(context: FilterContext) {
    this.#context = context;
  }

  has(path: Buffer): boolean {
    return this.#queue.has(path);
  }

  add(content: GivenContent): void {
    this.#queue.add(content.path, content);
  }

  /** Undefined for a path that was not delayed, or was delivered. */
  deliver(path: Buffer): GivenContent | undefined {
    return this.#queue.deliver(path);
  }

  /** Number of files that git was told of and has not asked for yet. */
  get outstanding(): number {
    return this.#queue.outstanding;
  }

  /** Paths that were not listed before; waits until there is one. Empty only if there is none. */
  available(): Buffer[] | Promise<Buffer[]> {
    this.#askForMissing();
    const paths = this.#list();
    return paths.length > 0 || this.#queue.waiting === 0 ? paths : this.#listWhenReady();
  }

  /**
   * Those that can be given at once: what is not read yet is read in the order of this list. Where there are none,
   * one that is still coming: git, which takes one file after the other, has the time that it takes.
   */
  #list(): Buffer[] {
    const paths = this.#queue.list(({ wanted }) => this.#isSettled(wanted));
    if (paths.length === 0) return this.#queue.list(({ wanted }) => this.#context.isComing(wanted), 1);
    this.#context.expect(paths.length);
    const { readAhead } = this.#context.content;
    for (const path of paths) readAhead.add((this.#queue.get(path) as GivenContent).file);
    readAhead.start();
    return paths;
  }

  async #listWhenReady(): Promise<Buffer[]> {
    for (;;) {
      await this.#context.fetcher.change();
      const paths = this.#list();
      if (paths.length > 0 || this.#queue.waiting === 0) return paths;
    }
  }

  /** All that is missing among the delayed files is fetched as one batch. */
  #askForMissing(): void {
    if (this.#queue.waiting === 0 || !this.#context.mayFetch()) return;
    const { fetcher } = this.#context;
    const missing: MissingContent[] = [];
    for (const { wanted } of this.#queue.values())
      if (!fetcher.hasAsked(wanted) && !wanted.isHere()) missing.push(wanted);
    if (missing.length > 0) fetcher.ask(missing);
  }

  /** Here, or fetched, or not to be had. */
  #isSettled(wanted: Wanted): boolean {
    const { fetcher } = this.#context;
    return !fetcher.hasAsked(wanted) || fetcher.stateOf(wanted) !== undefined;
  }
}
