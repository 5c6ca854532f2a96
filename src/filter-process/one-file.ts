/** `git2db-filter clean|smudge`: one file, raw bytes on stdin and stdout. */
import { readSync, writeSync } from 'node:fs';
import { messageOf } from '../xet/errors.ts';
import type { ContentOutput } from './answer.ts';
import { blocking } from './blocking.ts';
import type { Report } from './filter-context.ts';
import type { LargeFileFilter } from './large-file-filter.ts';
import { OutputClosed } from './pkt-output.ts';

/** Resolves to the exit status. */
export async function convertOne(
  command: 'clean' | 'smudge',
  path: string,
  filter: LargeFileFilter,
  report: Report,
): Promise<number> {
  const output = rawOutput();
  const name = Buffer.from(path === '' ? 'stdin' : path);
  let status = 0;
  try {
    if (command === 'clean') {
      const job = filter.beginClean(name);
      readAll(job);
      output.content(await job.finish());
    } else {
      const job = filter.beginSmudge({ path: name, canDelay: false });
      readAll(job);
      const answer = await job.finish();
      if (answer.kind === 'content') {
        await answer.write(output);
        answer.dispose?.();
      }
    }
  } catch (error) {
    if (!(error instanceof OutputClosed)) {
      report(path === '' ? messageOf(error) : `${path}: ${messageOf(error)}`);
      status = 1;
    }
  }
  try {
    await filter.end();
  } catch (error) {
    report(messageOf(error));
    status = 1;
  }
  return status;
}

function readAll(job: { room(): { bytes: Uint8Array; offset: number }; advance(count: number): void }): void {
  for (;;) {
    const { bytes, offset } = job.room();
    const count = blocking(() => readSync(0, bytes, offset, 65520, null));
    if (count === 0) return;
    job.advance(count);
  }
}

function rawOutput(): ContentOutput {
  return {
    content(bytes) {
      for (let done = 0; done < bytes.length; ) {
        done += blocking(() => {
          try {
            return writeSync(1, bytes, done, bytes.length - done);
          } catch (error) {
            if ((error as { code?: string }).code === 'EPIPE') throw new OutputClosed(error);
            throw error;
          }
        });
      }
    },
    sync() {},
  };
}
