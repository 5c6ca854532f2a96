/** What the cases share. */
import { spawnSync } from 'node:child_process';
import { Inputs } from '../bench/inputs.ts';
import { MedianReport } from '../bench-shared/median-report.ts';
import { Arena } from './arena.ts';
import type { RemoteBenchOptions } from './options.ts';
import { TARGETS } from './targets.ts';

export class RemoteBench {
  readonly options: RemoteBenchOptions;
  readonly arena: Arena;
  readonly inputs: Inputs;
  readonly report = new MedianReport(TARGETS);
  /** Why git-lfs cannot take part. */
  readonly missingLfs: string | undefined;

  constructor(options: RemoteBenchOptions, scratch: string, inputs: string) {
    this.options = options;
    this.arena = new Arena(scratch, 3 * options.sizeMb * 2 ** 20);
    this.inputs = new Inputs(inputs);
    this.missingLfs =
      spawnSync('git-lfs', ['version']).error === undefined ? undefined : 'git-lfs is not installed';
  }
}
