/**
 * The kernel's overlayfs, mounted where everybody sees it. Needs CAP_SYS_ADMIN: root, or root of the user
 * namespace that the mount namespace belongs to (then with `userxattr`).
 *
 * There is no trial beforehand: the mount is its own trial. What the kernel does not know of our defaults
 * is left out, and nothing else.
 */
import { accessSync, closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectories } from '../make-directories.ts';
import { type ErrorCode, errnoOf, Git2dbError } from '../xet/errors.ts';
import type { BackendMount, MountBackend, MountRequest } from './backend.ts';
import {
  commonDirectory,
  droppedDefaults,
  formatParameter,
  formatParameters,
  LOWERS_MAX,
  type OverlayParameters,
  overlayParameters,
  PAGE_TEXT_MAX,
  type Parameter,
  relativeTo,
  withFewerDefaults,
} from './kernel-options.ts';
import type { MountOptions } from './mount-options.ts';
import { isWithin } from './mount-table.ts';
import { hasWhiteoutNames } from './overlay/whiteout-layers.ts';
import { showPath } from './path.ts';
import { ensurePrivateDirectory } from './record-places.ts';
import { securityLabels } from './security-labels.ts';
import { EINVAL, ENAMETOOLONG, ENOSYS, errnoMessage, errnoName } from './system/errno.ts';
import {
  MNT_DETACH,
  MS_NOATIME,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  mount,
  umount2,
} from './system/kernel.ts';
import { type CString, close, cString } from './system/libc.ts';
import {
  attachMount,
  createMount,
  MOUNT_ATTR_NOATIME,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_RDONLY,
  openContext,
  STRING_MAX,
  setDescriptor,
  setFlag,
  setString,
} from './system/mount-context.ts';

const TYPE = cString('overlay');
const O_PATH = 0o10000000;

export const kernelBackend: MountBackend = {
  name: 'kernel',
  check({ caller, options, stamp }, { lowers, upper }) {
    if (!caller.mayMount) {
      throw unavailable("only root may mount the kernel's overlay; as an ordinary user take --backend fuse");
    }
    const unable = beyondKernel(options);
    if (unable !== undefined) {
      throw unavailable(`the kernel's overlay has nothing like ${unable}; take --backend fuse`);
    }
    if (stamp?.mknodFailed === true) {
      throw unavailable(
        "the upper's whiteouts, which hide deleted files, cannot be made there in the form that the kernel reads; " +
          'take --backend fuse',
      );
    }
    if (lowers.length > LOWERS_MAX) {
      throw unavailable(
        `the kernel's overlay takes at most ${LOWERS_MAX} lower layers, and these are ${lowers.length}; ` +
          'take --backend fuse',
      );
    }
    const layers = upper === undefined ? lowers : [upper, ...lowers];
    const named = layers.find(({ path }) => hasWhiteoutNames(path, options.whiteouts));
    if (named !== undefined) {
      throw unavailable(
        `${named.role} ${showPath(named.path)} was made for fuse-overlayfs or by a container engine, with whiteouts ` +
          'that only our FUSE overlay reads; take --backend fuse, or -o whiteouts=kernel if it has none',
      );
    }
  },
  async mount(request) {
    return mountKernelOverlay(request);
  },
};

/** An option that only the FUSE overlay has. */
function beyondKernel(options: MountOptions): string | undefined {
  if (options.squashToUid !== undefined || options.squashToGid !== undefined) return 'squash_to_uid';
  if (options.uidMapping.length + options.gidMapping.length > 0) return 'uidmapping';
  if (options.xattrPermissions !== 0) return 'xattr_permissions';
  if (options.whiteouts === 'all') return 'whiteouts=all';
  if (options.noacl) return 'noacl';
  if (options.passthrough === 'off') return 'passthrough=off';
  return undefined;
}

