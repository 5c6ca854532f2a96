/**
 * Looks up one path in a git index without parsing the index: entries of versions 2 and 3 hold their
 * path in full, so it can be searched for.
 *
 *     entry:  40 bytes of stat data, the mode among them at 24; oid (20 or 32); flags, u16: stage in
 *             bits 12..13, extended in bit 14, length of the path (at most 0xfff) in the rest;
 *             [2 bytes if extended]; path; 1..8 zero bytes
 */
const STAT_SIZE = 40;
const MODE_AT = 24;
const HEADER_SIZE = 12;

type ObjectFormat = 'sha1' | 'sha256';

interface Entry {
  readonly stage: number;
  readonly mode: number;
  readonly oid: string;
}

/**
 * Object id of the stage 0 regular file at `path`; undefined if there is none; 'ask' where only git
 * can tell (version 4, split or sparse index).
 */
export function findStagedOid(index: Buffer, path: Buffer, format: ObjectFormat): string | 'ask' | undefined {
  if (!isSearchable(index)) return 'ask';
  for (const { stage, mode, oid } of entriesAt(index, path, format)) {
    if (stage === 0 && (mode === 0o100644 || mode === 0o100755)) return oid;
  }
  return isPartial(index) ? 'ask' : undefined;
}

/** Whether a merge has left `path` in conflict; 'ask' as above. */
export function isUnmerged(index: Buffer, path: Buffer, format: ObjectFormat): boolean | 'ask' {
  if (!isSearchable(index)) return 'ask';
  for (const { stage } of entriesAt(index, path, format)) return stage !== 0;
  return isPartial(index) ? 'ask' : false;
}

function isSearchable(index: Buffer): boolean {
  if (index.length < HEADER_SIZE || index.toString('latin1', 0, 4) !== 'DIRC') return false;
  const version = index.readUInt32BE(4);
  return version === 2 || version === 3;
}

/** A split index holds the rest elsewhere ("link"); a sparse one has directories ("sdir"). */
function isPartial(index: Buffer): boolean {
  return index.includes('link') || index.includes('sdir');
}

function* entriesAt(index: Buffer, path: Buffer, format: ObjectFormat): Generator<Entry> {
  const oidSize = format === 'sha1' ? 20 : 32;
  const needle = Buffer.concat([path, Buffer.from([0])]);
  for (let at = index.indexOf(needle, HEADER_SIZE); at >= 0; at = index.indexOf(needle, at + 1)) {
    for (const extended of [0, 2]) {
      const flagsAt = at - extended - 2;
      const start = flagsAt - oidSize - STAT_SIZE;
      if (start < HEADER_SIZE) continue;
      const flags = index.readUInt16BE(flagsAt);
      const plain = (flags & 0x4000) === 0;
      if (plain !== (extended === 0)) continue;
      if ((flags & 0xfff) !== Math.min(path.length, 0xfff)) continue;
      yield {
        stage: (flags >> 12) & 3,
        mode: index.readUInt32BE(start + MODE_AT),
        oid: index.toString('hex', flagsAt - oidSize, flagsAt),
      };
    }
  }
}
