/** The program `git2db`: the process on one side, program.ts on the other. */
import { constants } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { EXIT_INTERRUPTED, EXIT_PIPE, EXIT_UNEXPECTED } from '../exit-codes.ts';
import { restoreEnvironment } from '../node-start.ts';
import type { InterruptOptions } from './command.ts';
import { runProgram } from './program.ts';

// A closed pipe (`| head`) ends the run without a word; nothing can be said on a lost stderr either.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT_PIPE);
    // A full disk, mostly. What was written is not all of the answer.
    if (stream === process.stdout) {
      process.stderr.write(`git2db: cannot write to standard output: ${error.message}\n`);
    }
    process.exit(EXIT_UNEXPECTED);
  });
}

let stoppedBy: NodeJS.Signals | undefined;

function interruptible({ onHangup }: InterruptOptions = {}): AbortSignal {
  const controller = new AbortController();
  if (onHangup !== undefined) process.on('SIGHUP', onHangup);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    if (signal === 'SIGHUP' && onHangup !== undefined) continue;
    process.once(signal, () => {
      stoppedBy = signal;
      controller.abort();
    });
  }
  return controller.signal;
}

/** Undefined when it was deleted under the shell. */
function currentDirectory(): string | undefined {
  try {
    return process.cwd();
  } catch {
    return undefined;
  }
}

restoreEnvironment();

/**
 * By then a command has loaded what it needs. Not before: what Node keeps of its own modules in compiled form
 * counts only with the flags that it was started with.
 */
const LOADED_AFTER_MS = 400;

// A command that takes longer moves content, by native code, WASM and system calls. Optimising the JavaScript around
// these as early as the engine does costs more than it gives: two fifths of the processor time of a push.
setTimeout(() => setFlagsFromString('--interrupt-budget=1000000'), LOADED_AFTER_MS).unref();

// No `await` at the top level: the program is bundled as CommonJS, which starts faster.
runProgram(process.argv.slice(2), {
  cwd: currentDirectory(),
  env: process.env,
  stdin: 0,
  stdout: process.stdout,
  stderr: process.stderr,
  interruptible,
}).then((code) => {
  const stopped = code === EXIT_INTERRUPTED && stoppedBy !== undefined;
  process.exitCode = stopped ? 128 + constants.signals[stoppedBy!] : code;
});
