/**
 * The part `serialized` of test/vectors/xet-vectors.json: xorbs and shards that Hugging Face's JS client
 * made, and hand-made footers; also the inputs that went into them.
 */
import { readFileSync } from 'node:fs';

export interface VectorFile {
  readonly path: string;
  readonly input: VectorInput;
  readonly size: number;
  readonly sha256: string;
  readonly file_hash: string;
}

export interface VectorXorb {
  readonly hash: string;
  readonly size: number;
  readonly chunks: readonly {
    readonly hash: string;
    readonly length: number;
    readonly scheme: number;
    readonly byte_start: number;
    readonly byte_end: number;
  }[];
  readonly base64: string;
}

export interface ParsedShard {
  readonly files: readonly {
    readonly hash: string;
    readonly flags: number;
    readonly n: number;
    readonly terms: readonly {
      readonly xorb: string;
      readonly flags: number;
      readonly len: number;
      readonly start: number;
      readonly end: number;
    }[];
    readonly ver: readonly string[];
    readonly sha256: string;
  }[];
  readonly xorbs: readonly {
    readonly hash: string;
    readonly flags: number;
    readonly n: number;
    readonly bytes: number;
    readonly disk: number;
    readonly chunks: readonly {
      readonly hash: string;
      readonly start: number;
      readonly len: number;
      readonly flags: number;
    }[];
  }[];
}

export interface VectorExample {
  readonly name: string;
  readonly note: string;
  readonly files: readonly VectorFile[];
  readonly xorbs: readonly VectorXorb[];
  readonly shard_parsed: ParsedShard;
  readonly shard_upload_base64: string;
  readonly shard_js_client_base64: string;
}

export interface VectorInput {
  readonly kind: string;
  readonly size: number;
  readonly text?: string;
  readonly value?: number;
  readonly seed?: number;
}

export interface WholeInput {
  readonly name: string;
  readonly input: VectorInput;
  readonly size: number;
  readonly xorbs_without_dedup?: readonly {
    readonly chunk_start: number;
    readonly chunk_end: number;
    readonly bytes: number;
    readonly xorb_hash: string;
    readonly range_hash: string;
  }[];
}

interface Vectors {
  readonly inputs: readonly WholeInput[];
  readonly sha256_in_shard: { readonly sha256: string; readonly stored_hex: string };
  readonly serialized: {
    readonly examples: readonly VectorExample[];
    readonly xorb_footers: { readonly v1_hex: string; readonly v0_hex: string };
    readonly dedup_shard: {
      readonly key: string;
      readonly xorb: string;
      readonly keyed_chunk_hashes: readonly string[];
      readonly creation_timestamp: number;
      readonly key_expiry: number;
      readonly base64: string;
    };
  };
}

export const vectors: Vectors = JSON.parse(readFileSync('test/vectors/xet-vectors.json', 'utf8')) as Vectors;

export function vectorExample(name: string): VectorExample {
  const example = vectors.serialized.examples.find((candidate) => candidate.name === name);
  if (example === undefined) throw new Error(`no example ${name} in the vectors`);
  return example;
}

/** The bytes that `input` describes (vectors, `generators`). */
export function generateInput(input: VectorInput): Uint8Array {
  const bytes = new Uint8Array(input.size);
  switch (input.kind) {
    case 'empty':
      return bytes;
    case 'constant':
      return bytes.fill(input.value as number);
    case 'repeat': {
      const text = Buffer.from(input.text as string);
      return bytes.map((_, i) => text[i % text.length] as number);
    }
    case 'xorshift32': {
      let x = input.seed as number;
      for (let i = 0; i < bytes.length; i++) {
        x ^= x << 13;
        x ^= x >>> 17;
        x ^= x << 5;
        bytes[i] = x;
      }
      return bytes;
    }
    case 'described': {
      // 1000 little-endian float32 values fround(sin(i / 50)), then one byte 7.
      const view = new DataView(bytes.buffer);
      for (let i = 0; i < 1000; i++) view.setFloat32(4 * i, Math.sin(i / 50), true);
      bytes[4000] = 7;
      return bytes;
    }
    default:
      throw new Error(`no generator for ${input.kind}`);
  }
}
