/**
 * The same random system calls on a mount of ours and on the kernel's overlayfs: equal results after each
 * call, and equal trees now and then, also after both were mounted anew.
 *
 *   GIT2DB_DIFFERENTIAL_SEED    another sequence of calls; `random` takes one by chance, and prints it
 *   GIT2DB_DIFFERENTIAL_STEPS   calls per subject
 */
import type { ExecutionContext } from 'ava';
import {
  comparedAttributes,
  comparedTree,
  isKnownErrno,
  isKnownLinkCount,
  MODES_OF_ROOT,
  MODES_OF_USERS,
  ORACLE,
  touchedByFailure,
} from './differential/known-differences.ts';
import {
  type Argument,
  describeOperation,
  type Operation,
  Random,
  randomLayer,
  randomOperations,
} from './differential/operations.ts';
import { bytes, type Driver, type Stat, SystemCallError, type TreeEntry } from './helpers/driver.ts';
import { createMountSandbox, type MountSandbox, mountsAt } from './helpers/mount-sandbox.ts';
import { SUBJECTS, type Subject, subjectNamed } from './helpers/subjects.ts';
import { onSubject } from './helpers/suite.ts';

const SEED = chosenSeed(process.env.GIT2DB_DIFFERENTIAL_SEED);
const STEPS = Number(process.env.GIT2DB_DIFFERENTIAL_STEPS ?? 1200);
const COMPARE_EVERY = 40;
const REMOUNT_EVERY = 400;

type Outcome = { readonly errno: string } | { readonly value: unknown };

/** A test that runs unattended does the same each time; who looks for trouble asks for `random`. */
function chosenSeed(given = '1'): number {
  const seed = given === 'random' ? Math.floor(Math.random() * 1e9) : Number(given);
  if (!Number.isSafeInteger(seed))
    throw new Error(`GIT2DB_DIFFERENTIAL_SEED: expected a whole number or 'random', found '${given}'`);
  return seed;
}

/** One of the two mounts: makes calls, and holds what they opened. */
class Side {
  readonly sandbox: MountSandbox;
  readonly #prefix: readonly string[];
  readonly #options: readonly string[];
  readonly #slots = new Map<number, number>();
  #driver: Driver | undefined;

  /** `prefix`: a command that makes whoever mounted the one who makes the calls. */
  constructor(sandbox: MountSandbox, prefix: readonly string[], options: readonly string[]) {
    this.sandbox = sandbox;
    this.#prefix = prefix;
    this.#options = options;
  }

