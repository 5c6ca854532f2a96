/**
 * Content for git in the place of a pointer: what the store has, what can be fetched, or the pointer itself where the
 * content is nowhere and the user prefers that.
 */
import { PARALLEL_BYTES, type VerifiedWindow } from '../xet/download.ts';
import { Git2dbError } from '../xet/errors.ts';
import type { QueuedFile } from '../xet/read-ahead.ts';
import type { ContentOutput } from './answer.ts';
import { ComingContent } from './coming-content.ts';
import type { MissingContent } from './content-fetcher.ts';
import type { FilterContext } from './filter-context.ts';
import { ContentCheck } from './lfs-content.ts';
import type { OutputJob } from './session.ts';
import type { Summary } from './summary.ts';

/** The content of a pointer, and whether it is on this machine, as far as can be told without reading it. */
export interface Wanted extends MissingContent {
  readonly isHere: () => boolean;
}

export interface GivenContent {
  readonly path: Buffer;
  /** Its text. */
  readonly pointer: Buffer;
  readonly file: QueuedFile;
  readonly wanted: Wanted;
  /** It is among the files that are read ahead. */
  readonly isQueued: boolean;
}

export class ContentGiver {
  readonly #context: FilterContext;
  readonly #summary: Summary;

  constructor(context: FilterContext, summary: Summary) {
    this.#context = context;
    this.#summary = summary;
  }

  /** Content, or the pointer itself when the content is nowhere and the user prefers that. */
  job(content: GivenContent): OutputJob {
    return {
      kind: 'content',
      write: (output) => {
        const given = new GivenOutput(output);
        try {
          if (this.#context.isComing(content.wanted)) return this.#fetchAndWrite(content, output);
          this.#write(content, given);
        } catch (error) {
          // Missing content shows while planning; what goes missing after the first byte is a failure.
          if (given.hasBegun || !isMissing(error)) throw error;
          if (this.#context.mayFetch()) return this.#fetchAndWrite(content, output);
          this.#leavePointer(content, output, error);
        }
      },
    };
  }

  #write({ file, wanted, isQueued }: GivenContent, output: ContentOutput): void {
    const { readAhead, downloader } = this.#context.content;
    if (!isQueued && file.size < PARALLEL_BYTES) {
      giveAll(downloader.read(file.plan()), file.size, output, sha256Of(wanted));
      return;
    }
    if (!isQueued) readAhead.add(file);
    giveAll(readAhead.read(file), file.size, output, sha256Of(wanted));
  }

  async #fetchAndWrite(content: GivenContent, output: ContentOutput): Promise<void> {
    const coming = new ComingContent(this.#context, content);
    const fetched = await coming.giveParts(output);
    if (fetched !== true) return this.#leavePointer(content, output, withRemedy(fetched));
    giveAll(coming.rest(), content.file.size, output, sha256Of(content.wanted));
  }

  /** Throws `reason` unless pointers may stand for what is missing. */
  #leavePointer({ path, pointer }: GivenContent, output: ContentOutput, reason: unknown): void {
    if (this.#context.config.onMissing !== 'pointer') throw reason;
    this.#summary.missing.push(path);
    output.content(pointer);
  }
}

function sha256Of({ kind, hash }: Wanted): string | undefined {
  return kind === 'lfs' ? hash : undefined;
}

class GivenOutput implements ContentOutput {
  hasBegun = false;
  readonly #output: ContentOutput;

  constructor(output: ContentOutput) {
    this.#output = output;
  }

  content(bytes: Uint8Array): void {
    this.hasBegun = true;
    this.#output.content(bytes);
  }

  sync(): void {
    this.#output.sync();
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Git2dbError && error.code === 'CONTENT_MISSING';
}

function withRemedy(error: Git2dbError): Git2dbError {
  return new Git2dbError(
    error.code,
    `${error.message}. To let pointers stand for what cannot be had: git config xet.onMissing pointer`,
    { cause: error, data: error.data },
  );
}

/**
 * Sends verified windows. The last one is left to be sent with the answer's end, in one call. With `sha256` the
 * content must have that, else this throws in the end, and git drops what it got.
 */
function giveAll(
  windows: Iterable<VerifiedWindow>,
  size: number,
  output: ContentOutput,
  sha256: string | undefined,
): void {
  const check = sha256 === undefined ? undefined : new ContentCheck(sha256, 'what the store has for it');
  for (const { fileOffset, chunks } of windows) {
    let given = fileOffset;
    for (const chunk of chunks) {
      check?.update(chunk);
      output.content(chunk);
      given += chunk.length;
    }
    // The window's memory is free for other windows when the next one is asked for.
    if (given < size) output.sync();
  }
  check?.finish();
}
