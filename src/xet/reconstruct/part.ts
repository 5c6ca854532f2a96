/** Reading a file before all of it is there: its beginning, run by run, and the proof of it afterwards. */
import { verificationHash } from '../hash/verification.ts';
import { ByteList } from '../store/byte-list.ts';
import type { StoredTerm } from '../store/local-store.ts';
import { openTerm, type ReadPlan } from './plan.ts';

/** Of chunks of one xorb. That they are those of some file is for others to prove. Throws as `planFile`. */
export function planRun(term: StoredTerm): ReadPlan {
  const source = openTerm(term);
  const proof = verificationHash(source.hashes, term.start, term.end);
  return { size: term.rawBytes, terms: [term], proofs: [proof] };
}

/** Hashes of the plan's chunks, 32 bytes each, in order. */
export function chunkHashesOf(plan: ReadPlan): Uint8Array {
  const hashes = new ByteList(1024);
  for (const term of plan.terms) {
    hashes.append(openTerm(term).hashes, 32 * term.start, 32 * (term.end - term.start));
  }
  return hashes.slice();
}

/** Whether these are the hashes of the plan's first chunks. */
export function beginsWith(plan: ReadPlan, hashes: Uint8Array): boolean {
  let at = 0;
  for (const term of plan.terms) {
    if (at === hashes.length) break;
    const own = openTerm(term).hashes.subarray(32 * term.start, 32 * term.end);
    const length = Math.min(own.length, hashes.length - at);
    if (Buffer.compare(own.subarray(0, length), hashes.subarray(at, at + length)) !== 0) return false;
    at += length;
  }
  return at === hashes.length;
}
