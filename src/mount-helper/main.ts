/** The program `git2db-mount`: the process on one side, program.ts on the other. */
import { writeSync } from 'node:fs';
import { EXIT_PIPE, EXIT_UNEXPECTED } from '../exit-codes.ts';
import { exitAtOnce } from '../native/library.ts';
import { restoreEnvironment } from '../node-start.ts';
import { errnoOf, messageOf } from '../xet/errors.ts';
import { readArguments } from './command-line.ts';
import type { ServingHere } from './fuse/serve-here.ts';
import { runProgram } from './program.ts';
import { takeWaitingShell } from './waiting-shell.ts';

restoreEnvironment();
const shell = takeWaitingShell();
let serving: ServingHere | undefined;
// Its thread begins beside all that has to be done before there is a mount.
const beginning =
  shell && import('./fuse/serve-here.ts').then((module) => (serving = new module.ServingHere()));
/** What could not be said, once there is a mount: it stays, and only the exit status tells. */
let unsaid: number | undefined;

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
    if (errno === 'EAGAIN') {
      // Somebody made the pipe non-blocking, and it is full.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
      return 0;
    }
    // A closed pipe (`| head`) ends the run without a word; nothing can be said on a lost stderr either.
    if (errno === 'EPIPE' || fd === 2) leave(EXIT_PIPE);
    else {
      // A full disk, mostly. What was written is not all of the answer.
      sink(2).write(`git2db-mount: cannot write to standard output: ${messageOf(error)}\n`);
      leave(EXIT_UNEXPECTED);
    }
    return bytes.length;
  }
}

/** Ends the run, unless that would end a mount. */
function leave(code: number): void {
  if (serving?.isServing) unsaid ??= code;
  else process.exit(code);
}

// However this process ends: also by an end of the mount that comes before the command's.
process.on('exit', (code) => {
  shell?.release(code);
  // What observes a run of Node (a profiler, say) wants its end, too.
  if (process.execArgv.length === 0 && process.env.NODE_V8_COVERAGE === undefined) exitAtOnce(code);
});

function stopped(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve());
  });
}

// No `await` at the top level: the program is bundled as CommonJS, which starts faster.
runProgram(readArguments(), {
  env: process.env,
  stdout: sink(1),
  stderr: sink(2),
  stopped,
  serveHere: beginning && (async (request, logFile) => (await beginning).serve(request, logFile)),
}).then((code) => {
  // All is written, and what a library may have left open need not be waited for.
  if (!serving?.isServing) process.exit(code);
  serving.detach();
  // Whoever asked for the mount is gone: nobody knows of it.
  if (shell?.release(unsaid ?? code) !== true) serving.end();
});
