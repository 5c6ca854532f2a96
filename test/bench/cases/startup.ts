/** What every git command pays that starts the filter, without any content. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bench } from '../bench.ts';
import { measure } from '../measure.ts';
import { BARE_NODE, OURS_WASM } from '../targets.ts';

/** A tick is 10 ms, so a run of some ten milliseconds is repeated. */
const REPEAT = 10;

export async function startup(bench: Bench): Promise<void> {
  const handshake = join(bench.arena.dir, 'handshake');
  writeFileSync(handshake, HANDSHAKE);
  const firstFile = join(bench.arena.dir, 'first-file');
  writeFileSync(firstFile, HANDSHAKE + CLEAN_ONE);
  await bench.interleaved('startup', ['handshake', 'first file'], async (contender) => {
    const command = Object.entries(contender.config).find(([key]) => key.endsWith('.process'))?.[1];
    // Which BLAKE3 is used makes no difference to the start.
    if (command === undefined || contender.name === OURS_WASM) return;
    const repository = bench.arena.repository(contender);
    for (const [step, stdin] of [
      ['handshake', handshake],
      ['first file', firstFile],
    ] as const) {
      const cost = await repository.measure(command.split(' '), { stdin, repeat: REPEAT });
      bench.enter('startup', step, contender.name, cost);
    }
  });
  const node = ['node', '-e', '0'];
  for (let round = 0; round < bench.options.rounds; round++) {
    for (const step of ['handshake', 'first file']) {
      const cost = await measure(node, { cwd: bench.arena.dir, env: process.env, repeat: REPEAT });
      bench.enter('startup', step, BARE_NODE, cost);
    }
  }
}

/** A packet of text, its length in front. */
function packet(line: string): string {
  return `${(line.length + 5).toString(16).padStart(4, '0')}${line}\n`;
}

const FLUSH = '0000';

const HANDSHAKE = [
  packet('git-filter-client') + packet('version=2') + FLUSH,
  packet('capability=clean') + packet('capability=smudge') + packet('capability=delay') + FLUSH,
].join('');

const CLEAN_ONE =
  packet('command=clean') + packet('pathname=data/small') + FLUSH + packet('small content') + FLUSH;
