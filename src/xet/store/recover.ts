/**
 * Completing what dead writers acknowledged. A directory of `incoming/` is taken over by renaming
 * it into the rescuer's own directory: exactly one process wins, and if that one dies too, the
 * directory is found again inside its own.
 */
import { closeSync, readdirSync, readSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { count } from '../../count.ts';
import { decompressChunk } from '../compress/scheme.ts';
import { errnoOf, FormatError, messageOf } from '../errors.ts';
import { blake3Keyed } from '../hash/blake3.ts';
import { DATA_KEY } from '../hash/keys.ts';
import { openRegular } from '../regular-file.ts';
import { CHUNK_HEADER_SIZE, decodeChunkHeader } from '../xorb/chunk-record.ts';
import { RESCUE_PREFIX } from './incoming.ts';
import { decodeJournal, type IncomingState, type LocalXorb, truncateXorb } from './journal.ts';
import { probeLiveness, UNSURE_MS } from './liveness.ts';
import type { LocalStore } from './local-store.ts';
import { readJournal, type SealOptions, sealIncoming } from './seal.ts';

/** Directories that were being made when their process died hold nothing; gone after this long. */
const HIDDEN_MS = 24 * 3600 * 1000;

/** Completes every directory whose writer is dead. `own` is the rescuer's directory. */
export async function recoverDeadWriters(
  store: LocalStore,
  own: string,
  options: SealOptions,
): Promise<void> {
  for (const name of readdirSync(store.layout.incoming)) {
    const directory = join(store.layout.incoming, name);
    if (directory === own) continue;
    try {
      if (name.startsWith('.')) sweepHidden(directory);
      else if (isDirectory(directory) && (await probeLiveness(directory)) === 'dead') {
        await rescue(store, directory, own, options);
      }
    } catch (error) {
      // Ours is published; what somebody else left waits for the next writer, or for its owner.
      options.warn?.(
        `the work of a process that died is kept in ${directory} but could not be completed: ${messageOf(error)}`,
      );
    }
  }
}

async function rescue(
  store: LocalStore,
  directory: string,
  own: string,
  options: SealOptions,
): Promise<void> {
  const claimed = join(own, `${RESCUE_PREFIX}${basename(directory)}`);
  try {
    renameSync(directory, claimed);
  } catch (error) {
    // Another process was faster.
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  await complete(store, claimed, own, options);
}

/** Publishes what a directory that was taken over holds. When that fails, it is put back. */
async function complete(
  store: LocalStore,
  directory: string,
  own: string,
  options: SealOptions,
): Promise<void> {
  try {
    // What the dead one had itself taken over comes first, one level up, so that nesting never grows.
    for (const name of readdirSync(directory)) {
      if (!name.startsWith(RESCUE_PREFIX)) continue;
      const hoisted = join(own, name);
      renameSync(join(directory, name), hoisted);
      await complete(store, hoisted, own, options);
    }
    const bytes = readJournal(directory);
    if (bytes !== undefined) {
      const state = decodeJournal(bytes);
      dropDamaged(directory, state, options);
      await sealIncoming(store, directory, state, options);
    }
  } catch (error) {
    const kept = join(store.layout.incoming, basename(directory).slice(RESCUE_PREFIX.length));
    renameSync(directory, kept);
    options.warn?.(
      `the work of a process that died is kept in ${kept} but could not be completed: ${messageOf(error)}`,
    );
    return;
  }
  rmSync(directory, { recursive: true, force: true });
}

/**
 * After a power failure the journal may name chunks whose bytes never reached the disk: re-hashes
 * them, and keeps only what is whole. Files that lose a chunk were never on stable storage, so the
 * git command that asked for them had not ended.
 */
function dropDamaged(directory: string, state: IncomingState, options: SealOptions): void {
  const whole = state.xorbs.map((xorb) => countWhole(join(directory, `${xorb.number}.xorb`), xorb));
  const damaged = state.files.filter((file) =>
    file.terms.some((term) => term.xorbHash === undefined && term.end > (whole[term.local] as number)),
  );
  for (const xorb of state.xorbs) {
    const count = whole[xorb.number] as number;
    if (count < xorb.count) truncateXorb(xorb, count);
  }
  if (damaged.length === 0) return;
  options.warn?.(
    `${count(damaged.length, 'file')} that a killed process had begun to store: incomplete in ${directory} and dropped; add again what is missing`,
  );
  const isDamaged = new Set(damaged);
  state.files.splice(0, state.files.length, ...state.files.filter((file) => !isDamaged.has(file)));
}

/** Number of leading chunks whose bytes are what the journal says. */
function countWhole(path: string, xorb: LocalXorb): number {
  let fd: number;
  try {
    fd = openRegular(path, 'INVALID_JOURNAL');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0;
    throw error;
  }
  try {
    for (let i = 0; i < xorb.count; i++) {
      const start = xorb.recordEnds[i - 1] ?? 0;
      const length = (xorb.recordEnds[i] as number) - start;
      const record = Buffer.alloc(length);
      if (readSync(fd, record, 0, length, start) !== length) return i;
      try {
        const header = decodeChunkHeader(record, 0);
        const rawLength = (xorb.rawEnds[i] as number) - (xorb.rawEnds[i - 1] ?? 0);
        if (CHUNK_HEADER_SIZE + header.storedLength !== length || header.rawLength !== rawLength) return i;
        const raw = decompressChunk(header.scheme, record.subarray(CHUNK_HEADER_SIZE), rawLength);
        if (xorb.hashes.slice(32 * i, 32 * i + 32).compare(blake3Keyed(DATA_KEY, raw)) !== 0) return i;
      } catch (error) {
        if (error instanceof FormatError) return i;
        throw error;
      }
    }
    return xorb.count;
  } finally {
    closeSync(fd);
  }
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function sweepHidden(directory: string): void {
  try {
    const age = Date.now() - statSync(directory).mtimeMs;
    if (age > Math.min(HIDDEN_MS, UNSURE_MS)) rmSync(directory, { recursive: true, force: true });
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}
