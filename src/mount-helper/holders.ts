/**
 * Who keeps a mount busy: processes that have an open file, a mapped file, their working or their root
 * directory there, or that run a program from it.
 *
 * The kernel tells the mount of a descriptor in `/proc/self/fdinfo/<fd>`. That is exact, across bind
 * mounts, deleted files and mount namespaces, and asks nothing of the file system, which may not answer
 * any more. Only mapped files have no descriptor: for them the path has to do.
 */
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { isWithin, type MountEntry } from './mount-table.ts';
import {
  identifyProcess,
  listProcesses,
  namespacesOf,
  ownNamespaces,
  type ProcessIdentity,
} from './process-identity.ts';

export interface Holder extends ProcessIdentity {
  /** The command line, shortened, in one line. */
  readonly command: string;
  /** What it uses. */
  readonly use:
    | 'working directory'
    | 'root directory'
    | 'program'
    | 'open file'
    | 'mapped file'
    | 'namespace';
}

const O_PATH = 0o10000000;
const COMMAND_MAX = 80;

const LINKS = [
  ['cwd', 'working directory'],
  ['root', 'root directory'],
  ['exe', 'program'],
] as const;

/** Processes that may not be looked at are left out: a busy mount without holders has such. */
export function findHolders(entry: MountEntry, processes: readonly number[] = listProcesses()): Holder[] {
  return processes.flatMap((pid) => {
    const use = useOf(entry, pid);
    return use === undefined ? [] : describeHolder(pid, use);
  });
}

/** All processes of a mount namespace but `except`. */
export function findInside(mountNamespace: string, except: number): Holder[] {
  return listProcesses().flatMap((pid) =>
    pid !== except && namespacesOf(pid)?.mount === mountNamespace ? describeHolder(pid, 'namespace') : [],
  );
}

function describeHolder(pid: number, use: Holder['use']): Holder[] {
  const identity = identifyProcess(pid);
  return identity === undefined ? [] : [{ ...identity, command: commandOf(pid), use }];
}

function useOf(entry: MountEntry, pid: number): Holder['use'] | undefined {
  for (const [link, use] of LINKS) {
    if (mountIdOf(`/proc/${pid}/${link}`) === entry.id) return use;
  }
  for (const fd of namesIn(`/proc/${pid}/fdinfo`)) {
    if (parseMountId(textOf(`/proc/${pid}/fdinfo/${fd}`)) === entry.id) return 'open file';
  }
  return mapsFrom(entry, pid) ? 'mapped file' : undefined;
}

/** The mount that a magic link of `/proc` leads to. O_PATH looks at nothing behind it. */
function mountIdOf(link: string): number | undefined {
  let fd: number;
  try {
    fd = openSync(link, O_PATH);
  } catch {
    return undefined;
  }
  try {
    return parseMountId(textOf(`/proc/self/fdinfo/${fd}`));
  } finally {
    closeSync(fd);
  }
}

function parseMountId(fdinfo: string): number | undefined {
  const found = /^mnt_id:\s*(\d+)$/m.exec(fdinfo)?.[1];
  return found === undefined ? undefined : Number(found);
}

/** Lines are `start-end perms offset dev inode path`; a newline in the path stands there as `\012`. */
function mapsFrom({ mountPoint }: MountEntry, pid: number): boolean {
  if (namespacesOf(pid)?.mount !== ownNamespaces().mount) return false;
  return textOf(`/proc/${pid}/maps`)
    .split('\n')
    .some((line) => {
      const path = /^(?:\S+ +){5}(\/.*)$/.exec(line)?.[1];
      return (
        path !== undefined && isWithin(mountPoint, Buffer.from(path.replaceAll('\\012', '\n'), 'latin1'))
      );
    });
}

/** For messages. */
export function formatHolders(holders: readonly Holder[]): string {
  return holders.map(({ pid, command, use }) => `process ${pid} (${command}, ${use})`).join(', ');
}

function commandOf(pid: number): string {
  const words = textOf(`/proc/${pid}/cmdline`) || textOf(`/proc/${pid}/comm`);
  const line = Buffer.from(words, 'latin1')
    .toString()
    .replace(/[\p{Cc}\s]+/gu, ' ')
    .trim();
  return line.length > COMMAND_MAX ? `${line.slice(0, COMMAND_MAX)}...` : line;
}

/** Empty when the process is gone or not ours to look at. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
