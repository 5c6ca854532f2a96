/**
 * Publishing what a writer acknowledged: xorbs, shard, catalog, in this order, and each step only
 * when the one before is on stable storage. Every step may be done twice: recovery of a writer
 * that was killed in the middle runs the same code again.
 */
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fdatasync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { count } from '../../count.ts';
import { errnoOf, Git2dbError, messageOf } from '../errors.ts';
import { verificationHash } from '../hash/verification.ts';
import { formatHash } from '../hash/xet-hash.ts';
import { readRegular } from '../regular-file.ts';
import { ShardBuilder } from '../shard/builder.ts';
import type { FileRecord, Term } from '../shard/file-info.ts';
import { RECORD_SIZE } from '../shard/format.ts';
import { shardName } from '../shard/shard.ts';
import { lengthsOf } from '../xorb/ends.ts';
import { type FinishedXorbs, finishXorb, localXorbHash, settleAll } from './finished-xorbs.ts';
import { JOURNAL, RESCUE_PREFIX } from './incoming.ts';
import { dataEnd, type IncomingState, type LocalFile, type LocalXorb, rawLengths } from './journal.ts';
import { syncDirectory } from './layout.ts';
import type { LocalStore } from './local-store.ts';
import { type Fsync, hasUsableXorb, publishFile, publishShard } from './publish.ts';
import { writeAll } from './write-all.ts';

/** The file whose blocks the shard will take. */
export const SHARD_RESERVE = 'shard';
/** Where there is a file of this name, all xorbs of the writer are irregular. */
export const IRREGULAR_MARK = 'irregular';
/** A journal under this name is published in full; the directory may go. */
const SEALED = 'journal.sealed';
/** Shards are cut below the wire's limit of 64 MiB. */
const MAX_SHARD = 60 << 20;
/** Xorbs that are open, and being synced, at once. */
const MAX_OPEN = 32;
const EMPTY_SHARD = new ShardBuilder().size();

const sync = promisify(fdatasync);

export interface SealOptions {
  readonly fsync: Fsync;
  /** Names of xorbs (and shards, with .mdb) that dedup relied on. */
  readonly touched?: ReadonlySet<string>;
  readonly warn?: (message: string) => void;
  /** Xorbs whose files are complete, and perhaps still on their way to the disk. */
  readonly finished?: FinishedXorbs;
}

/** Bytes of the shard for these xorbs, without its files. */
export function shardFrameSize(xorbs: readonly LocalXorb[]): number {
  return xorbs.reduce((size, xorb) => size + RECORD_SIZE * (1 + xorb.count), EMPTY_SHARD);
}

/** Bytes that a file takes in the shard at most. */
export function shardFileSize(file: LocalFile): number {
  return RECORD_SIZE * (2 + 2 * file.terms.length);
}

