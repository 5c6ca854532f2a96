/**
 * Passthrough: files that the kernel reads and writes by itself, registered with the connection by an id.
 * Registering takes CAP_SYS_ADMIN in the first user namespace and a kernel with FUSE_PASSTHROUGH (6.9).
 */
import { EOPNOTSUPP } from '../system/errno.ts';
import { ioctl } from '../system/libc.ts';

/** _IOW(229, 1, {i32 fd, u32 flags, u64 unused}) and _IOW(229, 2, u32). */
const BACKING_OPEN = 0x4010e501;
const BACKING_CLOSE = 0x4004e502;

export class BackingFiles {
  readonly #argument = Buffer.alloc(16);
  #device = -1;

  /** From now on ids can be had: both sides agreed on passthrough. */
  enable(device: number): void {
    this.#device = device;
  }

  /** An id > 0 for the open file, which may be closed afterwards; or `-errno`. */
  open(fd: number): number {
    if (this.#device < 0) return -EOPNOTSUPP;
    this.#argument.fill(0);
    this.#argument.writeInt32LE(fd, 0);
    return ioctl(this.#device, BACKING_OPEN, this.#argument);
  }

  close(id: number): void {
    this.#argument.writeUInt32LE(id, 0);
    ioctl(this.#device, BACKING_CLOSE, this.#argument);
  }
}
