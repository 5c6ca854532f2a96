/**
 * The process that keeps a userns mount alive: started by unshare(1) in namespaces of its own, it mounts,
 * tells the command how that went, and stays until the mount has ended. It holds the locks of the upper by
 * the descriptors it was started with.
 *
 * On SIGTERM it unmounts as soon as no other process is in the namespace. SIGKILL ends the mount with the
 * namespace, unless somebody is inside.
 */
import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { callAsync } from '../native/library.ts';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import { readCaller } from './caller.ts';
import { findInside } from './holders.ts';
import { kernelBackend } from './kernel-overlay.ts';
import { mountedRecord, readRecords, recordFile, writeRecord } from './mount-records.ts';
import { findMount, readMountTable } from './mount-table.ts';
import { endVolatileAt } from './overlay/volatile-mark.ts';
import { ownNamespaces } from './process-identity.ts';
import { closeInherited } from './system/inherited.ts';
import { MNT_DETACH, POLLERR, prctl, UMOUNT_NOFOLLOW, umount2 } from './system/kernel.ts';
import { cString } from './system/libc.ts';
import { decodeHolderRequest, type HolderAnswer, type HolderRequest, SOCKET_FD } from './userns-protocol.ts';

const POLLPRI = 2;
const PR_SET_PDEATHSIG = 1;
const SIGTERM = 15;
const LOOK_AGAIN_MS = 250;

async function main(): Promise<number> {
  closeInherited();
  const request = decodeHolderRequest(readFileSync(SOCKET_FD, 'utf8'));
  let answer: HolderAnswer;
  try {
    const { dropped = [] } = await mountHere(request);
    answer = { ok: true, dropped };
  } catch (error) {
    answer = refusal(error);
  }
  // From here on this signal is an order that is carried out, however often it is given.
  let isEnding = false;
  const end = () => {
    if (!isEnding) void endWhenAlone(request);
    isEnding = true;
  };
  process.on('SIGTERM', end);
  // A mount that is only tried has no record: nobody else would ever end it.
  if (answer.ok && !hasRecord(request)) prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (!tell(answer)) end();
  if (!answer.ok) return 1;
  await untilUnmounted(request);
  if (request.options.volatile) endVolatileAt(request.options.work!);
  rmSync(request.recordFile, { force: true });
  return 0;
}

/** False when the command has gone: then nobody knows that there is a mount. */
function tell(answer: HolderAnswer): boolean {
  try {
    writeSync(SOCKET_FD, JSON.stringify(answer));
    return true;
  } catch {
    return false;
  } finally {
    closeSync(SOCKET_FD);
  }
}

async function mountHere(request: HolderRequest) {
  const { options, isMergedEmpty, places, recordFile: file } = request;
  const mounted = await kernelBackend.mount({
    options,
    isMergedEmpty,
    places,
    recordFile: file,
    caller: readCaller(),
    namespace: 'user',
    stamp: undefined,
    holdDescriptors: undefined,
    env: {},
  });
  if (!isMounted(options.merged)) {
    throw new Git2dbError('MOUNT_FAILED', 'the mount does not show in the table of its namespace');
  }
  recordHolder(request);
  return mounted;
}

/**
 * The command does the same, and may be killed before: the mount would then be in no table that anybody
 * looks at, and in no record. A mount that is only tried has none.
 */
function recordHolder({ places, recordFile: file }: HolderRequest): void {
  const planned = readRecords(places).records.find(({ id }) => recordFile(places, id) === file);
  if (planned !== undefined) writeRecord(places, mountedRecord(planned, process.pid));
}

/** By its place alone: whether it can be read just now says nothing. */
function hasRecord({ places, recordFile: file }: HolderRequest): boolean {
  return dirname(file) === places.records;
}

function refusal(error: unknown): HolderAnswer {
  const known = error instanceof Git2dbError ? error : undefined;
  const errno = known?.data.errno;
  return {
    ok: false,
    code: known?.code ?? 'MOUNT_FAILED',
    message: messageOf(error),
    ...(typeof errno === 'string' ? { errno } : {}),
  };
}

function isMounted(merged: Buffer): boolean {
  return findMount(readMountTable(), merged)?.type === 'overlay';
}

/** The kernel wakes whoever polls its table of mounts when that changes (proc(5)). */
async function untilUnmounted({ options: { merged } }: HolderRequest): Promise<void> {
  const table = openSync('/proc/self/mountinfo', 'r');
  // struct pollfd: fd i32(0), events i16(4), revents i16(6).
  const entry = Buffer.alloc(8);
  entry.writeInt32LE(table, 0);
  entry.writeInt16LE(POLLPRI | POLLERR, 4);
  while (isMounted(merged)) {
    const code = await callAsync('int poll(void*, uint64_t, int)', entry, 1, -1);
    if (code < 0) await pause(LOOK_AGAIN_MS);
  }
  closeSync(table);
}

/** Unmounting is what ends the wait above. */
async function endWhenAlone({ options: { merged } }: HolderRequest): Promise<void> {
  const { mount } = ownNamespaces();
  while (findInside(mount, process.pid).length > 0) await pause(LOOK_AGAIN_MS);
  umount2(cString(merged), UMOUNT_NOFOLLOW | MNT_DETACH);
}

main().then((code) => {
  process.exit(code);
});
