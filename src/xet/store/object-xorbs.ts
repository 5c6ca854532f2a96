/** The bytes of xorbs that are objects elsewhere: records read by ranges, whole xorbs given out, and put. */
import { untilAborted } from '../cas/abort.ts';
import { AdaptiveLimit } from '../cas/adaptive-limit.ts';
import { SYSTEM_CLOCK } from '../cas/retry.ts';
import { Git2dbError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import { bodyOf, type ObjectStore } from '../objects/objects.ts';
import { throwIfAborted } from './aborted.ts';
import { damagedXorb, missingXorb } from './footers.ts';
import { xorbKey } from './layout.ts';
import type { ObjectFooters } from './object-footers.ts';
import { type PlannedRun, planRuns, type Ranges, readAhead } from './record-runs.ts';
import type { CallOptions, RecordRun, XorbUpload } from './store.ts';
import { checkedRecords } from './xorb-intake.ts';

const READ_AHEAD_BYTES = 32 << 20;
/** Bytes that nobody asked for, rather than another request. */
const GAP_BYTES = 1 << 18;
/** Pieces in which a xorb is given out. */
const PIECE = 4 << 20;

export class ObjectXorbs {
  readonly #objects: ObjectStore;
  readonly #footers: ObjectFooters;
  readonly #limit = new AdaptiveLimit(SYSTEM_CLOCK);

  constructor(objects: ObjectStore, footers: ObjectFooters) {
    this.#objects = objects;
    this.#footers = footers;
  }

  async size(xorbHash: Uint8Array, options?: CallOptions): Promise<number | undefined> {
    return (await this.#objects.head(xorbKey(formatHash(xorbHash)), options))?.size;
  }

  /** Bytes [start, end) of the stored xorb. */
  async *read(
    xorbHash: Uint8Array,
    start: number,
    end: number,
    options?: CallOptions,
  ): AsyncGenerator<Uint8Array> {
    const name = formatHash(xorbHash);
    const key = xorbKey(name);
    const read = (at: number) => {
      const part = this.#objects.read(key, at, Math.min(end, at + PIECE), options);
      part.catch(() => undefined);
      return part;
    };
    let next = read(start);
    for (let at = start; at < end; ) {
      throwIfAborted(options?.signal);
      const part = await next;
      if (part === undefined) throw missingXorb(name, this.#objects.place);
      at += part.bytes.length;
      if (part.bytes.length === 0)
        throw damagedXorb(name, this.#objects.place, `it ends at ${at}, not at ${end} or later`);
      if (at < end) next = read(at);
      yield part.bytes;
    }
  }

  readRecords(ranges: Ranges, options?: CallOptions): AsyncIterable<RecordRun> {
    const runs = planRuns(ranges, {
      footerOf: (xorbHash) => untilAborted(this.#footers.get(xorbHash), options?.signal),
      gapBytes: GAP_BYTES,
    });
    return readAhead(runs, {
      read: (run, signal) => this.#readRun(run, signal),
      maxBytes: READ_AHEAD_BYTES,
      maxReads: () => this.#limit.limit,
      signal: options?.signal,
    });
  }

  /** `tail`: the footer as it is stored. False if the xorb was there already, and can be read. */
  async put(upload: XorbUpload, tail: Uint8Array, { signal }: CallOptions = {}): Promise<boolean> {
    const { footer } = upload;
    const name = formatHash(footer.xorbHash);
    const key = xorbKey(name);
    const body = {
      length: (footer.recordEnds[footer.count - 1] as number) + tail.length,
      stream: () => checkedRecords(upload, tail),
    };
    // The mark first: whoever copies the bucket to a directory must not take these chunks for its own.
    await this.#objects.putIfAbsent(`irregular/${name}`, bodyOf(new Uint8Array(0)), { signal });
    let isNew = await this.#objects.putIfAbsent(key, body, { signal });
    if (!isNew) {
      const head = await this.#objects.head(key, { signal });
      this.#footers.forget(name);
      if ((await untilAborted(this.#footers.find(footer.xorbHash), signal)) === undefined) {
        // Nobody can read that one. If somebody else has replaced it meanwhile, it is there.
        isNew = (await this.#objects.replace(key, body, head?.etag, { signal })) !== undefined;
        this.#footers.forget(name);
      }
    }
    this.#footers.see(name);
    return isNew;
  }

  async #readRun({ xorbHash, byteStart, byteEnd }: PlannedRun, signal: AbortSignal): Promise<Uint8Array> {
    const name = formatHash(xorbHash);
    let part: Awaited<ReturnType<ObjectStore['read']>>;
    try {
      part = await this.#objects.read(xorbKey(name), byteStart, byteEnd, { signal });
    } catch (error) {
      if (error instanceof Git2dbError && error.data.transient === true) this.#limit.troubled();
      throw error;
    }
    if (part === undefined) {
      this.#footers.forget(name);
      throw missingXorb(name, this.#objects.place);
    }
    if (part.bytes.length !== byteEnd - byteStart) {
      this.#footers.forget(name);
      throw damagedXorb(
        name,
        this.#objects.place,
        `it ends at ${byteStart + part.bytes.length}, not after ${byteEnd}`,
      );
    }
    this.#limit.succeeded(part.bytes.length);
    return part.bytes;
  }
}
