/**
 * What lives. Every shard is read and proven; of the files it describes those live that something
 * refers to, or whose shard is younger than the grace period. A file that several shards describe
 * keeps one description: the newest that is complete and makes that file. The chunks of the kept
 * descriptions live, and all chunks of young xorbs and of xorbs that a writer relies on.
 */
import { count } from '../../../count.ts';
import { Git2dbError, messageOf } from '../../errors.ts';
import { formatHash } from '../../hash/xet-hash.ts';
import { readRegular } from '../../regular-file.ts';
import type { FileRecord } from '../../shard/file-info.ts';
import { Shard } from '../../shard/shard.ts';
import type { StoreLayout } from '../layout.ts';
import { readFileRecord } from '../shard-file.ts';
import { ChunkLists } from './chunk-lists.ts';
import type { IncomingNeeds } from './incoming-needs.ts';
import { namesIn, openShard, type StoredObject, type StoredObjects } from './objects.ts';
import { XorbEntry } from './xorb-entry.ts';

/** What must not be lost. */
export interface Roots {
  /** File hashes, string form. */
  readonly files: ReadonlySet<string>;
  /** SHA-256 of files, in hexadecimal. */
  readonly sha256s: ReadonlySet<string>;
  /** Files that need not be kept for their youth, because their content is known to be elsewhere. String form. */
  readonly released?: ReadonlySet<string> | undefined;
}

export interface ShardEntry {
  readonly object: StoredObject;
  readonly isYoung: boolean;
  /** Seconds since 1970. */
  readonly createdAt: number;
  readonly fileCount: number;
  /** Not to be written anew: its chunk hashes are keyed. All it says is kept. */
  readonly isFixed: boolean;
  /** Every xorb it describes or needs, string form. */
  readonly names: ReadonlySet<string>;
  /** Record indexes of the descriptions that are kept. */
  readonly kept: Set<number>;
}

/** One shard's description of a file. */
interface Description {
  readonly shard: ShardEntry;
  readonly recordIndex: number;
  /** All xorbs it names are there. */
  readonly isComplete: boolean;
  readonly hasSha256: boolean;
  readonly other: Description | undefined;
}

export interface Survey {
  readonly xorbs: ReadonlyMap<string, XorbEntry>;
  /** Oldest first. */
  readonly shards: readonly ShardEntry[];
  /** Xorbs that kept files name and that are not there. */
  readonly missing: ReadonlySet<string>;
  readonly files: FileCounts;
}

export interface FileCounts {
  /** Files that live. */
  readonly kept: number;
  /** Files that the store describes and nothing needs. */
  readonly dropped: number;
  /** Hashes that something refers to and no shard describes: content that is not in this store. */
  readonly missing: number;
}

export interface SurveyOptions {
  readonly layout: StoreLayout;
  /** Objects with this mtime or a later one are young. In ms since 1970. */
  readonly limitMs: number;
  readonly incoming: IncomingNeeds;
  /** Lets others run; throws once the work is to be stopped. */
  readonly pause: () => Promise<void>;
}

/** Throws REFUSED where a shard is damaged: nobody knows what it describes. */
export async function surveyStore(
  objects: StoredObjects,
  roots: Roots,
  options: SurveyOptions,
): Promise<Survey> {
  return new Surveyor(roots, options).survey(objects);
}

class Surveyor {
  readonly #roots: Roots;
  readonly #options: SurveyOptions;
  readonly #xorbs = new Map<string, XorbEntry>();
  readonly #shards: ShardEntry[] = [];
  readonly #descriptions = new Map<string, Description>();
  /** Files that something refers to by their SHA-256. */
  readonly #wantedBySha = new Set<string>();

  constructor(roots: Roots, options: SurveyOptions) {
    this.#roots = roots;
    this.#options = options;
  }

