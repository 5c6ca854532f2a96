/** An overlay over directories on disk, asked directly: no mount, and jobs are done when a request waits. */
import { execFileSync } from 'node:child_process';
import {
  fsyncSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type AttributeFields, emptyAttributes } from '../../../src/mount-helper/fuse/answers.ts';
import {
  type AttributesAnswer,
  type AttributesChange,
  DEFERRED,
  type EntryAnswer,
  type Job,
  type OpenAnswer,
  type Waiting,
  type Work,
} from '../../../src/mount-helper/fuse/file-system.ts';
import { DEFAULT_OPTIONS, type MountOptions } from '../../../src/mount-helper/mount-options.ts';
import { type DiskLayer, openDiskLayer } from '../../../src/mount-helper/overlay/disk-layer.ts';
import { type BackingFiles, OverlayFs } from '../../../src/mount-helper/overlay/overlay-fs.ts';
import { openWorkDirectory } from '../../../src/mount-helper/overlay/work-directory.ts';
import { errnoName } from '../../../src/mount-helper/system/errno.ts';
import { AT_FDCWD, cString, mknodat } from '../../../src/mount-helper/system/libc.ts';
import { fieldsOf } from './attributes.ts';

/** Directories end in `/`; text is a file; `null` a whiteout; `{ link }` a symbolic, `{ same }` a hard link. */
export type Tree = Record<string, string | null | { readonly link: string } | { readonly same: string }>;

export interface RigOptions extends Partial<MountOptions> {
  readonly uid?: number;
  readonly gid?: number;
  readonly canRedirect?: boolean;
  readonly writesNames?: boolean;
  readonly readsNames?: boolean;
  readonly namespaceOfMarks?: 'trusted' | 'user';
  readonly backing?: BackingFiles;
  readonly openDirectories?: number;
  /** Lasts from one rig to the next: then it is a remount. */
  readonly at?: string;
  readonly readsOnly?: boolean;
}

export const ROOT_CALLER = { uid: 0, gid: 0, pid: 1 };

class Pending implements Job {
  readonly id: number;
  isDone = false;
  readonly work: Work;
  readonly finish: (result: number) => void;

  constructor(id: number, work: Work, finish: (result: number) => void) {
    this.id = id;
    this.work = work;
    this.finish = finish;
  }
}

/** Jobs wait until they are run. */
export class TestWaiting implements Waiting {
  request = 0;
  readonly isInterrupted = false;
  readonly pending: Pending[] = [];
  awaited: Job | undefined;
  /** What jobs end with instead of being done, if not undefined. */
  failWith: number | undefined;
  count = 0;

  waitFor(job: Job): void {
    this.awaited = job;
  }

  attributesChanged(): void {}

  start(work: Work, finish: (result: number) => void): Job {
    const job = new Pending(++this.count, work, finish);
    this.pending.push(job);
    return job;
  }

  runAll(): void {
    for (let job = this.pending.shift(); job !== undefined; job = this.pending.shift()) {
      const result = this.failWith ?? perform(job.work);
      job.isDone = true;
      job.finish(result);
    }
  }
}

function perform(work: Work): number {
  if (work.kind === 'sync') {
    fsyncSync(work.fd);
    return 0;
  }
  const content = readFileSync(`/proc/self/fd/${work.from}`);
  writeSync(work.to, content, 0, content.length, 0);
  return content.length;
}

export class Rig {
  readonly fs: OverlayFs;
  readonly waiting = new TestWaiting();
  readonly base: string;
  readonly upper: string;
  readonly lowers: string[];
  readonly marks: string[] = [];
  caller = ROOT_CALLER;

  constructor(base: string, lowerCount: number, options: RigOptions) {
    this.base = base;
    this.upper = join(base, 'upper');
    this.lowers = Array.from({ length: lowerCount }, (_, index) => join(base, `lower${index}`));
    for (const path of [this.upper, join(base, 'work'), ...this.lowers]) mkdirSync(path, { recursive: true });
    const hasUpper = options.readsOnly !== true;
    const layers = [
      ...(hasUpper
        ? [open(this.upper, options.writesNames === true || options.readsNames === true, true)]
        : []),
      ...this.lowers.map((path) => open(path, options.readsNames === true, false)),
    ];
    const namespace = options.namespaceOfMarks ?? 'trusted';
    this.fs = new OverlayFs({
      options: {
        lowers: this.lowers.map((path) => Buffer.from(path)),
        ...(hasUpper ? { upper: Buffer.from(this.upper), work: Buffer.from(join(base, 'work')) } : {}),
        merged: Buffer.from(join(base, 'merged')),
        ...DEFAULT_OPTIONS,
        backend: 'fuse',
        ...options,
      },
      layers,
      ...(hasUpper
        ? {
            upper: {
              work: openWorkDirectory(Buffer.from(join(base, 'work'))),
              writesNames: options.writesNames === true,
              canRedirect: options.canRedirect ?? namespace === 'trusted',
              closeReportsErrors: false,
              mark: (what) => this.marks.push(what) - this.marks.length,
            },
          }
        : {}),
      namespace,
      waiting: this.waiting,
      ...(options.backing === undefined ? {} : { backing: options.backing }),
      uid: options.uid ?? process.geteuid!(),
      gid: options.gid ?? process.getegid!(),
      openDirectories: options.openDirectories ?? 256,
    });
  }

