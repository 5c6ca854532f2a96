/**
 * Where this user's records of mounts are.
 *
 *     records  ${XDG_STATE_HOME:-~/.local/state}/git2db/mounts, root's: /var/lib/git2db/mounts
 *     runtime  $XDG_RUNTIME_DIR/git2db, root's: /run/git2db; without one: `run` beside the records
 *
 * The first outlives a reboot; the second need not, and may vanish when the user logs out. So the pids of
 * servers are in the records: a server lives on. The fallback lies in the user's own directory and not in
 * /tmp, where somebody else could have made it first.
 */
import { chmodSync, lstatSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { makeDirectories } from '../make-directories.ts';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import { inInitialUserNamespace } from './process-identity.ts';

export interface RecordPlaces {
  readonly records: string;
  readonly runtime: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

const ROOT_PLACES: RecordPlaces = { records: '/var/lib/git2db/mounts', runtime: '/run/git2db' };

/** Root inside a user namespace (a rootless container engine) counts as the user it is outside. */
export function recordPlaces(env: Environment): RecordPlaces {
  if (process.geteuid?.() === 0 && inInitialUserNamespace()) return ROOT_PLACES;
  const state = join(absolute(env.XDG_STATE_HOME) ?? join(homeDirectory(env), '.local/state'), 'git2db');
  const session = absolute(env.XDG_RUNTIME_DIR);
  return {
    records: join(state, 'mounts'),
    runtime: session !== undefined && isOurs(session) ? join(session, 'git2db') : join(state, 'run'),
  };
}

/** The XDG rules: a path that is not absolute counts as not set. */
function absolute(path: string | undefined): string | undefined {
  return path !== undefined && isAbsolute(path) ? path : undefined;
}

function homeDirectory(env: Environment): string {
  const home = absolute(env.HOME);
  if (home !== undefined) return home;
  try {
    // Loaded here alone: hardly anybody comes this way.
    return process.getBuiltinModule('node:os').userInfo().homedir;
  } catch (error) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      'neither XDG_STATE_HOME nor HOME is set, and this user has no entry in the password database: ' +
        'there is no place for the records of mounts; set XDG_STATE_HOME',
      { cause: error },
    );
  }
}

/** After `sudo` the variable may still name the session of somebody else, or one that has ended. */
function isOurs(directory: string): boolean {
  try {
    const stat = lstatSync(directory);
    return stat.isDirectory() && stat.uid === process.geteuid?.();
  } catch {
    // What we may not even look at is somebody else's.
    return false;
  }
}

/** Makes `directory` where it is missing; nobody else may look into it. */
export function ensurePrivateDirectory(directory: string): void {
  try {
    makeDirectories(directory, 0o700);
    const stat = lstatSync(directory);
    const uid = process.geteuid?.();
    if (!stat.isDirectory() || stat.uid !== uid) {
      throw new Error(`expected a directory of user ${uid}, found one of user ${stat.uid}, or none`);
    }
    if ((stat.mode & 0o077) !== 0) chmodSync(directory, 0o700);
  } catch (error) {
    throw new Git2dbError(
      'STORE_UNWRITABLE',
      `cannot keep records of mounts in ${directory}: ${messageOf(error)}; make it writable for this user, or set XDG_STATE_HOME`,
      { cause: error, data: { directory } },
    );
  }
}
