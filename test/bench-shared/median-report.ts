/** Medians of all rounds, how they compare, and what became of the targets. */
import { formatBytes } from '../../src/cli/output.ts';
import { markdownTable } from './markdown-table.ts';

export type Unit = 'ms' | 'bytes' | 'count';

export interface Target {
  readonly name: string;
  readonly row: string;
  readonly contender: string;
  /** The contender to divide by. */
  readonly over?: string;
  /** The contender to take away. */
  readonly less?: string;
  readonly limit: number;
  readonly atLeast?: true;
}

export interface Measurement {
  readonly row: string;
  readonly contender: string;
  readonly unit: Unit;
  readonly value: number;
}

export interface Verdict {
  readonly target: Target;
  readonly found: number;
  readonly ok: boolean;
}

interface Line {
  readonly row: string;
  readonly contender: string;
  readonly unit: Unit;
  readonly median: number;
  readonly least: number;
  readonly most: number;
  readonly count: number;
}

export class MedianReport {
  readonly measurements: Measurement[] = [];
  /** Why a contender has no figure in a row. */
  readonly missing = new Map<string, string>();
  /** A step of ours went wrong. */
  failed = false;
  readonly #targets: readonly Target[];

  constructor(targets: readonly Target[]) {
    this.#targets = targets;
  }

  enter(row: string, contender: string, value: number, unit: Unit = 'ms'): void {
    this.measurements.push({ row, contender, unit, value });
    process.stderr.write(`${row}, ${contender}: ${formatValue(value, unit)}\n`);
  }

  /** Runs a case; where it fails, that is told, and the others go on. */
  async attempt(name: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      process.stderr.write(`${name} failed: ${error instanceof Error ? error.stack : reason}\n`);
      this.skip(name, 'all that follows', `failed: ${reason.split('\n')[0]!.slice(0, 200)}`);
      this.failed = true;
    }
  }

  skip(row: string, contender: string, reason: string): void {
    this.missing.set(`${row}, ${contender}`, reason);
  }

  lines(): Line[] {
    const groups = new Map<string, Measurement[]>();
    for (const one of this.measurements) {
      const key = JSON.stringify([one.row, one.contender]);
      groups.set(key, [...(groups.get(key) ?? []), one]);
    }
    return [...groups.values()].map((group) => {
      const { row, contender, unit } = group[0]!;
      const values = group.map(({ value }) => value).sort((a, b) => a - b);
      return {
        row,
        contender,
        unit,
        median: median(values),
        least: values[0]!,
        most: values.at(-1)!,
        count: values.length,
      };
    });
  }

  verdicts(): Verdict[] {
    const lines = this.lines();
    const find = (row: string, contender: string | undefined) =>
      lines.find((line) => line.row === row && line.contender === contender)?.median;
    return this.#targets.flatMap((target) => {
      const ours = find(target.row, target.contender);
      const less = target.less === undefined ? 0 : find(target.row, target.less);
      const over = target.over === undefined ? 1 : find(target.row, target.over);
      if (ours === undefined || less === undefined || !over) return [];
      const found = (ours - less) / over;
      return [{ target, found, ok: target.atLeast ? found >= target.limit : found <= target.limit }];
    });
  }

  /** For `--json`. */
  document(): object {
    const missing = Object.fromEntries(this.missing);
    return { measurements: this.measurements, missing, targets: this.verdicts() };
  }

  text(): string {
    const reasons = [...this.missing].map(([what, reason]) => `n/a: ${what}: ${reason}`);
    const blocks = [this.#measured(), reasons.join('\n'), this.#ratios(), this.#targetTable()];
    return blocks.filter((block) => block !== '').join('\n\n');
  }

  #measured(): string {
    return markdownTable(
      ['', 'contender', 'median', 'least', 'most', 'rounds'],
      this.lines().map((line) => [
        line.row,
        line.contender,
        formatValue(line.median, line.unit),
        formatValue(line.least, line.unit),
        formatValue(line.most, line.unit),
        String(line.count),
      ]),
    );
  }

  /** Ours over each other contender's, for every row that both have: below 1 is ahead. */
  #ratios(): string {
    const lines = this.lines();
    const ratios = lines
      .filter(({ contender }) => contender.startsWith('git2db'))
      .flatMap((ours) =>
        lines
          .filter(({ row, contender }) => row === ours.row && !contender.startsWith('git2db'))
          .map((other) => [
            ours.row,
            `${ours.contender} / ${other.contender}`,
            other.median === 0 ? '-' : (ours.median / other.median).toFixed(3),
          ]),
      );
    return ratios.length === 0 ? '' : markdownTable(['', 'ratio', ''], ratios);
  }

  #targetTable(): string {
    const lines = this.verdicts().map(({ target, found, ok }) => [
      target.name,
      show(target, found),
      `${target.atLeast ? 'at least' : 'at most'} ${show(target, target.limit)}`,
      ok ? 'ok' : 'short',
    ]);
    return lines.length === 0 ? '' : markdownTable(['target', 'found', 'wanted', ''], lines);
  }
}

/** Of sorted values. */
export function median(values: readonly number[]): number {
  const middle = values.length >> 1;
  return values.length % 2 === 1 ? values[middle]! : (values[middle - 1]! + values[middle]!) / 2;
}

function formatValue(value: number, unit: Unit): string {
  if (unit === 'bytes') return formatBytes(Math.round(value));
  return unit === 'count' ? String(value) : `${value.toFixed(value < 1 ? 4 : 1)} ms`;
}

function show(target: Target, value: number): string {
  if (target.over !== undefined) return value.toFixed(3);
  if (target.row.startsWith('bytes')) return formatBytes(Math.round(value));
  return String(Math.round(value * 10_000) / 10_000);
}
