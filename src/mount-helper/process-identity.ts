/**
 * Who is who on this machine, from one boot to the next: the boot, namespaces, and processes told apart
 * from later ones that were given the same number.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** A process of the PID namespace it was seen in. Numbers are given again, so the time of its start belongs to it. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot, field 22 of `/proc/<pid>/stat`. */
  readonly startTime: string;
}

export interface Namespaces {
  /** Inode numbers, in decimal. */
  readonly mount: string;
  readonly pid: string;
}

/** Numbers of the first namespaces of every kernel (PROC_PID_INIT_INO, PROC_USER_INIT_INO). */
const INITIAL_PID_NAMESPACE = '4026531836';
const INITIAL_USER_NAMESPACE = '4026531837';

export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
}

/** Undefined when the process is gone, or is not ours to look at. */
export function namespacesOf(pid: number | 'self'): Namespaces | undefined {
  try {
    return { mount: namespaceNumber(pid, 'mnt'), pid: namespaceNumber(pid, 'pid') };
  } catch {
    return undefined;
  }
}

/** Of this process. */
export function ownNamespaces(): Namespaces {
  return { mount: namespaceNumber('self', 'mnt'), pid: namespaceNumber('self', 'pid') };
}

/** True for a process that root's rights on this machine are not limited for by a user namespace. */
export function inInitialUserNamespace(): boolean {
  return namespaceNumber('self', 'user') === INITIAL_USER_NAMESPACE;
}

function namespaceNumber(pid: number | 'self', kind: 'mnt' | 'pid' | 'user'): string {
  const link = readlinkSync(`/proc/${pid}/ns/${kind}`);
  return /\[(\d+)\]/.exec(link)?.[1] ?? link;
}

/** Undefined when there is no such process, or when only its parent has not taken note of its end. */
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The second field is the name in parentheses, and may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, threads, startTime] = [fields[0], fields[17], fields[19]];
  if (state === 'X' || startTime === undefined) return undefined;
  // The first thread may have ended while others still do, and with them the process keeps its files and locks.
  if (state === 'Z' && threads === '1') return undefined;
  return { pid, startTime };
}

export function isAlive({ pid, startTime }: ProcessIdentity): boolean {
  return identifyProcess(pid)?.startTime === startTime;
}

/** The numbers of all processes that `/proc` shows. */
export function listProcesses(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** What can be told about a mount namespace from here. */
export type NamespaceSight =
  | { readonly seen: 'alive' /** A process in it. */; readonly pid: number }
  | { readonly seen: 'gone' | 'unsure' };

/** `gone` is only said by root in the first namespaces: nobody else is sure to see every process. */
export function findMountNamespace(mount: string): NamespaceSight {
  const processes = listProcesses();
  for (const pid of processes) {
    if (namespacesOf(pid)?.mount === mount) return { seen: 'alive', pid };
  }
  const seesAll =
    process.geteuid?.() === 0 &&
    inInitialUserNamespace() &&
    namespaceNumber('self', 'pid') === INITIAL_PID_NAMESPACE;
  return { seen: seesAll && !processes.some((pid) => mayHold(pid, mount)) ? 'gone' : 'unsure' };
}

/** False when the process surely keeps the namespace neither by a descriptor nor by a mount of its file. */
function mayHold(pid: number, mount: string): boolean {
  const name = `mnt:[${mount}]`;
  try {
    if (namespacesOf(pid) === undefined) return identifyProcess(pid) !== undefined;
    if (readFileSync(`/proc/${pid}/mountinfo`, 'latin1').includes(` ${name} `)) return true;
    return readdirSync(`/proc/${pid}/fd`).some((fd) => linkText(`/proc/${pid}/fd/${fd}`) === name);
  } catch {
    return identifyProcess(pid) !== undefined;
  }
}

/** Undefined for a descriptor that was closed meanwhile. */
function linkText(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
