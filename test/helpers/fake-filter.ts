/** A filter program around FakeConverter: real pipes, the real session. Ends as the real one does. */

import { writeSync } from 'node:fs';
import { negotiate } from '../../src/filter-process/handshake.ts';
import { PktInput } from '../../src/filter-process/pkt-input.ts';
import { OutputClosed, PktOutput } from '../../src/filter-process/pkt-output.ts';
import { runSession } from '../../src/filter-process/session.ts';
import { FakeConverter } from './fake-converter.ts';

const input = new PktInput(0);
const output = new PktOutput(1);
const converter = new FakeConverter(process.argv[2] !== 'beside');

try {
  negotiate(input, output);
  await runSession(input, output, converter);
} catch (error) {
  if (!(error instanceof OutputClosed)) {
    writeSync(2, `fake-filter: ${(error as Error).name}: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}
