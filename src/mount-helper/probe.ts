/**
 * Which backends work for uppers in a directory: each is tried for real there, on a scratch overlay, as this
 * user and in this mount namespace (`userns`: in its own). What was tried is used, ended and removed.
 */
import { closeSync, openSync, readSync, statfsSync, statSync, writeSync } from 'node:fs';
import { type ErrorCode, errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import {
  type BackendFinding,
  type BackendMount,
  candidatesFor,
  chooseBackend,
  loadBackend,
} from './backend.ts';
import { type Caller, readCaller } from './caller.ts';
import { BackingFiles } from './fuse/backing-files.ts';
import { createFrame } from './fuse/decode.ts';
import { answerInit, INIT_REPLY_SIZE } from './fuse/init.ts';
import { mountDevice } from './fuse/mount-device.ts';
import { REPLY_HEADER } from './fuse/protocol.ts';
import { pathJson } from './list.ts';
import type { BackendName } from './mount-options.ts';
import { findMount, mountOf, readMountTable } from './mount-table.ts';
import type { Stamp } from './overlay/stamp.ts';
import { holdUpper } from './overlay/upper-hold.ts';
import { failsToMakeMarks } from './overlay/work-directory.ts';
import { joinPath, realPath, showPath } from './path.ts';
import { prepareMount } from './preparation.ts';
import { endProcess, waitForEnd } from './process-end.ts';
import { identifyProcess } from './process-identity.ts';
import { recordPlaces } from './record-places.ts';
import {
  clearScratches,
  type MountFeatures,
  makeScratch,
  removeScratch,
  type Scratch,
  tryMount,
} from './scratch.ts';
import { MNT_DETACH, UMOUNT_NOFOLLOW, umount2 } from './system/kernel.ts';
import { cString } from './system/libc.ts';
import { unmountEntry, unmountFuseEntry } from './unmount-entry.ts';

export interface ProbeFeatures extends MountFeatures {
  /** The kernel reads and writes files of the upper by itself; of the FUSE backend only. */
  readonly passthrough?: boolean;
}

export interface ProbeFinding extends BackendFinding {
  /** Why it does not work, and what to do. */
  readonly reason?: string;
  readonly code?: ErrorCode;
  /** What the system said. */
  readonly errno?: string;
  readonly features?: ProbeFeatures;
  /** Defaults that this kernel does not know. */
  readonly dropped?: readonly string[];
}

export interface Probe {
  readonly directory: Buffer;
  /** Type of the file system, as the table of mounts names it. */
  readonly fileSystem: string;
  /** `/dev/fuse`: its permissions, or undefined when it is not there. */
  readonly fuseDeviceMode: string | undefined;
  readonly backends: readonly ProbeFinding[];
  /** What a mount with `--backend` as it was asked for would take; undefined: nothing works. */
  readonly auto: BackendName | undefined;
}

export interface ProbeRequest {
  readonly backend?: BackendName | 'auto';
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** How long a server has to end by itself when its mount has. */
const END_TIMEOUT_MS = 2_000;
const ALL: readonly BackendName[] = ['kernel', 'fuse', 'userns'];

/** Throws DIRECTORY_MISSING and DIRECTORY_FORBIDDEN; that no backend works is an answer. */
export async function probe(directory: Buffer, { backend = 'auto', env }: ProbeRequest): Promise<Probe> {
  const caller = readCaller();
  const backends: ProbeFinding[] = [];
  await clearScratches(directory, async (merged) => {
    const entry = findMount(readMountTable(), merged);
    if (entry !== undefined) await unmountFuseEntry(entry, true);
  });
  for (const name of backend === 'auto' ? ALL : candidatesFor(backend)) {
    backends.push(await probeBackend(name, directory, caller, env));
  }
  const real = realPath(directory);
  return {
    directory: real,
    fileSystem: mountOf(readMountTable(), real)?.type ?? `0x${statfsSync(real).type.toString(16)}`,
    fuseDeviceMode: modeOfDevice(),
    backends,
    auto: chooseBackend(backend, backends),
  };
}

async function probeBackend(
  name: BackendName,
  directory: Buffer,
  caller: Caller,
  env: ProbeRequest['env'],
): Promise<ProbeFinding> {
  const scratch = makeScratch(directory, name);
  try {
    return { backend: name, works: true, ...(await mountScratch(name, scratch, caller, env)) };
  } catch (error) {
    const known = error instanceof Git2dbError ? error : undefined;
    const errno = known === undefined ? errnoOf(error) : known.data.errno;
    return {
      backend: name,
      works: false,
      reason: messageOf(error),
      code: known?.code ?? 'MOUNT_FAILED',
      ...(typeof errno === 'string' ? { errno } : {}),
    };
  } finally {
    removeScratch(scratch);
  }
}

async function mountScratch(
  name: BackendName,
  scratch: Scratch,
  caller: Caller,
  env: ProbeRequest['env'],
): Promise<Pick<ProbeFinding, 'features' | 'dropped'>> {
  const prepared = prepareMount(scratch.options);
  const { options, isMergedEmpty } = prepared;
  const namespace = caller.isPrivileged && name !== 'userns' ? 'trusted' : 'user';
  const stamp: Stamp = {
    namespace,
    owner: caller.uid,
    // Nobody else knows of this directory, and nobody mounts in it yet.
    mknodFailed: failsToMakeMarks(options.work!, namespace),
    redirectsUsed: false,
  };
  const request = {
    options,
    caller,
    namespace: stamp.namespace,
    stamp,
    isMergedEmpty,
    places: recordPlaces(env),
    env,
  };
  const backend = await loadBackend(name);
  backend.check(request, prepared);
  const recordFile = joinPath(scratch.directory, 'no-record').toString();
  const hold = holdUpper(options.upper!, options.work!, () => stamp);
  let mounted: BackendMount;
  try {
    mounted = await backend.mount({ ...request, recordFile, holdDescriptors: hold.descriptors });
  } finally {
    hold.release();
  }
  let features: ProbeFeatures;
  try {
    features = tryMount(seenAt(name, mounted, options.merged), scratch);
  } finally {
    await endMount(name, options.merged, mounted.pid);
  }
  if (name === 'fuse')
    features = { ...features, passthrough: caller.isPrivileged && tryPassthrough(scratch) };
  const { dropped = [] } = mounted;
  return { features, ...(dropped.length > 0 ? { dropped } : {}) };
}

/** Nobody else knows of it, and there is no record. */
async function endMount(name: BackendName, merged: Buffer, pid: number | undefined): Promise<void> {
  const entry = findMount(readMountTable(), merged);
  if (name === 'kernel' && entry !== undefined) unmountEntry(entry, true);
  if (name === 'fuse' && entry !== undefined) await unmountFuseEntry(entry, true);
  const server = pid === undefined ? undefined : identifyProcess(pid);
  if (server === undefined) return;
  // A holder waits to be told.
  if (name === 'userns' || !(await waitForEnd(server, END_TIMEOUT_MS))) await endProcess(server);
}

/** The mount of a namespace is reached through a process in it. */
function seenAt(name: BackendName, { pid }: BackendMount, merged: Buffer): Buffer {
  return name === 'userns' ? Buffer.concat([Buffer.from(`/proc/${pid}/root`), merged]) : merged;
}

/** A connection that gets no further than registering one file. */
function tryPassthrough({ options, directory }: Scratch): boolean {
  const device = mountDevice(options);
  try {
    const request = createFrame(8192 + INIT_REPLY_SIZE);
    request.length = readSync(device.fd, request.bytes, 0, request.bytes.length, null);
    const reply = Buffer.alloc(REPLY_HEADER + INIT_REPLY_SIZE);
    const view = new DataView(reply.buffer, reply.byteOffset, reply.length);
    const session = answerInit(request, view, { posixAcl: false, passthrough: true });
    if (typeof session === 'number' || !session.passthrough) return false;
    // Header of a reply: length u32(0), error i32(4), the number of the request u64(8).
    reply.writeUInt32LE(reply.length, 0);
    reply.set(request.bytes.subarray(8, 16), 8);
    writeSync(device.fd, reply);
    return registers(device.fd, joinPath(directory, 'lower/file'));
  } finally {
    umount2(cString(options.merged), UMOUNT_NOFOLLOW | MNT_DETACH);
    closeSync(device.fd);
  }
}

function registers(device: number, file: Buffer): boolean {
  const fd = openSync(file, 'r');
  const backing = new BackingFiles();
  backing.enable(device);
  const id = backing.open(fd);
  if (id > 0) backing.close(id);
  closeSync(fd);
  return id > 0;
}

function modeOfDevice(): string | undefined {
  const stat = statSync('/dev/fuse', { throwIfNoEntry: false });
  return stat === undefined ? undefined : (stat.mode & 0o7777).toString(8).padStart(4, '0');
}

/** The document of `probe --json`. */
export function probeJson({
  directory,
  fileSystem,
  fuseDeviceMode,
  backends,
  auto,
}: Probe): Record<string, unknown> {
  return {
    ...pathJson('directory', directory),
    fileSystem,
    fuseDeviceMode: fuseDeviceMode ?? null,
    auto: auto ?? null,
    backends,
  };
}

const FEATURES = [
  ['renameLowerDirectories', 'renames lower directories'],
  ['temporaryFiles', 'O_TMPFILE'],
  ['passthrough', 'passthrough'],
] as const;

export function formatProbe({ directory, fileSystem, backends, auto }: Probe): string[] {
  return [
    `${showPath(directory)} (${fileSystem}): ${auto === undefined ? 'no backend works' : `a mount would take ${auto}`}`,
    ...backends.map((finding) => {
      const { backend, works, reason, features } = finding;
      if (!works) return `  ${backend.padEnd(6)} no: ${reason}`;
      const can = FEATURES.filter(([name]) => features?.[name] !== undefined).map(
        ([name, words]) => `${features?.[name] ? '' : 'no '}${words}`,
      );
      const only = backend === 'userns' ? 'when asked for; seen by git2db-mount exec only; ' : '';
      return `  ${backend.padEnd(6)} yes: ${only}${can.join(', ')}`;
    }),
  ];
}
