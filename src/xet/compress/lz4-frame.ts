/**
 * LZ4 frames (LZ4 frame format description, version 1): the payload of a compressed chunk.
 *
 *     size  field
 *     4     magic 04 22 4d 18
 *     1     FLG: bits 7-6 version 01, 5 independent blocks, 4 block checksums, 3 content size,
 *           2 content checksum, 1 zero, 0 dictionary id
 *     1     BD: bit 7 zero, bits 6-4 block size id (4 = 64 KiB, 5 = 256 KiB, 6 = 1 MiB, 7 = 4 MiB), 3-0 zero
 *     0, 8  content size
 *     1     header checksum: second byte of xxh32(FLG .. content size)
 *     ...   blocks: u32 length (bit 31: stored as it is), data, [u32 xxh32 of the data]
 *     4     end mark 00 00 00 00
 *     0, 4  xxh32 of the content
 *
 * All integers are little-endian. The decoder takes any such frame of a known content length and
 * verifies every checksum present; dictionaries, skippable frames, and bytes after the frame are
 * refused, since no Xet chunk has them. The encoder writes the two header forms that every Xet client
 * reads (Xet protocol, "Xorb", chunk compression): independent blocks, no sizes, no checksums.
 */
import { FormatError } from '../errors.ts';
import { xxhash32 } from './xxhash32.ts';

const MAGIC = 0x184d2204;
const VERSION_MASK = 0xc0;
const VERSION_1 = 0x40;
const INDEPENDENT_BLOCKS = 0x20;
const BLOCK_CHECKSUMS = 0x10;
const CONTENT_SIZE = 0x08;
const CONTENT_CHECKSUM = 0x04;
const RESERVED_FLAG = 0x02;
const DICTIONARY_ID = 0x01;
const STORED_BLOCK = 0x80000000;

const BLOCK_64_KIB = 65536;
const BLOCK_256_KIB = 262144;
const HEADER_64_KIB = Uint8Array.of(0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82);
const HEADER_256_KIB = Uint8Array.of(0x04, 0x22, 0x4d, 0x18, 0x60, 0x50, 0xfb);

/** As `encodeBlock` of lz4-block.ts. */
export type BlockEncoder = (
  raw: Uint8Array,
  target: Uint8Array,
  start: number,
  end: number,
) => number | undefined;

/** As `decodeBlock` of lz4-block.ts. */
export type BlockDecoder = (
  source: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  out: number,
  outEnd: number,
  window: number,
) => number;

/** A frame that decodes to `raw`; undefined if it would not be shorter than `raw`. */
export function encodeFrame(raw: Uint8Array, encodeBlock: BlockEncoder): Uint8Array | undefined {
  const small = raw.length <= BLOCK_64_KIB;
  const header = small ? HEADER_64_KIB : HEADER_256_KIB;
  const blockSize = small ? BLOCK_64_KIB : BLOCK_256_KIB;
  const limit = raw.length - 1;
  const target = new Uint8Array(raw.length);
  const view = new DataView(target.buffer);
  if (header.length + 8 > limit) return undefined;
  target.set(header);
  let out = header.length;
  for (let from = 0; from < raw.length; from += blockSize) {
    const block = raw.subarray(from, from + blockSize);
    const data = out + 4;
    const end = encodeBlock(block, target, data, Math.min(data + block.length - 1, limit - 4));
    if (end !== undefined) {
      view.setUint32(out, end - data, true);
      out = end;
    } else {
      if (data + block.length > limit - 4) return undefined;
      view.setUint32(out, (block.length | STORED_BLOCK) >>> 0, true);
      target.set(block, data);
      out = data + block.length;
    }
  }
  view.setUint32(out, 0, true);
  return target.slice(0, out + 4);
}

/**
 * The content of `frame`, which must be exactly `rawLength` bytes; throws INVALID_LZ4. Allocates
 * `rawLength` bytes at once: the caller has checked that number against its own limit.
 */
