/**
 * Garbage collection of a store, in an order in which nothing that is referred to is ever lost, whoever
 * else is at work; and a kill at any instant leaves a store that reads right, and that the next gc
 * finishes with (docs/gc.md):
 *
 *     lock       one gc at a time; what an earlier one left in trash/ goes back, dead writers are completed
 *     mark       what the roots and the unsealed files need
 *     copy       live chunks -> new xorbs -> new shards -> catalog, each on stable storage before the next
 *     put aside  what is dead or was copied moves to trash/, unless somebody relied on it meanwhile
 *     wait       until every writer that is registered now is gone: it may rely on what was put aside
 *     settle     mark again; put back what is wanted, delete the rest
 */
import { statfsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { errnoOf, Git2dbError, messageOf } from '../../errors.ts';
import { Catalog } from '../catalog.ts';
import { StoreLayout } from '../layout.ts';
import type { Fsync } from '../publish.ts';
import type { WriterOptions } from '../writer.ts';
import { readIncomingNeeds } from './incoming-needs.ts';
import { pruneLearned } from './learned.ts';
import { GcLock } from './lock.ts';
import { listObjects, listTrash, type StoredObject, type StoredObjects } from './objects.ts';
import { type MeasuredXorb, planRepack, type RepackPlan } from './plan.ts';
import { Repacker } from './repack.ts';
import { estimate, type GcBytes, type GcProgress, type GcReport, type LeftObject, sizeOf } from './report.ts';
import { planShards, ShardRewriter } from './rewrite-shards.ts';
import { settleTrash } from './settle.ts';
import { type Roots, type Survey, surveyStore } from './survey.ts';
import { Trash } from './trash.ts';
import { completeDeadWriters, listWriters, waitForWriters } from './writers.ts';

export interface GcOptions {
  /** False: only tell what would be done; nothing is written. */
  readonly prune: boolean;
  /** What is younger is kept whether something refers to it or not. */
  readonly graceMs: number;
  /** How long to wait for writers. */
  readonly waitMs: number;
  /** Whether chunks may be copied, to give back the dead parts of xorbs and to merge small ones. */
  readonly repack: boolean;
  readonly fsync: Fsync;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: GcProgress) => void) | undefined;
  readonly warn: (message: string) => void;
  /** For tests: called between steps, with the name of the one that was done. */
  readonly checkpoint?: ((step: string) => void | Promise<void>) | undefined;
}

/** How long the event loop, and with it an abort, may wait. */
const PAUSE_EVERY_MS = 20;
/** Room that copies leave on the disk for others. */
const SPARE_BYTES = 64 << 20;

/**
 * Collects in the store at `root`. `findRoots` is called twice with `prune`; it throws where something
 * that uses the store cannot be read. Throws REFUSED, with nothing given up, for a damaged shard or
 * journal and while another gc is at work; DISK_FULL; AbortError when `signal` aborts: what was put aside
 * by then is still there for everybody, and the next gc goes on.
 */
export async function collectGarbage(
  root: string,
  findRoots: () => Promise<Roots>,
  options: GcOptions,
): Promise<GcReport> {
  const layout = new StoreLayout(root);
  const collection = new Collection(layout, findRoots, options);
  if (!layout.exists() || !options.prune) return collection.rehearse();
  const lock = await GcLock.acquire(layout);
  try {
    return await collection.perform(lock.directory);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno !== 'ENOSPC' && errno !== 'EDQUOT') throw error;
    throw new Git2dbError(
      'DISK_FULL',
      `no room for copies on the disk of ${root}: ${messageOf(error)}. Nothing is lost; ` +
        '`git2db xet gc --prune --no-repack` makes no copies of content',
      { cause: error },
    );
  } finally {
    lock.release();
  }
}

interface Marked {
  readonly objects: StoredObjects;
  readonly survey: Survey;
  readonly plan: RepackPlan;
  /** Xorbs that could not be looked into. */
  readonly damaged: readonly LeftObject[];
}

class Collection {
  readonly #layout: StoreLayout;
  readonly #findRoots: () => Promise<Roots>;
  readonly #options: GcOptions;
  readonly #ages: { readonly limitMs: number; readonly graceMs: number };
  readonly #trash: Trash;
  #pausedAt = performance.now();

  constructor(layout: StoreLayout, findRoots: () => Promise<Roots>, options: GcOptions) {
    const { graceMs, fsync } = options;
    this.#layout = layout;
    this.#findRoots = findRoots;
    this.#options = options;
    this.#ages = { limitMs: Date.now() - graceMs, graceMs };
    this.#trash = new Trash(layout, fsync);
  }

