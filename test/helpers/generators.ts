/** The input generators of test/vectors/xet-vectors.json (see `generators` there). */
import { readFileSync } from 'node:fs';

export type InputSpec =
  | { readonly kind: 'empty'; readonly size: 0 }
  | { readonly kind: 'constant'; readonly value: number; readonly size: number }
  | { readonly kind: 'repeat'; readonly text: string; readonly size: number }
  | { readonly kind: 'xorshift32' | 'lcg32'; readonly seed: number; readonly size: number }
  | { readonly kind: 'splitmix64'; readonly seed: string; readonly size: number }
  | { readonly kind: 'concat'; readonly parts: readonly InputSpec[]; readonly size?: number };

/** The bytes that a specification describes. */
export function generateInput(spec: InputSpec): Uint8Array {
  switch (spec.kind) {
    case 'empty':
      return new Uint8Array(0);
    case 'constant':
      return new Uint8Array(spec.size).fill(spec.value);
    case 'repeat':
      return new Uint8Array(Buffer.alloc(spec.size, spec.text));
    case 'xorshift32':
      return xorshift32(spec.seed, spec.size);
    case 'lcg32': {
      const next = lcg32(spec.seed);
      return new Uint8Array(spec.size).map(() => next() >>> 24);
    }
    case 'splitmix64':
      return splitmix64(BigInt(spec.seed), spec.size);
    case 'concat':
      return new Uint8Array(Buffer.concat(spec.parts.map(generateInput)));
  }
}

export function xorshift32(seed: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let x = seed;
  for (let i = 0; i < size; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    bytes[i] = x;
  }
  return bytes;
}

/** A function that gives the next state, a u32. */
export function lcg32(seed: number): () => number {
  let x = seed;
  return () => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return x;
  };
}

function splitmix64(seed: bigint, size: number): Uint8Array {
  const words = new BigUint64Array(Math.ceil(size / 8));
  let state = seed;
  for (let i = 0; i < words.length; i++) {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n);
    let z = state;
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    words[i] = z ^ (z >> 31n);
  }
  return new Uint8Array(words.buffer, 0, size);
}

/** Nodes of `synthetic_nodes`: `n` hashes one after another, and their lengths. */
export function generateNodes(n: number, seed: number): { hashes: Uint8Array; lengths: number[] } {
  const next = lcg32(seed);
  const hashes = new Uint8Array(32 * n);
  const lengths: number[] = [];
  for (let node = 0; node < n; node++) {
    for (let i = 0; i < 32; i++) hashes[32 * node + i] = next() >>> 24;
    lengths.push(1 + (next() >>> 15));
  }
  return { hashes, lengths };
}

/** Input `index` of `reference_trigger_inputs`: 65536 bytes that hit the minimum-size edge. */
export function generateTriggerInput(pattern: readonly number[], index: number): Uint8Array {
  const bytes = new Uint8Array(65536);
  bytes.set(pattern);
  for (let length = pattern.length + index; length < bytes.length; length *= 2) {
    bytes.copyWithin(length, 0, Math.min(length, bytes.length - length));
  }
  return bytes;
}

export interface InputVector {
  readonly name: string;
  readonly input: InputSpec;
  readonly size: number;
  readonly sha256: string;
  readonly chunk_count: number;
  readonly chunk_list_sha256: string;
  /** All chunks, or for large inputs the first and the last ones and a digest of the lengths. */
  readonly chunks?: readonly (readonly [hash: string, length: number])[];
  readonly first_chunks?: readonly (readonly [hash: string, length: number])[];
  readonly last_chunks?: readonly (readonly [hash: string, length: number])[];
  readonly lengths_sha256?: string;
  readonly merkle_root: string;
  readonly merkle_root_first_half?: string;
  readonly file_hash: string;
  readonly range_hash_all: string | null;
  readonly range_hash_1_to_3?: string;
  readonly hmac?: { readonly key: string; readonly first_chunk: string };
  readonly hash_eligible_chunk_indices: readonly number[];
  readonly xorbs_without_dedup?: readonly {
    readonly chunk_start: number;
    readonly chunk_end: number;
    readonly bytes: number;
    readonly xorb_hash: string;
    readonly range_hash: string;
  }[];
}

export interface Vectors {
  readonly hash_string: readonly { readonly raw_bytes_hex: string; readonly string_form: string }[];
  readonly inputs: readonly InputVector[];
  readonly reference_trigger_inputs: {
    readonly pattern: readonly number[];
    readonly check: readonly number[];
    readonly boundaries: readonly (readonly number[])[];
  };
  readonly reference_merkle: {
    readonly cases: readonly (readonly [
      nodes: readonly (readonly [hash: string, length: number])[],
      xorbHash: string,
      saltedFileHashes: readonly (readonly [salt: string, fileHash: string])[],
    ])[];
  };
  readonly sha256_in_shard: { readonly sha256: string; readonly stored_hex: string };
  readonly synthetic_nodes: {
    readonly cases: readonly {
      readonly n: number;
      readonly seed: number;
      readonly first: readonly [hash: string, length: number];
      readonly merkle_root: string;
      readonly file_hash: string;
      readonly range_hash: string;
    }[];
  };
  // biome-ignore lint/suspicious/noExplicitAny: each test of a format says what it expects
  readonly serialized: any;
}

/** The vectors, read from the source tree: AVA makes the project's directory the current one. */
export function readVectors(): Vectors {
  return JSON.parse(readFileSync('test/vectors/xet-vectors.json', 'utf8'));
}
