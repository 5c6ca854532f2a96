/**
 * The pkt-line format, as git's filter protocol uses it (gitprotocol-common, "pkt-line Format",
 * and long-running-process-protocol). No I/O here: pkt-input.ts reads packets, pkt-output.ts writes them.
 *
 *     offset  size
 *     0       4     length of the whole packet, these four bytes included: hexadecimal digits,
 *                   written in lower case, read in both
 *     4       n     payload, n = length - 4, 0..65516 bytes
 *
 *     0000          flush: ends a list of lines, or the content of a file
 *     0001, 0002    delimiter and response end: other protocols' packets; git's filter code takes them
 *                   for an end, and so do we. Never written
 *     0003          invalid
 *     0004          an empty payload. Read as an empty chunk; never written, because git's reader takes
 *                   it for an end and misreads what follows
 *
 * Invalid: four bytes that are not hexadecimal digits, length 3, length above 65520.
 *
 * A text line is a packet whose payload ends in one newline. The newline is optional when read, and
 * exactly one is removed: what is before it may be a path, and a path may end in a newline.
 */

import { FormatError } from '../xet/errors.ts';

/** Bytes of the length field. */
export const HEADER_SIZE = 4;
/** Bytes of the largest packet, length field included. */
export const MAX_PACKET = 65520;
/** Bytes of the largest payload. */
export const MAX_PAYLOAD = MAX_PACKET - HEADER_SIZE;
/** The flush packet. Shared: do not write into it. */
export const FLUSH: Uint8Array = Buffer.from('0000');

/** Ends the payload of a text line. */
export const NEWLINE = 0x0a;

/**
 * The length field at `offset`: 0, 1 or 2 for the special packets, else the size of the whole packet,
 * 4..65520. `position` is where the field stands in the stream, for the error message.
 * Throws FormatError PROTOCOL for anything else.
 */
export function parseLength(bytes: Uint8Array, offset: number, position = offset): number {
  const length =
    (hexDigit(bytes[offset]) << 12) |
    (hexDigit(bytes[offset + 1]) << 8) |
    (hexDigit(bytes[offset + 2]) << 4) |
    hexDigit(bytes[offset + 3]);
  if (length < 0) {
    const found = JSON.stringify(
      Buffer.from(bytes.subarray(offset, offset + HEADER_SIZE)).toString('latin1'),
    );
    throw new FormatError(
      'PROTOCOL',
      `byte ${position} of the input: expected a packet length of four hexadecimal digits, found ${found}`,
      position,
    );
  }
  if (length === 3 || length > MAX_PACKET) {
    throw new FormatError(
      'PROTOCOL',
      `byte ${position} of the input: packet length ${length} is not one of 0, 1, 2, 4..${MAX_PACKET}`,
      position,
    );
  }
  return length;
}

/** True if a packet of this length ends a list or a content section. */
export function isEnd(length: number): boolean {
  return length < HEADER_SIZE;
}

/** The length field of a packet with `payloadLength` bytes, 1..65516. */
export function encodeHeader(payloadLength: number): Buffer {
  return Buffer.from((payloadLength + HEADER_SIZE).toString(16).padStart(HEADER_SIZE, '0'));
}

/** A whole packet: length, `text`, newline. Throws FormatError PROTOCOL if it is too long for one packet. */
export function encodeText(text: string | Uint8Array): Buffer {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  if (bytes.length + 1 > MAX_PAYLOAD) {
    const limit = MAX_PAYLOAD - 1;
    throw new FormatError('PROTOCOL', `a line of ${bytes.length} bytes: a packet holds ${limit}`, limit);
  }
  const packet = Buffer.allocUnsafe(HEADER_SIZE + bytes.length + 1);
  encodeHeader(bytes.length + 1).copy(packet);
  packet.set(bytes, HEADER_SIZE);
  packet[packet.length - 1] = NEWLINE;
  return packet;
}

/** 0..15, or a negative number (which makes any combination by `<<` and `|` negative). */
function hexDigit(code: number | undefined): number {
  if (code === undefined) return -1;
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x61 + 10 : -1;
}
