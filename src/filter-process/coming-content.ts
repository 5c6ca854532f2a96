/**
 * Content that is still being fetched, given to git as far as it has come. Every chunk is verified before it is
 * given; that these are the chunks of the file is proved when all have come, and git drops what it got where they
 * are not.
 */
import type { VerifiedWindow } from '../xet/download.ts';
import { Git2dbError } from '../xet/errors.ts';
import { beginsWith, chunkHashesOf } from '../xet/reconstruct/part.ts';
import { ByteList } from '../xet/store/byte-list.ts';
import type { FilePart } from '../xet/transfer/file-part.ts';
import type { ContentOutput } from './answer.ts';
import type { FilterContext } from './filter-context.ts';
import type { GivenContent } from './given-content.ts';
import { OutputClosed } from './pkt-output.ts';

export class ComingContent {
  readonly #context: FilterContext;
  readonly #content: GivenContent;
  /** Of the chunks that were given. */
  readonly #hashes = new ByteList(1024);
  #size = 0;
  /** What has come could not be read: the rest is given when all has come. */
  #isStopped = false;

  constructor(context: FilterContext, content: GivenContent) {
    this.#context = context;
    this.#content = content;
  }

  /**
   * Gives what comes until all has come (true), or will not. Where a pointer may stand for what is missing nothing is
   * given: git cannot be told of that after the first byte.
   */
  async giveParts(output: ContentOutput): Promise<true | Git2dbError> {
    const { fetcher, config } = this.#context;
    const { wanted } = this.#content;
    fetcher.ask([wanted]);
    this.#isStopped = config.onMissing === 'pointer';
    for (;;) {
      const part = this.#isStopped ? undefined : fetcher.partAt(wanted, this.#size);
      if (part !== undefined) this.#givePart(part, output);
      const state = fetcher.stateOf(wanted);
      if (state !== undefined) return state;
      if (part === undefined) await fetcher.change();
    }
  }

  /** What is left when all has come. */
  *rest(): Generator<VerifiedWindow> {
    const plan = this.#content.file.plan();
    if (!beginsWith(plan, this.#hashes.slice())) {
      throw new Git2dbError(
        'CONTENT_DAMAGED',
        `what was given to git while the file came is not how file ${this.#content.wanted.hash} begins: check it out once more`,
        { data: { file: this.#content.wanted.hash } },
      );
    }
    for (const { fileOffset, chunks } of this.#context.content.downloader.read(plan, this.#size)) {
      let offset = fileOffset;
      const left = chunks.filter((chunk) => {
        offset += chunk.length;
        return offset > this.#size;
      });
      yield { fileOffset: Math.max(fileOffset, this.#size), chunks: left };
    }
  }

  #givePart(part: FilePart, output: ContentOutput): void {
    const { content } = this.#context;
    const end = part.offset + part.size;
    let hashes: Uint8Array = new Uint8Array(0);
    let given = 0;
    try {
      const plan = content.planPart(part);
      hashes = chunkHashesOf(plan);
      for (const { chunks } of content.downloader.read(plan)) {
        for (const chunk of chunks) {
          output.content(chunk);
          given++;
          this.#size += chunk.length;
        }
        output.sync();
      }
      this.#isStopped = this.#size !== end;
    } catch (error) {
      // What is wrong is told by whoever has all of it.
      if (!(error instanceof Git2dbError) || error instanceof OutputClosed) throw error;
      this.#isStopped = true;
    } finally {
      this.#hashes.append(hashes, 0, 32 * given);
    }
  }
}
