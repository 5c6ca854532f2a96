/** What the conversions of one filter process share; each is opened when it is first needed. */
import type { FilterConfig } from './config.ts';
import { Content } from './content.ts';
import { ContentFetcher, type MissingContent } from './content-fetcher.ts';
import { StagedPointers } from './staged-pointer.ts';

export type Report = (message: string) => void;

/** Which pointers a filter writes and reads. */
export type PointerKind = 'xet' | 'lfs';

/** From so many on, handing them over quicker is worth the time to prepare for it. */
const MANY_FILES = 100;

export class FilterContext {
  readonly kind: PointerKind;
  readonly report: Report;
  readonly #loadConfig: () => FilterConfig;
  readonly #widenOutput: () => void;
  #isWide = false;
  #content: Content | undefined;
  #fetcher: ContentFetcher | undefined;
  #staged: StagedPointers | undefined;

  /**
   * `loadConfig` is called once, at the first file; `report` prints a line for the user; `widenOutput` is called
   * once, before the first of many files.
   */
  constructor(
    loadConfig: () => FilterConfig,
    report: Report,
    kind: PointerKind,
    widenOutput: () => void = () => {},
  ) {
    this.#loadConfig = loadConfig;
    this.#widenOutput = widenOutput;
    this.report = report;
    this.kind = kind;
  }

  get content(): Content {
    this.#content ??= new Content(this.#loadConfig(), this.report);
    return this.#content;
  }

  get config(): FilterConfig {
    return this.content.config;
  }

  get fetcher(): ContentFetcher {
    this.#fetcher ??= new ContentFetcher({ cwd: process.cwd(), env: process.env });
    return this.#fetcher;
  }

  get staged(): StagedPointers {
    this.#staged ??= new StagedPointers(this.config);
    return this.#staged;
  }

  /** So many files will be asked for, one after the other. */
  expect(files: number): void {
    if (this.#isWide || files < MANY_FILES) return;
    this.#isWide = true;
    this.#widenOutput();
  }

  /** Whether missing content may be fetched. */
  mayFetch(): boolean {
    return this.config.mayFetch(this.kind);
  }

  /** Whether it is being fetched, and what has come of it may be given already. */
  isComing(content: MissingContent): boolean {
    return this.#fetcher?.isComing(content) === true && this.config.onMissing !== 'pointer';
  }

  /** Publishes what was stored. */
  async close(): Promise<void> {
    this.#staged?.close();
    await this.#fetcher?.close();
    await this.#content?.seal();
  }
}
