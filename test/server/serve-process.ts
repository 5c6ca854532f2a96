/** `git2db serve` as a process of its own; its words are the arguments. */
import { runProgram } from '../../src/cli/program.ts';

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());

process.exitCode = await runProgram(['serve', ...process.argv.slice(2)], {
  cwd: process.cwd(),
  env: process.env,
  stdin: 0,
  stdout: process.stdout,
  stderr: process.stderr,
  interruptible: ({ onHangup } = {}) => {
    if (onHangup !== undefined) process.on('SIGHUP', onHangup);
    return stop.signal;
  },
});
