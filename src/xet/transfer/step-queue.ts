/**
 * What a fetch has planned and not done yet. Two hands take from it: the one that does the steps in order,
 * and, ahead of it, the store that is told which ranges are going to be needed. Whoever comes to the end has
 * the next step planned.
 *
 * The store is held back while much is planned, but not while the first hand waits for it: it may want to
 * know the next range before it sends the one at hand.
 */
import type { ChunkRange } from '../store/store.ts';
import type { Piece } from './fetch-plan.ts';

/** Chunks that may be planned ahead: some 1 GiB of content. */
const CHUNKS_AHEAD = 16384;

export interface Step<Job> {
  readonly job: Job;
  /** Undefined for what follows a file's last piece. */
  readonly piece: Piece | undefined;
  /** Why the file cannot be planned. */
  readonly failure?: unknown;
}

export class StepQueue<Job extends { readonly isDropped: boolean }> {
  readonly #source: AsyncGenerator<Step<Job>>;
  /** Steps by number: those from `#first` on are to be done, those from `#told` on the store was not told of. */
  readonly #steps = new Map<number, Step<Job>>();
  #first = 0;
  #told = 0;
  #end = 0;
  #chunks = 0;
  #advancing: Promise<boolean> | undefined;
  #isStarving = false;
  /** Why planning ahead ended; told to whoever comes there. */
  #failure: { readonly error: unknown } | undefined;
  /** Counts readings of `ranges`: only the last one is served. */
  #reading = 0;
  #wake: () => void = () => {};

  constructor(source: AsyncGenerator<Step<Job>>) {
    this.#source = source;
  }

  /** The step to be done next; undefined at the end. It stays the first until `drop`. */
  async peek(): Promise<Step<Job> | undefined> {
    while (this.#first === this.#end) {
      if (await this.#advance()) continue;
      if (this.#failure !== undefined) throw this.#failure.error;
      return undefined;
    }
    return this.#steps.get(this.#first);
  }

  /** Plans on, so that what comes later can begin already: as far as steps with so many chunks. */
  async planAhead(chunks: number): Promise<void> {
    const wanted = Math.min(chunks, CHUNKS_AHEAD);
    try {
      while (this.#chunks < wanted && (await this.#advance()));
    } catch (error) {
      this.#failure = { error };
    }
  }

  drop(): void {
    this.#chunks -= weightOf(this.#steps.get(this.#first) as Step<Job>);
    this.#steps.delete(this.#first++);
    this.#wake();
  }

  /** Ranges that are to be fetched, from the first step on. The reading before ends. */
  async *ranges(): AsyncGenerator<ChunkRange> {
    const reading = ++this.#reading;
    this.#wake();
    this.#told = this.#first;
    while (reading === this.#reading) {
      this.#told = Math.max(this.#told, this.#first);
      const step = this.#steps.get(this.#told);
      if (step === undefined) {
        if (this.#chunks > CHUNKS_AHEAD && !this.#isStarving) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        } else if (!(await this.#advance())) {
          return;
        }
        continue;
      }
      this.#told++;
      const { piece, job } = step;
      if (piece?.kind !== 'there' || job.isDropped) continue;
      yield { xorbHash: piece.xorbHash, start: piece.start, end: piece.end };
    }
  }

  /** Waits for something that the store may not give before it knows more ranges. */
  async starve<T>(waited: Promise<T>): Promise<T> {
    this.#isStarving = true;
    this.#wake();
    try {
      return await waited;
    } finally {
      this.#isStarving = false;
    }
  }

  /** Ends the reading of ranges, if there is one. */
  stop(): void {
    this.#reading++;
    this.#wake();
  }

  async close(): Promise<void> {
    this.stop();
    // Not while it is at work: a generator is left when it comes to its next yield.
    await this.#advancing?.catch(() => {});
    await this.#source.return(undefined);
  }

  /** Plans one step more. False at the end. */
  #advance(): Promise<boolean> {
    this.#advancing ??= this.#plan().finally(() => {
      this.#advancing = undefined;
    });
    return this.#advancing;
  }

  async #plan(): Promise<boolean> {
    const next = await this.#source.next();
    if (next.done === true) return false;
    this.#steps.set(this.#end++, next.value);
    this.#chunks += weightOf(next.value);
    return true;
  }
}

function weightOf<Job>({ piece }: Step<Job>): number {
  return piece === undefined ? 1 : piece.end - piece.start;
}
