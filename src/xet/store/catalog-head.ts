/**
 * The file `catalog/HEAD`, which names the tables that count. Text:
 *
 *     git2db catalog 1 <LF> { table <sha256> <chunks> <files> <LF> }      older tables first
 */
import { join } from 'node:path';
import { errnoOf } from '../errors.ts';
import { readRegular } from '../regular-file.ts';
import type { StoreLayout } from './layout.ts';

export const HEAD = 'HEAD';
const HEAD_LINE = 'git2db catalog 1';

export interface HeadEntry {
  readonly name: string;
  readonly chunks: number;
  readonly files: number;
}

export function formatHead(entries: readonly HeadEntry[]): string {
  const lines = entries.map(({ name, chunks, files }) => `table ${name} ${chunks} ${files}`);
  return [HEAD_LINE, ...lines, ''].join('\n');
}

/** Entries of HEAD; a missing or damaged HEAD is an empty catalog. */
export function readHead(layout: StoreLayout): HeadEntry[] {
  let text: string;
  try {
    text = readRegular(join(layout.catalog, HEAD), 'INVALID_CATALOG').toString('latin1');
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'INVALID_CATALOG') return [];
    throw error;
  }
  return parseHead(text);
}

/** Entries of what stands in a HEAD; of a damaged one, none. */
export function parseHead(text: string): HeadEntry[] {
  const lines = text.split('\n');
  if (lines[0] !== HEAD_LINE) return [];
  const entries: HeadEntry[] = [];
  for (const line of lines.slice(1)) {
    const match = /^table ([0-9a-f]{64}) ([0-9]+) ([0-9]+)$/.exec(line);
    if (match !== null)
      entries.push({ name: match[1] as string, chunks: Number(match[2]), files: Number(match[3]) });
  }
  return entries;
}
