/**
 * Inode numbers that are unique over all layers, and stay.
 *
 * The first file system is the upper's (without one, the top layer's): its files show their own numbers.
 * Numbers of each further file system get that one's index in the high bits, in the order of the layers, so
 * a remount gives the same numbers. A copied-up file keeps the number it had: its origin is recorded in the
 * private attribute `git2db.origin`, as text:
 *
 *     <inode number> ":" <device: major << 32 | minor>       both decimal
 *
 * An origin on a file system that is no longer among the layers is not used: the number could belong to
 * another file.
 */
import {
  type Statx,
  statxDevice,
  statxIno,
  statxInoHigh,
  statxInoLow,
  statxMajor,
  statxMinor,
} from '../system/statx.ts';
import type { InodeKey } from './inode-table.ts';

const INDEX_SHIFT = 56n;
/** With the 8 bits of an index such numbers are exact as they are. */
const SMALL_HIGH = 1 << 13;
const ORIGIN = /^([0-9]{1,20}):([0-9]{1,20})$/;
export const ORIGIN_MAX = 41;

export class InodeNumbers {
  readonly #index = new Map<bigint, number>();
  /** The device of the last statx, and its index: nearly always those of the next one. */
  #lastMajor: number;
  #lastMinor: number;
  #lastIndex = 0;

  /** `devices`: of the layers, topmost first. */
  constructor(devices: readonly bigint[]) {
    for (const device of devices) if (!this.#index.has(device)) this.#index.set(device, this.#index.size);
    const first = devices[0] ?? 0n;
    this.#lastMajor = Number(first >> 32n);
    this.#lastMinor = Number(first & 0xffffffffn);
  }

  /** What stat(2) is to show for an inode that was not copied up. */
  shown(s: Statx): bigint {
    const index = this.#indexOf(s);
    const ino = statxIno(s);
    return index === 0 ? ino : withIndex(ino, index);
  }

  /** The same for an entry of a listing; `device` is the layer's. */
  shownOn(device: bigint, ino: bigint): bigint {
    const index = this.#index.get(device) ?? 0;
    return index === 0 ? ino : withIndex(ino, index);
  }

  /** Equal for names of one inode. */
  key(s: Statx): InodeKey {
    const index = this.#indexOf(s);
    const high = statxInoHigh(s);
    if (high < SMALL_HIGH) return (high * 0x1_0000_0000 + statxInoLow(s)) * 256 + index;
    return (statxIno(s) << 8n) | BigInt(index);
  }

  /** The value of the origin attribute for a copy of this inode. */
  origin(s: Statx): Uint8Array {
    return Buffer.from(`${statxIno(s)}:${statxDevice(s)}`);
  }

  /** The number that an origin stands for; undefined where it says nothing to us. */
  fromOrigin(value: Uint8Array): bigint | undefined {
    const match = ORIGIN.exec(Buffer.from(value).toString('latin1'));
    if (match === null) return undefined;
    const index = this.#index.get(BigInt(match[2]!));
    if (index === undefined) return undefined;
    const ino = BigInt.asUintN(64, BigInt(match[1]!));
    return index === 0 ? ino : withIndex(ino, index);
  }

  #indexOf(s: Statx): number {
    const isLast = statxMajor(s) === this.#lastMajor && statxMinor(s) === this.#lastMinor;
    return isLast ? this.#lastIndex : this.#findIndex(s);
  }

  #findIndex(s: Statx): number {
    const device = statxDevice(s);
    let index = this.#index.get(device);
    if (index === undefined) {
      // Something is mounted inside a layer.
      index = Math.min(this.#index.size, 255);
      this.#index.set(device, index);
    }
    this.#lastMajor = statxMajor(s);
    this.#lastMinor = statxMinor(s);
    this.#lastIndex = index;
    return index;
  }
}

function withIndex(ino: bigint, index: number): bigint {
  return ino ^ (BigInt(index) << INDEX_SHIFT);
}
