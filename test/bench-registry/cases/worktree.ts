/**
 * The second and every later worktree of a tree: how long until it is there, what it takes, and what the
 * first `git status` in it costs.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Worktree } from '../../../src/registry/worktree/index.ts';
import { TOP } from '../../bench-shared/environment.ts';
import type { MedianReport } from '../../bench-shared/median-report.ts';
import { commandMs, diskBytes, ENV, RACY_MS, settle, workMs } from '../commands.ts';
import { missingTracer, openedFiles } from '../content-reads.ts';
import { missingBackend, missingPeer, type OverlayBackend, PEER_SETTINGS, type Stage } from '../stage.ts';
import { BARE_NODE, COMMAND, FUSE, KERNEL, PEER, PLAIN, ROW, WORKTREE_ADD } from '../targets.ts';

const STATUS = ['git', 'status', '--porcelain'];
const PEER_STATUS = ['git', ...PEER_SETTINGS, 'status', '--porcelain'];
const PROGRAM = join(TOP, 'dist/bin/git2db.js');

const BACKENDS = [
  ['kernel', KERNEL],
  ['fuse', FUSE],
] as const satisfies readonly (readonly [OverlayBackend, string])[];

export async function worktree(stage: Stage, report: MedianReport, rounds: number): Promise<void> {
  const settled = await settledTree(stage);
  const first: Worktree[] = [];
  const ready: (readonly [OverlayBackend, string])[] = [];
  for (const [backend, name] of BACKENDS) {
    const missing = missingBackend(backend);
    if (missing === undefined) {
      // The layer is there from now on, and this process warm.
      for (let i = 0; i < 2; i++) first.push(await stage.create(stage.freshName(), backend));
      ready.push([backend, name]);
    } else {
      for (const row of [ROW.create, ROW.status, ROW.own, ROW.all]) report.skip(row, name, missing);
    }
  }
  const peer = missingPeer() ?? (first.length === 0 ? 'nothing to set it up like' : undefined);
  if (peer !== undefined) report.skip(ROW.status, PEER, peer);
  const command = missingCommand() ?? (ready[0]?.[0] === 'kernel' ? undefined : 'needs the kernel backend');
  if (command !== undefined) report.skip(ROW.create, COMMAND, command);
  const layers = first.length === 0 ? [] : stage.layersOf(first[0]!);

  for (let round = 1; round <= rounds; round++) {
    await plainRound(stage, report);
    for (const [backend, name] of ready) await oursRound(stage, report, backend, name);
    if (peer === undefined) await peerRound(stage, report, layers);
    if (command === undefined) await commandRound(stage, report);
    report.enter(ROW.create, BARE_NODE, await commandMs([process.execPath, '-e', '0'], { cwd: '/' }));
    await commandMs(STATUS, { cwd: settled });
    report.enter(ROW.status, PLAIN, await commandMs(STATUS, { cwd: settled }));
  }
  await countReads(stage, report, ready, layers, peer);
  for (const each of first) await stage.remove(each);
}

async function settledTree(stage: Stage): Promise<string> {
  const name = stage.freshName();
  await commandMs(stage.plainCommand(name), { cwd: stage.repository });
  await sleep(RACY_MS);
  const { path } = stage.plainTree(name);
  for (let i = 0; i < 2; i++) await commandMs(STATUS, { cwd: path });
  return path;
}

async function plainRound(stage: Stage, report: MedianReport): Promise<void> {
  const name = stage.freshName();
  settle(stage.dir);
  report.enter(
    ROW.create,
    WORKTREE_ADD,
    await commandMs(stage.plainCommand(name), { cwd: stage.repository }),
  );
  const tree = stage.plainTree(name);
  settle(stage.dir);
  report.enter(ROW.all, WORKTREE_ADD, diskBytes(tree.path, tree.admin), 'bytes');
  tree.remove();
}

async function oursRound(
  stage: Stage,
  report: MedianReport,
  backend: OverlayBackend,
  name: string,
): Promise<void> {
  settle(stage.dir);
  let made: Worktree | undefined;
  const took = await workMs(async () => {
    made = await stage.create(stage.freshName(), backend);
  });
  report.enter(ROW.create, name, took);
  report.enter(ROW.status, name, await commandMs(STATUS, { cwd: made!.path }));
  settle(stage.dir);
  const own = stage.ownParts(made!);
  report.enter(ROW.own, name, diskBytes(...own), 'bytes');
  report.enter(ROW.all, name, diskBytes(...own, made!.gitDir), 'bytes');
  await stage.remove(made!);
}

async function peerRound(stage: Stage, report: MedianReport, layers: readonly string[]): Promise<void> {
  const tree = stage.peerTree(stage.freshName(), layers);
  try {
    report.enter(ROW.status, PEER, await commandMs(PEER_STATUS, { cwd: tree.path }));
  } finally {
    tree.remove();
  }
}

function commandLine(stage: Stage, name: string): string[] {
  const options = [
    '--registry',
    stage.registry.root,
    '--branch',
    name,
    '--driver',
    'overlay2',
    '--backend',
    'kernel',
  ];
  return [process.execPath, PROGRAM, 'worktree', 'add', ...options, 'bench', 'main', stage.path(name)];
}

async function commandRound(stage: Stage, report: MedianReport): Promise<void> {
  const name = stage.freshName();
  settle(stage.dir);
  report.enter(ROW.create, COMMAND, await commandMs(commandLine(stage, name), { cwd: stage.dir }));
  await stage.remove(await stage.handle.worktree().get(stage.path(name)));
}

function missingCommand(): string | undefined {
  if (!existsSync(PROGRAM)) return `${PROGRAM} is not built`;
  const { status } = spawnSync(process.execPath, [PROGRAM, 'worktree', 'list', '/'], {
    env: ENV,
    stdio: 'ignore',
  });
  return status === 2 ? 'git2db worktree is not there' : undefined;
}

async function countReads(
  stage: Stage,
  report: MedianReport,
  ready: readonly (readonly [OverlayBackend, string])[],
  layers: readonly string[],
  peer: string | undefined,
): Promise<void> {
  const missing = missingTracer();
  if (missing !== undefined) {
    for (const [, name] of ready) report.skip(ROW.reads, name, missing);
    return;
  }
  for (const [backend, name] of ready) {
    const made = await stage.create(stage.freshName(), backend);
    report.enter(ROW.reads, name, openedFiles(made.path, STATUS, stage.dir), 'count');
    await stage.remove(made);
  }
  if (peer !== undefined) return;
  const tree = stage.peerTree(stage.freshName(), layers);
  report.enter(ROW.reads, PEER, openedFiles(tree.path, PEER_STATUS, stage.dir), 'count');
  tree.remove();
}
