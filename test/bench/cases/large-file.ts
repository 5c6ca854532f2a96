/**
 * One large file through its life: added, checked out, looked at again after a touch, changed by an
 * insertion, pulled.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bench } from '../bench.ts';
import type { Contender, Repository } from '../contenders.ts';
import { type Kind, sameContent } from '../inputs.ts';
import { OURS, OURS_WASM, PLAIN } from '../targets.ts';
import { copies } from './copies.ts';

const FILE = 'data/f.bin';
const STEPS = ['add', 'checkout', 'status after touch', 'second', 'pull'] as const;
type Step = (typeof STEPS)[number];

export async function largeFile(bench: Bench, kind: Kind): Promise<void> {
  const size = Math.round(bench.options.sizeMb * 2 ** 20);
  const first = bench.inputs.file(kind, size);
  const second = bench.wants('second') ? bench.inputs.secondVersion(kind, size) : undefined;
  const wanted = new Set<Step>([
    ...(bench.wants('add') ? ['add' as const] : []),
    ...(bench.wants('checkout') ? ['checkout' as const, 'pull' as const] : []),
    ...(bench.wants('reclean') ? ['status after touch' as const] : []),
    ...(bench.wants('second') ? ['second' as const] : []),
  ]);
  const compared = (['add', 'checkout', 'pull'] as const).filter((step) => wanted.has(step));
  await bench.interleaved(
    kind,
    [...wanted].filter((step) => step !== 'pull'),
    async (contender, round) => {
      // Plain git compresses every byte, which takes long and does not vary.
      if (contender.name === PLAIN && round > 1) return;
      await oneLife(bench, kind, contender, wanted, first, second);
    },
    () => copies(bench, kind, compared, first),
  );
}

async function oneLife(
  bench: Bench,
  kind: Kind,
  contender: Contender,
  wanted: ReadonlySet<Step>,
  first: string,
  second: string | undefined,
): Promise<void> {
  const repository = bench.arena.repository(contender);
  const file = join(repository.folder, FILE);
  const step = async (name: Step, command: readonly string[]) => {
    if (wanted.has(name)) await bench.step(kind, name, repository, command);
    else await repository.measure(command);
  };
  const check = (name: Step, expected: string) => {
    if (contender.faithful && !sameContent(expected, file))
      throw new Error(`${name} left other bytes than were added`);
  };
  repository.place(first, FILE);
  await step('add', ['git', 'add', 'data']);
  repository.git('commit', '-q', '-m', 'first');
  if (wanted.has('checkout')) {
    repository.git('switch', '-q', 'empty');
    await step('checkout', ['git', 'switch', '-q', 'main']);
    check('checkout', first);
  }
  // What follows would have plain git compress the same bytes again, for minutes.
  if (contender.name === PLAIN) return;
  if (wanted.has('status after touch')) {
    repository.age([FILE]);
    await step('status after touch', ['git', 'status', '--porcelain']);
    if (repository.git('status', '--porcelain') !== '') throw new Error('a touched file looks modified');
  }
  if (wanted.has('pull') && isOurs(contender)) await pull(bench, kind, repository, first);
  if (second !== undefined) {
    repository.place(second, FILE);
    await step('second', ['git', 'add', 'data']);
    repository.git('commit', '-q', '-m', 'second');
    repository.git('switch', '-q', 'empty');
    repository.git('switch', '-q', 'main');
    check('second', second);
  }
}

function isOurs({ name }: Contender): boolean {
  return name === OURS || name === OURS_WASM;
}

/** Pointers in the work tree become contents without git in between. */
async function pull(bench: Bench, kind: Kind, repository: Repository, expected: string): Promise<void> {
  const file = join(repository.folder, FILE);
  rmSync(file);
  writeFileSync(file, repository.git('show', `:${FILE}`));
  try {
    await bench.step(kind, 'pull', repository, ['git2db', 'xet', 'pull', '--quiet']);
    if (!sameContent(expected, file)) throw new Error('pull left other bytes than were added');
  } catch (error) {
    bench.fail(kind, 'pull', repository.contender.name, error);
    rmSync(file, { force: true });
    repository.git('checkout', '-q', '--', FILE);
  }
}
