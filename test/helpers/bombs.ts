/** Chunk records that say one thing and are another, and what is allocated while somebody reads them. */
import { xxhash32 } from '../../src/xet/compress/xxhash32.ts';

const [NONE, LZ4, BG4_LZ4] = [0, 1, 2];

/** A record whose header says anything, whether it can be or not. */
export function recordOf(
  scheme: number,
  rawLength: number,
  payload: Uint8Array,
  storedLength?: number,
): Buffer {
  const header = Buffer.alloc(8);
  header.writeUIntLE(storedLength ?? payload.length, 1, 3);
  header[4] = scheme;
  header.writeUIntLE(rawLength, 5, 3);
  return Buffer.concat([header, payload]);
}

/** An LZ4 frame of one block of 4 MiB, or so it says, of `length` bytes, nearly all of which repeat the first. */
export function lz4Bomb(length: number, contentSize?: bigint): Buffer {
  const flags = contentSize === undefined ? 0x60 : 0x68;
  const size = Buffer.alloc(contentSize === undefined ? 0 : 8);
  if (contentSize !== undefined) size.writeBigUInt64LE(contentSize);
  const descriptor = Buffer.concat([Buffer.of(flags, 0x70), size]);
  // One literal, then a match of the byte before, whose length goes on in bytes of 255; five literals at the end.
  const repeats = Math.floor((length - 6 - 19) / 255);
  const rest = length - 6 - 19 - 255 * repeats;
  const block = Buffer.concat([
    Buffer.of(0x1f, 0x00, 0x01, 0x00),
    Buffer.alloc(repeats, 255),
    Buffer.of(rest, 0x50, 0, 0, 0, 0, 0),
  ]);
  const blockLength = Buffer.alloc(4);
  blockLength.writeUInt32LE(block.length);
  const check = (xxhash32(descriptor) >>> 8) & 0xff;
  const magic = Buffer.of(0x04, 0x22, 0x4d, 0x18);
  return Buffer.concat([magic, descriptor, Buffer.of(check), blockLength, block, Buffer.alloc(4)]);
}

/** What a chunk of `rawLength` bytes may be said to be. None of them is one. */
export function bombs(rawLength: number): readonly (readonly [string, Buffer])[] {
  const huge = lz4Bomb(60 << 20);
  return [
    ['LZ4 that expands to 60 MiB', recordOf(LZ4, rawLength, huge)],
    ['bg4-LZ4 that expands to 60 MiB', recordOf(BG4_LZ4, rawLength, huge)],
    ['LZ4 that says it has 2^63 bytes', recordOf(LZ4, rawLength, lz4Bomb(rawLength, 2n ** 63n))],
    ['LZ4 of twice the length', recordOf(LZ4, rawLength, lz4Bomb(2 * rawLength))],
    ['LZ4 that ends early', recordOf(LZ4, rawLength, lz4Bomb(rawLength - 1))],
    ['bg4-LZ4 that ends early', recordOf(BG4_LZ4, rawLength, lz4Bomb(rawLength - 1))],
    ['a raw length of 16 MiB', recordOf(LZ4, 0xffffff, huge)],
    ['a raw length of 16 MiB with bg4', recordOf(BG4_LZ4, 0xffffff, huge)],
    ['a stored length of 16 MiB', recordOf(NONE, rawLength, Buffer.alloc(rawLength), 0xffffff)],
    ['other bytes of the right length', recordOf(NONE, rawLength, Buffer.alloc(rawLength))],
    ['LZ4 of other bytes of the right length', recordOf(LZ4, rawLength, lz4Bomb(rawLength))],
  ];
}

/** Bytes of all buffers and byte arrays that `run` makes, synchronously. Nothing else may run meanwhile. */
export function countAllocations(run: () => void): number {
  let bytes = 0;
  const makers = ['alloc', 'allocUnsafe', 'allocUnsafeSlow'] as const;
  const originals = makers.map((name) => Buffer[name]);
  const { Uint8Array: original } = globalThis;
  for (const [i, name] of makers.entries()) {
    Buffer[name] = ((size: number, ...rest: []) => {
      bytes += size;
      return (originals[i] as typeof Buffer.alloc)(size, ...rest);
    }) as typeof Buffer.alloc;
  }
  globalThis.Uint8Array = new Proxy(original, {
    construct(target, args: [unknown], newTarget) {
      if (typeof args[0] === 'number') bytes += args[0];
      return Reflect.construct(
        target,
        args,
        newTarget === globalThis.Uint8Array ? target : newTarget,
      ) as object;
    },
  });
  try {
    run();
    return bytes;
  } finally {
    for (const [i, name] of makers.entries()) Buffer[name] = originals[i] as typeof Buffer.alloc;
    globalThis.Uint8Array = original;
  }
}
