/**
 * Whether the kernel's overlayfs writes to a directory now, for whatever mount in whatever namespace.
 *
 * Overlayfs marks the upper it uses. With `index=on` it refuses another mount of a marked one by EBUSY, and
 * does so before it looks at the work directory. So we ask for a mount that cannot be: its work directory
 * is the upper itself. EBUSY means in use, EINVAL free; nothing is mounted or changed either way. The kernel
 * notes the refusal in its log, so this is for cases that nothing else decides.
 */
import { existsSync } from 'node:fs';
import { escapePath } from './option-text.ts';
import { EBUSY, EINVAL } from './system/errno.ts';
import { mount } from './system/kernel.ts';
import { cString } from './system/libc.ts';

/** Without `index` (Linux 4.13) any mount of this kind is EINVAL. */
const KNOWS_INDEX = '/sys/module/overlay/parameters/index';
/** mount(2) takes no more than a page. */
const TEXT_MAX = 4095;

/** Undefined: it cannot be told; most often because this user may not mount. */
export function isUpperInKernel(upper: Buffer): boolean | undefined {
  if (!existsSync(KNOWS_INDEX)) return undefined;
  const path = escapePath(upper);
  const [before, between] = ['index=on,lowerdir=/,upperdir=', ',workdir='].map((word) => Buffer.from(word));
  const text = Buffer.concat([before!, path, between!, path]);
  if (text.length > TEXT_MAX) return undefined;
  const code = mount(cString('none'), cString(upper), cString('overlay'), 0, cString(text));
  return code === -EBUSY ? true : code === -EINVAL ? false : undefined;
}