export async function sealIncoming(
  store: LocalStore,
  directory: string,
  state: IncomingState,
  options: SealOptions,
): Promise<void> {
  if (state.files.length > 0) {
    try {
      const names = await publishXorbs(store, directory, state, options);
      rescueHits(store, state, options);
      await publishShards(store, directory, state, names, options);
    } catch (error) {
      throw new Git2dbError(
        'STORE_UNWRITABLE',
        `could not publish ${count(state.files.length, 'stored file')}: ${messageOf(error)}. Nothing is lost: all is kept in ` +
          `${directory} and the next \`git add\` or \`git2db xet gc\` completes it once the cause is gone`,
        { cause: error },
      );
    }
    try {
      store.catalog.publish();
    } catch (error) {
      // A cache: readers list the shards, and the next writer tries again.
      options.warn?.(`the catalog of ${store.root} could not be updated: ${messageOf(error)}`);
    }
  }
  try {
    renameSync(join(directory, JOURNAL), join(directory, SEALED));
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

async function publishXorbs(
  store: LocalStore,
  directory: string,
  state: IncomingState,
  options: SealOptions,
): Promise<Uint8Array[]> {
  const { finished } = options;
  await finished?.settle();
  const names = state.xorbs.map((xorb) => finished?.find(xorb.number) ?? localXorbHash(xorb));
  const targets = names.map((hash) => store.layout.xorb(formatHash(hash)));
  const fresh: LocalXorb[] = [];
  const syncs: Promise<void>[] = [];
  try {
    for (const xorb of state.xorbs) {
      if (xorb.count === 0) continue;
      const target = targets[xorb.number] as string;
      const isThere = hasUsableXorb(store.layout, target, names[xorb.number] as Uint8Array);
      if (!isThere) fresh.push(xorb);
      if (!isThere && finished?.find(xorb.number) !== undefined) continue;
      // One that is there may be another writer's, who has not synced it yet.
      const fd = isThere ? openSync(target, 'r') : openAlone(join(directory, `${xorb.number}.xorb`));
      try {
        if (!isThere) finishXorb(fd, xorb);
      } catch (error) {
        closeSync(fd);
        throw error;
      }
      if (options.fsync === 'none') closeSync(fd);
      else syncs.push(sync(fd).finally(() => closeSync(fd)));
      if (syncs.length === MAX_OPEN) await settleAll(syncs.splice(0));
    }
  } finally {
    await settleAll(syncs);
  }
  const isIrregular = fresh.length > 0 && existsSync(join(directory, IRREGULAR_MARK));
  for (const xorb of fresh) {
    const target = targets[xorb.number] as string;
    // The mark comes before the xorb: who sees the one sees the other.
    if (isIrregular) store.layout.markIrregular(basename(target));
    mkdirSync(dirname(target), { recursive: true });
    publishFile(join(directory, `${xorb.number}.xorb`), target, options.fsync);
  }
  const adopted = state.adopted.map((hash) => store.layout.xorb(formatHash(hash)));
  syncDirectoriesOf([...targets.filter((_, i) => state.xorbs[i]?.count !== 0), ...adopted], store, options);
  return names;
}

/** Makes the names of these xorbs durable. */
function syncDirectoriesOf(paths: readonly string[], store: LocalStore, options: SealOptions): void {
  if (options.fsync === 'none' || paths.length === 0) return;
  for (const path of new Set(paths.map((path) => dirname(path)))) syncDirectory(path);
  syncDirectory(store.layout.xorbs);
}

/**
 * Opens a local xorb's file to write its footer. Where the file has other names, one may be that of a
 * published xorb (an earlier seal came so far, and recovery found damage since): then a copy.
 */
function openAlone(path: string): number {
  const fd = openSync(path, 'r+', 0o666);
  if (fstatSync(fd).nlink === 1) return fd;
  closeSync(fd);
  const copy = `${path}.copy`;
  copyFileSync(path, copy, constants.COPYFILE_FICLONE);
  renameSync(copy, path);
  return openSync(path, 'r+', 0o666);
}

/**
 * gc may have put aside a xorb or shard between our hit and now. It waits for us before it deletes,
 * so what we relied on is still in its trash: take it back.
 */
function rescueHits(store: LocalStore, state: IncomingState, options: SealOptions): void {
  const wanted = new Set(options.touched);
  for (const file of state.files) {
    for (const term of file.terms) if (term.xorbHash !== undefined) wanted.add(formatHash(term.xorbHash));
  }
  const rescued: string[] = [];
  for (const name of wanted) {
    const isShard = name.endsWith('.mdb');
    const target = isShard ? join(store.layout.shards, name) : store.layout.xorb(name);
    if (existsSync(target)) continue;
    try {
      mkdirSync(dirname(target), { recursive: true });
      publishFile(join(store.layout.trash, name), target, options.fsync);
      if (!isShard) rescued.push(target);
    } catch (error) {
      options.warn?.(
        `${target} is gone although a stored file needs it: ${messageOf(error)}; run \`git2db xet fsck\``,
      );
    }
  }
  syncDirectoriesOf(rescued, store, options);
}

async function publishShards(
  store: LocalStore,
  directory: string,
  state: IncomingState,
  names: readonly Uint8Array[],
  options: SealOptions,
): Promise<void> {
  // The same state must give the same shard when recovery comes here again.
  const createdAt = Math.floor(statSync(join(directory, JOURNAL)).mtimeMs / 1000);
  const shards: Buffer[] = [];
  let builder = new ShardBuilder();
  const cutBefore = (bytes: number) => {
    if (builder.size() === EMPTY_SHARD || builder.size() + bytes <= MAX_SHARD) return;
    shards.push(Buffer.from(builder.build({ createdAt })));
    builder = new ShardBuilder();
  };
  for (const xorb of state.xorbs) {
    if (xorb.count === 0) continue;
    cutBefore(RECORD_SIZE * (1 + xorb.count));
    builder.addXorb({
      xorbHash: names[xorb.number] as Uint8Array,
      hashes: xorb.hashes.slice(),
      lengths: rawLengths(xorb),
      storedBytes: dataEnd(xorb),
    });
  }
  const failures: unknown[] = [];
  for (const xorbHash of state.adopted) {
    try {
      const { hashes, count, rawEnds, recordEnds } = store.openXorb(xorbHash);
      cutBefore(RECORD_SIZE * (1 + count));
      const lengths = lengthsOf(rawEnds);
      builder.addXorb({ xorbHash, hashes, lengths, storedBytes: recordEnds[count - 1] as number });
    } catch (error) {
      failures.push(error);
    }
  }
  for (const file of uniqueFiles(state.files)) {
    try {
      const record = fileRecord(store, state, names, file);
      cutBefore(shardFileSize(file));
      builder.addFile(record);
    } catch (error) {
      // A xorb that it refers to is gone: no reason to keep the other files from being published.
      failures.push(error);
    }
  }
  cutBefore(Number.POSITIVE_INFINITY);

  const reserved = join(directory, SHARD_RESERVE);
  for (const [i, bytes] of shards.entries()) {
    // The first one takes the blocks that were reserved for it.
    const path = i === 0 ? reserved : `${reserved}.${i}`;
    // Published by an earlier seal that did not come to its end: not to be written to.
    if ((statSync(path, { throwIfNoEntry: false })?.nlink ?? 1) > 1) rmSync(path);
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o666);
    try {
      writeAll(fd, [bytes], 0);
      ftruncateSync(fd, bytes.length);
      if (options.fsync !== 'none') await sync(fd);
    } finally {
      closeSync(fd);
    }
    publishShard(store.layout, path, store.layout.shard(shardName(bytes)), bytes, options.fsync);
  }
  if (options.fsync !== 'none') syncDirectory(store.layout.shards);
  if (failures.length > 0) throw failures[0];
}

function uniqueFiles(files: readonly LocalFile[]): LocalFile[] {
  const byHash = new Map<string, LocalFile>();
  for (const file of files) byHash.set(formatHash(file.fileHash), file);
  return [...byHash.values()];
}

function fileRecord(
  store: LocalStore,
  state: IncomingState,
  names: readonly Uint8Array[],
  file: LocalFile,
): FileRecord {
  const verification: Uint8Array[] = [];
  const terms = file.terms.map((term): Term => {
    const hashes =
      term.xorbHash === undefined
        ? state.xorbs[term.local]?.hashes.slice()
        : store.openXorb(term.xorbHash).hashes;
    verification.push(verificationHash(hashes as Uint8Array, term.start, term.end));
    return {
      xorbHash: term.xorbHash ?? (names[term.local] as Uint8Array),
      start: term.start,
      end: term.end,
      rawBytes: term.rawBytes,
    };
  });
  return {
    fileHash: file.fileHash,
    terms,
    verification,
    ...(file.sha256 !== undefined && { sha256: file.sha256 }),
  };
}

/**
 * Removes a writer's directory whose journal was published (or never had anything in it). It stays
 * while it holds directories of dead writers that could not be completed: the next writer tries again.
 */
export function removeIncoming(directory: string): void {
  if (readdirSync(directory).some((name) => name.startsWith(RESCUE_PREFIX))) return;
  rmSync(directory, { recursive: true, force: true });
}

/** Bytes of a journal that has not been published, or undefined. */
export function readJournal(directory: string): Buffer | undefined {
  try {
    return readRegular(join(directory, JOURNAL), 'INVALID_JOURNAL');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}
