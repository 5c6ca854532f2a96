/** Names that nobody else has. Loading `node:crypto` for them would cost a mount a tenth of its time. */
import { closeSync, openSync, readSync } from 'node:fs';

/** `bytes` random bytes in hexadecimal digits. */
export function randomName(bytes: number): string {
  const random = Buffer.alloc(bytes);
  const fd = openSync('/dev/urandom', 'r');
  readSync(fd, random);
  closeSync(fd);
  return random.toString('hex');
}
