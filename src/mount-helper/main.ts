/** The program `git2db-mount`: the process on one side, program.ts on the other. */
import { writeSync } from 'node:fs';
import { EXIT_PIPE, EXIT_UNEXPECTED } from '../exit-codes.ts';
import { restoreEnvironment } from '../node-start.ts';
import { errnoOf, messageOf } from '../xet/errors.ts';
import { readArguments } from './command-line.ts';
import { runProgram } from './program.ts';

/**
 * Writes are done when they return: `exec` turns this process into another one. It also spares opening
 * Node's own streams, which a mount has no time for.
 */
function sink(fd: number) {
  return {
    write(text: string) {
      for (let bytes = Buffer.from(text); bytes.length > 0; ) bytes = bytes.subarray(writeSome(fd, bytes));
    },
  };
}

function writeSome(fd: number, bytes: Buffer): number {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    const errno = errnoOf(error);
    // A closed pipe (`| head`) ends the run without a word; nothing can be said on a lost stderr either.
    if (errno === 'EPIPE' || (errno !== 'EAGAIN' && fd === 2)) process.exit(EXIT_PIPE);
    if (errno !== 'EAGAIN') {
      // A full disk, mostly. What was written is not all of the answer.
      sink(2).write(`git2db-mount: cannot write to standard output: ${messageOf(error)}\n`);
      process.exit(EXIT_UNEXPECTED);
    }
    // Somebody made the pipe non-blocking, and it is full.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    return 0;
  }
}

function stopped(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve());
  });
}

restoreEnvironment();

// No `await` at the top level: the program is bundled as CommonJS, which starts faster.
runProgram(readArguments(), { env: process.env, stdout: sink(1), stderr: sink(2), stopped }).then((code) => {
  // All is written, and what a library may have left open need not be waited for.
  process.exit(code);
});
