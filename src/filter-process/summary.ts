/** What the user is told in the end about files that are not as one would expect. */
import type { FilterContext } from './filter-context.ts';
import { quotePath } from './trace.ts';

/** Names that a summary lists before it says "and N more". */
const LISTED = 5;

export class Summary {
  /** Left as pointers because the content is not here. */
  readonly missing: Buffer[] = [];
  /** Stored in git as plain content. */
  readonly plain: Buffer[] = [];
  /** Left as pointers because of LFS extensions. */
  readonly extended: Buffer[] = [];

  print({ report, kind }: Pick<FilterContext, 'report' | 'kind'>): void {
    if (this.missing.length > 0) {
      report(
        `${count(this.missing, 'file is', 'files are')} left as pointers because the content is not here (xet.onMissing=pointer): ` +
          `${names(this.missing)}. When it is, get it with: git2db xet pull`,
      );
    }
    if (this.plain.length > 0) {
      report(
        `${count(this.plain, 'file has', 'files have')} filter=${kind} but ${this.plain.length === 1 ? 'is' : 'are'} stored in git as plain content: ` +
          `${names(this.plain)}. To turn that into pointers: ` +
          (kind === 'xet' ? 'git2db xet track --renormalize' : 'git add --renormalize .'),
      );
    }
    if (this.extended.length > 0) {
      report(
        `${count(this.extended, 'file is', 'files are')} left as pointers because of LFS extensions, which git2db does not run: ` +
          `${names(this.extended)}. Get the content with: git lfs checkout`,
      );
    }
  }
}

function count(paths: readonly Buffer[], one: string, many: string): string {
  return `${paths.length} ${paths.length === 1 ? one : many}`;
}

function names(paths: readonly Buffer[]): string {
  const listed = paths
    .slice(0, LISTED)
    .map((path) => quotePath(path))
    .join(', ');
  return paths.length > LISTED ? `${listed} and ${paths.length - LISTED} more` : listed;
}
