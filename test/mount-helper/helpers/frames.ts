/** Requests as the kernel would send them, and what is in a reply; for tests of the server's own side. */
import type { Frame } from '../../../src/mount-helper/fuse/decode.ts';
import type { FileSystem } from '../../../src/mount-helper/fuse/file-system.ts';

export interface RequestHeader {
  readonly opcode: number;
  readonly unique?: number;
  readonly node?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly pid?: number;
}

export interface Reply {
  readonly length: number;
  readonly error: number;
  readonly unique: number;
  readonly body: Buffer;
}

/** A whole request. */
export function request(header: RequestHeader, ...body: readonly Uint8Array[]): Buffer {
  const head = Buffer.alloc(40);
  const whole = Buffer.concat([head, ...body]);
  whole.writeUInt32LE(whole.length, 0);
  whole.writeUInt32LE(header.opcode, 4);
  whole.writeBigUInt64LE(BigInt(header.unique ?? 2), 8);
  whole.writeBigUInt64LE(BigInt(header.node ?? 1), 16);
  whole.writeUInt32LE(header.uid ?? 0, 24);
  whole.writeUInt32LE(header.gid ?? 0, 28);
  whole.writeUInt32LE(header.pid ?? 0, 32);
  return whole;
}

/** A frame of exactly these bytes, `length` of which were read. */
export function frameOf(bytes: Uint8Array, length = bytes.length): Frame {
  const own = new Uint8Array(bytes);
  return { bytes: own, view: new DataView(own.buffer), length };
}

export function u32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, 4 * i);
  return bytes;
}

export function u64(...values: readonly (number | bigint)[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [i, value] of values.entries()) bytes.writeBigInt64LE(BigInt.asIntN(64, BigInt(value)), 8 * i);
  return bytes;
}

/** A name and its NUL. */
export function name(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}

export function parseReply(bytes: Uint8Array): Reply {
  const reply = Buffer.from(bytes);
  return {
    length: reply.readUInt32LE(0),
    error: reply.readInt32LE(4),
    unique: Number(reply.readBigUInt64LE(8)),
    body: reply.subarray(16),
  };
}

/** What a method was called with: views as text, objects as copies. */
export type Call = readonly [method: string, ...parameters: unknown[]];

/**
 * A file system that notes how it is called. Methods answer what `answers` says, else 0; those that have
 * nothing to answer with take part too.
 */
export function recordingFileSystem(answers: { readonly [M in keyof FileSystem]?: FileSystem[M] } = {}): {
  fileSystem: FileSystem;
  calls: Call[];
} {
  const calls: Call[] = [];
  const fileSystem = new Proxy(answers, {
    get:
      (target, method: string) =>
      (...parameters: unknown[]) => {
        calls.push([method, ...parameters.flatMap(noted)]);
        const answer = (target as Record<string, ((...p: unknown[]) => unknown) | undefined>)[method];
        return answer?.(...parameters) ?? 0;
      },
  }) as FileSystem;
  return { fileSystem, calls };
}

/** Objects of classes are left out: they are ways to answer, not what was said. */
function noted(value: unknown): unknown[] {
  if (value instanceof Uint8Array)
    return [value.length > 4096 ? 'buffer' : Buffer.from(value).toString('latin1')];
  if (typeof value !== 'object' || value === null) return [value];
  return Object.getPrototypeOf(value) === Object.prototype ? [structuredClone(value)] : [];
}
