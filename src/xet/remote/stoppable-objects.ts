/**
 * Objects whose every request ends with the signal they were opened with. A footer, a catalog table or a shard that
 * several callers wait for is asked for without the signal of any one of them: when all of them stop, nobody else
 * would end a request that a server does not answer.
 */
import { ForwardedObjects, type ObjectCall } from '../objects/forwarded.ts';
import type { ObjectOptions, ObjectStore } from '../objects/objects.ts';

export class StoppableObjects extends ForwardedObjects {
  readonly #signal: AbortSignal;

  /** Takes `inner` over. A call that brings a signal of its own ends with that. */
  constructor(inner: ObjectStore, signal: AbortSignal) {
    super(inner);
    this.#signal = signal;
  }

  protected override ask<T>(
    _call: ObjectCall,
    options: ObjectOptions | undefined,
    action: (options: ObjectOptions) => Promise<T>,
  ): Promise<T> {
    return action({ signal: options?.signal ?? this.#signal });
  }
}
