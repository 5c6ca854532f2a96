/** What `git2db-mount list` says of a sandbox's mount, and the record behind it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { identifyProcess } from '../../../src/mount-helper/process-identity.ts';
import type { MountSandbox } from './mount-sandbox.ts';

export interface Listed {
  readonly merged: string;
  readonly backend: string;
  readonly state: string;
  readonly pids: readonly number[];
  readonly recorded: boolean;
}

/** Undefined: not listed. */
export async function listedMount(sandbox: MountSandbox): Promise<Listed | undefined> {
  const run = await sandbox.program('list', '--json');
  if (run.status !== 0) throw new Error(`list failed with ${run.status}: ${run.stderr}`);
  return (JSON.parse(run.stdout) as Listed[]).find(({ merged }) => merged === sandbox.merged);
}

/** Where the records of the sandbox's user are. */
export function recordsOf({ subject, env }: MountSandbox): string {
  return subject.isRoot ? '/var/lib/git2db/mounts' : join(env.HOME!, '.local/state/git2db/mounts');
}

/** The files of the records of the sandbox's mount. */
export function recordFiles(sandbox: MountSandbox): string[] {
  const directory = recordsOf(sandbox);
  if (!existsSync(directory)) return [];
  // What a killed process was about to write has another name, and goes a minute later.
  return readdirSync(directory)
    .filter((name) => name.endsWith('.json'))
    .map((name) => join(directory, name))
    .filter((file) => textOf(file).includes(JSON.stringify(sandbox.merged)));
}

/** Empty for a file that has gone meanwhile. */
function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** As the program has it: a first thread that has ended counts while others have not. */
export function isRunning(pid: number): boolean {
  return identifyProcess(pid) !== undefined;
}

/** Waits until `holds` does; fails after twenty seconds. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 20_000; !(await holds()); ) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
