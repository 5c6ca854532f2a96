/**
 * The usual faults that keep mounts from being made or used, each with the command that mends it. Looking
 * changes nothing, and works where mounting does not.
 */
import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { loadSystemLibrary } from '../native/library.ts';
import { messageOf } from '../xet/errors.ts';
import { findProgram } from './find-program.ts';
import { isCallers, listMounts, type MountList } from './list.ts';
import { findLitter } from './mount-records.ts';
import { showPath } from './path.ts';
import { type RecordPlaces, recordPlaces } from './record-places.ts';
import { findUsernsLimits } from './userns-limits.ts';

/** `problem`: mounts fail, or are broken. `warning`: something that not everybody needs is missing. */
export type FindingState = 'ok' | 'warning' | 'problem';

export interface Finding {
  /** Stable, in kebab-case: of a fault its name, else that of what was looked at. */
  readonly check: string;
  readonly state: FindingState;
  readonly message: string;
  /** Shell commands, one after the other. */
  readonly remedy: readonly string[];
}

/** What is asked of the machine; tests pass another one. */
export interface DoctorHost {
  readonly uid: number;
  /** May this user mount by itself? */
  readonly isRoot: boolean;
  /** Undefined when there is none, or it may not be read. */
  read(path: string): string | undefined;
  /** Undefined when there is none. */
  modeOf(
    path: string,
  ): { readonly mode: number; readonly uid: number; readonly isDirectory: boolean } | undefined;
  /** Both reading and writing. */
  mayUse(path: string): boolean;
  findProgram(name: string): string | undefined;
  /** Why the native module does not load; undefined when it does. */
  nativeModuleFault(): string | undefined;
}

export interface Patient {
  readonly places: RecordPlaces;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly host: DoctorHost;
  readonly list: (places: RecordPlaces) => MountList;
}

const DEVICE = '/dev/fuse';
const SETUID = 0o4000;

export function thisHost(env: Patient['env']): DoctorHost {
  const uid = process.geteuid!();
  return {
    uid,
    isRoot: uid === 0,
    read: (path) => attempt(() => readFileSync(path, 'latin1')),
    modeOf: (path) =>
      attempt(() => {
        const stat = statSync(path);
        return { mode: stat.mode, uid: stat.uid, isDirectory: stat.isDirectory() };
      }),
    mayUse: (path) => attempt(() => accessSync(path, constants.R_OK | constants.W_OK) ?? true) === true,
    findProgram: (name) => findProgram(name, env.PATH ?? ''),
    nativeModuleFault: () => {
      try {
        loadSystemLibrary();
        return undefined;
      } catch (error) {
        return messageOf(error);
      }
    },
  };
}

function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

/** What is looked at, in this order: a fault that others follow from comes before them. */
const CHECKS: readonly (readonly [check: string, fine: string, look: (patient: Patient) => Finding[]])[] = [
  ['koffi', 'the native module koffi loads', checkNativeModule],
  ['fuse-device', `${DEVICE} can be opened`, checkFuseDevice],
  ['fusermount', 'ordinary users can mount by fusermount3', checkFusermount],
  ['overlayfs', 'the kernel has overlayfs', checkKernelOverlay],
  ['user-namespaces', 'user namespaces are allowed', checkUserNamespaces],
  ['records', 'records of mounts can be kept', checkPlaces],
  ['mounts', 'all recorded mounts are there', checkMounts],
];

/** One finding at least for each check. */
export function examine(env: Patient['env'], patient: Partial<Patient> = {}): Finding[] {
  const whole: Patient = {
    env,
    places: patient.places ?? recordPlaces(env),
    host: patient.host ?? thisHost(env),
    list: patient.list ?? ((places) => listMounts(places, { ended: 'keep' })),
  };
  return CHECKS.flatMap(([check, fine, look]) => {
    const faults = look(whole);
    return faults.length > 0 ? faults : [{ check, state: 'ok' as const, message: fine, remedy: [] }];
  });
}

/** One of `doctor --json`. */
export function doctorJson({ check, state, message, remedy }: Finding): Record<string, unknown> {
  return { check, state, message, remedy };
}

/** As lines for a person. */
export function formatFindings(findings: readonly Finding[]): string[] {
  return findings.flatMap(({ check, state, message, remedy }) => [
    `${state.padEnd(7)}  ${message}${state === 'ok' ? '' : ` [${check}]`}`,
    ...remedy.map((command) => `           ${command}`),
  ]);
}

function fault(state: FindingState, check: string, message: string, ...remedy: string[]): Finding {
  return { check, state, message, remedy };
}

function checkNativeModule({ host }: Patient): Finding[] {
  const message = host.nativeModuleFault();
  return message === undefined ? [] : [fault('problem', 'koffi-missing', message, 'npm install koffi')];
}

function checkFuseDevice({ host }: Patient): Finding[] {
  const stat = host.modeOf(DEVICE);
  if (stat === undefined) {
    const message = `${DEVICE} is not there: no FUSE mounts`;
    return [fault('problem', 'fuse-missing', message, ...asRoot(host, 'modprobe fuse'))];
  }
  if (host.mayUse(DEVICE)) return [];
  const mode = (stat.mode & 0o7777).toString(8).padStart(4, '0');
  const message = `${DEVICE} has mode ${mode} and belongs to user ${stat.uid}: this user may not open it`;
  return [fault('problem', 'fuse-forbidden', message, ...asRoot(host, `chmod 0666 ${DEVICE}`))];
}

