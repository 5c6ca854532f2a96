/** A real mount of `Loopback`, by the server that also serves overlays. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type FuseServer, type FuseStart, startFuse } from '../../../src/mount-helper/fuse/start.ts';
import { DEFAULT_OPTIONS, type MountOptions } from '../../../src/mount-helper/mount-options.ts';
import { MNT_DETACH, umount2 } from '../../../src/mount-helper/system/kernel.ts';
import { cString } from '../../../src/mount-helper/system/libc.ts';
import { scratch } from './scratch.ts';

export function loopbackOptions(lower: string | Buffer, merged: string | Buffer): MountOptions {
  return {
    lowers: [Buffer.from(lower as string)],
    merged: Buffer.from(merged as string),
    ...DEFAULT_OPTIONS,
    source: 'loopback, a test',
    backend: 'fuse',
    noacl: true,
  };
}

export function loopbackStart(options: MountOptions, more: Partial<FuseStart> = {}): FuseStart {
  return {
    options,
    namespace: 'user',
    foreground: false,
    program: new URL('./loopback-server.js', import.meta.url),
    ...more,
  };
}

export interface LoopbackMount extends FuseServer {
  readonly lower: string;
  readonly merged: string;
  readonly log: string;
  readonly recordFile: string;
}

/** Ended with the test, in whatever state it is then. */
export async function mountLoopback(
  t: ExecutionContext,
  more: Partial<MountOptions> = {},
  program?: URL,
): Promise<LoopbackMount> {
  const directory = scratch(t);
  const [lower, merged] = [join(directory, 'lower'), join(directory, 'merged')];
  const [logFile, recordFile] = [join(directory, 'log'), join(directory, 'record')];
  for (const path of [lower, merged]) mkdirSync(path);
  writeFileSync(recordFile, '{}');
  const options = { ...loopbackOptions(lower, merged), ...more };
  const start = loopbackStart(options, {
    logFile,
    recordFile,
    ...(program === undefined ? {} : { program }),
  });
  const server = await startFuse(start);
  t.teardown(async () => {
    umount2(cString(merged), MNT_DETACH);
    await untilGone(server.pid);
  });
  return { ...server, lower, merged, log: logFile, recordFile };
}

/** Resolves when the process has ended; kills it when it does not. */
export async function untilGone(pid: number): Promise<void> {
  for (let i = 0; i < 500 && isRunning(pid); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  if (!isRunning(pid)) return;
  process.kill(pid, 'SIGKILL');
  throw new Error(`process ${pid} did not end`);
}

export function isRunning(pid: number): boolean {
  if (!existsSync(`/proc/${pid}`)) return false;
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}
