/**
 * A throw-away overlay: layers, mount and everything that uses it in one temporary directory. Whatever
 * happened in between, `dispose` ends its processes, unmounts, and fails if a lower layer is not what it
 * was, to the times of its files.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, realpathSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { openDevFuse } from './dev-fuse.ts';
import { bytes, Driver, errnoOf, type Run, type SystemCalls, type TreeEntry } from './driver.ts';
import { entriesOf, type LayerSpec, OLD_ATIME, OLD_MTIME, timesOf } from './layers.ts';
import { PROGRAM, type Subject } from './subjects.ts';

export interface SandboxLayers {
  /** Topmost first; one empty layer unless given. */
  readonly lowers?: readonly LayerSpec[];
  /** What the upper holds before the first mount; `null`: no upper, a mount to read from. */
  readonly upper?: LayerSpec | null;
  /** Upper and work are on a tmpfs of their own with these options, or in that directory; root only. */
  readonly store?: string | { readonly directory: string };
  /** All directories are below this one, instead of where temporary files are. */
  readonly parent?: string;
}

/** A command to its end. */
export async function runCommand(
  [program, ...args]: readonly string[],
  env: NodeJS.ProcessEnv,
  input = '',
): Promise<Run> {
  const child = spawn(program!, args, { env, cwd: '/', stdio: 'pipe' });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('latin1').on('data', (piece: string) => {
    output.stdout += piece;
  });
  child.stderr.setEncoding('latin1').on('data', (piece: string) => {
    output.stderr += piece;
  });
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const [status, signal] = (await once(child, 'close')) as [number | null, string | null];
  if (signal !== null) output.stderr += `killed by ${signal}`;
  return { status: status ?? -1, ...output };
}

let host: Driver | undefined;

/** Calls by the user that runs the tests, outside of all mounts: for the layers. */
export function hostCalls(): SystemCalls {
  host ??= new Driver([], { ...process.env, LC_ALL: 'C.UTF-8' });
  return host.calls;
}

/** Mounts of `path` as this process sees them: the type of file system of each. */
export function mountsAt(path: string): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'latin1').split('\n').filter(Boolean);
  return lines
    .map((line) => line.split(' '))
    .filter((fields) => fields[4] === path)
    .map((fields) => fields[fields.indexOf('-') + 1]!);
}

export class MountSandbox {
  readonly subject: Subject;
  readonly dir: string;
  /** Topmost first. */
  readonly lowers: readonly string[];
  readonly upper: string;
  readonly work: string;
  readonly merged: string;
  readonly env: NodeJS.ProcessEnv;
  readonly isReadOnly: boolean;
  readonly #drivers: Driver[] = [];
  readonly #servers: ChildProcess[] = [];
  readonly #tmpfs: string[] = [];
  readonly #ownsDir: boolean;
  #isDisposed = false;
  #main: Driver | undefined;
  #before: readonly TreeEntry[][] = [];

  private constructor(subject: Subject, dir: string, lowers: number, isReadOnly: boolean, ownsDir: boolean) {
    this.#ownsDir = ownsDir;
    this.subject = subject;
    this.dir = dir;
    this.lowers = Array.from({ length: lowers }, (_, i) => join(dir, `lower${i}`));
    this.upper = join(dir, 'store', 'upper');
    this.work = join(dir, 'store', 'work');
    this.merged = join(dir, 'merged');
    this.isReadOnly = isReadOnly;
    this.env = {
      // The node that runs this is the one that the program finds.
      PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
      HOME: join(dir, 'home'),
      XDG_RUNTIME_DIR: join(dir, 'run'),
      TMPDIR: join(dir, 'tmp'),
      LC_ALL: 'C.UTF-8',
      TZ: 'UTC',
      NO_COLOR: '1',
    };
  }

  /** Layers made and filled, nothing mounted. */
  static async create(subject: Subject, layers: SandboxLayers = {}): Promise<MountSandbox> {
    const dir = realpathSync(mkdtempSync(join(layers.parent ?? tmpdir(), 'git2db-mount-test-')));
    const specs = layers.lowers ?? [{}];
    const sandbox = new MountSandbox(subject, dir, specs.length, layers.upper === null, true);
    chmodSync(dir, 0o755);
    const { lowers, upper, work, merged } = sandbox;
    const own = (path: string, mode = 0o755) => {
      mkdirSync(path, { mode });
      chownSync(path, subject.uid, subject.gid);
    };
    for (const path of [...lowers, merged, ...['store', 'home', 'tmp'].map((name) => join(dir, name))])
      own(path);
    own(join(dir, 'run'), 0o700);
    if (typeof layers.store === 'string') await sandbox.mountTmpfs(join(dir, 'store'), layers.store);
    else if (layers.store !== undefined) sandbox.bind(join(dir, 'store'), layers.store.directory);
    own(upper);
    own(work);
    for (const [i, spec] of specs.entries()) await sandbox.fill(lowers[i]!, spec);
    if (layers.upper) await sandbox.fill(upper, layers.upper);
    return sandbox;
  }

