/**
 * Tests that every way of mounting has to pass. One mount per file and subject serves all of its tests,
 * each in a directory of its own, so that hundreds of cases cost a few seconds.
 */
import test, { type ExecutionContext } from 'ava';
import { bytes, errnoOf, type Identity, type SystemCalls } from './driver.ts';
import { directory, type LayerSpec } from './layers.ts';
import { createMountSandbox, hostCalls, MountSandbox, type SandboxLayers } from './mount-sandbox.ts';
import { SUBJECTS, type Subject } from './subjects.ts';

type SpecFor = LayerSpec | ((subject: Subject) => LayerSpec);

export interface CaseSpec {
  /** What is in the topmost lower layer, in the one below it, and in the upper. */
  readonly lower?: SpecFor;
  readonly bottom?: SpecFor;
  readonly upper?: SpecFor;
  /** Subjects that the case says something about; all unless given. */
  readonly on?: (subject: Subject) => boolean;
}

export class Case {
  readonly subject: Subject;
  readonly sandbox: MountSandbox;
  /** The directory of the case, relative to the layers and to the mount. */
  readonly folder: string;
  /** Calls through the mount, by the user who mounted. */
  readonly calls: SystemCalls;
  /** Calls on the layers themselves. */
  readonly host: SystemCalls = hostCalls();

  constructor(sandbox: MountSandbox, folder: string) {
    this.subject = sandbox.subject;
    this.sandbox = sandbox;
    this.folder = folder;
    this.calls = sandbox.calls;
  }

  /** Calls through the mount, by somebody else. */
  readonly as = (identity: Identity): SystemCalls => this.sandbox.as(identity);

  /** A path in the mount. */
  readonly at = (name = ''): string => inside(this.sandbox.merged, this.folder, name);

  readonly inUpper = (name = ''): string => inside(this.sandbox.upper, this.folder, name);

  readonly inLower = (name = ''): string => inside(this.sandbox.lowers[0]!, this.folder, name);
}

function inside(root: string, folder: string, name: string): string {
  return [root, folder, ...(name === '' ? [] : [bytes(name)])].join('/');
}

/** The call fails, and with that errno. */
export async function fails(
  t: ExecutionContext,
  errno: string | readonly string[],
  call: Promise<unknown>,
  message?: string,
): Promise<void> {
  const found = (await errnoOf(call)) ?? 'no error';
  if (typeof errno === 'string') t.is(found, errno, message);
  else t.true(errno.includes(found), `${message ?? ''}: ${found}, expected one of ${errno.join(', ')}`);
}

type Body = (t: ExecutionContext, c: Case) => Promise<void>;

/** Registers cases on every subject of this run. */
export class OverlaySuite {
  readonly #cases: { readonly folder: string; readonly spec: CaseSpec }[] = [];
  readonly #mounts = new Map<Subject, Promise<MountSandbox>>();

  constructor() {
    test.after.always('the lower layers are what they were', async (t) => {
      t.timeout(60_000);
      for (const mount of this.#mounts.values()) {
        const sandbox = await mount.catch(() => undefined);
        await t.notThrowsAsync(async () => sandbox?.dispose(), sandbox?.subject.name);
      }
      t.pass();
    });
  }

  test(title: string, spec: CaseSpec, body: Body): void {
    const folder = `case${this.#cases.length + 1}`;
    this.#cases.push({ folder, spec });
    for (const subject of SUBJECTS) {
      if (spec.on && !spec.on(subject)) continue;
      onSubject(subject, title, async (t) => body(t, new Case(await this.#mountOf(subject), folder)));
    }
  }

  #mountOf(subject: Subject): Promise<MountSandbox> {
    let mount = this.#mounts.get(subject);
    if (mount === undefined) {
      mount = this.#start(subject);
      this.#mounts.set(subject, mount);
    }
    return mount;
  }

  async #start(subject: Subject): Promise<MountSandbox> {
    const wanted = this.#cases.filter(({ spec }) => spec.on?.(subject) ?? true);
    const layer = (pick: (spec: CaseSpec) => SpecFor | undefined, always: boolean): LayerSpec =>
      Object.assign(
        {},
        ...wanted.map(({ folder, spec }) => {
          const found = pick(spec) ?? {};
          const nodes = Object.entries(typeof found === 'function' ? found(subject) : found).map(
            ([path, node]) => {
              const moved =
                typeof node !== 'string' && node.type === 'link'
                  ? { ...node, target: `${folder}/${node.target}` }
                  : node;
              return [`${folder}/${path}`, moved];
            },
          );
          if (nodes.length === 0 && !always) return {};
          return { [folder]: directory({ mode: 0o755 }), ...Object.fromEntries(nodes) };
        }),
      );
    const sandbox = await MountSandbox.create(subject, {
      lowers: [layer((spec) => spec.lower, true), layer((spec) => spec.bottom, false)],
      upper: layer((spec) => spec.upper, false),
    });
    try {
      await sandbox.mount();
    } catch (error) {
      await sandbox.dispose();
      throw error;
    }
    return sandbox;
  }
}

/** A test on a subject; skipped, with the reason in its title, where the host cannot. */
export function onSubject(
  subject: Subject,
  title: string,
  body: (t: ExecutionContext) => Promise<void>,
): void {
  if (subject.missing === undefined) test.serial(`${subject.name}: ${title}`, body);
  else test.serial.skip(`${subject.name}: ${title} [skipped: ${subject.missing}]`, body);
}

type Create = (layers?: SandboxLayers) => Promise<MountSandbox>;

/** A test with mounts of its own, on each subject of this run that `on` takes; `missing`: what else it lacks. */
export function mountTest(
  title: string,
  body: (t: ExecutionContext, create: Create, subject: Subject) => Promise<void>,
  on: (subject: Subject) => boolean = () => true,
  missing?: string,
): void {
  for (const subject of SUBJECTS.filter(on)) {
    onSubject({ ...subject, missing: subject.missing ?? missing }, title, (t) =>
      body(t, (layers) => createMountSandbox(t, subject, layers), subject),
    );
  }
}
