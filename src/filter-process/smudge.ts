/**
 * Smudge: pointer -> content. What is no pointer of this filter's kind stays what it is, and so does a pointer whose
 * content is not wanted.
 */
import { Git2dbError } from '../xet/errors.ts';
import { isZeroHash, parseHash } from '../xet/hash/xet-hash.ts';
import { parseLooseLfsPointer } from '../xet/pointer/lfs-pointer.ts';
import { POINTER_MAX, type Pointer, sniffPointer } from '../xet/pointer/sniff.ts';
import { QueuedFile } from '../xet/read-ahead.ts';
import type { FilterContext } from './filter-context.ts';
import type { GivenContent, Wanted } from './given-content.ts';
import { sendLfsObject } from './lfs-content.ts';
import type { OutputJob, SmudgeKeys } from './session.ts';
import type { Spool } from './spool.ts';
import type { Summary } from './summary.ts';

/** What stands for a pointer: an answer that is ready, or content that is to be given now or later. */
export type Smudged = OutputJob | { readonly kind: 'wanted'; readonly content: GivenContent };

/** `spool`: what git sent; an answer that passes it on disposes of it. */
export function smudge(context: FilterContext, summary: Summary, keys: SmudgeKeys, spool: Spool): Smudged {
  return context.kind === 'xet'
    ? smudgeXet(context, summary, keys, spool)
    : smudgeLfs(context, summary, keys, spool);
}

function smudgeXet(context: FilterContext, summary: Summary, keys: SmudgeKeys, spool: Spool): Smudged {
  const bytes = spool.size <= POINTER_MAX ? spool.bytes() : undefined;
  const pointer = bytes && sniffPointer(bytes);
  if (bytes === undefined || pointer === undefined || pointer.kind === 'lfs') {
    if (pointer === undefined && spool.size > 0) summary.plain.push(keys.path);
    return plain(spool);
  }
  const { content } = context;
  if (content.config.skipSmudge) return verbatim(bytes);
  if (pointer.size === 0 || isZeroHash(parseHash(pointer.hash))) return emptyFile(pointer);
  const file = new QueuedFile(pointer.size ?? 0, () => content.plan(pointer.hash, pointer.size));
  const wanted = {
    kind: 'xet',
    hash: pointer.hash,
    size: pointer.size,
    treeish: oidOf(keys.treeish),
    isHere: () => content.findSize(pointer.hash) !== undefined,
  } as const;
  return wantedFile(keys, Buffer.from(bytes), file, wanted);
}

function smudgeLfs(context: FilterContext, summary: Summary, keys: SmudgeKeys, spool: Spool): Smudged {
  const bytes = spool.size < POINTER_MAX ? spool.bytes() : undefined;
  const pointer = bytes && parseLooseLfsPointer(bytes);
  if (bytes === undefined || pointer === undefined) {
    const isOther = bytes !== undefined && sniffPointer(bytes) !== undefined;
    if (!isOther && spool.size > 0) summary.plain.push(keys.path);
    return plain(spool);
  }
  const { content } = context;
  const { sha256, size } = pointer;
  const text = Buffer.from(bytes);
  if (pointer.hasExtensions) summary.extended.push(keys.path);
  if (pointer.hasExtensions || content.config.skipSmudge) return verbatim(text);
  if (size === 0) return { kind: 'content', write: () => {} };
  const source = content.findLfs(sha256, size);
  if (source?.kind === 'object')
    return { kind: 'content', write: (output) => sendLfsObject(source.path, sha256, size, output) };
  // As git-lfs has it: what need not be downloaded is given all the same.
  if (source === undefined && !content.config.lfs.mayDownload(keys.path)) return verbatim(text);
  const plan = source?.plan ?? (() => content.planLfs(sha256, size));
  const treeish = oidOf(keys.treeish);
  const wanted = { kind: 'lfs', hash: sha256, size, treeish, isHere: () => source !== undefined } as const;
  return wantedFile(keys, text, new QueuedFile(size, plan), wanted);
}

function wantedFile(keys: SmudgeKeys, pointer: Buffer, file: QueuedFile, wanted: Wanted): Smudged {
  return { kind: 'wanted', content: { path: keys.path, pointer, file, wanted, isQueued: false } };
}

/** The same bytes. */
function plain(spool: Spool): OutputJob {
  return { kind: 'content', write: (output) => spool.write(output), dispose: () => spool.dispose() };
}

/** Git says a full object id; anything else is nobody's. */
function oidOf(treeish: string | undefined): string | undefined {
  return treeish !== undefined && /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(treeish) ? treeish : undefined;
}

function verbatim(bytes: Uint8Array): OutputJob {
  return { kind: 'content', write: (output) => output.content(bytes) };
}

function emptyFile(pointer: Exclude<Pointer, { kind: 'lfs' }>): OutputJob {
  if (pointer.size !== undefined && pointer.size !== 0) {
    throw new Git2dbError(
      'INVALID_POINTER',
      `the pointer names the empty file but says ${pointer.size} bytes`,
    );
  }
  if (!isZeroHash(parseHash(pointer.hash))) {
    throw new Git2dbError('INVALID_POINTER', `the pointer says 0 bytes but names file ${pointer.hash}`);
  }
  return { kind: 'content', write: () => {} };
}
