/**
 * Running a command where a mount is seen. A `userns` mount is there only for the processes of its holder's
 * namespaces: the command enters these (nsenter(1)), in the directory of the same name. All other mounts are
 * seen from everywhere, and the command is just run.
 *
 * The command takes the place of this process, so its exit status, its signals and its terminal are its
 * own.
 */
import { readFileSync } from 'node:fs';
import { Git2dbError } from '../xet/errors.ts';
import { findProgram } from './find-program.ts';
import { findListed, type ListedMount, listMounts, notMounted } from './list.ts';
import { findMount, readMountTable } from './mount-table.ts';
import { currentDirectory, resolvePath, showPath } from './path.ts';
import { mountPointOf } from './preparation.ts';
import type { RecordPlaces } from './record-places.ts';
import { ENOENT, errnoMessage } from './system/errno.ts';
import { replaceProcess } from './system/process-image.ts';
import { ENTER_OPTIONS } from './userns-protocol.ts';

/** As shells and env(1) have it: there is no such command; it is there and cannot be started. */
export const EXIT_NO_COMMAND = 127;
export const EXIT_NOT_STARTED = 126;

type Environment = Readonly<Record<string, string | undefined>>;

/** The command and its words, entering the namespaces of process `holder`. */
export function enterCommand(holder: number, cwd: Buffer, command: readonly Buffer[]): (string | Buffer)[] {
  return [
    ...['nsenter', '--target', String(holder), ...ENTER_OPTIONS, '--'],
    // nsenter leaves the working directory outside, on the mounts of the other namespace.
    ...['/bin/sh', '-c', 'cd -- "$0" && exec "$@"', cwd],
    ...command,
  ];
}

/**
 * Becomes `command`, seeing the mount on `merged`. Comes back only when that fails: throws NOT_MOUNTED and
 * BACKEND_UNAVAILABLE, or returns the exit status for a command that could not be started, with the reason.
 */
export function execInMount(
  places: RecordPlaces,
  merged: Buffer,
  command: readonly Buffer[],
  env: Environment,
): { status: number; message: string } {
  const place = mountPointOf(merged);
  const listed = findListed(listMounts(places).mounts, place);
  if (listed === undefined) throw notMounted(place, findMount(readMountTable(), place));
  if (listed.state !== 'mounted') throw unusable(listed);
  const searchPath = env.PATH ?? '';
  const words =
    listed.backend === 'userns' ? enterCommand(holderOf(listed), currentDirectory(), command) : command;
  const file = locate(words[0]!, searchPath);
  if (file === undefined) {
    if (listed.backend === 'userns') {
      throw new Git2dbError('BACKEND_UNAVAILABLE', 'there is no nsenter on PATH; install util-linux');
    }
    return { status: EXIT_NO_COMMAND, message: `${showPath(command[0]!)}: no such command` };
  }
  const code = replaceProcess(file, words, ownEnvironment());
  return {
    status: code === -ENOENT ? EXIT_NO_COMMAND : EXIT_NOT_STARTED,
    message: `${showPath(command[0]!)}: ${errnoMessage(code)}`,
  };
}

function holderOf({ processes }: ListedMount): number {
  return processes[0]!.pid;
}

function unusable({ merged, state }: ListedMount): Git2dbError {
  const place = showPath(merged);
  const remedy = state === 'mounting' ? 'try again' : 'git2db-mount repair';
  return new Git2dbError('NOT_MOUNTED', `${place} cannot be used now (${state}); ${remedy}`, {
    data: { merged, state },
  });
}

function locate(name: string | Buffer, searchPath: string): Buffer | string | undefined {
  const bytes = Buffer.from(name);
  return bytes.includes('/')
    ? resolvePath(currentDirectory(), bytes)
    : findProgram(bytes.toString(), searchPath);
}

/** In the bytes it came in. */
function ownEnvironment(): Buffer[] {
  const bytes = readFileSync('/proc/self/environ');
  const variables: Buffer[] = [];
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(0, start);
    variables.push(bytes.subarray(start, end < 0 ? bytes.length : end));
    start = end < 0 ? bytes.length : end + 1;
  }
  return variables;
}
