/**
 * How the process that fetches tells the filter of a part of a file that is on its way: what follows `part <kind>
 * <hash of the file> ` on its line.
 *
 *     <offset> <size> file <file hash>                 a file of its own in the store
 *     <offset> <size> xorb <xorb hash> <start> <end>   chunks [start, end) of a published xorb
 */
import { formatHash, parseHash } from '../xet/hash/xet-hash.ts';
import type { FilePart } from '../xet/transfer/file-part.ts';

const LINE = /^(\d{1,16}) (\d{1,16}) (?:file ([0-9a-f]{64})|xorb ([0-9a-f]{64}) (\d{1,8}) (\d{1,8}))$/;

export function formatPart(part: FilePart): string {
  const place = `${part.offset} ${part.size} ${part.kind} ${formatHash(part.hash)}`;
  return part.kind === 'file' ? place : `${place} ${part.start} ${part.end}`;
}

/** Undefined for what is none. */
export function parsePart(line: string): FilePart | undefined {
  const [, offset, size, file, xorb, start, end] = LINE.exec(line) ?? [];
  const bytes = { offset: Number(offset), size: Number(size) };
  if (file !== undefined) return { ...bytes, kind: 'file', hash: parseHash(file) };
  if (xorb === undefined) return undefined;
  return { ...bytes, kind: 'xorb', hash: parseHash(xorb), start: Number(start), end: Number(end) };
}
