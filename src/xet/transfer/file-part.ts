/**
 * A file that is still on its way can be read as far as it has come: *parts* follow each other without a gap, and every
 * process can read one from the moment it is told of. Its chunks are verified; that they are those of the file is
 * certain only when all have come.
 */

/** A part is a file of its own in the store, or a run of chunks of a published xorb. */
export type FilePart = PartBytes & (StoredPart | XorbPart);

interface PartBytes {
  /** Where in the file it begins, in bytes: the end of the part before it. */
  readonly offset: number;
  readonly size: number;
}

interface StoredPart {
  readonly kind: 'file';
  /** Its file hash, 32 bytes. */
  readonly hash: Uint8Array;
}

interface XorbPart {
  readonly kind: 'xorb';
  readonly hash: Uint8Array;
  /** Chunks [start, end). */
  readonly start: number;
  readonly end: number;
}