  /** The same directories, mounted by another subject; disposed of by itself, before this one. */
  mountedBy(subject: Subject): MountSandbox {
    return new MountSandbox(subject, this.dir, this.lowers.length, this.isReadOnly, false);
  }

  /** Puts objects into a directory outside the mount, owned by the subject's user, with old times. */
  async fill(root: string, spec: LayerSpec): Promise<void> {
    const calls = hostCalls();
    const isOwn = this.subject.uid === process.getuid!();
    await calls.build(bytes(root), entriesOf(spec), isOwn ? null : [this.subject.uid, this.subject.gid]);
    await calls.age(bytes(root), OLD_ATIME, OLD_MTIME, timesOf(spec));
  }

  /** A file system of its own in one of the directories; root only. */
  async mountTmpfs(path: string, options: string): Promise<void> {
    const { uid, gid } = this.subject;
    await hostCalls().mount('none', bytes(path), 'tmpfs', `mode=755,uid=${uid},gid=${gid},${options}`);
    this.#tmpfs.push(path);
  }

  /** Another directory in the place of one of these; root only. */
  bind(path: string, directory: string): void {
    execFileSync('mount', ['--bind', directory, path]);
    this.#tmpfs.push(path);
  }

  /** Mounts, with more options for `-o`. Throws with what the program said when it fails. */
  async mount(options: readonly string[] = [], words: readonly string[] = []): Promise<void> {
    const run = await this.tryMount(options, words);
    if (run.status !== 0) throw new Error(`mounting failed with ${run.status}: ${run.stderr}${run.stdout}`);
  }

  async tryMount(options: readonly string[] = [], words: readonly string[] = []): Promise<Run> {
    await this.prepare();
    return this.runAs(this.#asPeopleDo(this.mountCommand(options, words)));
  }

  /** The program by itself: it begins with some lines of sh. */
  #asPeopleDo(command: readonly string[]): readonly string[] {
    return command[0] === process.execPath ? command.slice(1) : command;
  }

