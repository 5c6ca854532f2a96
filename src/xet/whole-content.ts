/** Content that comes in pieces, as one: in memory, or in a file. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { Git2dbError } from './errors.ts';
import { xetErrorOf } from './xet-error.ts';

/** The most that is held in memory at once as one content. */
const MAX_BYTES = 2 ** 30;

let temporaryNumber = 0;

/** At most 1 GiB; more is LIMIT_EXCEEDED. */
export async function collect(content: AsyncIterable<Buffer>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of content) {
    length += piece.length;
    if (length > MAX_BYTES) {
      throw xetErrorOf(
        new Git2dbError(
          'LIMIT_EXCEEDED',
          `the content has more than ${MAX_BYTES} bytes: use smudgeStream or smudgeFile`,
        ),
      );
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces, length);
}

/** Writes the content to `path`, whole or not at all; what was there is replaced. */
export async function writeWhole(path: string, content: AsyncIterable<Buffer>): Promise<void> {
  const temporary = `${path}.git2db-${process.pid}-${++temporaryNumber}`;
  let fd: number | undefined;
  try {
    for await (const piece of content) {
      fd ??= openSync(temporary, 'wx', 0o666);
      for (let done = 0; done < piece.length; ) done += writeSync(fd, piece, done);
    }
    fd ??= openSync(temporary, 'wx', 0o666);
    closeSync(fd);
    fd = undefined;
    await rename(temporary, path);
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    await rm(temporary, { force: true });
    throw xetErrorOf(error);
  }
}
