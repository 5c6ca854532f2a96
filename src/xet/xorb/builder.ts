/** Fills one xorb in memory, up to the limits of the format (Xet protocol, "Xorb", limits). */
import { type CompressionMode, compressChunk } from '../compress/scheme.ts';
import { Git2dbError } from '../errors.ts';
import { blake3Keyed } from '../hash/blake3.ts';
import { DATA_KEY } from '../hash/keys.ts';
import { merkleRoot } from '../hash/merkle.ts';
import { HASH_SIZE } from '../hash/xet-hash.ts';
import { CHUNK_HEADER_SIZE, encodeChunkHeader, MAX_RAW_CHUNK } from './chunk-record.ts';
import { encodeFooter, footerLength, MAX_XORB_BYTES, MAX_XORB_CHUNKS, type XorbFooter } from './format.ts';

/**
 * Whether a chunk of `nextRaw` bytes, whose record takes `nextStored` bytes (header included), still
 * fits a xorb that has `count` chunks of `rawBytes` bytes in records of `storedBytes` bytes. Clients
 * limit either the raw or the stored sum to 64 MiB; a xorb that keeps both is good for all of them.
 */
export function fitsInXorb(
  rawBytes: number,
  storedBytes: number,
  count: number,
  nextRaw: number,
  nextStored: number,
): boolean {
  return (
    count < MAX_XORB_CHUNKS &&
    rawBytes + nextRaw <= MAX_XORB_BYTES &&
    storedBytes + nextStored <= MAX_XORB_BYTES
  );
}

/** A finished xorb: its bytes, and what its footer says. */
export interface BuiltXorb extends XorbFooter {
  readonly bytes: Uint8Array;
  /** Raw length of each chunk. */
  readonly lengths: Uint32Array;
  readonly rawBytes: number;
  /** Bytes of the records, without the footer. */
  readonly storedBytes: number;
}

const FIRST_CAPACITY = 1 << 20;

export class XorbBuilder {
  private bytes = new Uint8Array(FIRST_CAPACITY);
  private hashes = new Uint8Array(64 * HASH_SIZE);
  private readonly recordEnds: number[] = [];
  private readonly rawEnds: number[] = [];

  get count(): number {
    return this.recordEnds.length;
  }

  get rawBytes(): number {
    return this.rawEnds.at(-1) ?? 0;
  }

  /** Bytes of the records so far. */
  get storedBytes(): number {
    return this.recordEnds.at(-1) ?? 0;
  }

  /**
   * Appends a copy of `raw`. False, and nothing is changed, if the chunk does not fit: then it is time
   * to build this xorb and begin another. `hash` is the chunk hash if the caller has it.
   */
  add(raw: Uint8Array, hash?: Uint8Array, mode: CompressionMode = 'auto'): boolean {
    if (raw.length < 1 || raw.length > MAX_RAW_CHUNK) {
      throw new Git2dbError('LIMIT_EXCEEDED', `a chunk has 1..${MAX_RAW_CHUNK} bytes, not ${raw.length}`);
    }
    if (!fitsInXorb(this.rawBytes, this.storedBytes, this.count, raw.length, CHUNK_HEADER_SIZE)) return false;
    const { scheme, payload = raw } = compressChunk(raw, mode);
    const recordStart = this.storedBytes;
    const payloadStart = recordStart + CHUNK_HEADER_SIZE;
    const recordEnd = payloadStart + payload.length;
    if (recordEnd > MAX_XORB_BYTES) return false;

    this.bytes = grown(this.bytes, recordEnd);
    encodeChunkHeader(this.bytes, recordStart, {
      storedLength: payload.length,
      scheme,
      rawLength: raw.length,
    });
    this.bytes.set(payload, payloadStart);
    this.hashes = grown(this.hashes, (this.count + 1) * HASH_SIZE);
    this.hashes.set(hash ?? blake3Keyed(DATA_KEY, raw), this.count * HASH_SIZE);
    this.rawEnds.push(this.rawBytes + raw.length);
    this.recordEnds.push(recordEnd);
    return true;
  }

  /** The xorb of the chunks added so far, at least one. The builder is not changed. */
  build(options: { readonly footer: boolean }): BuiltXorb {
    const { count, rawBytes, storedBytes } = this;
    if (count === 0) throw new Git2dbError('LIMIT_EXCEEDED', 'a xorb has at least one chunk');
    const hashes = this.hashes.slice(0, count * HASH_SIZE);
    const rawEnds = Uint32Array.from(this.rawEnds);
    const recordEnds = Uint32Array.from(this.recordEnds);
    const lengths = rawEnds.map((end, i) => end - (rawEnds[i - 1] ?? 0));
    const xorbHash = merkleRoot(hashes, lengths, count);
    const footer = { xorbHash, count, hashes, recordEnds, rawEnds };
    const bytes = new Uint8Array(storedBytes + (options.footer ? footerLength(count) : 0));
    bytes.set(this.bytes.subarray(0, storedBytes));
    if (options.footer) bytes.set(encodeFooter(footer), storedBytes);
    return { ...footer, bytes, lengths, rawBytes, storedBytes };
  }
}

/** `bytes`, or a copy of at least `size` bytes; sizes double, so that appending stays cheap. */
function grown(bytes: Uint8Array<ArrayBuffer>, size: number): Uint8Array<ArrayBuffer> {
  if (bytes.length >= size) return bytes;
  const larger = new Uint8Array(Math.max(size, 2 * bytes.length));
  larger.set(bytes);
  return larger;
}
