/**
 * The kernel's overlay for everyone: mounted in a user and a mount namespace of its own, where its maker
 * has the right to mount (Linux 5.11 and up, with `userxattr`). Nobody else sees it; `exec` enters.
 *
 * Namespaces live as long as a process in them. So unshare(1) starts a holder there (`userns-holder.ts`):
 *
 *     --map-current-user   inside, the caller has the uid and gid it has outside: files keep their owners
 *     --keep-caps          the rights of the new namespace outlast exec, so that the holder may mount
 *     --propagation slave  what is mounted outside later is seen inside, and not the other way round
 *
 * The holder inherits the locks of the upper. It ends with the mount, or on SIGTERM as soon as nobody else
 * is inside.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { release } from 'node:os';
import type { Duplex, Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { quickStart } from '../node-start.ts';
import { Git2dbError, messageOf } from '../xet/errors.ts';
import type { BackendMount, MountBackend, MountRequest, PlannedRequest } from './backend.ts';
import { findProgram } from './find-program.ts';
import { requireKernel } from './fuse-requirements.ts';
import { kernelBackend } from './kernel-overlay.ts';
import type { MountOptions } from './mount-options.ts';
import { showPath } from './path.ts';
import { waitForEnd } from './process-end.ts';
import { identifyProcess } from './process-identity.ts';
import { findUsernsLimits } from './userns-limits.ts';
import {
  decodeHolderAnswer,
  ENTER_OPTIONS,
  encodeHolderRequest,
  type HolderAnswer,
} from './userns-protocol.ts';

const KERNEL_MIN = [5, 11] as const;
const UNSHARE_OPTIONS = [
  ...['--user', '--map-current-user', '--keep-caps', '--mount', '--propagation', 'slave'],
  ...['--', process.execPath, fileURLToPath(new URL('./userns-holder.js', import.meta.url))],
];
/** f_type of overlayfs. */
const OVERLAYFS_MAGIC = 0x794c7630;
const STOP_TIMEOUT_MS = 5_000;

export const usernsBackend: MountBackend = {
  name: 'userns',
  check(request, directories) {
    requireKernel(release(), KERNEL_MIN, 'the userns backend');
    for (const program of ['unshare', 'nsenter']) locate(program, request);
    // Inside, the caller has the rights that the kernel's overlay asks for.
    kernelBackend.check({ ...request, caller: { ...request.caller, mayMount: true } }, directories);
    if (request.namespace === 'trusted' && request.options.upper !== undefined) {
      throw unavailable(
        "inside a user namespace the kernel does not see an upper's trusted.overlay.* marks; take --backend kernel " +
          'or fuse, or for a new upper -o userxattr',
      );
    }
  },
  mount: mountInNamespace,
};

async function mountInNamespace(request: MountRequest): Promise<BackendMount> {
  const holder = spawn(locate('unshare', request), UNSHARE_OPTIONS, {
    cwd: '/',
    detached: true,
    env: quickStart(process.env),
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', ...(request.holdDescriptors ?? [])],
  });
  const { foreground } = request.options;
  if (foreground) forwardSignals(holder);
  const ended = endOf(holder);
  try {
    const answer = await conversation(holder, request);
    if (!answer.ok) throw explain(answer);
    const pid = holder.pid!;
    checkReach(pid, request);
    const { dropped } = answer;
    if (foreground) return { pid, dropped, ended };
    holder.unref();
    return { pid, dropped };
  } catch (error) {
    await stop(holder);
    throw error;
  }
}

