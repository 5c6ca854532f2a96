/**
 * A store of a million chunks: what it costs to open it and find a file's chunks there, against a
 * store that holds nothing else. The chunks are tiny and their hashes made up, as only the tables
 * matter.
 */
import { randomFillSync } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HASH_SIZE } from '../../../src/xet/hash/xet-hash.ts';
import type { LocalTerm } from '../../../src/xet/store/journal.ts';
import { LocalStore } from '../../../src/xet/store/local-store.ts';
import { StoreWriter } from '../../../src/xet/store/writer.ts';
import { type Bench, say } from '../bench.ts';
import { bytesUnder } from '../measure.ts';
import { OURS } from '../targets.ts';

const CHUNKS_PER_FILE = 4096;
/** Each writer leaves a shard of its own. */
const FILES_PER_WRITER = 16;
const PAYLOAD = Buffer.alloc(16);
const LOOK_UPS = 10;

export async function million(bench: Bench): Promise<void> {
  const contender = bench.contenders.find(({ name }) => name === OURS)!;
  if (contender.missing !== undefined) {
    bench.skip('million', 'look-up', OURS, contender.missing);
    return;
  }
  const sample = join(bench.arena.dir, 'sample');
  writeFileSync(sample, randomFillSync(Buffer.alloc(20 * 1024)));
  try {
    const repository = bench.arena.repository(contender);
    const costs: Awaited<ReturnType<typeof repository.measure>>[] = [];
    for (const [step, chunks] of [
      ['look-up, empty store', 0],
      [`look-up, ${bench.options.chunks} chunks`, bench.options.chunks],
    ] as const) {
      mkdirSync(repository.contents, { recursive: true });
      await addChunks(repository.contents, chunks);
      const clean = ['git2db-filter', 'clean', 'sample'];
      await repository.measure(clean, { stdin: sample });
      const cost = await repository.measure(clean, { stdin: sample, repeat: LOOK_UPS });
      bench.enter('million', step, OURS, cost);
      costs.push(cost);
    }
    const [empty, full] = costs as [(typeof costs)[0], (typeof costs)[0]];
    for (const [name, value, unit] of [
      ['ms that the chunks add to a look-up', 1000 * (full.cpuS - empty.cpuS), 'ms'],
      ['memory that the chunks add to a look-up', full.otherRss - empty.otherRss, 'bytes'],
    ] as const) {
      bench.report.facts.push({ case: 'million', name, value, unit });
    }
    const catalog = bytesUnder(join(repository.contents, 'catalog'));
    bench.report.facts.push({ case: 'million', name: 'catalog', value: catalog, unit: 'bytes' });
  } catch (error) {
    bench.fail('million', 'all that follows', OURS, error);
  }
}

async function addChunks(storeDir: string, count: number): Promise<void> {
  for (let done = 0; done < count; ) {
    const writer = StoreWriter.open(new LocalStore(storeDir), { fsync: 'none' });
    for (let file = 0; file < FILES_PER_WRITER && done < count; file++) {
      const size = Math.min(CHUNKS_PER_FILE, count - done);
      addFile(writer, size);
      done += size;
    }
    await writer.seal();
    say(`million: ${done} of ${count} chunks stored`);
  }
}

/** One file of `count` made-up chunks. */
function addFile(writer: StoreWriter, count: number): void {
  const hashes = randomFillSync(new Uint8Array((count + 1) * HASH_SIZE));
  const terms: LocalTerm[] = [];
  writer.begin();
  for (let i = 0; i < count; i++) {
    const { xorb, index } = writer.put(hashes, i * HASH_SIZE, PAYLOAD, 0, PAYLOAD.length);
    const last = terms.at(-1);
    if (last !== undefined && last.local === xorb.number) {
      last.end = index + 1;
      last.rawBytes += PAYLOAD.length;
    } else {
      const rawBytes = PAYLOAD.length;
      terms.push({ xorbHash: undefined, local: xorb.number, start: index, end: index + 1, rawBytes });
    }
  }
  const fileHash = hashes.slice(count * HASH_SIZE);
  writer.commit({ fileHash, size: count * PAYLOAD.length, terms, sha256: undefined });
}
