/**
 * What all parts of the overlay share: layers, nodes, open directories, and how the upper is written.
 * One thread owns it.
 */
import type { EntryAnswer, Waiting } from '../fuse/file-system.ts';
import type { MountOptions, XattrNamespace } from '../mount-options.ts';
import { EIO, ENOENT, EROFS } from '../system/errno.ts';
import { AT_EMPTY_PATH, type CString, close, cString, fixedBytes } from '../system/libc.ts';
import { newStatx, S_IFDIR } from '../system/statx.ts';
import { CopyUp } from './copy-up.ts';
import { HandleTable } from './handle-table.ts';
import { Ids } from './ids.ts';
import { InodeNumbers } from './inode-numbers.ts';
import { InodeTable, Node, ROOT } from './inode-table.ts';
import type { Layer } from './layer.ts';
import { type Part, Parts } from './parts.ts';
import type { SyncTask } from './sync.ts';
import type { TreeMove } from './tree-moves.ts';
import { isWhiteoutName } from './whiteout-name.ts';
import type { WorkDirectory } from './work-directory.ts';

export const EMPTY: CString = fixedBytes(1);
export const ITSELF = cString('.');
export { AT_EMPTY_PATH };

/** Lets the kernel read and write a file by itself (`FOPEN_PASSTHROUGH`). */
export interface BackingFiles {
  /** An id > 0 for the open file, or `-errno`. */
  open(fd: number): number;
  close(id: number): void;
}

export interface UpperSetup {
  readonly work: WorkDirectory;
  /** Whiteouts cannot be devices here: they are files named `.wh.NAME`. */
  readonly writesNames: boolean;
  /** Lower directories are renamed by `trusted.overlay.redirect`. */
  readonly canRedirect: boolean;
  /** A close may report an error of writing (network file systems). */
  readonly closeReportsErrors: boolean;
  /** Records in the stamp, durably, what a reader must know before it is true. 0 or `-errno`. */
  mark(what: 'mknodFailed' | 'redirectsUsed'): number;
}

export interface OverlaySetup {
  readonly options: MountOptions;
  /** Topmost first. If the options name an upper the first is that, a DiskLayer, also when nothing is written. */
  readonly layers: readonly Layer[];
  readonly upper?: UpperSetup;
  /** Of our marks: the stamp's, or without an upper what the server may read. */
  readonly namespace: XattrNamespace;
  readonly waiting: Waiting;
  readonly backing?: BackingFiles;
  /** Where it is told how many files and directories are open: see `HandleTable`. */
  readonly openHandles?: Int32Array;
  /** Whose files are those that the server makes. */
  readonly uid: number;
  readonly gid: number;
  /** How many directories of layers may be kept open. */
  readonly openDirectories: number;
}

const LONG_MS = 24 * 60 * 60 * 1000;

export class OverlayState {
  readonly options: MountOptions;
  readonly layers: readonly Layer[];
  readonly upper: UpperSetup | undefined;
  readonly copyUp: CopyUp | undefined;
  readonly parts: Parts;
  readonly table: InodeTable;
  readonly root: Node;
  readonly handles: HandleTable;
  readonly numbers: InodeNumbers;
  readonly ids: Ids;
  readonly waiting: Waiting;
  readonly uid: number;
  readonly gid: number;
  readonly timeoutMs: number;
  readonly attributeNames: AttributeNames;
  /** Marks of other writers count too. */
  readonly readsForeignMarks: boolean;
  backing: BackingFiles | undefined;
  /** `.wh.` names are written: see `UpperSetup.writesNames`; may become true. */
  writesNames: boolean;
  isRedirectMarked = false;
  /** Nodes that are being copied up by a job. */
  readonly copying = new Set<Node>();
  /** Directories that are being copied as wholes, to be moved. */
  readonly treeMoves = new Set<TreeMove>();
  /** Syncs under way, by their requests. */
  readonly syncs = new Map<number, SyncTask>();
  /** For one system call and its evaluation. */
  readonly statx = newStatx();
  readonly otherStatx = newStatx();
  readonly text = Buffer.alloc(65536);

