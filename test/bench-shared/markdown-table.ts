import { formatTable } from '../../src/cli/output.ts';

/** A table that reads well as text and as Markdown. */
export function markdownTable(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [titles, titles.map(() => '---'), ...rows];
  const padded = formatTable(
    titles.map(() => ({ title: '' })),
    cells.map((row) => titles.map((_, i) => `| ${row[i] ?? ''}`)),
  );
  return padded.map((line) => `${line} |`).join('\n');
}
