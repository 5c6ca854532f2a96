/** Medians of all rounds, one table of them, and what became of the targets. */
import { formatBytes } from '../../src/cli/output.ts';
import { markdownTable } from '../bench-shared/markdown-table.ts';
import { median } from '../bench-shared/median-report.ts';
import { OURS, ROWS, type Row } from './targets.ts';

export interface Measurement {
  readonly row: string;
  readonly contender: string;
  /** In the row's unit. */
  readonly value: number;
}

export interface Verdict {
  readonly row: Row;
  readonly value: number | undefined;
  /** Value and limit as one number: a ratio where the target is one. */
  readonly found: number | undefined;
  readonly ok: boolean | undefined;
}

export class MountReport {
  readonly measurements: Measurement[] = [];
  /** Why a contender has no figure in a row. */
  readonly missing = new Map<string, string>();

  enter(row: string, contender: string, value: number): void {
    this.measurements.push({ row, contender, value });
  }

  skip(row: string, contender: string, reason: string): void {
    this.missing.set(`${row}: ${contender}`, reason);
  }

  median(row: string, contender: string): number | undefined {
    const values = this.measurements
      .filter((one) => one.row === row && one.contender === contender)
      .map(({ value }) => value)
      .sort((a, b) => a - b);
    return values.length === 0 ? undefined : median(values);
  }

  verdicts(): Verdict[] {
    return ROWS.filter(({ limit }) => limit !== undefined).map((row) => {
      const value = this.median(row.name, row.who ?? OURS);
      const over = row.over === undefined ? 1 : this.median(row.name, row.over);
      const found = value === undefined || over === undefined ? undefined : value / over;
      return { row, value, found, ok: found === undefined ? undefined : found <= row.limit! };
    });
  }

  text(contenders: readonly string[]): string {
    const verdicts = new Map(this.verdicts().map((verdict) => [verdict.row, verdict]));
    const lines = ROWS.filter(({ name }) => this.measurements.some(({ row }) => row === name)).map((row) => {
      const verdict = verdicts.get(row);
      return [
        row.name,
        ...contenders.map((contender) => this.#show(row, contender)),
        this.#ratio(row, 'fuse-overlayfs'),
        this.#ratio(row, 'directory'),
        target(row),
        verdict?.ok === undefined ? 'n/a' : verdict.ok ? 'met' : 'missed',
      ];
    });
    const titles = ['', ...contenders, '/ fuse-overlayfs', '/ directory', 'target', ''];
    const reasons = [...this.missing].map(([what, reason]) => `n/a: ${what}: ${reason}`);
    return [markdownTable(titles, lines), ...reasons].join('\n');
  }

  #show(row: Row, contender: string): string {
    const value = this.median(row.name, contender);
    return value === undefined ? '-' : formatValue(row, value);
  }

  /** Ours over another's: below 1 is ahead. */
  #ratio(row: Row, over: string): string {
    const [ours, theirs] = [this.median(row.name, row.who ?? OURS), this.median(row.name, over)];
    return ours === undefined || theirs === undefined || theirs === 0 ? '-' : (ours / theirs).toFixed(2);
  }
}

function formatValue({ unit }: Row, value: number): string {
  if (unit === 'bytes') return formatBytes(Math.round(value));
  return unit === 's' ? `${value.toFixed(3)} s` : `${value.toFixed(1)} ms`;
}

function target(row: Row): string {
  if (row.limit === undefined) return '';
  return row.over === undefined
    ? `<= ${formatValue(row, row.limit)}`
    : `<= ${row.limit.toFixed(2)} x ${row.over}`;
}