/** Root needs neither. */
function checkFusermount({ host }: Patient): Finding[] {
  if (host.isRoot) return [];
  const program = host.findProgram('fusermount3');
  if (program === undefined) {
    const message = 'there is no fusermount3 on PATH, which mounts for ordinary users';
    return [fault('problem', 'fusermount-missing', message, ...asRoot(host, 'apt install fuse3'))];
  }
  const faults: Finding[] = [];
  const stat = host.modeOf(program);
  if (stat === undefined || (stat.mode & SETUID) === 0 || stat.uid !== 0) {
    const message = `${program} is not setuid root, so it cannot mount for ordinary users`;
    const remedy = asRoot(host, `chown root ${program}`, `chmod u+s ${program}`);
    faults.push(fault('problem', 'fusermount-not-setuid', message, ...remedy));
  }
  if (!/^\s*user_allow_other\b/m.test(host.read('/etc/fuse.conf') ?? '')) {
    const message =
      'ordinary users may not mount with allow_other: nobody else sees their FUSE mounts, not even root';
    const remedy = asRoot(host, "sh -c 'echo user_allow_other >> /etc/fuse.conf'");
    faults.push(fault('warning', 'no-user-allow-other', message, ...remedy));
  }
  return faults;
}

function checkKernelOverlay({ host }: Patient): Finding[] {
  const types = host.read('/proc/filesystems') ?? '';
  if (/^(nodev)?\toverlay$/m.test(types)) return [];
  const message = 'the kernel has no overlayfs now: only the FUSE backend works';
  return [fault('warning', 'no-overlayfs', message, ...asRoot(host, 'modprobe overlay'))];
}

function checkUserNamespaces({ host }: Patient): Finding[] {
  const faults: Finding[] = [];
  for (const { setting, value, meaning, remedy } of findUsernsLimits((path) => host.read(path))) {
    const message = `user namespaces are ${meaning} (${setting}=${value}): no --backend userns`;
    faults.push(fault('warning', 'userns-forbidden', message, ...asRoot(host, remedy)));
  }
  for (const program of ['unshare', 'nsenter']) {
    if (host.findProgram(program) !== undefined) continue;
    const message = `there is no ${program} on PATH: no --backend userns`;
    faults.push(fault('warning', 'util-linux-missing', message, ...asRoot(host, 'apt install util-linux')));
  }
  return faults;
}

function checkPlaces({ places, env, host }: Patient): Finding[] {
  const faults: Finding[] = [];
  const existing = nearestExisting(host, places.records);
  const stat = host.modeOf(existing);
  if (stat?.isDirectory === false) {
    const message = `records of mounts cannot be kept in ${places.records}: ${existing} is no directory`;
    faults.push(
      fault('problem', 'records-unwritable', message, `mv ${quote(existing)} ${quote(`${existing}.old`)}`),
    );
  } else if (!host.mayUse(existing)) {
    const message = `records of mounts cannot be kept in ${places.records}: ${existing} cannot be written by this user`;
    const remedy = asRoot(host, `chown ${host.uid} ${quote(existing)}`);
    faults.push(fault('problem', 'records-unwritable', message, ...remedy, `chmod u+rwx ${quote(existing)}`));
  }
  const runtime = env.XDG_RUNTIME_DIR;
  if (!host.isRoot && (runtime === undefined || host.modeOf(runtime)?.uid !== host.uid)) {
    const found =
      runtime === undefined ? 'is not set' : `is ${runtime}, which is not a directory of this user`;
    const message = `XDG_RUNTIME_DIR ${found}; ${places.runtime} is used in its place`;
    faults.push(
      fault(
        'warning',
        'no-runtime-directory',
        message,
        ...asRoot(host, `loginctl enable-linger ${host.uid}`),
      ),
    );
  }
  return faults;
}

function nearestExisting(host: DoctorHost, path: string): string {
  let at = path;
  while (host.modeOf(at) === undefined && dirname(at) !== at) at = dirname(at);
  return at;
}

function checkMounts({ places, list }: Patient): Finding[] {
  let found: MountList;
  try {
    found = list(places);
  } catch (error) {
    return [fault('problem', 'records-unreadable', messageOf(error), `ls -la ${quote(places.records)}`)];
  }
  const faults: Finding[] = [];
  for (const { merged, state, record } of found.mounts.filter(isCallers)) {
    const place = showPath(merged);
    if (state === 'dead') {
      const message = `${place}: the server of this mount is gone; each use of it fails with ENOTCONN`;
      faults.push(fault('problem', 'mount-dead', message, 'git2db-mount repair'));
    } else if (state === 'lost') {
      const message = `${place} was mounted until a crash or reboot, and is not now`;
      faults.push(fault('warning', 'mount-lost', message, 'git2db-mount repair'));
    } else if (state === 'unsure') {
      const message = `${place} was mounted in mount namespace ${record!.mountNamespace}, which cannot be looked at from here`;
      faults.push(fault('warning', 'mount-unsure', message, `git2db-mount umount --force ${place}`));
    }
  }
  for (const { file, message } of found.damaged) {
    faults.push(fault('warning', 'record-damaged', `${file}: ${message}`, `rm ${quote(file)}`));
  }
  const litter = findLitter(places);
  if (litter.length > 0) {
    const message = `${litter.length} unfinished records were left by crashed commands in ${places.records}`;
    faults.push(fault('warning', 'record-litter', message, 'git2db-mount repair'));
  }
  return faults;
}

function asRoot({ isRoot }: DoctorHost, ...commands: string[]): string[] {
  return isRoot ? commands : commands.map((command) => `sudo ${command}`);
}

function quote(path: string): string {
  return showPath(Buffer.from(path));
}