export function decodeFrame(frame: Uint8Array, rawLength: number, decodeBlock: BlockDecoder): Uint8Array {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const header = decodeHeader(frame, view, rawLength);
  const target = new Uint8Array(rawLength);
  let at = header.end;
  let out = 0;
  for (;;) {
    need(frame, at, 4, 'a block length or the end mark');
    const word = view.getUint32(at, true);
    if (word === 0) break;
    const length = word & ~STORED_BLOCK;
    if (length > header.blockSize) {
      throw invalid(`block of ${length} bytes in a frame of ${header.blockSize}-byte blocks`, at);
    }
    at += 4;
    need(frame, at, length, 'a block');
    const outEnd = Math.min(rawLength, out + header.blockSize);
    if (word >= STORED_BLOCK) {
      if (length > outEnd - out) throw invalid(`content is longer than the ${rawLength} bytes expected`, at);
      target.set(frame.subarray(at, at + length), out);
      out += length;
    } else {
      out = decodeBlock(frame, at, at + length, target, out, outEnd, header.independent ? out : 0);
    }
    if (header.blockChecksums) {
      need(frame, at + length, 4, 'a block checksum');
      verify(xxhash32(frame, at, at + length), view.getUint32(at + length, true), 'block', at + length);
      at += 4;
    }
    at += length;
  }
  at += 4;
  if (out !== rawLength) throw invalid(`content is ${out} bytes, expected ${rawLength}`, at);
  if (header.contentChecksum) {
    need(frame, at, 4, 'the content checksum');
    verify(xxhash32(target), view.getUint32(at, true), 'content', at);
    at += 4;
  }
  if (at !== frame.length) throw invalid(`${frame.length - at} bytes follow the end of the frame`, at);
  return target;
}

interface FrameHeader {
  readonly independent: boolean;
  readonly blockChecksums: boolean;
  readonly contentChecksum: boolean;
  readonly blockSize: number;
  /** Where the first block begins. */
  readonly end: number;
}

function decodeHeader(frame: Uint8Array, view: DataView, rawLength: number): FrameHeader {
  need(frame, 0, 7, 'the frame header');
  const magic = view.getUint32(0, true);
  if (magic !== MAGIC) throw invalid(`expected the magic number of a frame, found ${hex(magic, 8)}`, 0);
  const flags = view.getUint8(4);
  const descriptor = view.getUint8(5);
  if ((flags & VERSION_MASK) !== VERSION_1)
    throw invalid(`unknown frame version in flags ${hex(flags, 2)}`, 4);
  if ((flags & RESERVED_FLAG) !== 0 || (descriptor & 0x8f) !== 0) {
    throw invalid(`reserved bits are set in the frame header (${hex(flags, 2)} ${hex(descriptor, 2)})`, 4);
  }
  if ((flags & DICTIONARY_ID) !== 0)
    throw invalid('the frame needs a dictionary, which chunks never have', 4);
  const sizeId = descriptor >>> 4;
  if (sizeId < 4) throw invalid(`unknown block size id ${sizeId}`, 5);
  let at = 6;
  if ((flags & CONTENT_SIZE) !== 0) {
    need(frame, at, 9, 'the content size');
    const size = view.getBigUint64(at, true);
    if (size !== BigInt(rawLength))
      throw invalid(`content size says ${size} bytes, expected ${rawLength}`, at);
    at += 8;
  }
  verify((xxhash32(frame, 4, at) >>> 8) & 255, view.getUint8(at), 'header', at);
  return {
    independent: (flags & INDEPENDENT_BLOCKS) !== 0,
    blockChecksums: (flags & BLOCK_CHECKSUMS) !== 0,
    contentChecksum: (flags & CONTENT_CHECKSUM) !== 0,
    blockSize: BLOCK_64_KIB << (2 * (sizeId - 4)),
    end: at + 1,
  };
}

function need(frame: Uint8Array, at: number, count: number, what: string): void {
  if (frame.length - at < count) throw invalid(`the data ends inside ${what}`, frame.length);
}

function verify(computed: number, stored: number, what: string, offset: number): void {
  if (computed !== stored) {
    throw invalid(`${what} checksum is ${hex(stored, 2)}, computed ${hex(computed, 2)}`, offset);
  }
}

function hex(value: number, digits: number): string {
  return `0x${value.toString(16).padStart(digits, '0')}`;
}

function invalid(message: string, offset: number): FormatError {
  return new FormatError('INVALID_LZ4', `LZ4 frame: ${message}`, offset);
}
