/** Pointers to content in a Xet store, as a program gives them: text or bytes, and nothing else than a pointer. */
import { Git2dbError } from './errors.ts';
import { isZeroHash, parseHash } from './hash/xet-hash.ts';
import { type Pointer, sniffPointer } from './pointer/sniff.ts';
import type { WantedFile } from './transfer/transfer.ts';
import { XetError } from './xet-error.ts';

/** Whether `content`, the whole of it, is a pointer to content in a Xet store. */
export function isXetPointer(content: string | Uint8Array): boolean {
  return xetPointerOf(content) !== undefined;
}

type XetFilePointer = Exclude<Pointer, { kind: 'lfs' }>;

function xetPointerOf(content: string | Uint8Array): XetFilePointer | undefined {
  const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : content;
  const pointer = sniffPointer(bytes);
  return pointer === undefined || pointer.kind === 'lfs' ? undefined : pointer;
}

/** What a pointer names; undefined for nothing. Throws InvalidPointer. */
export function fileNamedBy(content: string | Uint8Array): WantedFile | undefined {
  if (content.length === 0) return undefined;
  const pointer = xetPointerOf(content);
  if (pointer === undefined) {
    throw new XetError(
      'InvalidPointer',
      new Git2dbError(
        'INVALID_POINTER',
        `expected a pointer, found ${content.length} ${typeof content === 'string' ? 'characters' : 'bytes'} that are none: give what clean answered`,
      ),
    );
  }
  const hash = parseHash(pointer.hash);
  const isEmpty = isZeroHash(hash);
  if (pointer.size !== undefined && isEmpty !== (pointer.size === 0)) {
    throw new Git2dbError(
      'INVALID_POINTER',
      `the pointer says ${pointer.size} bytes and names file ${pointer.hash}, which cannot both be: it was changed by hand`,
    );
  }
  return isEmpty ? undefined : { hash, size: pointer.size };
}
