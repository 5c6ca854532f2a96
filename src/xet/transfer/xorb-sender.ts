/**
 * Packs the chunks that the other store lacks into xorbs, and sends each as soon as it is full, several at once.
 * Chunks that were packed before in this push are found again.
 */
import { Git2dbError } from '../errors.ts';
import { openTerm } from '../reconstruct/plan.ts';
import type { StoredTerm } from '../store/local-store.ts';
import type { Store } from '../store/store.ts';
import { isOfAFile, type Ledger } from './ledger.ts';
import { PackedXorb } from './packed-xorb.ts';
import type { PackedPlace, Packer } from './push-plan.ts';
import type { Registration } from './registration.ts';
import { StreamLimit } from './stream-limit.ts';

export interface XorbSenderOptions {
  /** Of the push, which stops when one thing has failed for good. */
  readonly signal: AbortSignal;
  /** Told of what makes the other store unusable. */
  readonly onFailure: (error: unknown) => void;
}

export class XorbSender implements Packer {
  readonly #remote: Store;
  readonly #registration: Registration;
  readonly #ledger: Ledger;
  readonly #options: XorbSenderOptions;
  readonly #limit = new StreamLimit();
  readonly #places = new Map<string, PackedPlace>();
  #packed = 0;
  #open: PackedXorb | undefined;
  readonly #uploading = new Set<Promise<void>>();

  constructor(remote: Store, registration: Registration, ledger: Ledger, options: XorbSenderOptions) {
    this.#remote = remote;
    this.#registration = registration;
    this.#ledger = ledger;
    this.#options = options;
  }

  find(hashes: Uint8Array, offset: number): PackedPlace | undefined {
    const place = this.#places.get(keyOf(hashes, offset));
    return place === undefined || place.packed.failure !== undefined ? undefined : place;
  }

  pack(term: StoredTerm, chunk: number): PackedPlace | Promise<PackedPlace> {
    const packed = this.#addTo(this.#open, term, chunk);
    return packed ?? this.flush().then(() => this.#addTo(this.#begin(), term, chunk) as PackedPlace);
  }

  #addTo(packed: PackedXorb | undefined, term: StoredTerm, chunk: number): PackedPlace | undefined {
    const source = openTerm(term);
    if (packed === undefined || !packed.add(term, source, chunk)) return undefined;
    const place = { packed, index: packed.count - 1 };
    this.#places.set(keyOf(source.hashes, 32 * chunk), place);
    return place;
  }

  #begin(): PackedXorb {
    this.#open = new PackedXorb(this.#packed++);
    return this.#open;
  }

  /** The open xorb is sent, as soon as there is room among the uploads, and registered with the batch that is open. */
  async flush(): Promise<void> {
    const packed = this.#open;
    this.#open = undefined;
    if (packed === undefined) return;
    const uploads = this.#registration.addXorb(packed);
    // Many stores only find out when they have got it. It is asked while those before it are on their way.
    const { signal } = this.#options;
    const isThere = this.#remote.hasXorb(packed.footer.xorbHash, { signal });
    isThere.catch(() => {});
    await this.#limit.acquire();
    signal.throwIfAborted();
    const upload = this.#upload(packed, isThere);
    // Looked at when the batch is registered; here only so that it is not called unhandled.
    const ended = upload.catch(this.#options.onFailure);
    this.#uploading.add(ended);
    void ended.then(() => this.#uploading.delete(ended));
    uploads.push(upload);
  }

  /** Resolves when nothing is under way any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#uploading);
  }

  async #upload(packed: PackedXorb, isThere: Promise<boolean>): Promise<void> {
    let sent = 0;
    let failed = false;
    const { signal } = this.#options;
    try {
      const areVerified = (await this.#remote.verifiesXorbs?.({ signal })) ?? false;
      const upload = packed.upload((bytes) => {
        sent += bytes;
        this.#ledger.moved(bytes);
      }, areVerified);
      if (!(await isThere)) await this.#remote.putXorb(upload, { signal });
      this.#ledger.advance(packed.rawBytes);
    } catch (error) {
      // A store that verifies does not know whose fault it is.
      if (isRefused(error)) await packed.findDamage();
      // What could not be read here is nobody else's failure, however it was passed on.
      packed.failure = packed.damage.size > 0 ? [...packed.damage.values()][0] : error;
      failed = !isOfAFile(packed.failure);
      if (failed) throw error;
    } finally {
      this.#limit.release(sent, failed);
    }
  }
}

/** The other store has looked into the records. */
function isRefused(error: unknown): boolean {
  return error instanceof Git2dbError && (error.code === 'INVALID_XORB' || error.code === 'LIMIT_EXCEEDED');
}

function keyOf(hashes: Uint8Array, offset: number): string {
  return Buffer.prototype.latin1Slice.call(hashes, offset, offset + 32);
}