  async mount(): Promise<void> {
    if (mountsAt(this.sandbox.merged).length > 0 || this.#driver !== undefined) await this.sandbox.unmount();
    this.#slots.clear();
    await this.#mountAtLast();
    this.#driver = this.sandbox.startDriver(this.#prefix);
  }

  /** With an index the kernel refuses an upper until the last mount of it is gone from all namespaces. */
  async #mountAtLast(): Promise<void> {
    for (let tries = 0; ; tries++) {
      const run = await this.sandbox.tryMount(this.#options);
      if (run.status === 0) return;
      if (tries === 50) throw new Error(run.stderr);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  holds(operation: Operation): boolean {
    return operation.args.every(
      (arg) => typeof arg !== 'object' || !('slot' in arg) || this.#slots.has(arg.slot),
    );
  }

  async apply({ call, args, opens, as }: Operation): Promise<Outcome> {
    const calls = this.#driver!.as(as);
    const method = calls[call] as (...args: unknown[]) => Promise<unknown>;
    try {
      const value = await method(...args.map((arg) => this.#resolve(arg)));
      if (opens !== undefined) {
        const held = this.#slots.get(opens);
        if (held !== undefined) await this.#driver!.calls.close(held);
        this.#slots.set(opens, value as number);
        return { value: 'opened' };
      }
      if (call === 'close') this.#slots.delete((args[0] as { slot: number }).slot);
      return { value: isStat(value) ? comparedAttributes(value) : value };
    } catch (error) {
      if (error instanceof SystemCallError) return { errno: error.code };
      throw error;
    }
  }

  async closeSlots({ args }: Operation): Promise<void> {
    for (const arg of args) {
      if (typeof arg !== 'object' || !('slot' in arg)) continue;
      await this.#driver!.calls.close(this.#slots.get(arg.slot)!);
      this.#slots.delete(arg.slot);
    }
  }

  tree(): Promise<TreeEntry[]> {
    return this.#driver!.calls.tree(bytes(this.sandbox.merged));
  }

  #resolve(arg: Argument): unknown {
    if (typeof arg !== 'object') return arg;
    return 'path' in arg ? this.sandbox.path(arg.path) : this.#slots.get(arg.slot);
  }
}

function isStat(value: unknown): value is Stat {
  return typeof value === 'object' && value !== null && 'nlink' in value;
}

/** Says only what differs: the trees are long. */
async function compareTrees(t: ExecutionContext, ours: Side, oracle: Side, when: string): Promise<boolean> {
  const [found, expected] = [await ours.tree(), await oracle.tree()].map((tree) =>
    comparedTree(tree, ours.sandbox.subject.name).map((entry) => JSON.stringify(entry)),
  ) as [string[], string[]];
  const wrong = [
    ...expected.filter((line) => !found.includes(line)).map((line) => `expected ${line}`),
    ...found.filter((line) => !expected.includes(line)).map((line) => `found ${line}`),
  ];
  return t.true(wrong.length === 0, `${when}\n${wrong.slice(0, 12).join('\n')}`);
}

function withKnownLinkCount(operation: Operation, found: Outcome, expected: Outcome): Outcome {
  if (!('value' in found && 'value' in expected)) return found;
  if (!isKnownLinkCount(operation, found.value, expected.value)) return found;
  return { value: { ...(found.value as Stat), nlink: (expected.value as Stat).nlink } };
}

interface Plan {
  readonly steps: number;
  /** Then nothing is mounted anew in between: see the table of differences. */
  readonly hasHardLinks: boolean;
}

async function run(
  t: ExecutionContext,
  subject: Subject,
  seed: number,
  { steps, hasHardLinks }: Plan,
): Promise<void> {
  const random = new Random(seed);
  const layers = { lowers: [randomLayer(random, 30, hasHardLinks), randomLayer(random, 30, hasHardLinks)] };
  const kernel: Subject = { ...subjectNamed('overlayfs'), uid: subject.uid, gid: subject.gid };
  const oracleOptions = [ORACLE[subject.name] ?? ORACLE.default];
  const ours = new Side(await createMountSandbox(t, subject, layers), subject.prefix, []);
  const oracle = new Side(await createMountSandbox(t, kernel, layers), subject.prefix, oracleOptions);
  const isShared = subject.isRoot && subject.backend !== 'userns';
  const operations = randomOperations(random, {
    owners: isShared ? [0, 1001, 1002] : [subject.uid],
    groups: isShared ? [0, 1001, 1002] : [subject.gid],
    modes: isShared ? MODES_OF_ROOT : MODES_OF_USERS,
    other: isShared ? { uid: 1001, gid: 1001 } : undefined,
  });
  const history: string[] = [];
  for (let step = 0; step < steps; step++) {
    if (hasHardLinks ? step === 0 : step % REMOUNT_EVERY === 0) {
      await Promise.all([ours.mount(), oracle.mount()]);
      if (!(await compareTrees(t, ours, oracle, `seed ${seed}, mounted before step ${step}`))) return;
    }
    const operation = operations.next().value as Operation;
    if (!oracle.holds(operation)) continue;
    history.push(`${step}: ${describeOperation(operation)}`);
    const [found, expected] = await Promise.all([ours.apply(operation), oracle.apply(operation)]);
    const context = () => `seed ${seed}, ${history.slice(-12).join('\n')}`;
    if ('errno' in expected) {
      const errno = 'errno' in found ? found.errno : undefined;
      if (errno !== expected.errno && isKnownErrno(operation, errno, expected.errno)) {
        // What the call did on one side only goes with the descriptor.
        await Promise.all([ours.closeSlots(operation), oracle.closeSlots(operation)]);
        continue;
      }
    }
    if (!t.deepEqual(withKnownLinkCount(operation, found, expected), expected, context())) return;
    if ('errno' in expected) {
      for (const path of touchedByFailure(operation, expected.errno)) {
        const touch: Operation = { call: 'utimens', args: [{ path }, 'omit', 'now'] };
        await Promise.all([ours.apply(touch), oracle.apply(touch)]);
      }
    }
    if (step % COMPARE_EVERY === COMPARE_EVERY - 1 && !(await compareTrees(t, ours, oracle, context())))
      return;
  }
  if (!hasHardLinks) await Promise.all([ours.mount(), oracle.mount()]);
  await compareTrees(t, ours, oracle, `seed ${seed}, at the end`);
}

const kernel = subjectNamed('overlayfs');

for (const subject of SUBJECTS.filter(({ backend }) => backend !== 'overlayfs')) {
  const missing = subject.missing ?? kernel.missing;
  onSubject({ ...subject, missing }, `${STEPS} random calls end as on the kernel's overlayfs`, async (t) => {
    t.log(`GIT2DB_DIFFERENTIAL_SEED=${SEED}`);
    await run(t, subject, SEED, { steps: STEPS, hasHardLinks: false });
  });
  const few = Math.ceil(STEPS / 3);
  onSubject(
    { ...subject, missing },
    `${few} random calls on hard links end as on the kernel's overlayfs`,
    async (t) => {
      t.log(`GIT2DB_DIFFERENTIAL_SEED=${SEED}`);
      await run(t, subject, SEED, { steps: few, hasHardLinks: true });
    },
  );
}
