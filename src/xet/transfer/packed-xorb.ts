/**
 * A xorb that is put together for another store out of records of this one: nothing is copied or compressed
 * again, and nothing but the chunk list is in memory. The records are read while they are sent, and every chunk is
 * verified, here or by who takes them.
 */
import { read } from 'node:fs';
import { promisify } from 'node:util';
import { decompressChunk } from '../compress/scheme.ts';
import { Git2dbError, messageOf } from '../errors.ts';
import { blake3Keyed } from '../hash/blake3.ts';
import { DATA_KEY } from '../hash/keys.ts';
import { merkleRoot } from '../hash/merkle.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import { openTerm } from '../reconstruct/plan.ts';
import type { XorbRecord } from '../shard/xorb-info.ts';
import { ByteList } from '../store/byte-list.ts';
import type { StoredTerm } from '../store/local-store.ts';
import type { XorbUpload } from '../store/store.ts';
import { recordStart, type XorbSource } from '../store/xorb-source.ts';
import { fitsInXorb } from '../xorb/builder.ts';
import { CHUNK_HEADER_SIZE, decodeChunkHeader } from '../xorb/chunk-record.ts';
import { lengthsOf, rawBytesBetween } from '../xorb/ends.ts';
import type { XorbFooter } from '../xorb/format.ts';

/** Bytes read at once. */
const READ_BYTES = 1 << 20;
/** Pieces that may be on their way to a socket. Whoever sends them holds back one, and waits for each to be written. */
const PIECES = 4;

const readAsync = promisify(read);

/** Chunks [start, end) of the xorb of a local term: chunks [at, at + end - start) of the packed one. */
interface Part {
  readonly term: StoredTerm;
  readonly start: number;
  end: number;
  readonly at: number;
}

export class PackedXorb {
  /** In order of their packing. */
  readonly number: number;
  readonly hashes = new ByteList(32 * 256);
  readonly #parts: Part[] = [];
  readonly #recordEnds: number[] = [];
  readonly #rawEnds: number[] = [];
  #footer: XorbFooter | undefined;
  /** Why it could not be sent; files that use it cannot be registered. */
  failure: unknown;
  /** Chunks that this store cannot give, and why. */
  readonly damage = new Map<number, Git2dbError>();

  constructor(number: number) {
    this.number = number;
  }

  get count(): number {
    return this.#recordEnds.length;
  }

  get rawBytes(): number {
    return this.#rawEnds.at(-1) ?? 0;
  }

  /** Bytes of the records. */
  get storedBytes(): number {
    return this.#recordEnds.at(-1) ?? 0;
  }

  /** Adds chunk `chunk` of the term's xorb; false if the xorb is too full for it. */
  add(term: StoredTerm, source: XorbSource, chunk: number): boolean {
    const stored = (source.recordEnds[chunk] as number) - recordStart(source, chunk);
    const raw = rawBytesBetween(source, chunk, chunk + 1);
    if (!fitsInXorb(this.rawBytes, this.storedBytes, this.count, raw, stored)) return false;
    const last = this.#parts.at(-1);
    if (last !== undefined && last.term === term && last.end === chunk) last.end++;
    else this.#parts.push({ term, start: chunk, end: chunk + 1, at: this.count });
    this.hashes.append(source.hashes, 32 * chunk, 32);
    this.#recordEnds.push(this.storedBytes + stored);
    this.#rawEnds.push(this.rawBytes + raw);
    return true;
  }