function mountKernelOverlay(request: MountRequest): BackendMount {
  const { options } = request;
  const wanted = overlayParameters(withSecondLower(request), request.namespace, securityLabels(options));
  let first: number | undefined;
  for (const parameters of withFewerDefaults(wanted)) {
    const code = mountOnce(parameters, options);
    if (code >= 0) {
      refuseReadOnlyFallback(options);
      return { dropped: droppedDefaults(wanted, parameters) };
    }
    first ??= code;
    if (code !== -EINVAL) throw explain(code, wanted);
  }
  throw explain(first!, wanted);
}

/**
 * Without an upper the kernel wants two lowers at least. The second may be any empty directory that
 * stays: the one that is mounted on, or else one of ours.
 */
function withSecondLower({ options, isMergedEmpty, places }: MountRequest): MountOptions {
  const { upper, lowers, merged } = options;
  if (upper !== undefined || lowers.length > 1) return options;
  if (isMergedEmpty && !isWithin(lowers[0]!, merged)) return { ...options, lowers: [lowers[0]!, merged] };
  const empty = join(places.runtime, 'empty');
  ensurePrivateDirectory(places.runtime);
  makeDirectories(empty, 0o500);
  return { ...options, lowers: [lowers[0]!, Buffer.from(empty)] };
}

// ---- one attempt -----------------------------------------------------------------------------

function mountOnce(parameters: OverlayParameters, options: MountOptions): number {
  const text = formatParameters(parameters);
  const target = cString(options.merged);
  const source = cString(options.source);
  if (text.length <= PAGE_TEXT_MAX) return mount(source, target, TYPE, mountFlags(options), cString(text));
  const code = mountStepByStep(parameters, source, target, options);
  if (code !== -ENOSYS && code !== -EINVAL) return code;
  return mountFromWithin(parameters, source, target, options);
}

/** `mountinfo` shows the same paths as in one text. The parameter `lowerdir+` is there since Linux 6.8. */
function mountStepByStep(
  { lowers, upper, work, others, contexts }: OverlayParameters,
  source: CString,
  target: CString,
  options: MountOptions,
): number {
  const context = openContext(TYPE);
  if (context < 0) return context;
  let created = -1;
  try {
    const steps = [
      () => setString(context, cString('source'), source),
      ...lowers.map((path) => () => setLayer(context, 'lowerdir+', path)),
      ...(upper === undefined ? [] : [() => setLayer(context, 'upperdir', upper)]),
      ...(work === undefined ? [] : [() => setLayer(context, 'workdir', work)]),
      ...others.map((parameter) => () => setPlain(context, parameter)),
      ...contexts.map((text) => () => setPlain(context, labelParameter(text))),
      ...(options.readOnly ? [() => setFlag(context, cString('ro'))] : []),
    ];
    for (const step of steps) {
      const code = step();
      if (code < 0) return code;
    }
    created = createMount(context, mountAttributes(options));
    return created < 0 ? created : attachMount(created, target);
  } finally {
    close(context);
    if (created >= 0) close(created);
  }
}

function setPlain(context: number, { key, value }: Omit<Parameter, 'isDefault'>): number {
  if (value === undefined) return setFlag(context, cString(key));
  return setString(context, cString(key), cString(value));
}

/** `context="LABEL"`: the quotes are for lists of options. */
function labelParameter(text: Buffer): { key: string; value: string } {
  const [key, value] = text.toString().split(/=(.*)/s) as [string, string];
  return { key, value: value.replace(/^"(.*)"$/s, '$1') };
}

/** By a descriptor, which needs no escapes and has no limit, and since Linux 6.13; before that by its path. */
function setLayer(context: number, key: string, path: Buffer): number {
  const fd = openSync(path, O_PATH | constants.O_DIRECTORY);
  const code = setDescriptor(context, cString(key), fd);
  closeSync(fd);
  if (code !== -EINVAL || path.length > STRING_MAX) return code;
  return setString(context, cString(key), cString(path));
}

