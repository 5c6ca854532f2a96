/** Makes the overlay that a server serves: opens its layers and gets the upper ready. */

import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Git2dbError } from '../../xet/errors.ts';
import { DEFAULT_OPTIONS, type MountOptions } from '../mount-options.ts';
import { type DiskLayer, openDiskLayer } from '../overlay/disk-layer.ts';
import { OverlayFs } from '../overlay/overlay-fs.ts';
import type { UpperSetup } from '../overlay/overlay-state.ts';
import { adoptHold, findStamp, type UpperHold } from '../overlay/upper-hold.ts';
import { makeVolatileMark } from '../overlay/volatile-mark.ts';
import { hasWhiteoutNames } from '../overlay/whiteout-layers.ts';
import { openWorkDirectory } from '../overlay/work-directory.ts';
import { showPath } from '../path.ts';
import { EIO, errnoMessage } from '../system/errno.ts';
import { fstatfs } from '../system/libc.ts';
import { checkProc } from '../system/xattr.ts';
import type { FileSystem } from './file-system.ts';
import type { ServerRequest } from './handover.ts';
import { logLine } from './log.ts';
import type { ServerServices } from './worker.ts';

/** A quarter of all descriptors: handles, copies and anchors need the rest. */
const DIRECTORIES_SHARE = 4;
const DIRECTORIES_MAX = 16_384;

/** File systems that tell of failed writes only when a file is closed: NFS, CIFS, SMB2, 9p, Ceph, FUSE. */
const REPORT_AT_CLOSE = new Set([0x6969, 0xff534d42, 0xfe534d42, 0x01021997, 0x00c36400, 0x65735546]);

export function openOverlay(request: ServerRequest, services: ServerServices): FileSystem {
  checkProc();
  const { options, namespace } = request;
  const hold = request.hold && adoptHold(options.work!, request.hold);
  const isStamped = hold?.stamp.mknodFailed ?? stampSaysNames(options);
  // Then the kernel may read files of the lowers by itself.
  const isReadOnly = hold === undefined || options.readOnly;
  const layers = [
    ...(options.upper === undefined
      ? []
      : [open(options.upper, 'upperdir', hasWhiteoutNames(options.upper, options.whiteouts, isStamped))]),
    ...options.lowers.map((path) =>
      open(path, 'lowerdir', hasWhiteoutNames(path, options.whiteouts), isReadOnly),
    ),
  ];
  const upper = isReadOnly ? undefined : setUpUpper(request, layers[0]!, hold);
  return new OverlayFs({
    options,
    layers,
    ...(upper === undefined ? {} : { upper }),
    namespace,
    waiting: services.waiting,
    backing: services.backing,
    openHandles: services.openHandles,
    uid: process.geteuid!(),
    gid: process.getegid!(),
    openDirectories: Math.min(Math.floor(services.openFiles / DIRECTORIES_SHARE), DIRECTORIES_MAX),
  });
}

/** The directory of this program alone, to be read. It is there, and nobody else's. */
export function openOwnDirectory(services: ServerServices): FileSystem {
  const path = Buffer.from(dirname(fileURLToPath(import.meta.url)));
  return new OverlayFs({
    options: { ...DEFAULT_OPTIONS, lowers: [path], merged: path, readOnly: true },
    layers: [open(path, 'lowerdir', false)],
    namespace: 'user',
    waiting: services.waiting,
    uid: process.geteuid!(),
    gid: process.getegid!(),
    openDirectories: 0,
  });
}

function open(
  path: Buffer,
  role: 'upperdir' | 'lowerdir',
  readsWhiteoutNames: boolean,
  isPassedThrough = false,
): DiskLayer {
  const description = `${role} ${showPath(path)}`;
  const layer = openDiskLayer(path, {
    description,
    readsWhiteoutNames,
    updatesAccessTimes: role === 'upperdir',
    onOwnMount: isPassedThrough,
  });
  if (typeof layer !== 'number') return layer;
  throw new Git2dbError('MOUNT_FAILED', `cannot open ${description}: ${errnoMessage(layer)}`);
}

function stampSaysNames({ work }: MountOptions): boolean {
  return work !== undefined && findStamp(work)?.mknodFailed === true;
}

function setUpUpper({ options, namespace }: ServerRequest, layer: DiskLayer, hold: UpperHold): UpperSetup {
  const work = openWorkDirectory(options.work!);
  if (options.volatile) {
    const code = makeVolatileMark(work.base);
    if (code < 0) {
      throw new Git2dbError(
        'MOUNT_FAILED',
        `cannot mark ${showPath(options.work!)} as that of a volatile mount: ${errnoMessage(code)}`,
      );
    }
  }
  const raw = Buffer.alloc(120);
  const type = fstatfs(layer.fd, raw) < 0 ? 0 : raw.readUInt32LE(0);
  return {
    work,
    writesNames: hold.stamp.mknodFailed,
    canRedirect:
      namespace === 'trusted' && options.redirectDir !== 'off' && options.redirectDir !== 'nofollow',
    closeReportsErrors: REPORT_AT_CLOSE.has(type),
    mark: (what) => {
      try {
        hold.update({ [what]: true });
        return 0;
      } catch (error) {
        logLine('cannot write the stamp of the upper', error);
        return -EIO;
      }
    },
  };
}
