/** A registry with many entries: opening it, finding in it, changing it, and seeing what another process has changed. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Git2DB } from '../../../src/registry/git2db.ts';
import { emptyMetadata, type RepositoryRecord } from '../../../src/registry/metadata.ts';
import { replaceMetadata } from '../../../src/registry/metadata-file.ts';
import { registryLayout } from '../../../src/registry/registry-layout.ts';
import { RepoId } from '../../../src/registry/repo-id.ts';
import type { MedianReport } from '../../bench-shared/median-report.ts';
import { run } from '../../bench-shared/run.ts';
import { ENV, settle, workMs } from '../commands.ts';
import { OURS, ROW } from '../targets.ts';

/** Look-ups that are timed together. */
const LOOK_UPS = 1000;

export async function registry(
  dir: string,
  repositories: number,
  report: MedianReport,
  rounds: number,
): Promise<void> {
  const root = join(dir, 'large-registry');
  mkdirSync(root, { recursive: true });
  await using db = await Git2DB.open(root, { env: ENV });
  const records = Array.from({ length: repositories }, (_, i) => recordOf(i));
  replaceMetadata(registryLayout(db.root), {
    ...emptyMetadata(db.root),
    generation: 1,
    repositories: records,
  });
  for (let i = 0; i < rounds; i++) run(['git', 'init', '-q', join(dir, 'to-register', `r${i}`)]);
  settle(dir);
  const other = fork(OTHER, [root], { env: ENV });
  try {
    await answer(other);
    for (let round = 0; round < rounds; round++) {
      report.enter(ROW.open, OURS, await openInFreshProcess(root, repositories));
      // What is looked up lies anywhere; each round looks for others.
      const asked = Array.from(
        { length: LOOK_UPS },
        (_, i) => records[(i * 7919 + round * 104_729) % repositories]!,
      );
      report.enter(
        ROW.byId,
        OURS,
        (await workMs(() => {
          for (const { id, name } of asked) same(db.get(id).name, name);
        })) / LOOK_UPS,
      );
      report.enter(
        ROW.byName,
        OURS,
        (await workMs(() => {
          for (const { id, name } of asked) same(db.byName(name).id, id);
        })) / LOOK_UPS,
      );
      await change(other, records[0]!.name, `before list ${round}`);
      report.enter(ROW.foreignList, OURS, await workMs(() => same(db.list().length, repositories + round)));
      report.enter(
        ROW.list,
        OURS,
        await workMs(() => same(db.list({ bare: false }).length, repositories + round)),
      );
      const path = join(dir, 'to-register', `r${round}`);
      report.enter(ROW.register, OURS, await workMs(() => db.register({ path, name: `new-${round}` })));
      const { name } = asked[0]!;
      report.enter(
        ROW.update,
        OURS,
        await workMs(() => db.update(name, { metadata: { round: String(round) } })),
      );
      const note = `round ${round}`;
      await change(other, name, note);
      let seen: string | undefined;
      report.enter(
        ROW.foreign,
        OURS,
        await workMs(() => {
          seen = db.byName(name).metadata.note;
        }),
      );
      report.enter(ROW.stale, OURS, seen === note ? 0 : 1, 'count');
    }
  } finally {
    other.disconnect();
    await once(other, 'exit');
  }
}

const OTHER = fileURLToPath(new URL('../other-process.js', import.meta.url));

async function answer(child: ChildProcess): Promise<unknown> {
  const [message] = (await once(child, 'message')) as [unknown];
  return message;
}

async function change(child: ChildProcess, name: string, note: string): Promise<void> {
  child.send({ name, note });
  await answer(child);
}

/** Opening, and the first look-up, by a process that has done neither before. Its start is not counted. */
async function openInFreshProcess(root: string, expected: number): Promise<number> {
  const child = fork(OTHER, [root], { env: ENV });
  const { took, count } = (await answer(child)) as { took: number; count: number };
  child.disconnect();
  await once(child, 'exit');
  if (count < expected) throw new Error(`expected ${expected} repositories, found ${count}`);
  return took;
}

function recordOf(i: number): RepositoryRecord {
  const at = new Date(Date.UTC(2024, 0, 1) + i * 60_000).toISOString();
  const name = `organisation-${i % 100}/model-${i}`;
  return {
    id: RepoId.create(),
    name,
    url: `https://host.example/${name}`,
    path: `repos/${name}`,
    adopted: false,
    bare: false,
    trusted: false,
    trackingRef: 'origin/main',
    createdAt: at,
    updatedAt: at,
    metadata: { task: 'text-generation', licence: 'apache-2.0' },
  };
}

function same(found: unknown, expected: unknown): void {
  if (found !== expected) throw new Error(`expected ${String(expected)}, found ${String(found)}`);
}
