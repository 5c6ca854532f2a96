/** `git-lfs-authenticate` on an ssh host: it tells the LFS server of a repository, and the headers to ask it with. */
import { spawn } from 'node:child_process';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import type { LfsAction } from './batch.ts';
import type { LfsOperation, SshPlace } from './endpoint.ts';

const MAX_ANSWER = 65536;
const TIMEOUT_MS = 60_000;

export interface SshOptions {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** core.sshCommand of git's configuration. */
  readonly sshCommand: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Undefined where the host has no such command: the server that the URL implies is asked then. Throws AUTH_FAILED. */
export async function sshAuthenticate(
  place: SshPlace,
  operation: LfsOperation,
  options: SshOptions,
): Promise<LfsAction | undefined> {
  const port = place.port === undefined ? [] : ['-p', place.port];
  const words = [...port, '--', place.destination, `git-lfs-authenticate ${quote(place.path)} ${operation}`];
  const command = options.env.GIT_SSH_COMMAND ?? options.sshCommand;
  // As git has it: the command is the shell's, the single program is not.
  const [file, args] =
    command === undefined || command === ''
      ? [options.env.GIT_SSH ?? 'ssh', words]
      : ['sh', ['-c', `${command} "$@"`, command, ...words]];
  const { status, stdout, stderr } = await run(file, args, options);
  if (status === 127 || /not found|unknown command|invalid command/i.test(stderr)) return undefined;
  if (status !== 0) {
    throw new Git2dbError(
      'AUTH_FAILED',
      `ssh ${place.destination} git-lfs-authenticate ended with status ${status}: ${stderr.replace(/\s+/g, ' ').slice(-300)}`,
    );
  }
  return parseAnswer(stdout, place);
}

function parseAnswer(text: string, place: SshPlace): LfsAction | undefined {
  let answer: { href?: unknown; header?: unknown };
  try {
    answer = JSON.parse(text) as typeof answer;
  } catch (cause) {
    throw new Git2dbError(
      'REMOTE_INVALID',
      `git-lfs-authenticate on ${place.destination} did not answer with JSON: ${messageOf(cause).slice(0, 80)}`,
    );
  }
  const { href, header } = answer;
  const headers = Object.entries((header ?? {}) as Record<string, unknown>);
  if (typeof href !== 'string' || !/^https?:\/\//i.test(href) || !URL.canParse(href)) return undefined;
  const isOdd = headers.some(
    ([name, value]) => !/^[\w-]+$/.test(name) || typeof value !== 'string' || /[^\t\x20-\x7e]/.test(value),
  );
  if (isOdd) {
    throw new Git2dbError('REMOTE_INVALID', `git-lfs-authenticate on ${place.destination} gave odd headers`);
  }
  return { href: href.replace(/\/+$/, ''), header: Object.fromEntries(headers) as Record<string, string> };
}

function run(
  file: string,
  args: readonly string[],
  { cwd, env, signal }: SshOptions,
): Promise<{ status: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      cwd,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
      ...(signal === undefined ? {} : { signal }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      if (stdout.length > MAX_ANSWER) child.kill();
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-4096);
    });
    child.once('error', (error) =>
      reject(
        error.name === 'AbortError'
          ? error
          : new Git2dbError('NETWORK', `${file} cannot be started: ${error.message}`, { cause: error }),
      ),
    );
    child.once('close', (status) => resolve({ status, stdout, stderr }));
  });
}

/** For the shell of the other side. */
function quote(path: string): string {
  return `'${path.replaceAll("'", "'\\''")}'`;
}
