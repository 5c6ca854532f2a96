/**
 * What the mounting command and a server in another process tell each other: over a stream that the server has
 * as descriptor 3, one line of JSON each way. First the command:
 *
 *     {"options":{..},"namespace":"user","hold":[4,5],"recordFile":"..","foreground":false}
 *
 * then, once the mount answers or could not be made, the server, which then closes the stream:
 *
 *     {"ready":true,"device":"0:57"}    or    {"error":{"code":"MOUNT_FAILED","message":".."}}
 *
 * The descriptors in `hold` are the locks of the upper: the server holds them as long as it lives.
 */
import { readSync, writeSync } from 'node:fs';
import { type ErrorCode, Git2dbError, messageOf } from '../../xet/errors.ts';
import type { MountOptions, XattrNamespace } from '../mount-options.ts';
import { decodeOptions, encodeOptions } from '../record-format.ts';

export const HANDOVER_FD = 3;
export const HOLD_FDS = [4, 5] as const;

export interface ServerRequest {
  readonly options: MountOptions;
  readonly namespace: XattrNamespace;
  /** The locks of the upper (`UpperHold.descriptors`), as the server's process has them. */
  readonly hold?: readonly [stamp: number, upper: number];
  /** Removed when the mount has ended. */
  readonly recordFile?: string;
  /** The mounting command waits for the end: the server ends with it. */
  readonly foreground: boolean;
}

/** An error on its way to another thread or process. */
export interface ServerError {
  readonly code: ErrorCode;
  readonly message: string;
}

export type ServerReport =
  | { readonly ready: true; readonly device: string }
  | { readonly error: ServerError };

export function encodeRequest(request: ServerRequest): string {
  const { options, ...rest } = request;
  return `${JSON.stringify({ ...rest, options: encodeOptions(options) })}\n`;
}

export function decodeRequest(line: string): ServerRequest {
  const { options, ...rest } = JSON.parse(line) as Omit<ServerRequest, 'options'> & { options: string };
  return { ...rest, options: decodeOptions(options) };
}

/** Reads the request; undefined when the command has gone. Blocks. */
export function receiveRequest(): ServerRequest | undefined {
  const pieces: Buffer[] = [];
  for (;;) {
    const piece = Buffer.alloc(16384);
    const count = readSync(HANDOVER_FD, piece, 0, piece.length, null);
    if (count === 0) return undefined;
    pieces.push(piece.subarray(0, count));
    if (piece[count - 1] === 0x0a) return decodeRequest(Buffer.concat(pieces).toString());
  }
}

/** False when nobody listens any more. */
export function sendReport(report: ServerReport): boolean {
  try {
    writeSync(HANDOVER_FD, `${JSON.stringify(report)}\n`);
    return true;
  } catch {
    return false;
  }
}

export function describeError(error: unknown): ServerError {
  return { code: error instanceof Git2dbError ? error.code : 'MOUNT_FAILED', message: messageOf(error) };
}
