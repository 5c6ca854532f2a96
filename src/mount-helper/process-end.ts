/** Ending processes that were identified before: never another one that has got the number since. */
import { errnoOf } from '../xet/errors.ts';
import { isAlive, type ProcessIdentity } from './process-identity.ts';

/** A server that is told a second time cuts off its users; then it is killed. How long each has to work. */
const ESCALATION = [
  ['SIGTERM', 200],
  ['SIGTERM', 2_000],
  ['SIGKILL', 2_000],
] as const;
const LONGEST_PAUSE_MS = 50;

/** True once the process has ended; false when it still runs after `timeoutMs`. */
export async function waitForEnd(process: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  for (let pauseMs = 2; isAlive(process); pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    if (performance.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  return true;
}

/** Those that still run after `timeoutMs`. */
export async function stillAlive(
  processes: readonly ProcessIdentity[],
  timeoutMs: number,
): Promise<ProcessIdentity[]> {
  const ended = await Promise.all(processes.map((process) => waitForEnd(process, timeoutMs)));
  return processes.filter((_, i) => !ended[i]);
}

/** By asking, and then by force. */
export async function endProcess(process: ProcessIdentity): Promise<void> {
  for (const [name, timeoutMs] of ESCALATION) {
    signalProcess(process, name);
    if (await waitForEnd(process, timeoutMs)) return;
  }
}

export function signalProcess(identity: ProcessIdentity, name: 'SIGTERM' | 'SIGKILL'): void {
  try {
    if (isAlive(identity)) process.kill(identity.pid, name);
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}
