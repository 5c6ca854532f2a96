/** Labels for the kernel's security module, SELinux: `context="..."` and its kin. */
import { existsSync } from 'node:fs';
import type { MountOptions } from './mount-options.ts';

/** What is to be passed to mount(2). Without SELinux nobody takes the parameter, and nobody misses it. */
export function securityLabels({ securityContexts }: MountOptions): readonly Buffer[] {
  return securityContexts.length > 0 && existsSync('/sys/fs/selinux/enforce') ? securityContexts : [];
}
