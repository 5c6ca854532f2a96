/** Xorbs that come in pieces: checked by this thread, and by one beside it when there is much to hash. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import fc from 'fast-check';
import type { CompressionMode } from '../../src/xet/compress/scheme.ts';
import { type FormatError, Git2dbError } from '../../src/xet/errors.ts';
import { canHashBeside, hashBeside } from '../../src/xet/parallel/record-thread.ts';
import { type BuiltXorb, XorbBuilder } from '../../src/xet/xorb/builder.ts';
import { XorbCheck } from '../../src/xet/xorb/stream-check.ts';
import { noise } from '../large-files/repositories.ts';

const MODES: readonly CompressionMode[] = ['none', 'lz4', 'bg4-lz4'];

/** Of chunks of up to 128 KiB, half of each compressible. */
function buildXorb(chunks: number, seed = 1): BuiltXorb {
  const builder = new XorbBuilder();
  for (let i = 0; i < chunks; i++) {
    const raw = new Uint8Array(1 + ((i * 7919 + seed * 104729) % 131072));
    raw.set(noise(raw.length >> 1, seed * 1000 + i));
    if (!builder.add(raw, undefined, MODES[i % MODES.length])) throw new Error('full');
  }
  return builder.build({ footer: true });
}

async function check(bytes: Uint8Array, hash: Uint8Array, sizes: () => number) {
  const sunk: Buffer[] = [];
  const checking = new XorbCheck(async (records) => {
    await new Promise((resolve) => setImmediate(resolve));
    sunk.push(Buffer.from(records));
  });
  try {
    for (let at = 0; at < bytes.length; ) {
      const piece = bytes.slice(at, at + sizes());
      await checking.push(piece);
      at += piece.length;
    }
    return { footer: await checking.finish(hash), records: Buffer.concat(sunk) };
  } finally {
    await checking.settle();
  }
}

async function failure(action: Promise<unknown>): Promise<Git2dbError> {
  try {
    await action;
  } catch (error) {
    if (error instanceof Git2dbError) return error;
    throw error;
  }
  throw new Error('it went well');
}

/** Resolves when the thread takes questions; false where there can be none. */
async function threadTakesPart(): Promise<boolean> {
  for (let tries = 0; tries < 1000; tries++) {
    const asked = canHashBeside(1 << 20)
      ? hashBeside(new ArrayBuffer(1 << 20), Uint32Array.from([0, 1000, 0, 1000]))
      : undefined;
    if (asked !== undefined) return (await asked).hashes !== undefined;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return false;
}

const small = buildXorb(9);
const large = buildXorb(60, 2);

const checksBothWays = test.macro(async (t, before: () => Promise<boolean>) => {
  t.true(await before());
  await fc.assert(
    fc.asyncProperty(
      fc.infiniteStream(fc.integer({ min: 1, max: 300_000 })),
      fc.boolean(),
      async (sizes, isLarge) => {
        const xorb = isLarge ? large : small;
        const { footer, records } = await check(
          xorb.bytes,
          xorb.xorbHash,
          () => sizes.next().value as number,
        );
        return (
          records.equals(xorb.bytes.subarray(0, xorb.storedBytes)) &&
          Buffer.compare(footer.hashes, xorb.hashes) === 0 &&
          footer.recordEnds.every((end, i) => end === xorb.recordEnds[i]) &&
          footer.rawEnds.every((end, i) => end === xorb.rawEnds[i])
        );
      },
    ),
    { numRuns: 12 },
  );
  // A byte of a payload: where it is compressed it may not decode any more.
  for (const record of [0, 1, 2, 30, 31, 58, 59]) {
    const start = large.recordEnds[record - 1] ?? 0;
    const damaged = Uint8Array.from(large.bytes);
    damaged[start + 8] = (damaged[start + 8] as number) ^ 0xff;
    const error = await failure(check(damaged, large.xorbHash, () => 65_536));
    t.is(error.code, 'INVALID_XORB');
    if (/^chunk/.test(error.message)) {
      t.regex(error.message, new RegExp(`^chunk ${record}: `));
      t.is((error as FormatError).offset, start);
    } else t.regex(error.message, /^expected xorb/);
  }
  // The raw length that a record tells is not the one of its payload.
  const mistold = Uint8Array.from(large.bytes);
  const start = large.recordEnds[40] as number;
  mistold[start + 5] = (mistold[start + 5] as number) ^ 1;
  t.is((await failure(check(mistold, large.xorbHash, () => 100_000))).code, 'INVALID_XORB');
});

test.serial(
  'by this thread: any slicing gives the footer, damage is named',
  checksBothWays,
  async () => true,
);
test.serial('by the thread beside it: the same', checksBothWays, threadTakesPart);

test('a sink that fails ends the check with its error, and is not called again', async (t) => {
  let calls = 0;
  const checking = new XorbCheck(async () => {
    calls++;
    throw new Git2dbError('DISK_FULL', 'no room');
  });
  const error = await failure(
    (async () => {
      for (let at = 0; at < large.bytes.length; at += 65_536)
        await checking.push(large.bytes.subarray(at, at + 65_536));
      await checking.finish(large.xorbHash);
    })(),
  );
  t.is(error.code, 'DISK_FULL');
  await checking.settle();
  t.is(calls, 1);
});

test('given up, it does not call the sink any more', async (t) => {
  const waiting: (() => void)[] = [];
  let calls = 0;
  const checking = new XorbCheck(() => {
    calls++;
    return new Promise((resolve) => waiting.push(resolve));
  });
  // As much as it takes without waiting for the sink.
  for (let at = 0; checking.push(large.bytes.subarray(at, at + 65_536)) === undefined; ) at += 65_536;
  await new Promise((resolve) => setImmediate(resolve));
  let isSettled = false;
  const settled = checking.settle().then(() => {
    isSettled = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  t.false(isSettled);
  for (const resolve of waiting) resolve();
  await settled;
  t.is(calls, 1);
});

test('a thread that is started and never asked does not keep the process alive', async (t) => {
  const thread = new URL('../../src/xet/parallel/record-thread.js', import.meta.url);
  // A program in a file: one that is given by --eval ends whatever there is.
  const folder = mkdtempSync(join(tmpdir(), 'git2db-thread-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const program = join(folder, 'program.mjs');
  writeFileSync(
    program,
    `import { canHashBeside } from ${JSON.stringify(thread.href)};
    if (canHashBeside(2 ** 30)) throw new Error('it cannot be there yet');
    process.stdout.write('started');`,
  );
  const limits = { timeout: 30_000, killSignal: 'SIGKILL' } as const;
  const { stdout } = await promisify(execFile)(process.execPath, [program], limits);
  t.is(stdout, 'started');
});