  /** Fixed by the first call: nothing may be added any more. */
  get footer(): XorbFooter {
    if (this.#footer === undefined) {
      const rawEnds = Uint32Array.from(this.#rawEnds);
      const hashes = new Uint8Array(this.hashes.slice());
      const lengths = lengthsOf(rawEnds);
      this.#footer = {
        xorbHash: merkleRoot(hashes, lengths, this.count),
        count: this.count,
        hashes,
        recordEnds: Uint32Array.from(this.#recordEnds),
        rawEnds,
      };
    }
    return this.#footer;
  }

  /** For the shard. */
  get record(): XorbRecord {
    const { xorbHash, hashes, rawEnds } = this.footer;
    const lengths = lengthsOf(rawEnds);
    return { xorbHash, hashes, lengths, storedBytes: this.storedBytes };
  }

  /**
   * `onBytes` is told of bytes as they are sent; of those that are sent again, again. `areVerified`: by the store that
   * takes them, so that it need not be done here, too. Then each piece is the receiver's until it asks for the one
   * PIECES later: new memory for all that is sent takes a quarter of the processor time of a push, and should a piece
   * change before it has left, that store refuses it.
   */
  upload(onBytes: (stored: number) => void, areVerified: boolean): XorbUpload {
    return {
      footer: this.footer,
      records: () => this.#records(onBytes, areVerified),
    };
  }

  async *#records(onBytes: (stored: number) => void, areVerified: boolean): AsyncGenerator<Uint8Array> {
    const room = areVerified
      ? Array.from({ length: PIECES }, () => Buffer.allocUnsafeSlow(READ_BYTES))
      : undefined;
    let turn = 0;
    for (const part of this.#parts) {
      for (let chunk = part.start; chunk < part.end; ) {
        const [bytes, end] = await this.#read(part, chunk, room?.[turn++ % PIECES]);
        if (!areVerified) {
          for (const [i, error] of this.#verify(part, chunk, end, bytes)) this.damage.set(i, error);
          const [damage] = this.damage.values();
          if (damage !== undefined) {
            await this.findDamage(part, end);
            throw damage;
          }
        }
        onBytes(bytes.length);
        yield bytes;
        chunk = end;
      }
    }
  }

  /** Looks at all records, or those from a place on, so that all files that are damaged are known at once. */
  async findDamage(from: Part | undefined = this.#parts[0], chunk: number = from?.start ?? 0): Promise<void> {
    const first = from === undefined ? 0 : this.#parts.indexOf(from);
    for (const part of this.#parts.slice(first)) {
      for (let start = part === from ? chunk : part.start; start < part.end; ) {
        try {
          const [bytes, end] = await this.#read(part, start);
          for (const [i, error] of this.#verify(part, start, end, bytes)) this.damage.set(i, error);
          start = end;
        } catch {
          // Noted by the reading.
          break;
        }
      }
    }
  }

  /**
   * Records from `chunk` on, as many as are read at once, and the chunk that follows. Notes and throws what fails.
   * `room`: of READ_BYTES, to be used.
   */
  async #read(
    { term, start, end: partEnd, at }: Part,
    chunk: number,
    room?: Buffer,
  ): Promise<[Buffer, number]> {
    try {
      const source = openTerm(term);
      const offset = recordStart(source, chunk);
      let end = chunk + 1;
      while (end < partEnd && (source.recordEnds[end] as number) - offset <= READ_BYTES) end++;
      const length = (source.recordEnds[end - 1] as number) - offset;
      // A record by itself may be larger.
      const bytes =
        room === undefined || length > room.length
          ? Buffer.allocUnsafeSlow(length)
          : room.subarray(0, length);
      source.pins++;
      try {
        for (let done = 0; done < bytes.length; ) {
          const { bytesRead } = await readAsync(source.fd, bytes, done, bytes.length - done, offset + done);
          if (bytesRead === 0)
            throw new Git2dbError('CONTENT_DAMAGED', `${source.path} ends at ${offset + done}`);
          done += bytesRead;
        }
      } finally {
        source.pins--;
      }
      return [bytes, end];
    } catch (error) {
      const told =
        error instanceof Git2dbError
          ? error
          : new Git2dbError('CONTENT_DAMAGED', `cannot read xorb ${term.name}: ${messageOf(error)}`, {
              cause: error,
            });
      for (let i = chunk; i < partEnd; i++) this.damage.set(at + (i - start), told);
      throw told;
    }
  }

  /** Chunks of [chunk, end) of a part whose records are not what they should be, by their numbers in this xorb. */
  *#verify(part: Part, chunk: number, end: number, bytes: Buffer): Generator<[number, Git2dbError]> {
    for (let i = chunk, at = 0; i < end; i++) {
      const number = part.at + (i - part.start);
      const length = (this.#recordEnds[number] as number) - (this.#recordEnds[number - 1] ?? 0);
      const record = bytes.subarray(at, at + length);
      at += length;
      const fault = faultOf(record, this.hashes.slice(32 * number, 32 * number + 32));
      if (fault === undefined) continue;
      const message = `xorb ${part.term.name} is damaged here: chunk ${i}: ${fault}; run \`git2db xet fsck\` to see all damage`;
      yield [
        number,
        new Git2dbError('CONTENT_DAMAGED', message, { data: { xorb: part.term.name, chunk: i } }),
      ];
    }
  }
}

/** What is wrong with a record, or undefined. */
function faultOf(record: Buffer, hash: Uint8Array): string | undefined {
  try {
    const { scheme, rawLength, storedLength } = decodeChunkHeader(record, 0);
    if (storedLength !== record.length - CHUNK_HEADER_SIZE) return 'its record disagrees with the footer';
    const found = blake3Keyed(
      DATA_KEY,
      decompressChunk(scheme, record.subarray(CHUNK_HEADER_SIZE), rawLength),
    );
    return hashesEqual(found, 0, hash, 0) ? undefined : `its bytes have the hash ${formatHash(found)}`;
  } catch (error) {
    if (error instanceof Git2dbError) return error.message;
    throw error;
  }
}