  /** Writes nothing. */
  async rehearse(): Promise<GcReport> {
    const marked = await this.#mark();
    const { plan, survey } = marked;
    const gone = new Set(
      [...plan.dead, ...plan.groups.flat().map(({ xorb }) => xorb)].map(({ name }) => name),
    );
    const shardGroups = planShards(survey, (name) => gone.has(name), this.#ages);
    const { xorbs, shards, deleted, added } = estimate(plan, shardGroups);
    return this.#report(marked, { xorbs, shards, bytes: { deleted, added } });
  }

  /** `directory`: for temporary files, on the store's file system. */
  async perform(directory: string): Promise<GcReport> {
    await this.#done('locked');
    this.#trash.restoreAll();
    await this.#done('trash emptied');
    await completeDeadWriters(this.#layout, this.#writing);
    await this.#done('writers completed');
    const marked = await this.#mark();
    await this.#done('planned');

    const { survey, plan } = marked;
    const repacker = await this.#copy(plan, directory);
    const dead = new Set(plan.dead.map(({ name }) => name));
    const created = new Set(repacker.created.map(({ name }) => name));
    const isGone = (name: string) => (dead.has(name) || repacker.hasCopied(name)) && !created.has(name);
    const rewriter = new ShardRewriter(survey, repacker, isGone, { ...this.#steps, directory });
    await rewriter.rewrite(planShards(survey, isGone, this.#ages));
    this.#publishCatalog();
    await this.#done('catalog published');
    const outcome = {
      xorbs: { dead: plan.dead.length, copied: repacker.copiedCount, created: repacker.created.length },
      shards: { replaced: rewriter.replaced.length, created: rewriter.created.length },
      damaged: [...repacker.damaged, ...rewriter.left],
    };
    const added = [...repacker.created, ...rewriter.created].reduce(
      (sum, { addedBytes }) => sum + addedBytes,
      0,
    );

    const listed = await this.#putAside(survey, rewriter, isGone);
    if (listed.size === 0) return this.#report(marked, { ...outcome, bytes: { added } });
    await this.#done('put aside');
    const writers = await this.#waitForWriters();
    if (writers.length > 0) {
      const { xorbs, shards } = listTrash(this.#layout);
      return this.#report(marked, {
        ...outcome,
        writers,
        bytes: { added, leftInTrash: sizeOf(xorbs) + sizeOf(shards) },
      });
    }
    await this.#done('waited');
    const now = await this.#findRoots();
    await this.#done('marked again');
    const { restored, deletedBytes } = await settleTrash(now, { ...this.#steps, trash: this.#trash, listed });
    this.#publishCatalog();
    await this.#done('settled');
    return this.#report(marked, { ...outcome, restored, bytes: { added, deleted: deletedBytes } });
  }

  async #mark(): Promise<Marked> {
    const { repack, onProgress } = this.#options;
    const roots = await this.#findRoots();
    // Journals first: what is sealed while we look is found here or among the shards.
    const incoming = readIncomingNeeds(this.#layout);
    // What an earlier gc put aside counts as if it were in its place; when pruning, it is.
    const objects = withTrash(listObjects(this.#layout), listTrash(this.#layout));
    onProgress?.({ kind: 'reading', shards: objects.shards.length });
    const survey = await surveyStore(objects, roots, {
      ...this.#steps,
      limitMs: this.#ages.limitMs,
      incoming,
    });
    const measured: MeasuredXorb[] = [];
    const damaged: LeftObject[] = [];
    for (const xorb of survey.xorbs.values()) {
      await this.#pause();
      try {
        measured.push({ xorb, live: xorb.measure() });
      } catch (error) {
        if (!(error instanceof Git2dbError) && errnoOf(error) === undefined) throw error;
        damaged.push({ path: xorb.object.path, message: messageOf(error) });
      }
    }
    const plan = planRepack(measured, { ...this.#ages, repack, roomBytes: roomOn(this.#layout.root) });
    return { objects, survey, plan, damaged };
  }

  async #copy(plan: RepackPlan, directory: string): Promise<Repacker> {
    const { onProgress } = this.#options;
    const total = plan.groups.flat().reduce((sum, { live }) => sum + live.storedBytes, 0);
    if (total > 0) onProgress?.({ kind: 'copying', bytes: total });
    const onBytes = (bytes: number) => onProgress?.({ kind: 'copied', bytes });
    const repacker = new Repacker({ ...this.#steps, directory, onBytes });
    for (const group of plan.groups) await repacker.copy(group.map(({ xorb }) => xorb));
    return repacker;
  }

  /** Shards before the xorbs that they name. What was moved, as it was listed, by its path in `trash/`. */
  async #putAside(
    survey: Survey,
    { replaced, created }: ShardRewriter,
    isGone: (xorb: string) => boolean,
  ): Promise<Map<string, StoredObject>> {
    const listed = new Map<string, StoredObject>();
    const put = async (object: StoredObject): Promise<boolean> => {
      if (!this.#trash.put(object)) return false;
      listed.set(join(this.#layout.trash, basename(object.path)), object);
      await this.#done('object put aside');
      return true;
    };
    const going = new Set(replaced);
    const needed = new Set<string>();
    for (const shard of survey.shards) {
      const stays = !going.has(shard) || created.some(({ name }) => name === shard.object.name);
      if (stays || !(await put(shard.object))) for (const name of shard.names) needed.add(name);
    }
    for (const { name, object } of survey.xorbs.values()) {
      if (isGone(name) && !needed.has(name)) await put(object);
    }
    this.#trash.sync();
    return listed;
  }

  /** Those that are still there when the time is over. */
  async #waitForWriters(): Promise<string[]> {
    const { waitMs, signal, onProgress } = this.#options;
    const registered = listWriters(this.#layout);
    if (registered.size > 0) onProgress?.({ kind: 'waiting', writers: registered.size });
    return waitForWriters(this.#layout, registered, { ...this.#writing, waitMs, signal });
  }

  #publishCatalog(): void {
    const catalog = new Catalog(this.#layout);
    try {
      catalog.publish();
    } catch (error) {
      // A cache: readers list the shards, and the next writer tries again.
      this.#options.warn(`the catalog of ${this.#layout.root} could not be updated: ${messageOf(error)}`);
    } finally {
      catalog.close();
    }
  }

  /** The last step: a cache is bounded, too. */
  #report(
    { survey, plan, objects, damaged }: Marked,
    outcome: {
      readonly xorbs: Omit<GcReport['xorbs'], 'total'>;
      readonly shards: Omit<GcReport['shards'], 'total'>;
      readonly bytes: Partial<GcBytes>;
    } & Partial<Pick<GcReport, 'restored' | 'writers' | 'damaged'>>,
  ): GcReport {
    const { xorbs, shards } = objects;
    return {
      pruned: this.#options.prune,
      files: survey.files,
      restored: outcome.restored ?? 0,
      writers: outcome.writers ?? [],
      damaged: [...damaged, ...(outcome.damaged ?? [])],
      xorbs: { total: xorbs.length, ...outcome.xorbs },
      shards: { total: shards.length, ...outcome.shards },
      bytes: {
        total: sizeOf(xorbs) + sizeOf(shards),
        deleted: 0,
        added: 0,
        leftInTrash: 0,
        dead: plan.leftBytes,
        noRoom: plan.noRoomBytes,
        cache: pruneLearned(this.#layout, { now: Date.now(), prune: this.#options.prune }),
        ...outcome.bytes,
      },
    };
  }

  /** What every step is given. */
  get #steps() {
    return {
      layout: this.#layout,
      fsync: this.#options.fsync,
      pause: () => this.#pause(),
      checkpoint: (step: string) => this.#done(step),
    };
  }

  get #writing(): WriterOptions {
    return { fsync: this.#options.fsync, warn: this.#options.warn };
  }

  async #done(step: string): Promise<void> {
    this.#options.signal?.throwIfAborted();
    await this.#options.checkpoint?.(step);
  }

  async #pause(): Promise<void> {
    if (performance.now() - this.#pausedAt < PAUSE_EVERY_MS) return;
    await setImmediate();
    this.#pausedAt = performance.now();
    this.#options.signal?.throwIfAborted();
  }
}

function withTrash(there: StoredObjects, aside: StoredObjects): StoredObjects {
  const add = (present: readonly StoredObject[], more: readonly StoredObject[]) => {
    const names = new Set(present.map(({ name }) => name));
    return [...present, ...more.filter(({ name }) => !names.has(name))];
  };
  return { xorbs: add(there.xorbs, aside.xorbs), shards: add(there.shards, aside.shards) };
}

/** Bytes that copies may take. */
function roomOn(path: string): number {
  try {
    const { bavail, bsize, blocks } = statfsSync(path);
    // Some file systems of networks and of programs have no idea, and say zero of zero.
    return blocks === 0 ? Number.POSITIVE_INFINITY : bavail * bsize - SPARE_BYTES;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
