/** Starts the server of a FUSE mount, in a process of its own. */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { Git2dbError } from '../../xet/errors.ts';
import { encodeRequest, HANDOVER_FD, HOLD_FDS, type ServerReport, type ServerRequest } from './handover.ts';
import { serverProgram } from './programs.ts';

export interface FuseStart extends ServerRequest {
  /** The locks of the upper, as this process has them; the server inherits them. */
  readonly hold?: readonly [stamp: number, upper: number];
  /** What the server has to say later is added there; undefined: nowhere, or the terminal with `foreground`. */
  readonly logFile?: string;
  /** Another program than ours that speaks `handover.ts`. */
  readonly program?: URL;
}

export interface FuseServer {
  readonly pid: number;
  /** `major:minor` of the mount. */
  readonly device: string;
  /** Resolves to the exit code; only with `foreground`: otherwise the server outlives this process. */
  readonly ended: Promise<number>;
}

/**
 * One helper thread for compiling and collecting: with more, they take the second processor from whoever
 * uses the mount, just when it is new. Flags of V8 are not here: with any, Node throws away what it was built
 * with of its own modules, compiled, and compiles them anew, for each thread.
 */
export const SERVER_FLAGS = ['--no-warnings', '--v8-pool-size=1'];
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Resolves when the mount answers; rejects with the server's error when it could not be made. */
export async function startFuse({ hold, logFile, program, ...rest }: FuseStart): Promise<FuseServer> {
  const request: ServerRequest = hold === undefined ? rest : { ...rest, hold: HOLD_FDS };
  const logFd = logFile === undefined ? undefined : openSync(logFile, 'a', 0o600);
  const errors = logFd ?? (request.foreground ? 'inherit' : 'ignore');
  const child = spawn(process.execPath, [...SERVER_FLAGS, fileURLToPath(program ?? serverProgram())], {
    // A session of its own: neither a closed terminal nor Ctrl-C reaches it but through us.
    detached: true,
    cwd: '/',
    env: { PATH: process.env.PATH },
    stdio: ['ignore', 'ignore', errors, 'pipe', ...(hold ?? [])],
  });
  if (logFd !== undefined) closeSync(logFd);
  const handover = child.stdio[HANDOVER_FD] as Duplex;
  const ended = new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
  if (request.foreground) for (const signal of FORWARDED) process.on(signal, () => child.kill(signal));
  try {
    const report = await exchange(handover, encodeRequest(request), ended);
    if ('error' in report) throw new Git2dbError(report.error.code, report.error.message);
    return { pid: child.pid!, device: report.device, ended };
  } finally {
    handover.destroy();
    if (!request.foreground) child.unref();
  }
}

async function exchange(stream: Duplex, line: string, ended: Promise<number>): Promise<ServerReport> {
  let answer = '';
  stream.on('error', () => {});
  stream.end(line);
  try {
    for await (const piece of stream.setEncoding('utf8')) answer += piece;
  } catch {
    // Ended before it had read the request: what it has to say has not come either.
  }
  if (answer.endsWith('\n')) return JSON.parse(answer) as ServerReport;
  const code = await ended;
  throw new Git2dbError(
    'SERVER_FAILED',
    `the server of the mount ended with exit code ${code} before it was ready`,
  );
}
