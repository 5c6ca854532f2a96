/**
 * Writing shards anew: without files that nothing needs and xorbs that go, with the new places of copied
 * chunks, and small ones put together. File hashes stay what they are; verification hashes are those of
 * the new terms. A shard that cannot be carried over stays, and so does all it names.
 */
import { rmSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { FormatError, Git2dbError, messageOf } from '../../errors.ts';
import { verificationHash } from '../../hash/verification.ts';
import { formatHash, HASH_SIZE, hashesEqual } from '../../hash/xet-hash.ts';
import { readRegular } from '../../regular-file.ts';
import { ShardBuilder } from '../../shard/builder.ts';
import type { FileRecord, Term } from '../../shard/file-info.ts';
import { Shard, shardName } from '../../shard/shard.ts';
import { type StoreLayout, syncDirectory } from '../layout.ts';
import { type Fsync, publishShard } from '../publish.ts';
import { writeWhole } from '../write-all.ts';
import { ChunkLists } from './chunk-lists.ts';
import { ageClass, type PlanOptions } from './plan.ts';
import type { ChunkPlace, NewXorb, Repacker } from './repack.ts';
import type { LeftObject } from './report.ts';
import type { ShardEntry, Survey } from './survey.ts';

/**
 * Shards are cut at this size. Relying on one file of a shard makes the whole shard young again, so it
 * should not describe everything there is.
 */
export const MAX_SHARD = 16 << 20;
const SMALL_SHARD = MAX_SHARD / 2;

export interface RewriteOptions {
  readonly layout: StoreLayout;
  /** For temporary files; on the store's file system. */
  readonly directory: string;
  readonly fsync: Fsync;
  readonly pause: () => Promise<void>;
  readonly checkpoint: (name: string) => Promise<void>;
}

export interface NewShard {
  readonly name: string;
  /** Bytes that were added to the store; 0 where it had this shard. */
  readonly addedBytes: number;
}

/** Which shards are to be written anew, in groups that may be put together. `isGone`: the xorb will not stay. */
export function planShards(
  survey: Pick<Survey, 'shards' | 'xorbs' | 'missing'>,
  isGone: (xorb: string) => boolean,
  ages: Pick<PlanOptions, 'limitMs' | 'graceMs'>,
): ShardEntry[][] {
  const groups = new Map<number | undefined, Group>();
  for (const shard of survey.shards) {
    if (shard.isFixed) continue;
    const age = ageClass(shard.object.mtimeMs, ages);
    const group = groups.get(age) ?? { shards: [], empty: 0, dirty: 0 };
    groups.set(age, group);
    if (!isDirty(shard, survey, isGone)) {
      if (age !== undefined && shard.object.size < SMALL_SHARD) group.shards.push({ shard, isDirty: false });
      continue;
    }
    group.shards.push({ shard, isDirty: true });
    if (isEmpty(shard, isGone)) group.empty++;
    else group.dirty++;
  }
  return [...groups.values()]
    .map(({ shards, empty, dirty }) => {
      const small = shards.length - empty - dirty;
      const isWorthIt = small + Math.min(1, dirty) >= 2;
      return shards.filter((member) => isWorthIt || member.isDirty).map(({ shard }) => shard);
    })
    .filter((group) => group.length > 0);
}

interface Group {
  /** Those that must be written anew, and small ones. */
  readonly shards: { readonly shard: ShardEntry; readonly isDirty: boolean }[];
  /** How many of those that must say nothing any more. */
  empty: number;
  /** The others of those that must. */
  dirty: number;
}

/** True if nothing of the shard is to be carried over. */
function isEmpty({ kept, names }: ShardEntry, isGone: (xorb: string) => boolean): boolean {
  return kept.size === 0 && [...names].every(isGone);
}

/** True if the shard says something that is no longer so, or no longer needed. */
function isDirty(
  { kept, fileCount, names }: ShardEntry,
  { xorbs, missing }: Pick<Survey, 'xorbs' | 'missing'>,
  isGone: (xorb: string) => boolean,
): boolean {
  if (kept.size < fileCount) return true;
  for (const name of names) if (isGone(name) || !(xorbs.has(name) || missing.has(name))) return true;
  return false;
}

export class ShardRewriter {
  readonly created: NewShard[] = [];
  /** Shards that the new ones replace. */
  readonly replaced: ShardEntry[] = [];
  /** Shards that had to stay, and why. */
  readonly left: LeftObject[] = [];
  readonly #survey: Survey;
  readonly #repacker: Repacker;
  readonly #isGone: (xorb: string) => boolean;
  readonly #options: RewriteOptions;
  readonly #lists: ChunkLists;
  /** Xorbs that the new shards describe. */
  readonly #described = new Set<string>();
  #createdByName: Map<string, NewXorb> | undefined;
  #builder = new ShardBuilder();
  #mtimeMs = 0;
  #createdAt = 0;

  constructor(
    survey: Survey,
    repacker: Repacker,
    isGone: (xorb: string) => boolean,
    options: RewriteOptions,
  ) {
    this.#survey = survey;
    this.#repacker = repacker;
    this.#isGone = isGone;
    this.#options = options;
    this.#lists = new ChunkLists((name) => options.layout.xorb(name));
  }

  /** Writes and publishes what replaces these shards. */
  async rewrite(groups: readonly (readonly ShardEntry[])[]): Promise<void> {
    for (const group of groups) {
      // Later than all that is replaced: where both are found, the new one counts.
      const newest = group.reduce((latest, shard) => Math.max(latest, shard.createdAt), 0);
      this.#createdAt = Math.max(Math.floor(Date.now() / 1000), newest + 1);
      this.#mtimeMs = group.reduce((latest, { object }) => Math.max(latest, object.mtimeMs), 0);
      for (const shard of group) {
        await this.#options.pause();
        this.#carry(shard);
        if (this.#builder.size() > MAX_SHARD) await this.#publish();
      }
      await this.#publish();
    }
    // Copied chunks that no file names: young ones.
    for (const xorb of this.#repacker.created) this.#describe(xorb);
    await this.#publish();
    if (this.#options.fsync !== 'none') syncDirectory(this.#options.layout.shards);
  }

  #carry(entry: ShardEntry): void {
    const shard = Shard.open(readRegular(entry.object.path, 'INVALID_SHARD'));
    let files: FileRecord[];
    try {
      files = [...entry.kept].sort((a, b) => a - b).map((index) => this.#translate(shard.fileAt(index)));
    } catch (error) {
      if (!(error instanceof Git2dbError)) throw error;
      this.left.push({ path: entry.object.path, message: messageOf(error) });
      return;
    }
    for (const file of files) {
      this.#builder.addFile(file);
      for (const { xorbHash } of file.terms) {
        const created = this.#created(xorbHash);
        if (created !== undefined) this.#describe(created);
      }
    }
    for (const record of shard.xorbs()) {
      const name = formatHash(record.xorbHash);
      const stays = this.#survey.xorbs.has(name) ? !this.#isGone(name) : this.#survey.missing.has(name);
      if (!stays || this.#described.has(name)) continue;
      this.#described.add(name);
      this.#builder.addXorb(record);
    }
    this.replaced.push(entry);
  }

  /** The record of the same file with the places that its chunks have now. */
  #translate(record: FileRecord): FileRecord {
    const terms: Term[] = [];
    const verification: Uint8Array[] = [];
    for (const [i, term] of record.terms.entries()) {
      const known = record.verification?.[i];
      if (!this.#repacker.hasCopied(formatHash(term.xorbHash))) {
        terms.push(term);
        verification.push(known ?? this.#lists.verificationHash(term));
        continue;
      }
      const places = this.#placesOf(term);
      const hashes = Buffer.concat(
        places.map(({ xorb, chunk }) => xorb.hashes.subarray(HASH_SIZE * chunk, HASH_SIZE * (chunk + 1))),
      );
      if (known !== undefined && !hashesEqual(verificationHash(hashes, 0, places.length), 0, known, 0)) {
        throw invalid(term, 'its verification hash is that of other chunks');
      }
      for (const run of runsOf(places)) {
        const last = terms.at(-1);
        const joins = last?.end === run.start && hashesEqual(last.xorbHash, 0, run.xorb.xorbHash, 0);
        const start = joins ? (last as Term).start : run.start;
        if (joins) {
          terms.pop();
          verification.pop();
        }
        let rawBytes = 0;
        for (let chunk = start; chunk < run.end; chunk++) rawBytes += run.xorb.lengths[chunk] as number;
        terms.push({ xorbHash: run.xorb.xorbHash, start, end: run.end, rawBytes });
        verification.push(verificationHash(run.xorb.hashes, start, run.end));
      }
    }
    const { fileHash, sha256 } = record;
    return { fileHash, terms, verification, ...(sha256 === undefined ? {} : { sha256 }) };
  }

  #placesOf(term: Term): ChunkPlace[] {
    const name = formatHash(term.xorbHash);
    const places: ChunkPlace[] = [];
    let rawBytes = 0;
    for (let chunk = term.start; chunk < term.end; chunk++) {
      const place = this.#repacker.placeOf(name, chunk);
      if (place === undefined) throw invalid(term, `there is no chunk ${chunk}`);
      places.push(place);
      rawBytes += place.xorb.lengths[place.chunk] as number;
    }
    if (rawBytes !== term.rawBytes) throw invalid(term, `they have ${rawBytes} bytes, not ${term.rawBytes}`);
    return places;
  }

  #created(xorbHash: Uint8Array): NewXorb | undefined {
    this.#createdByName ??= new Map(this.#repacker.created.map((xorb) => [xorb.name, xorb]));
    return this.#createdByName.get(formatHash(xorbHash));
  }

  #describe(created: NewXorb): void {
    if (this.#described.has(created.name)) return;
    this.#described.add(created.name);
    const { xorbHash, hashes, lengths, storedBytes, flags } = created;
    this.#builder.addXorb({
      xorbHash,
      hashes,
      lengths,
      storedBytes,
      ...(flags === undefined ? {} : { flags }),
    });
  }

  async #publish(): Promise<void> {
    const builder = this.#builder;
    this.#builder = new ShardBuilder();
    if (builder.fileCount + builder.xorbCount === 0) return;
    const { layout, directory, fsync, checkpoint } = this.#options;
    const bytes = builder.build({ createdAt: this.#createdAt });
    const name = shardName(bytes);
    const path = join(directory, `${name}.mdb`);
    writeWhole(path, [bytes], fsync);
    utimesSync(path, this.#mtimeMs / 1000, this.#mtimeMs / 1000);
    await checkpoint('shard written');
    const target = layout.shard(name);
    publishShard(layout, path, target, bytes, fsync);
    const isOurs = statSync(target).ino === statSync(path).ino;
    rmSync(path);
    this.created.push({ name, addedBytes: isOurs ? bytes.length : 0 });
    await checkpoint('shard published');
  }
}

interface Run {
  readonly xorb: NewXorb;
  readonly start: number;
  end: number;
}

/** Neighbours in one new xorb, put together. */
function runsOf(places: readonly ChunkPlace[]): Run[] {
  const runs: Run[] = [];
  for (const { xorb, chunk } of places) {
    const last = runs.at(-1);
    if (last?.xorb === xorb && last.end === chunk) last.end++;
    else runs.push({ xorb, start: chunk, end: chunk + 1 });
  }
  return runs;
}

function invalid({ xorbHash, start, end }: Term, why: string): FormatError {
  return new FormatError(
    'INVALID_SHARD',
    `a file needs chunks [${start}, ${end}) of xorb ${formatHash(xorbHash)}, but ${why}`,
    0,
  );
}