  /** What has to be done once before a mount: notes the state of the lower layers, opens /dev/fuse. */
  async prepare(): Promise<void> {
    if (this.subject.backend.startsWith('fuse') && !this.subject.isRoot) await openDevFuse();
    if (this.#before.length === 0) this.#before = await this.#lowerTrees();
  }

  /** The command of the subject, without the prefix that changes the user. */
  mountCommand(options: readonly string[] = [], words: readonly string[] = []): string[] {
    const { backend } = this.subject;
    const layers = [
      `lowerdir=${this.lowers.join(':')}`,
      ...(this.isReadOnly ? [] : [`upperdir=${this.upper}`, `workdir=${this.work}`]),
      ...(backend === 'userns' && this.subject.isRoot ? ['userxattr'] : []),
    ];
    const all = [...layers, ...options].join(',');
    if (backend === 'overlayfs') {
      const features = options.some((o) => o.startsWith('redirect_dir')) ? '' : ',redirect_dir=on,xino=auto';
      return [
        'mount',
        '-t',
        'overlay',
        'overlay',
        '-o',
        all + (this.isReadOnly ? '' : features),
        this.merged,
      ];
    }
    if (backend === 'fuse-overlayfs') return ['fuse-overlayfs', '-o', all, this.merged];
    return this.programCommand('--backend', backend, ...words, '-o', all, this.merged);
  }

  programCommand(...args: readonly string[]): string[] {
    return [process.execPath, PROGRAM, ...args];
  }

  /** Runs a command as the subject's user, outside the mount's namespace. */
  runAs(command: readonly string[], input = ''): Promise<Run> {
    return runCommand([...this.subject.prefix, ...command], this.env, input);
  }

  /** git2db-mount with these arguments, as the subject's user. */
  program(...args: readonly string[]): Promise<Run> {
    return this.runAs(this.programCommand(...args));
  }

  /** Starts a server in the foreground and waits until it is mounted. `wrapper`: a command in front. */
  async serve(wrapper: readonly string[] = [], options: readonly string[] = []): Promise<ChildProcess> {
    await this.prepare();
    const [program, ...args] = [...wrapper, ...this.subject.prefix, ...this.mountCommand(options, ['-f'])];
    const server = spawn(program!, args, { env: this.env, cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] });
    this.#servers.push(server);
    let said = '';
    server.stderr!.on('data', (piece: Buffer) => {
      said = (said + piece).slice(-4000);
    });
    for (const end = Date.now() + 20_000; mountsAt(this.merged).length === 0; ) {
      if (server.exitCode !== null || server.signalCode !== null || Date.now() > end) {
        throw new Error(`the server did not mount: ${server.signalCode ?? server.exitCode}: ${said}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return server;
  }

  /** Calls through the mount, by its user. */
  get calls(): SystemCalls {
    this.#main ??= this.startDriver();
    return this.#main.calls;
  }

  /** Calls through the mount by another identity; root's mounts only. */
  as(identity: Parameters<Driver['as']>[0]): SystemCalls {
    this.#main ??= this.startDriver();
    return this.#main.as(identity);
  }

  /** Another process that uses the mount; by somebody else, if a command that changes the user is given. */
  startDriver(prefix: readonly string[] = this.subject.prefix): Driver {
    const driver = new Driver([...prefix, ...this.#entering()], this.env);
    this.#drivers.push(driver);
    return driver;
  }

  /** The command that runs another one where the mount is seen. */
  #entering(): string[] {
    return this.subject.backend === 'userns' ? this.programCommand('exec', this.merged, '--') : [];
  }

  /** A path in the mount. */
  path(...parts: string[]): string {
    return [this.merged, ...parts.map(bytes)].join('/');
  }

  async endDrivers(): Promise<void> {
    this.#main = undefined;
    await Promise.all(this.#drivers.splice(0).map((driver) => driver.end()));
  }

  /** Ends the drivers and unmounts the way the program offers. */
  async unmount(): Promise<void> {
    await this.endDrivers();
    const { backend } = this.subject;
    const isOurs = backend === 'kernel' || backend === 'userns' || backend === 'fuse';
    const run = isOurs
      ? await this.program('umount', this.merged)
      : await this.runAs(['umount', this.merged]);
    if (run.status !== 0) throw new Error(`unmounting failed with ${run.status}: ${run.stderr}`);
  }

  async remount(options: readonly string[] = []): Promise<void> {
    await this.unmount();
    await this.mount(options);
  }

  /** Everything below the mount, as its user sees it. */
  tree(): Promise<TreeEntry[]> {
    return this.calls.tree(bytes(this.merged));
  }

  upperTree(): Promise<TreeEntry[]> {
    return hostCalls().tree(bytes(this.upper));
  }

  async dispose(): Promise<void> {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    await this.endDrivers();
    await this.#unmountBySomeMeans();
    for (const server of this.#servers) if (server.exitCode === null) server.kill('SIGKILL');
    // fuse-overlayfs renews access times; what it does to a lower layer is not our concern.
    const isChecked = this.#before.length > 0 && this.subject.backend !== 'fuse-overlayfs';
    const changes = isChecked ? await this.#lowerChanges() : [];
    for (const path of this.#tmpfs) await unmountAtLast(path);
    if (this.#ownsDir) await rm(this.dir, { recursive: true, force: true, maxRetries: 3 });
    if (changes.length > 0) throw new Error(`the lower layers have changed:\n${changes.join('\n')}`);
  }

  async #unmountBySomeMeans(): Promise<void> {
    if (this.subject.backend === 'userns') await this.program('umount', '--force', this.merged);
    for (let tries = 0; mountsAt(this.merged).length > 0 && tries < 5; tries++) {
      await runCommand(['umount', this.merged], this.env);
      if (mountsAt(this.merged).length === 0) return;
      await runCommand(['umount', '-l', this.merged], this.env);
      if (!this.subject.isRoot) await this.runAs(['fusermount3', '-uz', this.merged]);
    }
  }

  async #lowerTrees(): Promise<TreeEntry[][]> {
    const trees: TreeEntry[][] = [];
    for (const lower of this.lowers) trees.push(await hostCalls().tree(bytes(lower)));
    return trees;
  }

  async #lowerChanges(): Promise<string[]> {
    const after = await this.#lowerTrees();
    return this.#before.flatMap((tree, i) => {
      const now = after[i]!.map(identityText);
      const was = tree.map(identityText);
      const gone = was.filter((line) => !now.includes(line)).map((line) => `- ${line}`);
      return [...gone, ...now.filter((line) => !was.includes(line)).map((line) => `+ ${line}`)];
    });
  }
}

/** A server that ends has its layers open longer than its mount: on a busy machine, for seconds. */
async function unmountAtLast(path: string): Promise<void> {
  for (let tries = 0; tries < 1200; tries++) {
    if ((await errnoOf(hostCalls().umount(bytes(path)))) === undefined) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${path} stays in use`);
}

/**
 * All that must not change. Reading renews the access times of directories and symbolic links, and a disk
 * may place the blocks of a new file late.
 */
function identityText({ atime, blocks: _, ...entry }: TreeEntry): string {
  return JSON.stringify(entry.type === 'file' ? { ...entry, atime } : entry);
}

/** A sandbox that goes with the test. */
export async function createMountSandbox(
  t: ExecutionContext,
  subject: Subject,
  layers: SandboxLayers = {},
): Promise<MountSandbox> {
  const sandbox = await MountSandbox.create(subject, layers);
  t.teardown(() => sandbox.dispose());
  return sandbox;
}
