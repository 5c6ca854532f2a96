/** A file that is being fetched can be read as far as it has come. */
import test from 'ava';
import { Downloader } from '../../../src/xet/download.ts';
import { formatHash } from '../../../src/xet/hash/xet-hash.ts';
import { planRun } from '../../../src/xet/reconstruct/part.ts';
import type { FilePart } from '../../../src/xet/transfer/file-part.ts';
import { chunkEnds, randomBytes, type StoreSandbox } from '../../helpers/store-sandbox.ts';
import { createRig, outcomes } from './rig.ts';

const MIB = 1 << 20;

/** The part, by a process that knows nothing but the store. */
function read(store: StoreSandbox, part: FilePart): Buffer | undefined {
  if (part.kind === 'file') return store.tryRead(formatHash(part.hash));
  const local = store.open();
  const windows = new Downloader(local).read(planRun(local.term(part.hash, part.start, part.end, part.size)));
  const pieces: Buffer[] = [];
  for (const { chunks } of windows) for (const chunk of chunks) pieces.push(Buffer.from(chunk));
  return Buffer.concat(pieces);
}

test('parts follow each other without a gap, and each can be read when it is told of', async (t) => {
  const rig = createRig(t);
  const content = randomBytes('large', 150 * MIB);
  const [file] = await rig.publish(content);
  const parts: FilePart[] = [];
  const result = await rig.fetch([file!], {
    onPart: (wanted, part) => {
      t.is(wanted.hash, file!.hash);
      t.is(
        part.offset,
        parts.reduce((sum, { size }) => sum + size, 0),
      );
      t.true(read(rig.target, part)?.equals(content.subarray(part.offset, part.offset + part.size)));
      parts.push(part);
    },
  });
  t.deepEqual(outcomes(result), ['moved']);
  t.deepEqual(
    parts.map(({ kind }) => kind),
    ['file', 'file'],
  );
});

test('of what was here before parts are told, too, as of what comes', async (t) => {
  const rig = createRig(t);
  const whole = randomBytes('whole', 24 * MIB);
  const end = chunkEnds(whole).findLast((at) => at <= 16 * MIB) as number;
  const [first] = await rig.publish(whole.subarray(0, end));
  const [second] = await rig.publish(whole);
  await rig.fetch([first!]);
  const parts: FilePart[] = [];
  const result = await rig.fetch([second!], { onPart: (_, part) => void parts.push(part) });
  t.deepEqual(outcomes(result), ['moved']);
  t.true(parts.length > 0);
  let offset = 0;
  for (const part of parts) {
    t.is(part.kind, 'xorb');
    t.is(part.offset, offset);
    t.true(read(rig.target, part)?.equals(whole.subarray(offset, offset + part.size)));
    offset += part.size;
  }
  t.true(offset >= 8 * MIB && offset <= end);
});

test('a second try of a file tells its parts anew', async (t) => {
  const rig = createRig(t);
  const content = randomBytes('twice', 150 * MIB);
  const [file] = await rig.publish(content);
  const offsets: number[] = [];
  let broken = false;
  rig.remote.faults = {
    readRecords: (run) => {
      if (offsets.length !== 1 || broken) return [run];
      broken = true;
      const bytes = Uint8Array.from(run.bytes);
      bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1;
      return [{ ...run, bytes }];
    },
  };
  const result = await rig.fetch([file!], { onPart: (_, { offset }) => void offsets.push(offset) });
  t.true(broken);
  t.deepEqual(outcomes(result), ['moved']);
  t.is(offsets[0], 0);
  t.is(offsets[1], 0);
  t.true(rig.target.tryRead(formatHash(file!.hash))?.equals(content));
});
