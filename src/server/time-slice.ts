/** For loops over what a store answers at once (a directory's does): requests that wait come in between. */
const SLICE_MS = 10;

export class TimeSlice {
  #start = performance.now();

  /** Lets others have their turn when this loop has had its own for long enough. */
  async pause(): Promise<void> {
    if (performance.now() - this.#start < SLICE_MS) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#start = performance.now();
  }
}