  constructor(setup: OverlaySetup) {
    const { options, layers, upper } = setup;
    this.options = options;
    this.layers = layers;
    this.upper = options.readOnly ? undefined : upper;
    this.waiting = setup.waiting;
    this.backing = setup.backing;
    this.handles = new HandleTable(setup.openHandles);
    this.uid = setup.uid;
    this.gid = setup.gid;
    this.ids = new Ids(options);
    this.numbers = new InodeNumbers(layers.map((layer) => layer.device));
    this.timeoutMs = options.timeoutMs ?? LONG_MS;
    this.readsForeignMarks = options.whiteouts !== 'kernel';
    this.writesNames = upper?.writesNames ?? false;
    this.attributeNames = attributeNames(setup.namespace, options);
    this.parts = new Parts(layers, setup.openDirectories);
    this.hasUpperLayer = options.upper !== undefined;
    this.copyUp =
      this.upper === undefined
        ? undefined
        : new CopyUp({
            work: this.upper.work,
            rules: {
              namespace: setup.namespace,
              owners: ownersRule(options),
              overrideAttribute: this.attributeNames.override,
              copiesAcls: !options.noacl,
            },
            isVolatile: options.volatile,
            waiting: setup.waiting,
          });
    // Its number is set by `lookup.ts` when the layers' roots are looked at.
    this.root = new Node(ROOT, S_IFDIR, 1n, undefined, '', []);
    this.table = new InodeTable(this.root, (node) => this.#drop(node));
  }

  /** Layer 0 is that of the upper, even if nothing is written to it. */
  readonly hasUpperLayer: boolean;

  isUpperPart(part: Part): boolean {
    return part.layer === 0 && this.hasUpperLayer;
  }

  /** `.wh.` names in the part are whiteouts. */
  readsNames(part: Part): boolean {
    return part.readsNames || (this.writesNames && this.isUpperPart(part));
  }

  /** A name that users cannot have: in the upper it would be a whiteout. */
  refusesName(name: Uint8Array): boolean {
    return (this.writesNames || this.layers[0]!.readsWhiteoutNames) && isWhiteoutName(name);
  }

  /** The descriptor (O_PATH) of a directory's upper part, or `-errno`. */
  upperFd(node: Node): number {
    const part = node.directory?.parts[0];
    if (part === undefined || !this.isUpperPart(part)) return this.upper === undefined ? -EROFS : -EIO;
    return this.parts.fd(part);
  }

  /** The descriptor of the upper directory that has the node's first name, or `-errno`. */
  parentFd(node: Node): number {
    return node.parent === undefined ? -ENOENT : this.upperFd(node.parent);
  }

  setTimeouts(out: EntryAnswer): void {
    out.entryTimeoutMs = this.timeoutMs;
    out.attributesTimeoutMs = this.timeoutMs;
  }

  #drop(node: Node): void {
    if (node.anchor >= 0) close(node.anchor);
    node.anchor = -1;
    if (node.directory !== undefined) for (const part of node.directory.parts) this.parts.close(part);
  }
}

/** Private attributes, as the system wants their names, and as text for comparing. */
export interface AttributeNames {
  readonly namespace: XattrNamespace;
  /** `trusted.overlay.` or `user.overlay.` */
  readonly prefix: string;
  readonly opaque: CString;
  readonly redirect: CString;
  readonly metacopy: CString;
  readonly whiteout: CString;
  readonly impure: CString;
  readonly origin: CString;
  /** Where owner and mode are kept, with `xattr_permissions`. */
  readonly override: CString | undefined;
}

function attributeNames(namespace: XattrNamespace, options: MountOptions): AttributeNames {
  const prefix = `${namespace}.overlay.`;
  return {
    namespace,
    prefix,
    opaque: cString(`${prefix}opaque`),
    redirect: cString(`${prefix}redirect`),
    metacopy: cString(`${prefix}metacopy`),
    whiteout: cString(`${prefix}whiteout`),
    impure: cString(`${prefix}impure`),
    origin: cString(`${prefix}git2db.origin`),
    override: overrideName(options.xattrPermissions),
  };
}

function overrideName(mode: MountOptions['xattrPermissions']): CString | undefined {
  if (mode === 0) return undefined;
  return cString(mode === 1 ? 'user.fuseoverlayfs.override_stat' : 'user.containers.override_stat');
}

function ownersRule(options: MountOptions): 'set' | 'record' | 'try' {
  if (options.xattrPermissions !== 0) return 'record';
  return options.squashToUid !== undefined || options.squashToGid !== undefined ? 'try' : 'set';
}