  /** Runs a request to its end, doing what it waits for. */
  run(method: () => number): number {
    this.waiting.request++;
    for (let step = 0; ; step++) {
      const code = method();
      if (code !== DEFERRED) return code;
      if (step > 10_000) throw new Error('deferred for ever');
      this.waiting.runAll();
    }
  }

  /** As `run`, but an error is thrown by its name. */
  must(method: () => number): number {
    const code = this.run(method);
    if (code < 0) throw new Error(errnoName(code));
    return code;
  }

  /** The error's name, or the result. */
  say(method: () => number): string | number {
    const code = this.run(method);
    return code < 0 ? errnoName(code) : code;
  }

  /** Looks a path up; the node, or 0 for none. Each component counts as a lookup. */
  find(path: string): number {
    let node = 1;
    for (const name of path.split('/').filter(Boolean)) {
      const entry = newEntry();
      this.must(() => this.fs.lookup(node, Buffer.from(name), this.caller, entry));
      node = entry.node;
      if (node === 0) return 0;
    }
    return node;
  }

  node(path: string): number {
    const node = this.find(path);
    if (node === 0) throw new Error(`no ${path}`);
    return node;
  }

  place(path: string): [parent: number, name: Buffer] {
    const at = path.lastIndexOf('/');
    return [at <= 0 ? 1 : this.node(path.slice(0, at)), Buffer.from(path.slice(at + 1))];
  }

  stat(path: string | number): AttributeFields {
    const node = typeof path === 'number' ? path : this.node(path);
    const out: AttributesAnswer = { timeoutMs: 0, attributes: emptyAttributes() };
    this.must(() => this.fs.getattr(node, -1, out));
    return fieldsOf(out.attributes);
  }

