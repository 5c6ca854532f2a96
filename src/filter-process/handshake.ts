/**
 * The first exchange with git (long-running-process-protocol, "Handshake"): who speaks, which version,
 * which capabilities.
 *
 *     git:     git-filter-client, version=2 (later perhaps more versions), flush
 *     filter:  git-filter-server, version=2, flush
 *     git:     capability=clean, capability=smudge, capability=delay (or fewer, or unknown ones), flush
 *     filter:  those of them it implements, flush. Naming one that git did not offer makes git die.
 */

import { Git2dbError } from '../xet/errors.ts';
import { EndOfInput, type PktInput } from './pkt-input.ts';
import type { PktOutput } from './pkt-output.ts';

export type Capability = 'clean' | 'smudge' | 'delay';

const IMPLEMENTED: readonly Capability[] = ['clean', 'smudge', 'delay'];
const VERSION = 'version=2';

/**
 * Performs the handshake and returns the capabilities granted, those that git offers and we implement.
 * Throws Git2dbError PROTOCOL if the other side is not git or does not speak version 2, EndOfInput if
 * it leaves.
 */
export function negotiate(input: PktInput, output: PktOutput): Set<Capability> {
  const [welcome, ...versions] = readLines(input);
  if (welcome !== 'git-filter-client') {
    throw new Git2dbError(
      'PROTOCOL',
      `expected "git-filter-client", found ${welcome === undefined ? 'an empty list' : JSON.stringify(welcome)}: this program is started by git`,
    );
  }
  if (!versions.includes(VERSION)) {
    const offered = versions.join(', ') || 'no version';
    throw new Git2dbError('PROTOCOL', `git offers ${offered} of the filter protocol, we speak ${VERSION}`);
  }
  output.list(['git-filter-server', VERSION]);
  output.sync();

  const offered = new Set(readLines(input));
  const granted = IMPLEMENTED.filter((name) => offered.has(`capability=${name}`));
  output.list(granted.map((name) => `capability=${name}`));
  output.sync();
  return new Set(granted);
}

function readLines(input: PktInput): string[] {
  const lines = input.readList();
  if (lines === undefined) throw new EndOfInput('the handshake', input.position);
  return lines;
}
