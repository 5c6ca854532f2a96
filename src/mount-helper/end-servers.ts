/**
 * The end of FUSE servers whose mount was taken out of this namespace. They end by themselves, unless copies
 * of the mount are left in other namespaces. Copies that were only inherited, and are not in use, do not
 * keep a server: where mounts are shared they would be gone as well.
 */
import type { Holder } from './holders.ts';
import { findCopies } from './mount-copies.ts';
import type { MountEntry } from './mount-table.ts';
import { signalProcess, stillAlive } from './process-end.ts';
import type { ProcessIdentity } from './process-identity.ts';

export interface ServersEnd {
  readonly left: readonly ProcessIdentity[];
  /** Who keeps them, in other namespaces, as far as can be seen. */
  readonly holders: readonly Holder[];
  /** They were told to end. Where the kernel offers no other way they have left without tidying up. */
  readonly wereTold: boolean;
}

/** With nothing left to serve a server has ended by then; and so often it is looked again. */
const STEP_MS = 500;
/** Without a copy it is about to end. If it does not, what keeps it is nothing that anybody could use. */
const ENDING_MS = 5_000;

/** `mount`: as it was listed. Waits for `timeoutMs` where it cannot be seen what keeps a server. */
export async function endServers(
  mount: MountEntry,
  processes: readonly ProcessIdentity[],
  timeoutMs: number,
): Promise<ServersEnd> {
  const start = performance.now();
  for (;;) {
    const left = await stillAlive(processes, STEP_MS);
    if (left.length === 0) return { left, holders: [], wereTold: false };
    // A process that comes or goes just now may stand in the way: then the next look decides.
    const { areWanted, count, holders } = findCopies(mount);
    const waited = performance.now() - start;
    if (!areWanted && holders.length === 0 && (count > 0 || waited > ENDING_MS)) {
      for (const server of left) signalProcess(server, 'SIGTERM');
      return { left: await stillAlive(left, timeoutMs), holders, wereTold: true };
    }
    if (holders.length > 0 || waited > timeoutMs) return { left, holders, wereTold: false };
  }
}
