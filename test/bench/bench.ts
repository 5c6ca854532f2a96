/** What the cases share: options, inputs, contenders, and how a measured step is entered. */
import { Arena, type Contender, type Repository } from './contenders.ts';
import { Inputs } from './inputs.ts';
import { bytesUnder, type Cost } from './measure.ts';
import type { BenchOptions, Case } from './options.ts';
import { Report } from './report.ts';

export class Bench {
  readonly options: BenchOptions;
  readonly contenders: readonly Contender[];
  readonly arena: Arena;
  readonly inputs: Inputs;
  readonly report = new Report();
  /** A step of ours went wrong. */
  failed = false;

  constructor(
    options: BenchOptions,
    folders: { readonly scratch: string; readonly inputs: string },
    contenders: readonly Contender[],
  ) {
    this.options = options;
    this.contenders = contenders;
    this.arena = new Arena(folders.scratch, options.storeDir);
    this.inputs = new Inputs(folders.inputs);
  }

  wants(...cases: Case[]): boolean {
    return cases.some((name) => this.options.cases.has(name));
  }

  /** Runs `work` for every contender that can run, then `afterwards`, in every round: A B C, C B A, … */
  async interleaved(
    name: string,
    steps: readonly string[],
    work: (contender: Contender, round: number) => Promise<void>,
    afterwards: () => Promise<void> = async () => {},
  ): Promise<void> {
    for (let round = 1; round <= this.options.rounds; round++) {
      const order = round % 2 === 1 ? this.contenders : [...this.contenders].reverse();
      for (const contender of order) {
        if (contender.missing !== undefined) {
          if (round === 1) for (const step of steps) this.skip(name, step, contender.name, contender.missing);
          continue;
        }
        try {
          await work(contender, round);
        } catch (error) {
          this.fail(name, 'all that follows', contender.name, error);
        }
      }
      await afterwards();
    }
  }

  /** What adding or checking out the largest input takes: a copy in git's memory, and one in a file. */
  get memoryAtHand(): number {
    const { sizeMb, many } = this.options;
    return 2 * Math.max(sizeMb * 2 ** 20, many * 2 ** 18);
  }

  enter(name: string, step: string, contender: string, cost: Cost, bytesAdded?: number): void {
    this.report.measurements.push({ case: name, step, contender, cost, bytesAdded });
    say(`${name} ${step} ${contender}: ${cost.wallS.toFixed(2)} s, cpu ${cost.cpuS.toFixed(2)} s`);
  }

  /** Measures a step of a repository, with what its contents grew by. Runs at its top, or in `cwd`. */
  async step(
    name: string,
    step: string,
    repository: Repository,
    command: readonly string[],
    cwd = repository.folder,
  ): Promise<void> {
    const before = bytesUnder(repository.contents);
    const cost = await repository.measure(command, { cwd, memoryAtHand: this.memoryAtHand });
    this.enter(name, step, repository.contender.name, cost, bytesUnder(repository.contents) - before);
  }

  skip(name: string, step: string, contender: string, reason: string): void {
    const known = this.report.missing.some(
      (one) => one.case === name && one.step === step && one.contender === contender,
    );
    if (!known) this.report.missing.push({ case: name, step, contender, reason });
  }

  fail(name: string, step: string, contender: string, error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    say(`${name} ${step} ${contender} failed: ${reason}`);
    this.skip(name, step, contender, `failed: ${reason.split('\n')[0]!.slice(0, 120)}`);
    if (contender.startsWith('git2db')) this.failed = true;
  }
}

export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
