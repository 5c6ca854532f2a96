/** An open xorb: where each chunk's record lies, and a descriptor to read it through. */
import { closeSync, fstatSync } from 'node:fs';
import { FormatError } from '../errors.ts';
import { formatHash } from '../hash/xet-hash.ts';
import { openRegular } from '../regular-file.ts';
import { CHUNK_HEADER_SIZE } from '../xorb/chunk-record.ts';
import { decodeFooter, readFooterLength, readRawEnds } from '../xorb/format.ts';
import { readAt } from './read-at.ts';

export interface XorbSource {
  readonly path: string;
  readonly fd: number;
  readonly count: number;
  /** 32 bytes per chunk. */
  readonly hashes: Uint8Array;
  /** End offset of each record in the file; record 0 starts at 0. */
  readonly recordEnds: ArrayLike<number>;
  /** End offset of each chunk in the raw concatenation. */
  readonly rawEnds: ArrayLike<number>;
  /** Readers at work; a source with pins is not closed. */
  pins: number;
}

/**
 * Opens a published xorb and reads its footer. Throws the errno of open (ENOENT: not there) or
 * INVALID_XORB. The caller closes it with `closeSource`.
 */
export function openXorbFile(path: string, xorbHash: Uint8Array): XorbSource {
  const fd = openRegular(path, 'INVALID_XORB');
  try {
    const size = fstatSync(fd).size;
    if (size < 8) throw new FormatError('INVALID_XORB', `${path}: ${size} bytes are no xorb`, size);
    const length = readFooterLength(readAt(fd, path, size - 4, 4, 'INVALID_XORB'));
    if (length > size) {
      throw new FormatError(
        'INVALID_XORB',
        `${path}: the last 4 bytes claim a footer of ${length} bytes in a file of ${size}`,
        size - 4,
      );
    }
    const footer = decodeFooter(readAt(fd, path, size - length, length, 'INVALID_XORB'), size);
    if (Buffer.compare(footer.xorbHash, xorbHash) !== 0) {
      throw new FormatError(
        'INVALID_XORB',
        `${path}: the footer names xorb ${formatHash(footer.xorbHash)}, expected ${formatHash(xorbHash)}`,
        size - length,
      );
    }
    const rawEnds =
      footer.rawEnds ??
      readRawEnds(footer.recordEnds, (offset) => readAt(fd, path, offset, CHUNK_HEADER_SIZE, 'INVALID_XORB'));
    return {
      path,
      fd,
      count: footer.count,
      hashes: footer.hashes,
      recordEnds: footer.recordEnds,
      rawEnds,
      pins: 0,
    };
  } catch (error) {
    closeSync(fd);
    throw error instanceof FormatError ? nameFile(error, path) : error;
  }
}

/** The codec knows offsets, not files. */
function nameFile(error: FormatError, path: string): FormatError {
  if (error.message.includes(path)) return error;
  return new FormatError(error.code, `${path}: ${error.message}`, error.offset, { cause: error });
}

export function closeSource(source: XorbSource): void {
  closeSync(source.fd);
}

export function recordStart(source: XorbSource, chunk: number): number {
  return chunk === 0 ? 0 : (source.recordEnds[chunk - 1] as number);
}
