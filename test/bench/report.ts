/** Measurements, the table made of them, and how they compare with what we are after. */
import { formatBytes } from '../../src/cli/output.ts';
import { markdownTable } from '../bench-shared/markdown-table.ts';
import type { Cost } from './measure.ts';
import { NULL_FILTER, TARGETS, type Target } from './targets.ts';

export interface Measurement {
  readonly case: string;
  readonly step: string;
  readonly contender: string;
  readonly cost: Cost;
  /** Bytes that the repository grew by; undefined where that is not asked. */
  readonly bytesAdded: number | undefined;
}

export interface Missing {
  readonly case: string;
  readonly step: string;
  readonly contender: string;
  readonly reason: string;
}

/** Something that is not a cost: a count, a share, a size. */
export interface Fact {
  readonly case: string;
  readonly name: string;
  readonly value: number;
  readonly unit: 'bytes' | 'count' | 'percent' | 's' | 'ms' | 'ratio';
}

interface Row {
  readonly case: string;
  readonly step: string;
  readonly contender: string;
  readonly wallS: number;
  readonly cpuS: number;
  readonly gitRss: number;
  readonly otherRss: number;
  readonly bytesAdded: number | undefined;
  /** Largest wall time divided by the smallest. */
  readonly spread: number;
}

interface Verdict {
  readonly target: Target;
  readonly value: number | undefined;
  readonly ok: boolean | undefined;
}

export class Report {
  readonly measurements: Measurement[] = [];
  readonly missing: Missing[] = [];
  readonly facts: Fact[] = [];

  /** The best round of each column, every column for itself; the largest for memory. */
  rows(): Row[] {
    const groups = new Map<string, Measurement[]>();
    for (const one of this.measurements) {
      const key = JSON.stringify([one.case, one.step, one.contender]);
      groups.set(key, [...(groups.get(key) ?? []), one]);
    }
    return [...groups.values()].map((group) => {
      const { case: name, step, contender } = group[0]!;
      const costs = group.map(({ cost }) => cost);
      const least = (field: keyof Cost) => Math.min(...costs.map((cost) => cost[field]));
      const most = (field: keyof Cost) => Math.max(...costs.map((cost) => cost[field]));
      const added = group.map(({ bytesAdded }) => bytesAdded).filter((bytes) => bytes !== undefined);
      return {
        case: name,
        step,
        contender,
        wallS: least('wallS'),
        cpuS: least('cpuS'),
        gitRss: most('gitRss'),
        otherRss: most('otherRss'),
        bytesAdded: added.length === 0 ? undefined : Math.max(...added),
        spread: most('wallS') / least('wallS'),
      };
    });
  }

  verdicts(): Verdict[] {
    const rows = this.rows();
    return TARGETS.map((target) => {
      const value = this.#valueOf(target, rows);
      const ok =
        value === undefined ? undefined : target.atLeast ? value >= target.limit : value <= target.limit;
      return { target, value, ok };
    });
  }

  #valueOf(target: Target, rows: readonly Row[]): number | undefined {
    const find = (contender: string) =>
      rows.find((row) => row.case === target.case && row.step === target.step && row.contender === contender);
    if (target.of === 'fact') {
      return this.facts.find((fact) => fact.case === target.case && fact.name === target.step)?.value;
    }
    const ours = find(target.contender)?.[target.of];
    if (target.over === undefined || ours === undefined) return ours;
    const theirs = find(target.over)?.[target.of];
    return theirs === undefined || theirs === 0 ? undefined : ours / theirs;
  }

  text(): string {
    const blocks = [this.#costTable(), this.#factTable(), this.#ratioTable(), this.#targetTable()];
    return blocks.filter((block) => block !== '').join('\n\n');
  }

  #costTable(): string {
    const rows = this.rows().map((row) => ({
      key: [row.case, row.step],
      cells: [
        row.case,
        row.step,
        row.contender,
        row.wallS.toFixed(2),
        row.cpuS.toFixed(2),
        row.gitRss === 0 ? '-' : formatBytes(row.gitRss),
        row.otherRss === 0 ? '-' : formatBytes(row.otherRss),
        row.bytesAdded === undefined ? '-' : formatBytes(row.bytesAdded),
        row.spread.toFixed(2),
      ],
    }));
    const missing = this.missing.map((one) => ({
      key: [one.case, one.step],
      cells: [one.case, one.step, one.contender, 'n/a'],
    }));
    const order = [...new Set([...rows, ...missing].map(({ key }) => key.join('\n')))];
    const place = ({ key }: { key: string[] }) => order.indexOf(key.join('\n'));
    const all = [...rows, ...missing].sort((a, b) => place(a) - place(b));
    const reasons = this.missing.map((one) => `n/a: ${one.case} ${one.step} ${one.contender}: ${one.reason}`);
    const table = markdownTable(
      ['case', 'step', 'contender', 'wall s', 'cpu s', 'git RSS', 'other RSS', 'bytes added', 'spread'],
      all.map(({ cells }) => cells),
    );
    return [table, ...reasons].join('\n');
  }

  #factTable(): string {
    if (this.facts.length === 0) return '';
    return markdownTable(
      ['case', 'what', 'value'],
      this.facts.map((fact) => [fact.case, fact.name, formatFact(fact)]),
    );
  }

  /** Ours over each other contender, for every step that both did. */
  #ratioTable(): string {
    const rows = this.rows();
    const lines = rows
      .filter(({ contender }) => contender.startsWith('git2db'))
      .flatMap((ours) =>
        rows
          .filter(
            (row) => row.case === ours.case && row.step === ours.step && !row.contender.startsWith('git2db'),
          )
          .map((other) => [
            ours.case,
            ours.step,
            `${ours.contender} / ${other.contender}`,
            ratio(ours.wallS, other.wallS),
            ratio(ours.cpuS, other.cpuS),
            // The null filter keeps nothing.
            other.contender === NULL_FILTER ? '-' : ratio(ours.bytesAdded, other.bytesAdded),
          ]),
      );
    return lines.length === 0 ? '' : markdownTable(['case', 'step', 'ratio', 'wall', 'cpu', 'bytes'], lines);
  }

  #targetTable(): string {
    const lines = this.verdicts()
      .filter(({ value }) => value !== undefined)
      .map(({ target, value, ok }) => [
        target.name,
        show(target, value!),
        `${target.atLeast ? 'at least' : 'at most'} ${show(target, target.limit)}`,
        ok ? 'ok' : 'short',
      ]);
    return lines.length === 0 ? '' : markdownTable(['target', 'found', 'wanted', ''], lines);
  }
}

function ratio(ours: number | undefined, theirs: number | undefined): string {
  return ours === undefined || !theirs ? '-' : (ours / theirs).toFixed(2);
}

function show(target: Target, value: number): string {
  if (target.over !== undefined) return value.toFixed(2);
  if (target.unit === 'bytes') return formatBytes(Math.round(value));
  return target.unit === 'percent' ? `${value.toFixed(1)} %` : String(Math.round(100 * value) / 100);
}

function formatFact({ value, unit }: Fact): string {
  if (unit === 'bytes') return formatBytes(value);
  if (unit === 'percent') return `${value.toFixed(1)} %`;
  if (unit === 's') return `${value.toFixed(3)} s`;
  if (unit === 'ms') return `${value.toFixed(1)} ms`;
  return unit === 'ratio' ? value.toFixed(2) : String(value);
}
