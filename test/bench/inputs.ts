/** Deterministic contents: the same bytes on every machine, made in seconds and kept for later runs. */
import { type Cipher, createCipheriv } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';

export type Kind = 'random' | 'float32';

const PIECE = 1 << 20;
const ZEROS = Buffer.alloc(PIECE);

/** Endless pseudo-random bytes: AES-128 in counter mode. */
export class RandomBytes {
  readonly #cipher: Cipher;

  constructor(seed: number) {
    const key = Buffer.alloc(16);
    key.writeUInt32LE(seed);
    this.#cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  }

  next(length: number): Buffer {
    return this.#cipher.update(ZEROS.subarray(0, length));
  }
}

/** Where in a file the second version has its insertion: at 30 %. */
export function insertionPoint(size: number): number {
  return Math.floor(size * 0.3);
}

export const INSERTION_SIZE = 1 << 20;

export class Inputs {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(dir, { recursive: true });
  }

  file(kind: Kind, size: number, seed = 1): string {
    return this.#made(`${kind}-${size}-${seed}`, (path) => writeContent(path, kind, size, seed));
  }

  /** `file` with INSERTION_SIZE random bytes put in. */
  secondVersion(kind: Kind, size: number): string {
    return this.#made(`${kind}-${size}-1-second`, (path) => {
      const source = openSync(this.file(kind, size), 'r');
      const target = openSync(path, 'w');
      const point = insertionPoint(size);
      copyRange(source, 0, point, target);
      writeSync(target, new RandomBytes(999).next(INSERTION_SIZE));
      copyRange(source, point, size, target);
      closeSync(source);
      closeSync(target);
    });
  }

  /** A directory of `count` random files. */
  files(count: number, size: number): string {
    return this.#made(`files-${count}-${size}`, (path) => {
      mkdirSync(path);
      const random = new RandomBytes(4);
      for (let i = 0; i < count; i++) {
        const fd = openSync(join(path, `f${String(i).padStart(5, '0')}.bin`), 'w');
        for (let left = size; left > 0; left -= PIECE) writeSync(fd, random.next(Math.min(left, PIECE)));
        closeSync(fd);
      }
    });
  }

  #made(name: string, make: (path: string) => void): string {
    const path = join(this.#dir, name);
    if (existsSync(path)) return path;
    make(`${path}.part`);
    renameSync(`${path}.part`, path);
    return path;
  }
}

function writeContent(path: string, kind: Kind, size: number, seed: number): void {
  const random = new RandomBytes(seed);
  const fd = openSync(path, 'w');
  for (let left = size; left > 0; left -= PIECE) {
    const length = Math.min(left, PIECE);
    // The second half of the floats is rounded to bfloat16.
    writeSync(fd, kind === 'random' ? random.next(length) : floats(random, length, left <= size / 2));
  }
  closeSync(fd);
}

/** Weights of a model: about normal with deviation 0.02, little-endian float32. */
function floats(random: RandomBytes, length: number, rounded: boolean): Buffer {
  const count = Math.ceil(length / 4);
  const source = random.next(PIECE);
  const more = random.next(PIECE);
  const a = new Uint16Array(source.buffer, source.byteOffset, source.length / 2);
  const b = new Uint16Array(more.buffer, more.byteOffset, more.length / 2);
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    // The sum of four uniform numbers is nearly normal; 37837 is its deviation.
    const sum = a[2 * i]! + a[2 * i + 1]! + b[2 * i]! + b[2 * i + 1]!;
    values[i] = ((sum - 131070) / 37837) * 0.02;
  }
  if (rounded) {
    const words = new Uint32Array(values.buffer);
    for (let i = 0; i < count; i++) words[i]! &= 0xffff0000;
  }
  return Buffer.from(values.buffer, 0, length);
}

function copyRange(source: number, start: number, end: number, target: number): void {
  const buffer = Buffer.allocUnsafe(PIECE);
  for (let at = start; at < end; ) {
    const got = readSync(source, buffer, 0, Math.min(PIECE, end - at), at);
    writeSync(target, buffer, 0, got);
    at += got;
  }
}

/** Whether two files hold the same bytes. */
export function sameContent(a: string, b: string): boolean {
  const [left, right] = [openSync(a, 'r'), openSync(b, 'r')];
  const [one, other] = [Buffer.allocUnsafe(PIECE), Buffer.allocUnsafe(PIECE)];
  try {
    for (;;) {
      const got = readSync(left, one);
      if (readSync(right, other) !== got) return false;
      if (got === 0) return true;
      if (!one.subarray(0, got).equals(other.subarray(0, got))) return false;
    }
  } finally {
    closeSync(left);
    closeSync(right);
  }
}
