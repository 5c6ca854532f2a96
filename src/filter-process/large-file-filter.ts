/**
 * The two conversions behind git's requests: clean (content -> pointer) and smudge (pointer ->
 * content). Both are total and give a fixed point: clean(pointer) = pointer, smudge(anything that is
 * no pointer) = the same bytes.
 *
 * There are two kinds of this filter. `xet` writes our pointers, `lfs` those of Git LFS; the stored content is the
 * same. Each gives content for its own pointers and passes the other's both ways unchanged.
 */
import { Git2dbError, messageOf } from '../xet/errors.ts';
import { beginClean } from './clean.ts';
import type { FilterConfig } from './config.ts';
import { DelayedFiles } from './delayed-files.ts';
import { FilterContext, type PointerKind, type Report } from './filter-context.ts';
import { ContentGiver } from './given-content.ts';
import type { CleanJob, Converter, OutputJob, SmudgeAnswer, SmudgeJob, SmudgeKeys } from './session.ts';
import { smudge } from './smudge.ts';
import { createSpoolMemory, Spool } from './spool.ts';
import { Summary } from './summary.ts';
import { quotePath } from './trace.ts';

export class LargeFileFilter implements Converter {
  readonly #context: FilterContext;
  readonly #summary = new Summary();
  readonly #delayed: DelayedFiles;
  readonly #giver: ContentGiver;
  /** Requests come one after another, so one spool is in use at a time. */
  readonly #spoolMemory = createSpoolMemory();

  /** As `FilterContext`. */
  constructor(loadConfig: () => FilterConfig, report: Report, kind: PointerKind, widenOutput?: () => void) {
    this.#context = new FilterContext(loadConfig, report, kind, widenOutput);
    this.#delayed = new DelayedFiles(this.#context);
    this.#giver = new ContentGiver(this.#context, this.#summary);
  }

  beginClean(path: Buffer): CleanJob {
    return beginClean(this.#context, path);
  }

  beginSmudge(keys: SmudgeKeys): SmudgeJob {
    const spool = new Spool([this.#context.config.repository.gitDir], this.#spoolMemory);
    return {
      room: () => spool.room(),
      advance: (count) => spool.advance(count),
      finish: () => this.#smudge(keys, spool),
      abort: () => spool.dispose(),
    };
  }

  #smudge(keys: SmudgeKeys, spool: Spool): SmudgeAnswer {
    const smudged = smudge(this.#context, this.#summary, keys, spool);
    if (smudged.kind !== 'wanted') return smudged;
    if (!keys.canDelay || !this.#isDelaySafe(keys)) return this.#giver.job(smudged.content);
    this.#delayed.add(smudged.content);
    return { kind: 'delayed' };
  }

  /**
   * Git finds the index entry of a delayed file by its path alone. Of a path in conflict (`checkout
   * --theirs`) it may so take another stage: then it does not fetch the file, or notes one side's file
   * for the other's and does not write that later. A checkout of a tree has no such paths.
   */
  #isDelaySafe({ treeish, path }: SmudgeKeys): boolean {
    return treeish !== undefined || !this.#context.staged.mayBeUnmerged(path);
  }

  isDelayed(path: Buffer): boolean {
    return this.#delayed.has(path);
  }

  available(): Buffer[] | Promise<Buffer[]> {
    return this.#delayed.available();
  }

  deliver(path: Buffer): OutputJob {
    const content = this.#delayed.deliver(path);
    if (content === undefined)
      throw new Git2dbError('PROTOCOL', 'git asks for a delayed file that was not delayed');
    return this.#giver.job({ ...content, isQueued: true });
  }

  meanwhile(): void {
    if (this.#delayed.outstanding > 0) this.#context.content.readAhead.work();
  }

  report(path: Buffer | undefined, error: unknown): void {
    this.#context.report(path === undefined ? messageOf(error) : `${quotePath(path)}: ${messageOf(error)}`);
  }

  /** Publishes what was stored and prints the summaries. */
  async end(): Promise<void> {
    await this.#context.close();
    this.#summary.print(this.#context);
  }
}
