/**
 * The record of a chunk in a xorb (Xet protocol, "Xorb"); integers are little-endian:
 *
 *     offset  size           field
 *     0       1              version, 0
 *     1       3              stored length: bytes after this header
 *     4       1              scheme: 0 none, 1 lz4, 2 bg4-lz4
 *     5       3              raw length
 *     8       stored length  payload
 */
import { isScheme, type Scheme } from '../compress/scheme.ts';
import { FormatError, Git2dbError } from '../errors.ts';

export const CHUNK_HEADER_SIZE = 8;
export const MAX_STORED_CHUNK = 262144;
export const MAX_RAW_CHUNK = 131072;

export interface ChunkHeader {
  /** Bytes of the payload, without the header. */
  readonly storedLength: number;
  readonly scheme: Scheme;
  readonly rawLength: number;
}

/** Writes the 8 bytes of a header at `offset` of `target`. */
export function encodeChunkHeader(target: Uint8Array, offset: number, header: ChunkHeader): void {
  const { storedLength, scheme, rawLength } = header;
  if (storedLength < 1 || storedLength > MAX_STORED_CHUNK || rawLength < 1 || rawLength > MAX_RAW_CHUNK) {
    throw new Git2dbError(
      'LIMIT_EXCEEDED',
      `a chunk of ${rawLength} bytes, ${storedLength} stored, does not fit a chunk record (limits ${MAX_RAW_CHUNK} and ${MAX_STORED_CHUNK})`,
    );
  }
  target[offset] = 0;
  writeU24(target, offset + 1, storedLength);
  target[offset + 4] = scheme;
  writeU24(target, offset + 5, rawLength);
}

/**
 * Reads and checks the header at `offset` of `bytes`. `objectOffset` is where `bytes` begins in the
 * xorb; errors count from the start of the xorb. Throws INVALID_XORB.
 */
export function decodeChunkHeader(bytes: Uint8Array, offset: number, objectOffset = 0): ChunkHeader {
  const at = objectOffset + offset;
  if (bytes.length - offset < CHUNK_HEADER_SIZE) {
    throw invalid(
      `a chunk record needs a header of ${CHUNK_HEADER_SIZE} bytes, ${bytes.length - offset} are left`,
      at,
    );
  }
  const version = bytes[offset] as number;
  const storedLength = readU24(bytes, offset + 1);
  const scheme = bytes[offset + 4] as number;
  const rawLength = readU24(bytes, offset + 5);
  if (version !== 0) throw invalid(`chunk record version ${version}; only 0 is known`, at);
  if (!isScheme(scheme)) throw invalid(`chunk record scheme ${scheme}; known are 0, 1 and 2`, at + 4);
  if (rawLength < 1 || rawLength > MAX_RAW_CHUNK) {
    throw invalid(`chunk raw length ${rawLength} is not within 1..${MAX_RAW_CHUNK}`, at + 5);
  }
  if (storedLength < 1 || storedLength > MAX_STORED_CHUNK) {
    throw invalid(`chunk stored length ${storedLength} is not within 1..${MAX_STORED_CHUNK}`, at + 1);
  }
  if (scheme === 0 && storedLength !== rawLength) {
    throw invalid(`a chunk stored raw has stored length ${storedLength} and raw length ${rawLength}`, at + 1);
  }
  return { storedLength, scheme, rawLength };
}

function readU24(bytes: Uint8Array, offset: number): number {
  return (
    (bytes[offset] as number) | ((bytes[offset + 1] as number) << 8) | ((bytes[offset + 2] as number) << 16)
  );
}

function writeU24(target: Uint8Array, offset: number, value: number): void {
  target[offset] = value & 255;
  target[offset + 1] = (value >>> 8) & 255;
  target[offset + 2] = value >>> 16;
}

function invalid(message: string, offset: number): FormatError {
  return new FormatError('INVALID_XORB', message, offset);
}
