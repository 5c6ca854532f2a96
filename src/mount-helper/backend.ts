/**
 * The ways to get a merged tree. A backend can say whether it would serve a mount, and serve it; which one
 * is taken is decided here, from nothing but what was asked for and what was found to work.
 */
import type { ErrorCode } from '../xet/errors.ts';
import type { Caller } from './caller.ts';
import type { ServerRequest } from './fuse/handover.ts';
import type { BackendName, MountOptions, XattrNamespace } from './mount-options.ts';
import type { Stamp } from './overlay/stamp.ts';
import type { PreparedMount } from './preparation.ts';
import type { RecordPlaces } from './record-places.ts';

/** A mount that all agrees on: directories were looked at, the upper is held. */
export interface MountRequest {
  readonly options: MountOptions;
  readonly caller: Caller;
  readonly namespace: XattrNamespace;
  /** Of the upper, as far as there is one. */
  readonly stamp: Stamp | undefined;
  /** Keep the upper's locks; for a server or holder to inherit. */
  readonly holdDescriptors: readonly [stamp: number, upper: number] | undefined;
  /** Nothing lies in the directory that is mounted on. */
  readonly isMergedEmpty: boolean;
  readonly places: RecordPlaces;
  /** Where the mount's record is: whoever ends the mount removes it. */
  readonly recordFile: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where this process may stay to serve a mount itself: see `ServingHere.serve`. */
  readonly serveHere?: ServeHere | undefined;
}

export type ServeHere = (request: ServerRequest, logFile: string) => Promise<void>;

/** The same before a backend was chosen. */
export type PlannedRequest = Omit<MountRequest, 'recordFile' | 'holdDescriptors'>;

export interface BackendMount {
  /** The server or holder, where there is one. */
  readonly pid?: number;
  /** The server is this process, which has to keep the upper's locks. */
  readonly isServedHere?: boolean;
  /** Resolves when a server that runs in the foreground has ended, to its exit status. */
  readonly ended?: Promise<number>;
  /** Parameters of the kernel that were to be set by default, and that it does not know. */
  readonly dropped?: readonly string[];
}

export interface MountBackend {
  readonly name: BackendName;
  /** Throws why it cannot serve this mount; changes nothing. */
  check(request: PlannedRequest, directories: PreparedMount): void;
  /** Resolves when the mount is there and works; a failure leaves nothing behind. */
  mount(request: MountRequest): Promise<BackendMount>;
}

/**
 * What `auto` tries, in this order. Not `userns`: a mount that nobody else can see would send scripts into
 * the bare directory.
 */
export const AUTO_ORDER: readonly BackendName[] = ['kernel', 'fuse'];

export function candidatesFor(asked: BackendName | 'auto'): readonly BackendName[] {
  return asked === 'auto' ? AUTO_ORDER : [asked];
}

/** What was found of one backend. */
export interface BackendFinding {
  readonly backend: BackendName;
  readonly works: boolean;
}

/** What would be taken; undefined: nothing of what was asked for works. */
export function chooseBackend(
  asked: BackendName | 'auto',
  findings: readonly BackendFinding[],
): BackendName | undefined {
  return candidatesFor(asked).find((name) =>
    findings.some(({ backend, works }) => backend === name && works),
  );
}

/** Failures of a backend that say nothing about the next one. All others are about the mount itself. */
const OF_THE_BACKEND: readonly ErrorCode[] = [
  'BACKEND_UNAVAILABLE',
  'KERNEL_TOO_OLD',
  'PATH_UNSUITABLE',
  'MOUNT_FAILED',
  'SERVER_FAILED',
  'FUSE_MISSING',
  'FUSE_FORBIDDEN',
  'FUSERMOUNT_MISSING',
  'ALLOW_OTHER_FORBIDDEN',
];

export function concernsBackendOnly(code: ErrorCode): boolean {
  return OF_THE_BACKEND.includes(code);
}

/** Loads a backend's code, and with it only what that needs. */
export async function loadBackend(name: BackendName): Promise<MountBackend> {
  switch (name) {
    case 'kernel':
      return (await import('./kernel-overlay.ts')).kernelBackend;
    case 'userns':
      return (await import('./userns-overlay.ts')).usernsBackend;
    case 'fuse':
      return (await import('./fuse-overlay.ts')).fuseBackend;
  }
}