/** Hands the request over and waits for the answer. */
async function conversation(holder: ChildProcess, request: MountRequest): Promise<HolderAnswer> {
  const started = new Promise<void>((resolve, reject) => {
    holder.once('spawn', resolve);
    holder.once('error', reject);
  });
  try {
    await started;
  } catch (error) {
    throw unavailable(`cannot start unshare: ${messageOf(error)}`, error);
  }
  const { options, isMergedEmpty, places, recordFile } = request;
  const socket = holder.stdio[3] as Duplex;
  // A holder that ends at once leaves nobody to read the request; its answer will be missing then.
  socket.on('error', () => {});
  socket.end(
    encodeHolderRequest({ options: withUserAttributes(options), isMergedEmpty, places, recordFile }),
  );
  const errors = holder.stderr!;
  const answer = decodeHolderAnswer(await textOf(socket));
  if (answer !== undefined) {
    // It stays open at the holder's end for as long as that lives, and there is nothing more to be said.
    errors.destroy();
    return answer;
  }
  const reason = (await textOf(errors)).trim().split('\n').at(-1) || 'it ended without a word';
  return { ok: false, code: 'BACKEND_UNAVAILABLE', message: `no user namespace could be made: ${reason}` };
}

function withUserAttributes(options: MountOptions): MountOptions {
  return { ...options, namespace: 'user' };
}

async function textOf(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of stream) chunks.push(chunk as Buffer);
  } catch {
    // Reset by the end of the holder: what has come is all there is.
  }
  return Buffer.concat(chunks).toString();
}

/** A mount that nobody can reach is none: looks at it from here, and goes in as `exec` will. */
function checkReach(pid: number, request: MountRequest): void {
  const { merged } = request.options;
  let type: number | undefined;
  try {
    type = statfsSync(Buffer.concat([Buffer.from(`/proc/${pid}/root`), merged])).type;
  } catch (error) {
    throw unavailable(`the mount in its namespace cannot be looked at: ${messageOf(error)}`, error);
  }
  if (type !== OVERLAYFS_MAGIC) {
    throw unavailable(`${showPath(merged)} is no overlay inside its namespace (type ${type.toString(16)})`);
  }
  const nsenter = locate('nsenter', request);
  const tried = spawnSync(nsenter, ['--target', String(pid), ...ENTER_OPTIONS, '--', '/bin/sh', '-c', ':'], {
    encoding: 'utf8',
  });
  if (tried.status === 0) return;
  const reason =
    tried.stderr?.trim().split('\n').at(-1) || messageOf(tried.error ?? `status ${tried.status}`);
  throw unavailable(`the namespace of the mount cannot be entered: ${reason}`);
}

async function stop(holder: ChildProcess): Promise<void> {
  const identity = holder.pid === undefined ? undefined : identifyProcess(holder.pid);
  if (identity === undefined) return;
  holder.kill('SIGKILL');
  await waitForEnd(identity, STOP_TIMEOUT_MS);
}

/** In the foreground, who ends us ends the mount: as soon as nobody is inside. */
function forwardSignals(holder: ChildProcess): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => holder.kill('SIGTERM'));
  }
}

function endOf(holder: ChildProcess): Promise<number> {
  return new Promise((resolve) => holder.once('exit', (code) => resolve(code ?? 1)));
}

function locate(program: string, { env }: Pick<PlannedRequest, 'env'>): string {
  const found = findProgram(program, env.PATH ?? '');
  if (found === undefined) throw unavailable(`there is no ${program} on PATH; install util-linux`);
  return found;
}

/** Most often the system has switched user namespaces off: then say how to have them. */
function explain(answer: HolderAnswer & { ok: false }): Git2dbError {
  const limit = findUsernsLimits()[0];
  const isLimited =
    limit !== undefined && (answer.errno === undefined || /^E(PERM|ACCES|NOSPC)$/.test(answer.errno));
  if (!isLimited) return new Git2dbError(answer.code, answer.message, { data: { errno: answer.errno } });
  return unavailable(
    `${answer.message}: user namespaces are ${limit.meaning} (${limit.setting}=${limit.value}); as root: ${limit.remedy}`,
  );
}

function unavailable(message: string, cause?: unknown): Git2dbError {
  return new Git2dbError('BACKEND_UNAVAILABLE', message, cause === undefined ? {} : { cause });
}
