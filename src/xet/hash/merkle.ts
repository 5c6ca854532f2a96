/**
 * The Merkle tree over a list of chunks, whose root names a xorb and, hashed once more, a file
 * (Xet protocol specification, "Hashing", xorb hashes and file hashes).
 *
 * The list is cut into groups, each group becomes one entry of the next list, until one entry is left:
 *
 *   - a group has at least 3 and at most 9 entries, and ends early after an entry (the third or later)
 *     whose hash is a multiple of 4; what remains at the end of a list may be a group of 1 or 2;
 *   - its length is the sum of its lengths, its hash that of a text with one line for each entry:
 *     `<hash in string form> : <length in decimal>\n`, under NODE_KEY.
 *
 * So groups depend on content and an insertion changes few of them. A single entry is its own root.
 */
import { blake3Keyed } from './blake3.ts';
import { hmac, NODE_KEY } from './keys.ts';
import { HASH_SIZE, type Hash, ZERO_HASH } from './xet-hash.ts';

const MIN_GROUP = 3;
const MAX_GROUP = 9;

/** Offset in a hash of the lowest byte of its last u64, the one that "hash modulo 4" is taken of. */
const LAST_WORD = 24;

/** Digits, " : ", a length below 2^53 in at most 16 digits, "\n". */
const MAX_LINE = 2 * HASH_SIZE + 3 + 16 + 1;

const ASCII = { zero: 0x30, space: 0x20, colon: 0x3a, newline: 0x0a };

/** The two digits of each byte, packed. */
const HEX_DIGITS: Uint16Array = Uint16Array.from({ length: 256 }, (_, byte) => {
  const digits = byte.toString(16).padStart(2, '0');
  return (digits.charCodeAt(0) << 8) | digits.charCodeAt(1);
});

const nodeText = new Uint8Array(MAX_GROUP * MAX_LINE);

/**
 * The root of the first `count` entries: `hashes` holds 32 bytes for each one after another, `lengths`
 * its raw length in bytes. 32 zero bytes for an empty list. Writes to neither.
 */
export function merkleRoot(
  hashes: Uint8Array,
  lengths: ArrayLike<number>,
  count: number = lengths.length,
): Hash {
  if (count > lengths.length || count * HASH_SIZE > hashes.length) {
    throw new RangeError(
      `${count} entries asked for, ${lengths.length} lengths and ${hashes.length} bytes of hashes given`,
    );
  }
  if (count === 0) return ZERO_HASH.slice();
  // Each pass shortens the list in place: a group is written where an entry already read stood.
  // (A copy: `slice` of a Buffer would be a view of the caller's bytes.)
  const list = new Uint8Array(hashes.subarray(0, count * HASH_SIZE));
  const sums = new Float64Array(count);
  for (let i = 0; i < count; i++) sums[i] = lengths[i] as number;
  let left = count;
  while (left > 1) {
    let groups = 0;
    for (let start = 0; start < left; groups++) {
      const end = start + groupSize(list, start, left - start);
      list.set(blake3Keyed(NODE_KEY, formatNode(list, sums, start, end)), groups * HASH_SIZE);
      let sum = 0;
      for (; start < end; start++) sum += sums[start] as number;
      sums[groups] = sum;
    }
    left = groups;
  }
  return list.slice(0, HASH_SIZE);
}

/**
 * The hash of a file made of these chunks, in order; 32 zero bytes for the empty file. `salt`: 32
 * bytes, zero where nothing else is agreed on.
 */
export function fileHash(
  hashes: Uint8Array,
  lengths: ArrayLike<number>,
  count: number = lengths.length,
  salt: Uint8Array = ZERO_HASH,
): Hash {
  if (count === 0) return ZERO_HASH.slice();
  return hmac(merkleRoot(hashes, lengths, count), salt);
}

function groupSize(hashes: Uint8Array, start: number, left: number): number {
  const most = Math.min(left, MAX_GROUP);
  for (let size = MIN_GROUP; size < most; size++) {
    if (((hashes[(start + size - 1) * HASH_SIZE + LAST_WORD] as number) & 3) === 0) return size;
  }
  return most;
}

/** The text of a node over entries [start, end), valid until the next call. */
function formatNode(hashes: Uint8Array, sums: Float64Array, start: number, end: number): Uint8Array {
  let at = 0;
  for (let entry = start; entry < end; entry++) {
    const hash = entry * HASH_SIZE;
    for (let group = hash; group < hash + HASH_SIZE; group += 8) {
      for (let i = group + 7; i >= group; i--) {
        const digits = HEX_DIGITS[hashes[i] as number] as number;
        nodeText[at++] = digits >>> 8;
        nodeText[at++] = digits;
      }
    }
    nodeText[at++] = ASCII.space;
    nodeText[at++] = ASCII.colon;
    nodeText[at++] = ASCII.space;
    at = formatDecimal(sums[entry] as number, at);
    nodeText[at++] = ASCII.newline;
  }
  return nodeText.subarray(0, at);
}

/** Writes `value` at `at`; the position after it. */
function formatDecimal(value: number, at: number): number {
  let end = at + 1;
  for (let power = 10; power <= value; power *= 10) end++;
  let rest = value;
  for (let i = end - 1; i >= at; i--) {
    const tenth = Math.floor(rest / 10);
    nodeText[i] = ASCII.zero + (rest - 10 * tenth);
    rest = tenth;
  }
  return end;
}
