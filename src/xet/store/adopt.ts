/**
 * Taking over what another store on this machine has: its xorbs are hard-linked into ours (else
 * cloned, else copied), so that ours never depends on the other.
 */
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fdatasyncSync,
  linkSync,
  mkdirSync,
  openSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { errnoOf, Git2dbError } from '../errors.ts';
import type { LocalStore, StoredFile } from './local-store.ts';
import { hasUsableXorb, publishFile } from './publish.ts';
import type { StoreWriter } from './writer.ts';

/**
 * Makes `file` of `source` a file of the writer's store: acknowledged like a cleaned one. `sha256`, by default, is
 * what the source knows.
 */
export function adoptFile(
  store: LocalStore,
  writer: StoreWriter,
  source: LocalStore,
  file: StoredFile,
  sha256: string | undefined = file.record?.sha256,
): void {
  if (file.terms.some((term) => term.xorbHash === undefined)) {
    throw new Git2dbError('CONTENT_MISSING', 'the other store has not sealed this file yet');
  }
  const linked = new Set<string>();
  for (const { name, xorbHash } of file.terms) {
    if (linked.has(name) || xorbHash === undefined) continue;
    linked.add(name);
    if (hasUsableXorb(store.layout, store.layout.xorb(name), xorbHash) && writer.touchXorb(name)) continue;
    adoptXorb(store, writer, source, name, xorbHash);
  }
  writer.begin();
  writer.commit({
    fileHash: file.hash,
    size: file.size,
    terms: file.terms.map(({ xorbHash, start, end, rawBytes }) => ({
      xorbHash,
      local: 0,
      start,
      end,
      rawBytes,
    })),
    sha256,
  });
}

function adoptXorb(
  store: LocalStore,
  writer: StoreWriter,
  source: LocalStore,
  name: string,
  xorbHash: Uint8Array,
): void {
  const from = source.openXorb(xorbHash).path;
  const to = store.layout.xorb(name);
  // Somebody else's chunk boundaries are not to be believed; the mark comes before the xorb.
  if (!isOwn(from) || source.isIrregular(name)) store.layout.markIrregular(name);
  mkdirSync(dirname(to), { recursive: true });
  try {
    linkSync(from, to);
  } catch (error) {
    const errno = errnoOf(error);
    // Other file system, protected hard links, too many links: ordinary.
    if (errno !== 'EEXIST') copyXorb(from, join(writer.directory, `adopt-${name}`), to);
  }
  writer.adopt(xorbHash);
}

function copyXorb(from: string, temporary: string, to: string): void {
  try {
    copyFileSync(from, temporary, constants.COPYFILE_FICLONE);
    const fd = openSync(temporary, 'r+');
    try {
      fdatasyncSync(fd);
    } finally {
      closeSync(fd);
    }
    if (!existsSync(to)) publishFile(temporary, to);
  } finally {
    rmSync(temporary, { force: true });
  }
}

function isOwn(path: string): boolean {
  return statSync(path).uid === process.getuid?.();
}
