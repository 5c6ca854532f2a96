/** Who mounts, and with which rights. */
import { readFileSync } from 'node:fs';
import { inInitialUserNamespace } from './process-identity.ts';

export interface Caller {
  readonly uid: number;
  readonly gid: number;
  /**
   * CAP_SYS_ADMIN in the first user namespace: may set and see `trusted.*` attributes, and mount by
   * itself. Root of a container has the capability in its own namespace only.
   */
  readonly isPrivileged: boolean;
  /** CAP_SYS_ADMIN in the user namespace it is in. */
  readonly mayMount: boolean;
}

const CAP_SYS_ADMIN = 21n;

export function readCaller(): Caller {
  const mayMount = hasCapability(CAP_SYS_ADMIN);
  return {
    uid: process.geteuid!(),
    gid: process.getegid!(),
    mayMount,
    isPrivileged: mayMount && inInitialUserNamespace(),
  };
}

function hasCapability(capability: bigint): boolean {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
  return mask !== undefined && ((BigInt(`0x${mask}`) >> capability) & 1n) === 1n;
}
