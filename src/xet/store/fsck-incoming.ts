/** What writers have acknowledged and not sealed: journals, and the chunks that they name. */
import { statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { errnoOf, FormatError } from '../errors.ts';
import { readRegular } from '../regular-file.ts';
import type { BrokenXorb, Damage } from './fsck-damage.ts';
import type { ScannedXorb } from './fsck-scan.ts';
import { JOURNAL, openLocalXorb, writerDirectories } from './incoming.ts';
import { decodeJournal, frameSize, type IncomingState, type LocalTerm } from './journal.ts';
import type { LocalStore, StoredFile, StoredTerm } from './local-store.ts';
import { closeSource, type XorbSource } from './xorb-source.ts';

/** One writer's directory whose journal could be read. */
export interface Incoming {
  /** Relative to `incoming/`. */
  readonly name: string;
  readonly directory: string;
  readonly state: IncomingState;
}

/** A local xorb of a writer, to be scanned like a published one. */
export interface LocalXorbFile extends ScannedXorb {
  readonly incoming: Incoming;
}

export interface IncomingCheck {
  readonly writers: readonly Incoming[];
  readonly damage: readonly Damage[];
}

/** Reads every journal. Directories that are sealed meanwhile are passed over. */
export function readJournals(store: LocalStore): IncomingCheck {
  const root = store.layout.incoming;
  const writers: Incoming[] = [];
  const damage: Damage[] = [];
  for (const directory of writerDirectories(root)) {
    const name = relative(root, directory);
    const path = join(directory, JOURNAL);
    const report = (offset: number, expected: string, found: string) =>
      damage.push({ object: 'incoming', name, path, chunk: undefined, offset, expected, found });
    let bytes: Buffer;
    try {
      bytes = readRegular(path, 'INVALID_JOURNAL');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') continue;
      if (!(error instanceof FormatError)) throw error;
      report(0, 'a journal', error.message);
      continue;
    }
    try {
      writers.push({ name, directory, state: decodeJournal(bytes) });
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      report(error.offset, 'frames that do not contradict each other', error.message);
      continue;
    }
    // A frame that was being written is no damage; one with others behind it is.
    let end = 0;
    for (let size = frameSize(bytes, end); size !== undefined; size = frameSize(bytes, end)) end += size;
    const next = findFrame(bytes, end + 1);
    if (next !== undefined) report(end, 'a frame whose checksum is right', `none until offset ${next}`);
  }
  return { writers, damage };
}

/** Offset of the first whole frame at `from` or behind it. */
function findFrame(bytes: Buffer, from: number): number | undefined {
  for (let at = from; at + 8 <= bytes.length; at++) {
    const type = bytes.readUInt32LE(at + 4);
    if ((type === 1 || type === 2) && frameSize(bytes, at) !== undefined) return at;
  }
  return undefined;
}

/** The local xorbs of a writer. */
export function localXorbs(incoming: Incoming): LocalXorbFile[] {
  const { directory, state } = incoming;
  return state.xorbs
    .filter((xorb) => xorb.count > 0)
    .map((xorb) => ({
      name: localName(incoming, xorb.number),
      incoming,
      size: statSync(join(directory, `${xorb.number}.xorb`), { throwIfNoEntry: false })?.size ?? 0,
      open: () => openLocalXorb(directory, state, xorb.number),
    }));
}

/** Name of a local xorb that no other xorb of the store has. */
export function localName(incoming: Incoming, number: number): string {
  return `incoming/${incoming.name}/${number}`;
}

/** The files that a writer acknowledged; their local terms are named by `localName`. Closed by `close`. */
export class IncomingFiles {
  readonly #incoming: Incoming;
  /** One is kept open: terms are looked at one after the other. */
  #open: { readonly number: number; readonly source: XorbSource } | undefined;

  constructor(incoming: Incoming) {
    this.#incoming = incoming;
  }

  list(store: LocalStore): StoredFile[] {
    return this.#incoming.state.files.map((file) => {
      const described = store.describeLocal(file, (number) => this.#source(number));
      const terms = described.terms.map((term, i): StoredTerm => {
        const { xorbHash, local } = file.terms[i] as LocalTerm;
        return xorbHash === undefined ? { ...term, name: localName(this.#incoming, local) } : term;
      });
      return { ...described, terms };
    });
  }

  close(): void {
    if (this.#open !== undefined) closeSource(this.#open.source);
    this.#open = undefined;
  }

  #source(number: number): XorbSource {
    if (this.#open?.number !== number) {
      this.close();
      this.#open = { number, source: openLocalXorb(this.#incoming.directory, this.#incoming.state, number) };
    }
    return this.#open.source;
  }
}

/** True if recovery, should the writer be dead, would drop something. */
export function isDamagedIncoming(incoming: Incoming, broken: ReadonlyMap<string, BrokenXorb>): boolean {
  return incoming.state.xorbs.some((xorb) => broken.has(localName(incoming, xorb.number)));
}
