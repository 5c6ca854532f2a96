/**
 * Content-defined chunk boundaries (Xet protocol specification, "Content-defined chunking").
 *
 * One byte is one step, h = (h << 1) + GEAR_TABLE[byte]; a chunk may end where the upper 16 bits of h
 * are zero. Each step waits for the one before. Two bytes are therefore taken together,
 *
 *     h = (h << 2) + ((GEAR_TABLE[first] << 1) + GEAR_TABLE[second])
 *
 * where only the outer sum waits; the hash between the two, which has to be tested as well, is
 * computed aside. Eight such pairs a turn were as fast as scanning two places at once, and simpler.
 */
import { FIRST_HASHED_OFFSET, MAX_CHUNK, MIN_CHUNK } from '../../chunk/limits';
import { GEAR_TABLE_AT } from '../memory-layout';

/** h is below this exactly if its upper 16 bits are zero. */
const MATCH: u64 = 1 << 48;

/** The hash of the open chunk at the end of the last call. */
let open: u64 = 0;

function gear(byte: usize): u64 {
  return load<u64>(byte << 3, GEAR_TABLE_AT);
}

/** See Scanning in ../scanning.ts. */
export function findBoundaries(start: usize, from: usize, end: usize, ends: usize, maxCount: u32): u32 {
  let h = open;
  let count: u32 = 0;
  while (count < maxCount) {
    const first = start + FIRST_HASHED_OFFSET;
    if (from <= first) {
      from = first;
      h = 0;
    }
    if (from >= end) break;

    // Too near to the start of the chunk for a boundary.
    const untested = min(start + MIN_CHUNK - 1, end);
    while (from < untested) {
      h = (h << 1) + gear(load<u8>(from));
      from++;
    }

    const limit = min(start + MAX_CHUNK, end);
    let boundary: usize = 0;
    let g: u64, between: u64;
    while (from + 16 <= limit) {
      g = gear(load<u8>(from, 0)); between = (h << 1) + g; h = (h << 2) + ((g << 1) + gear(load<u8>(from, 1)));
      if (between < MATCH) { boundary = from + 1; break; }
      if (h < MATCH) { boundary = from + 2; break; }
      g = gear(load<u8>(from, 2)); between = (h << 1) + g; h = (h << 2) + ((g << 1) + gear(load<u8>(from, 3)));
      if (between < MATCH) { boundary = from + 3; break; }
      if (h < MATCH) { boundary = from + 4; break; }
      g = gear(load<u8>(from, 4)); between = (h << 1) + g; h = (h << 2) + ((g << 1) + gear(load<u8>(from, 5)));
      if (between < MATCH) { boundary = from + 5; break; }
      if (h < MATCH) { boundary = from + 6; break; }
      g = gear(load<u8>(from, 6)); between = (h << 1) + g; h = (h << 2) + ((g << 1) + gear(load<u8>(from, 7)));
      if (between < MATCH) { boundary = from + 7; break; }
      if (h < MATCH) { boundary = from + 8; break; }
      g = gear(load<u8>(from, 8)); between = (h << 1) + g; h = (h << 2) + ((g << 1) + gear(load<u8>(from, 9)));
      if (between < MATCH) { boundary = from + 9; break; }
      if (h < MATCH) { boundary = from + 10; break; }
      g = gear(load<u8>(from, 10)); between = (h << 1) + g; h = (h << 2) + ((g << 1) + gear(load<u8>(from, 11)));
      if (between < MATCH) { boundary = from + 11; break; }
      if (h < MATCH) { boundary = from + 12; break; }
      g = gear(load<u8>(from, 12)); between = (h << 1) + g; h = (h << 2) + ((g << 1) + gear(load<u8>(from, 13)));
      if (between < MATCH) { boundary = from + 13; break; }
      if (h < MATCH) { boundary = from + 14; break; }
      g = gear(load<u8>(from, 14)); between = (h << 1) + g; h = (h << 2) + ((g << 1) + gear(load<u8>(from, 15)));
      if (between < MATCH) { boundary = from + 15; break; }
      if (h < MATCH) { boundary = from + 16; break; }
      from += 16;
    }
    while (boundary == 0 && from < limit) {
      h = (h << 1) + gear(load<u8>(from++));
      if (h < MATCH) boundary = from;
    }
    if (boundary == 0) {
      if (limit != start + MAX_CHUNK) break;
      boundary = limit;
    }

    store<u32>(ends + (count << 2), <u32>boundary);
    count++;
    start = from = boundary;
  }
  open = h;
  return count;
}
