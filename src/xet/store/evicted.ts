/**
 * Notes of files that were given up on purpose: each was proved to be in another place before it went. So that what
 * is not here and is not meant to be can be told from what was lost. In `<store>/evicted`, one line for each:
 *
 *     <file hash> SP <size, bytes> SP <time of the proof, seconds since 1970> SP <place> LF
 *
 * The last line about a file counts; a line that is none, or does not end, is passed over. A note is not believed
 * to be more than it says: the place may have lost the file since. It may be deleted; then such files count as
 * missing until a remote is asked.
 */
import { renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { errnoOf } from '../errors.ts';
import { appendRegular, readRegular } from '../regular-file.ts';
import type { StoreLayout } from './layout.ts';

export interface EvictedNote {
  /** String form of the file hash. */
  readonly hash: string;
  /** Bytes. */
  readonly size: number;
  /** When the place was last known to hold it. */
  readonly provedAt: Date;
  /** A directory or URL without user, token or query. */
  readonly place: string;
}

/** Notes are brought together when they take more. */
const MAX_BYTES = 1 << 20;
const LINE = /^([0-9a-f]{64}) (\d{1,16}) (\d{1,11}) ([^\p{Cc}]{1,2048})$/u;

/** By file hash; none where there is no file that can be read. */
export function readEvicted({ evicted }: StoreLayout): Map<string, EvictedNote> {
  let text: string;
  try {
    text = readRegular(evicted, 'STORE_UNSUPPORTED').toString('utf8');
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return new Map();
  }
  const notes = new Map<string, EvictedNote>();
  // Whatever follows the last line end was being written in a crash.
  for (const line of text.split('\n').slice(0, -1)) {
    const [, hash, size, seconds, place] = LINE.exec(line) ?? [];
    if (hash === undefined || place === undefined) continue;
    notes.set(hash, { hash, size: Number(size), provedAt: new Date(1000 * Number(seconds)), place });
  }
  return notes;
}

/** Comes before the files go. Throws what the file system throws. */
export function noteEvicted(layout: StoreLayout, notes: readonly EvictedNote[]): void {
  if (notes.length === 0) return;
  const { evicted } = layout;
  const size = statSync(evicted, { throwIfNoEntry: false })?.size ?? 0;
  if (size <= MAX_BYTES) {
    // After a line end, in case the last one broke off.
    appendRegular(evicted, 'STORE_UNSUPPORTED', `${size > 0 ? '\n' : ''}${notes.map(lineOf).join('')}`);
    return;
  }
  const all = readEvicted(layout);
  for (const note of notes) all.set(note.hash, note);
  const temporary = `${evicted}.${process.pid}.tmp`;
  try {
    writeFileSync(temporary, [...all.values()].map(lineOf).join(''), { flag: 'wx' });
    renameSync(temporary, evicted);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

function lineOf({ hash, size, provedAt, place }: EvictedNote): string {
  const shown = place.replace(/\p{Cc}/gu, ' ').slice(0, 2048);
  return `${hash} ${size} ${Math.floor(provedAt.getTime() / 1000)} ${shown}\n`;
}
