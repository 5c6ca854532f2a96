/** Streams of bytes in records: what git writes and reads with `-z`, or a line at a time. */

/** The pieces of `bytes` between NULs; an unterminated last piece counts. */
export function* splitZ(bytes: Buffer): Iterable<Buffer> {
  let start = 0;
  while (start < bytes.length) {
    const end = bytes.indexOf(0, start);
    if (end < 0) {
      yield bytes.subarray(start);
      return;
    }
    yield bytes.subarray(start, end);
    start = end + 1;
  }
}

/** The records of a stream that ends each with the byte `separator`; an unterminated last one counts. */
export async function* splitRecords(stream: AsyncIterable<Buffer>, separator: number): AsyncIterable<Buffer> {
  let rest: Buffer[] = [];
  for await (const piece of stream) {
    let start = 0;
    for (let end = piece.indexOf(separator); end >= 0; end = piece.indexOf(separator, start)) {
      const record = piece.subarray(start, end);
      yield rest.length === 0 ? record : Buffer.concat([...rest, record]);
      rest = [];
      start = end + 1;
    }
    if (start < piece.length) rest.push(piece.subarray(start));
  }
  if (rest.length > 0) yield Buffer.concat(rest);
}

/** The same bytes in pieces of 32 KiB or more (but for the last), so that each is worth a system call. */
export async function* batched(pieces: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  let batch: Buffer[] = [];
  let length = 0;
  for await (const piece of pieces) {
    batch.push(piece);
    length += piece.length;
    if (length < BATCH) continue;
    yield Buffer.concat(batch, length);
    batch = [];
    length = 0;
  }
  if (length > 0) yield Buffer.concat(batch, length);
}

const BATCH = 32 * 1024;
