/** A bucket with very many shards: how long a server that has just started takes for its first answer from it. */
import { fileHash } from '../../../src/xet/hash/merkle.ts';
import { formatHash, parseHash } from '../../../src/xet/hash/xet-hash.ts';
import { bodyOf, type ObjectStore } from '../../../src/xet/objects/objects.ts';
import { openS3 } from '../../../src/xet/objects/s3.ts';
import { ShardBuilder } from '../../../src/xet/shard/builder.ts';
import { Shard, shardName } from '../../../src/xet/shard/shard.ts';
import { mergeTables, tableName, tableOfShard } from '../../../src/xet/store/catalog-build.ts';
import { formatHead } from '../../../src/xet/store/catalog-head.ts';
import { CatalogTable, memoryBytes } from '../../../src/xet/store/catalog-table.ts';
import { STORE_FORMAT, STORE_VERSION } from '../../../src/xet/store/layout.ts';
import { XorbBuilder } from '../../../src/xet/xorb/builder.ts';
import { RandomBytes } from '../../bench/inputs.ts';
import { s3Missing, startS3 } from '../../helpers/s3-server.ts';
import type { RemoteBench } from '../bench.ts';
import { ROW, SERVER } from '../targets.ts';

const CONTENT_SIZE = 1000;
const PUTS_AT_ONCE = 48;

export async function bucket(bench: RemoteBench): Promise<void> {
  const { arena, report, options } = bench;
  const missing = s3Missing();
  if (missing !== undefined) return report.skip(ROW.bucket, SERVER, missing);
  const s3 = await startS3();
  const url = s3.url(await s3.createBucket(), 'store');
  await using objects = await openS3(url, { credentials: s3.credentials });
  const file = await fill(objects, options.shards);
  for (let round = 0; round < options.rounds; round++) {
    const { server } = await arena.serve(['--store', url], s3.env);
    await using _ = server;
    const start = performance.now();
    const answer = await fetch(`http://127.0.0.1:${server.port}/v2/reconstructions/${file}`);
    const text = await answer.text();
    if (answer.status !== 200) throw new Error(`the first request was answered by ${answer.status} ${text}`);
    report.enter(ROW.bucket, SERVER, performance.now() - start);
  }
}

/** One file, xorb and shard each; returns the hash of a file in the middle, whose xorb is there. */
async function fill(objects: ObjectStore, count: number): Promise<string> {
  const random = new RandomBytes(7);
  const tables: CatalogTable[] = [];
  const puts: [key: string, bytes: Uint8Array][] = [];
  let wanted = '';
  for (let i = 0; i < count; i++) {
    const builder = new XorbBuilder();
    builder.add(random.next(CONTENT_SIZE));
    const { bytes, hashes, lengths, xorbHash, storedBytes, rawBytes } = builder.build({ footer: true });
    const shard = new ShardBuilder();
    const file = fileHash(hashes, lengths, 1);
    shard.addXorb({ xorbHash, hashes, lengths, storedBytes });
    shard.addFile({ fileHash: file, terms: [{ xorbHash, start: 0, end: 1, rawBytes }] });
    const shardBytes = shard.build({ tables: true });
    const name = shardName(shardBytes);
    puts.push([`shards/${name}.mdb`, shardBytes]);
    const table = tableOfShard(parseHash(name), Shard.open(shardBytes));
    tables.push(new CatalogTable(tableName(table), memoryBytes(table)));
    if (i !== count >> 1) continue;
    wanted = formatHash(file);
    const xorb = formatHash(xorbHash);
    puts.push([`xorbs/${xorb.slice(0, 2)}/${xorb}`, bytes]);
  }
  const table = mergeTables(tables);
  const name = tableName(table);
  const { counts } = new CatalogTable(name, memoryBytes(table));
  puts.push([`catalog/${name}`, table]);
  puts.push(['format', Buffer.from(`${STORE_FORMAT}${STORE_VERSION}\n`)]);
  const next = puts[Symbol.iterator]();
  const worker = async () => {
    for (const [key, bytes] of next) await objects.putIfAbsent(key, bodyOf(bytes));
  };
  await Promise.all(Array.from({ length: PUTS_AT_ONCE }, worker));
  const head = formatHead([{ name, chunks: counts.chunks, files: counts.files }]);
  await objects.replace('catalog/HEAD', bodyOf(Buffer.from(head)), undefined);
  return wanted;
}