  /** `name` and type letter and number of all entries, sorted by name. */
  entries(path: string, withEntries = false): { name: string; ino: bigint; type: number }[] {
    const handle = this.opendir(path);
    const found = this.readAll(handle, withEntries);
    this.fs.releasedir(handle);
    return found.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  names(path = ''): string[] {
    return this.entries(path).map(({ name }) => name);
  }

  opendir(path: string): number {
    const node = this.node(path);
    const out = newOpen();
    this.must(() => this.fs.opendir(node, this.caller, out));
    return out.handle;
  }

  /** In pages of `room` entries. */
  readAll(handle: number, withEntries: boolean, room = 3): { name: string; ino: bigint; type: number }[] {
    const found: { name: string; ino: bigint; type: number }[] = [];
    let next = 0;
    for (;;) {
      let left = room;
      const before = next;
      this.must(() =>
        this.fs.readdir(handle, next, withEntries, {
          add: (name, length, ino, type, nextOffset) => {
            if (left-- === 0) return false;
            found.push({ name: Buffer.from(name.subarray(0, length)).toString('latin1'), ino, type });
            next = nextOffset;
            return true;
          },
          addWithEntry: (name, length, type, nextOffset, entry) => {
            if (left-- === 0) return false;
            found.push({
              name: Buffer.from(name.subarray(0, length)).toString('latin1'),
              ino: entry.attributes.ino,
              type,
            });
            next = nextOffset;
            return true;
          },
        }),
      );
      if (next === before) break;
    }
    return found.filter(({ name }) => name !== '.' && name !== '..');
  }

  open(path: string | number, flags: number): number {
    const node = typeof path === 'number' ? path : this.node(path);
    const out = newOpen();
    this.must(() => this.fs.open(node, flags, this.caller, out));
    return out.handle;
  }

  create(path: string, text = '', mode = 0o644): number {
    const [parent, name] = this.place(path);
    const entry = newEntry();
    const out = newOpen();
    this.must(() => this.fs.create(parent, name, 2, mode, 0o22, this.caller, entry, out));
    if (text !== '') this.writeTo(out.handle, text);
    this.fs.release(out.handle);
    return entry.node;
  }

  writeTo(handle: number, text: string, offset = 0): void {
    const data = Buffer.from(text);
    this.must(() => this.fs.write(handle, offset, data, 0, data.length, 0));
  }

  readFrom(handle: number): string {
    const out = Buffer.alloc(1 << 16);
    const length = this.must(() => this.fs.read(handle, 0, out.length, out, 0));
    return out.toString('utf8', 0, length);
  }

  read(path: string): string {
    const handle = this.open(path, 0);
    const text = this.readFrom(handle);
    this.fs.release(handle);
    return text;
  }

  write(path: string, text: string, flags = 1 | 0o1000): void {
    const handle = this.open(path, flags);
    this.writeTo(handle, text);
    this.fs.release(handle);
  }

  mkdir(path: string, mode = 0o755): number {
    const [parent, name] = this.place(path);
    const entry = newEntry();
    this.must(() => this.fs.mkdir(parent, name, mode, 0o22, this.caller, entry));
    return entry.node;
  }

  unlink(path: string): string | number {
    const [parent, name] = this.place(path);
    return this.say(() => this.fs.unlink(parent, name, this.caller));
  }

  rmdir(path: string): string | number {
    const [parent, name] = this.place(path);
    return this.say(() => this.fs.rmdir(parent, name, this.caller));
  }

  rename(from: string, to: string, flags = 0): string | number {
    const [parent, name] = this.place(from);
    const [newParent, newName] = this.place(to);
    return this.say(() => this.fs.rename(parent, name, newParent, newName, flags, this.caller));
  }

  link(from: string | number, to: string): string | number {
    const node = typeof from === 'number' ? from : this.node(from);
    const [parent, name] = this.place(to);
    return this.say(() => this.fs.link(node, parent, name, this.caller, newEntry()));
  }

  setattr(path: string | number, change: Partial<AttributesChange> & { valid: number }): AttributeFields {
    const node = typeof path === 'number' ? path : this.node(path);
    const out: AttributesAnswer = { timeoutMs: 0, attributes: emptyAttributes() };
    const whole: AttributesChange = {
      handle: -1,
      size: 0,
      atime: 0,
      atimeNs: 0,
      mtime: 0,
      mtimeNs: 0,
      mode: 0,
      uid: 0,
      gid: 0,
      ...change,
    };
    this.must(() => this.fs.setattr(node, whole, this.caller, out));
    return fieldsOf(out.attributes);
  }

  setxattr(path: string, name: string, value: string): string | number {
    const node = this.node(path);
    return this.say(() => this.fs.setxattr(node, Buffer.from(name), Buffer.from(value), 0, 0, this.caller));
  }

  getxattr(path: string | number, name: string): string {
    const node = typeof path === 'number' ? path : this.node(path);
    const out = Buffer.alloc(4096);
    const code = this.run(() => this.fs.getxattr(node, Buffer.from(name), out));
    return code < 0 ? errnoName(code) : out.toString('utf8', 0, code);
  }

  listxattr(path: string): string[] {
    const out = Buffer.alloc(4096);
    const node = this.node(path);
    const length = this.must(() => this.fs.listxattr(node, out, this.caller));
    return out.toString('utf8', 0, length).split('\0').filter(Boolean);
  }

  /** Every path below with type and text, as the overlay shows it. */
  dump(path = ''): Record<string, string> {
    const all: Record<string, string> = {};
    for (const { name, type } of this.entries(path)) {
      const at = path === '' ? name : `${path}/${name}`;
      if (type === 4) Object.assign(all, { [`${at}/`]: '' }, this.dump(at));
      else all[at] = type === 8 ? this.read(at) : `type ${type}`;
    }
    return all;
  }
}

function open(path: string, readsWhiteoutNames: boolean, updatesAccessTimes: boolean): DiskLayer {
  const layer = openDiskLayer(Buffer.from(path), {
    description: path,
    readsWhiteoutNames,
    updatesAccessTimes,
  });
  if (typeof layer === 'number') throw new Error(`${path}: ${errnoName(layer)}`);
  return layer;
}

export function newEntry(): EntryAnswer {
  return {
    node: 0,
    generation: 0,
    entryTimeoutMs: 0,
    attributesTimeoutMs: 0,
    attributes: emptyAttributes(),
  };
}

export function newOpen(): OpenAnswer {
  return { handle: 0, flags: 0, backingId: 0 };
}

/** The trees of the lowers, topmost first, and of the upper; `at`: an existing one, as it is. */
export function rig(
  t: ExecutionContext,
  trees: { readonly upper?: Tree; readonly lowers?: readonly Tree[] },
  options: RigOptions = {},
): Rig {
  const base = options.at ?? mkdtempSync(join(tmpdir(), 'git2db-overlay-'));
  const lowers = trees.lowers ?? [{}];
  lowers.forEach((tree, index) => {
    plant(join(base, `lower${index}`), tree);
  });
  plant(join(base, 'upper'), trees.upper ?? {});
  const made = new Rig(base, lowers.length, options);
  t.teardown(() => {
    made.fs.destroy();
    // Node's own removal gives up where a path is too long for it.
    execFileSync('rm', ['-rf', base]);
  });
  return made;
}

/** Ends a rig and opens another over the same directories. */
export function remount(t: ExecutionContext, old: Rig, options: RigOptions = {}): Rig {
  old.fs.destroy();
  return rig(t, { lowers: old.lowers.map(() => ({})) }, { ...options, at: old.base });
}

export function plant(directory: string, tree: Tree): void {
  mkdirSync(directory, { recursive: true });
  for (const [path, what] of Object.entries(tree)) {
    const full = join(directory, path);
    mkdirSync(path.endsWith('/') ? full : dirname(full), { recursive: true });
    if (path.endsWith('/')) continue;
    if (what === null) {
      const code = mknodat(AT_FDCWD, cString(full), 0o020000, 0);
      if (code < 0) throw new Error(`mknod: ${errnoName(code)}`);
    } else if (typeof what === 'string') writeFileSync(full, what);
    else if ('link' in what) symlinkSync(what.link, full);
    else linkSync(join(directory, what.same), full);
  }
}
