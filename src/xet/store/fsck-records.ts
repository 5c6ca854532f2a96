/** Reading chunk records one by one from a xorb that may be damaged anywhere. */
import { fstatSync, readSync } from 'node:fs';
import { decompressChunk } from '../compress/scheme.ts';
import { FormatError, Git2dbError, messageOf } from '../errors.ts';
import { blake3Keyed } from '../hash/blake3.ts';
import { DATA_KEY } from '../hash/keys.ts';
import { merkleRoot } from '../hash/merkle.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import type { KnownXorb } from '../shard/validate.ts';
import { CHUNK_HEADER_SIZE, decodeChunkHeader } from '../xorb/chunk-record.ts';
import {
  type DecodedFooter,
  decodeFooter,
  MAX_XORB_CHUNKS,
  readFooterLength,
  startsFooter,
} from '../xorb/format.ts';

/** True if `list` is what the xorb of that name consists of. */
export function provesXorb(list: KnownXorb, xorbHash: Uint8Array): boolean {
  return hashesEqual(merkleRoot(list.hashes, list.lengths), 0, xorbHash, 0);
}

/** Chunk records of an open file, wherever they are. */
export class RecordFile {
  readonly #fd: number;
  readonly size: number;
  /** Set by `readFooter`. */
  footerLength = 0;

  constructor(fd: number) {
    this.#fd = fd;
    this.size = fstatSync(fd).size;
  }

  readFooter(): DecodedFooter {
    if (this.size < CHUNK_HEADER_SIZE)
      throw new FormatError('INVALID_XORB', `${this.size} bytes are no xorb`, this.size);
    const length = readFooterLength(this.#read(this.size - 4, 4));
    if (length > this.size) {
      throw new FormatError(
        'INVALID_XORB',
        `the last 4 bytes claim a footer of ${length} bytes in a file of ${this.size}`,
        this.size - 4,
      );
    }
    this.footerLength = length;
    return decodeFooter(this.#read(this.size - length, length), this.size);
  }

  readHeader(at: number): ReturnType<typeof decodeChunkHeader> {
    return decodeChunkHeader(this.#read(at, CHUNK_HEADER_SIZE), 0, at);
  }

  /** The whole record at `at`, header included. */
  readRecord(at: number): Buffer {
    return this.#read(at, CHUNK_HEADER_SIZE + this.readHeader(at).storedLength);
  }

  /** End of the record at `at` if it holds that chunk, else what is wrong. */
  tryRecord(at: number, hash: Uint8Array, length: number): number | string {
    try {
      const record = this.readRecord(at);
      const raw = rawBytes(record);
      const found = blake3Keyed(DATA_KEY, raw);
      if (!hashesEqual(found, 0, hash, 0)) return `${raw.length} bytes with hash ${formatHash(found)}`;
      return raw.length === length ? at + record.length : `${raw.length} bytes`;
    } catch (error) {
      return reasonOf(error);
    }
  }

  provenChunk(at: number, hash: Uint8Array): Uint8Array | undefined {
    try {
      const raw = rawBytes(this.readRecord(at));
      return hashesEqual(blake3Keyed(DATA_KEY, raw), 0, hash, 0) ? raw : undefined;
    } catch (error) {
      reasonOf(error);
      return undefined;
    }
  }

  /** The chunk list as the records tell it, from the start to the footer; undefined unless it proves the xorb. */
  listRecords(xorbHash: Uint8Array): KnownXorb | undefined {
    const hashes: Uint8Array[] = [];
    const lengths: number[] = [];
    try {
      for (let at = 0; at < this.size && lengths.length < MAX_XORB_CHUNKS; ) {
        if (startsFooter(this.#read(at, Math.min(CHUNK_HEADER_SIZE, this.size - at)), 0)) break;
        const record = this.readRecord(at);
        const raw = rawBytes(record);
        hashes.push(blake3Keyed(DATA_KEY, raw));
        lengths.push(raw.length);
        at += record.length;
      }
    } catch (error) {
      // What follows the records is no record: perhaps all that is left of a footer.
      reasonOf(error);
    }
    const list = { hashes: Buffer.concat(hashes), lengths: Uint32Array.from(lengths) };
    return lengths.length > 0 && provesXorb(list, xorbHash) ? list : undefined;
  }

  #read(at: number, length: number): Buffer {
    const buffer = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const n = readSync(this.#fd, buffer, done, length - done, at + done);
      if (n === 0) throw new FormatError('INVALID_XORB', `the file ends at ${this.size}`, this.size);
      done += n;
    }
    return buffer;
  }
}

function rawBytes(record: Buffer): Uint8Array {
  const { scheme, rawLength } = decodeChunkHeader(record, 0);
  return decompressChunk(scheme, record.subarray(CHUNK_HEADER_SIZE), rawLength);
}

/** Why bytes could not be had: they break the format, or the disk does not give them. Other errors are bugs. */
function reasonOf(error: unknown): string {
  if (error instanceof Git2dbError || typeof (error as { errno?: unknown }).errno === 'number')
    return messageOf(error);
  throw error;
}