/** By paths relative to the directory that all layers lie in: less to read in `mountinfo`, but any kernel does it. */
function mountFromWithin(
  parameters: OverlayParameters,
  source: CString,
  target: CString,
  options: MountOptions,
): number {
  const { lowers, upper, work } = parameters;
  const layers = [...lowers, upper, work].filter((path) => path !== undefined);
  const directory = commonDirectory(layers);
  const text = formatParameters(relativeTo(directory, parameters));
  if (text.length > PAGE_TEXT_MAX) return -ENAMETOOLONG;
  const before = openSync('.', O_PATH | constants.O_DIRECTORY);
  const inside = openSync(directory, O_PATH | constants.O_DIRECTORY);
  try {
    if (!enter(inside)) return -ENAMETOOLONG;
    const code = mount(source, target, TYPE, mountFlags(options), cString(text));
    enter(before);
    return code;
  } finally {
    closeSync(inside);
    closeSync(before);
  }
}

/** False in a thread other than the first, which may not change the directory of the process. */
function enter(directory: number): boolean {
  try {
    process.chdir(`/proc/self/fd/${directory}`);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ERR_WORKER_UNSUPPORTED_OPERATION') return false;
    throw error;
  }
}

const FLAGS = { nosuid: MS_NOSUID, nodev: MS_NODEV, noexec: MS_NOEXEC, noatime: MS_NOATIME };
const ATTRIBUTES = {
  nosuid: MOUNT_ATTR_NOSUID,
  nodev: MOUNT_ATTR_NODEV,
  noexec: MOUNT_ATTR_NOEXEC,
  noatime: MOUNT_ATTR_NOATIME,
};

function mountFlags({ flags, readOnly }: MountOptions): number {
  return flags.reduce((bits, name) => bits | FLAGS[name], readOnly ? MS_RDONLY : 0);
}

function mountAttributes({ flags, readOnly }: MountOptions): number {
  return flags.reduce((bits, name) => bits | ATTRIBUTES[name], readOnly ? MOUNT_ATTR_RDONLY : 0);
}

// ---- how it went -----------------------------------------------------------------------------

/** Where the upper's file system lacks something the kernel mounts all the same, without write access. */
function refuseReadOnlyFallback({ merged, readOnly }: MountOptions): void {
  if (readOnly) return;
  try {
    accessSync(merged, constants.W_OK);
  } catch (error) {
    if (errnoOf(error) !== 'EROFS') return;
    umount2(cString(merged), MNT_DETACH);
    throw unavailable(
      "the upper's file system lacks what the kernel's overlay needs for writing (dmesg says what); " +
        'take --backend fuse',
    );
  }
}

/** By the error number: what it mostly means, and what to do. */
const MEANINGS: Readonly<Record<string, readonly [code: ErrorCode, meaning: string]>> = {
  EPERM: ['BACKEND_UNAVAILABLE', "this user may not mount the kernel's overlay here; take --backend fuse"],
  EACCES: ['BACKEND_UNAVAILABLE', "this user may not mount the kernel's overlay here; take --backend fuse"],
  ENODEV: [
    'KERNEL_TOO_OLD',
    'the kernel has no overlayfs; as root: modprobe overlay, or take --backend fuse',
  ],
  EBUSY: ['UPPER_BUSY', 'the upper or work directory is in use by another mount; end that first'],
  ELOOP: ['LAYERS_OVERLAP', 'a layer lies inside another one; take separate trees'],
  ENAMETOOLONG: [
    'PATH_UNSUITABLE',
    `the paths of the layers take more than the ${PAGE_TEXT_MAX} bytes that mount(2) has for them; ` +
      'take shorter ones, or --backend fuse',
  ],
};

function explain(code: number, { others }: OverlayParameters): Git2dbError {
  const [errorCode, meaning] = MEANINGS[errnoName(code)] ?? [
    'MOUNT_FAILED',
    `the kernel refuses this overlay (${others.map(formatParameter).join(',')}); dmesg says why, and ` +
      '--backend fuse may work',
  ];
  return new Git2dbError(errorCode, `mount(2): ${errnoMessage(code)}: ${meaning}`, {
    data: { errno: errnoName(code) },
  });
}

function unavailable(message: string): Git2dbError {
  return new Git2dbError('BACKEND_UNAVAILABLE', message);
}