  async survey(objects: StoredObjects): Promise<Survey> {
    const { layout, limitMs, incoming } = this.#options;
    const irregular = new Set(namesIn(layout.irregular));
    for (const object of objects.xorbs) {
      const entry = new XorbEntry(object, object.mtimeMs >= limitMs, irregular.has(object.name));
      entry.isPinned = incoming.xorbs.has(object.name);
      this.#xorbs.set(object.name, entry);
    }
    await this.#readShards(objects.shards);
    this.#pinUndescribed();
    const files = await this.#keepDescriptions();
    const missing = await this.#markChunks();
    return { xorbs: this.#xorbs, shards: this.#shards, missing, files };
  }

  async #readShards(objects: readonly StoredObject[]): Promise<void> {
    const damaged: string[] = [];
    for (const object of objects) {
      await this.#options.pause();
      try {
        this.#readShard(object);
      } catch (error) {
        if (!(error instanceof Git2dbError)) throw error;
        damaged.push(`${object.path}: ${messageOf(error)}`);
      }
    }
    if (damaged.length > 0) {
      throw new Git2dbError(
        'REFUSED',
        `${count(damaged.length, 'shard')} cannot be read, so what is needed is not known, and nothing can be given up; ` +
          `run \`git2db xet fsck --repair\` first. ${damaged.join('; ')}`,
        { data: { damaged } },
      );
    }
    this.#shards.sort(
      (a, b) =>
        a.createdAt - b.createdAt ||
        a.object.mtimeMs - b.object.mtimeMs ||
        (a.object.name < b.object.name ? -1 : 1),
    );
    let rank = 0;
    for (const { names } of this.#shards) {
      for (const name of names) {
        const xorb = this.#xorbs.get(name);
        if (xorb?.rank === 0) xorb.rank = ++rank;
      }
    }
  }

  #readShard(object: StoredObject): void {
    const shard = openShard(object);
    const names = new Set<string>();
    const entry: ShardEntry = {
      object,
      names,
      isYoung: object.mtimeMs >= this.#options.limitMs,
      createdAt: shard.footer?.createdAt ?? 0,
      fileCount: shard.fileCount,
      isFixed: shard.key !== undefined,
      kept: new Set(),
    };
    for (const record of shard.xorbs()) {
      const name = formatHash(record.xorbHash);
      names.add(name);
      const xorb = this.#xorbs.get(name);
      if (xorb === undefined) continue;
      if (entry.isFixed) {
        xorb.isPinned = true;
        continue;
      }
      xorb.count = record.lengths.length;
      xorb.rawBytes = record.lengths.reduce((sum, length) => sum + length, 0);
      xorb.flags ??= record.flags;
    }
    for (const record of shard.files()) {
      for (const { xorbHash } of record.terms) names.add(formatHash(xorbHash));
      this.#readFile(record, record.recordIndex, entry);
    }
    this.#shards.push(entry);
  }

  #readFile(record: FileRecord, recordIndex: number, shard: ShardEntry): void {
    const hash = formatHash(record.fileHash);
    const isComplete = record.terms.every((term) => this.#xorbs.has(formatHash(term.xorbHash)));
    const other = this.#descriptions.get(hash);
    const { sha256 } = record;
    const hasSha256 = sha256 !== undefined;
    this.#descriptions.set(hash, { shard, recordIndex, isComplete, hasSha256, other });
    if (hasSha256 && this.#roots.sha256s.has(sha256)) this.#wantedBySha.add(hash);
  }

  /**
   * A xorb that no shard describes may belong to a shard that was damaged and taken away: nobody can
   * read its files now, but a person may be about to mend them.
   */
  #pinUndescribed(): void {
    if (!namesIn(this.#options.layout.quarantine).some((name) => /\.mdb\b/.test(name))) return;
    for (const xorb of this.#xorbs.values()) if (!xorb.isDescribed) xorb.isPinned = true;
  }

  async #keepDescriptions(): Promise<FileCounts> {
    const { layout, incoming, pause } = this.#options;
    const lists = new ChunkLists((name) => this.#xorbs.get(name)?.object.path ?? layout.xorb(name));
    let kept = 0;
    for (const [hash, description] of this.#descriptions) {
      const all = [...chain(description)];
      const isWanted = this.#roots.files.has(hash) || this.#wantedBySha.has(hash);
      const isReleased = !isWanted && this.#roots.released?.has(hash) === true;
      const isHeld = all.some(({ shard }) => shard.isFixed || (shard.isYoung && !isReleased));
      if (!isWanted && !isHeld) {
        if (isReleased) this.#releaseXorbs(all);
        continue;
      }
      kept++;
      const fixed = all.filter(({ shard }) => shard.isFixed);
      for (const { shard, recordIndex } of [...fixed, ...this.#choose(all, lists)])
        shard.kept.add(recordIndex);
      await pause();
    }
    let missing = 0;
    for (const hash of this.#roots.files) {
      if (!this.#descriptions.has(hash) && !incoming.files.has(hash)) missing++;
    }
    return { kept, dropped: this.#descriptions.size - kept, missing };
  }

  /** Of these xorbs only what other files need lives, however young they are. */
  #releaseXorbs(all: readonly Description[]): void {
    for (const { shard, recordIndex } of all) {
      for (const { xorbHash } of readFileRecord(shard.object.path, recordIndex).terms) {
        const xorb = this.#xorbs.get(formatHash(xorbHash));
        if (xorb !== undefined) xorb.isReleased = true;
      }
    }
  }

  /**
   * The newest description that is right, one with a SHA-256 before one without. All of them where none
   * is right: they are left for fsck.
   */
  #choose(all: readonly Description[], lists: ChunkLists): readonly Description[] {
    if (all.length === 1) return all;
    const complete = all
      .filter(({ isComplete }) => isComplete)
      .sort(
        (a, b) =>
          Number(b.hasSha256) - Number(a.hasSha256) ||
          b.shard.createdAt - a.shard.createdAt ||
          (a.shard.object.name < b.shard.object.name ? -1 : 1),
      );
    const right = complete.find(
      ({ shard, recordIndex }) =>
        complete.length === 1 || lists.makeFile(readFileRecord(shard.object.path, recordIndex)),
    );
    if (right === undefined) return all;
    // What finds the file by its SHA-256 is not given up for a description that does not tell it.
    return right.hasSha256 ? [right] : [right, ...all.filter(({ hasSha256 }) => hasSha256)];
  }

  /** Marks what the kept descriptions need; the names of xorbs that are not there. */
  async #markChunks(): Promise<Set<string>> {
    const missing = new Set<string>();
    for (const { object, kept } of this.#shards) {
      if (kept.size === 0) continue;
      const shard = Shard.open(readRegular(object.path, 'INVALID_SHARD'));
      for (const recordIndex of kept) {
        for (const { xorbHash, start, end } of shard.fileAt(recordIndex).terms) {
          const name = formatHash(xorbHash);
          const xorb = this.#xorbs.get(name);
          if (xorb === undefined) missing.add(name);
          else xorb.mark(start, end);
        }
      }
      await this.#options.pause();
    }
    return missing;
  }
}

function* chain(first: Description | undefined): Generator<Description> {
  for (let description = first; description !== undefined; description = description.other) yield description;
}
