/**
 * Between the command and the holder of a userns mount, over one socket: the command writes a request and
 * ends its side, the holder writes an answer when the mount is there, or is not to be, and ends its own.
 * Both are one JSON document.
 */
import type { ErrorCode } from '../xet/errors.ts';
import type { MountOptions } from './mount-options.ts';
import { decodeOptions, encodeOptions } from './record-format.ts';
import type { RecordPlaces } from './record-places.ts';

/** The holder's descriptors: the socket, and after it the locks of the upper. */
export const SOCKET_FD = 3;

/** How nsenter(1) goes in: the caller stays who it is. */
export const ENTER_OPTIONS = ['--user', '--mount', '--preserve-credentials'] as const;

export interface HolderRequest {
  readonly options: MountOptions;
  readonly isMergedEmpty: boolean;
  readonly places: RecordPlaces;
  /** Removed when the mount has ended. */
  readonly recordFile: string;
}

export type HolderAnswer =
  | { readonly ok: true; readonly dropped: readonly string[] }
  | { readonly ok: false; readonly code: ErrorCode; readonly message: string; readonly errno?: string };

export function encodeHolderRequest({ options, ...rest }: HolderRequest): string {
  return JSON.stringify({ ...rest, options: encodeOptions(options) });
}

export function decodeHolderRequest(text: string): HolderRequest {
  const { options, ...rest } = JSON.parse(text) as Omit<HolderRequest, 'options'> & { options: string };
  return { ...rest, options: decodeOptions(options) };
}

/** Undefined for anything that is not a whole answer: the holder ended before it gave one. */
export function decodeHolderAnswer(text: string): HolderAnswer | undefined {
  try {
    const answer = JSON.parse(text) as HolderAnswer;
    return typeof answer.ok === 'boolean' ? answer : undefined;
  } catch {
    return undefined;
  }
}
