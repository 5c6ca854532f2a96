import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { messageOf } from '../../xet/errors.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { count, printable } from '../present.ts';
import { REGISTRY_OPTIONS } from '../registry-options.ts';
import { loadLibrary, registryDirectory, type Session, withRegistry } from '../registry-session.ts';

interface Fault {
  readonly part: 'registry' | 'filter' | 'mount';
  readonly id: string;
  readonly severity: 'error' | 'warning' | 'note';
  readonly message: string;
  /** Shell commands where that is possible, else a sentence. */
  readonly remedy: readonly string[];
  /** The repository, worktree or directory it is about. */
  readonly path: string | undefined;
}

export const doctorCommand = defineCommand({
  path: ['doctor'],
  summary: 'Find faults of the registry, the filter and mounts, and what mends them',
  description: `Looks for faults, and prints for each what mends it:

  registry  what "git2db verify" finds
  filter    what "git2db xet doctor" finds: here, and in the repository REPO
  mount     what "git2db-mount doctor" finds, and whether worktrees can be mounted in
            the registry, by a real trial

Nothing is changed but for that trial, which is taken back. It works without a registry
too, with less to look at. Contents are not read.

JSON: {"ok","registry","faults":[{"part","id","severity","message","remedy","path"}],
"mount":{"auto","backends":[{"backend","works","reason"}]}}; "severity" is error, warning
or note, "ok" is false when there is an error. "registry" is its directory, or null.
"auto" is what a worktree would take, or null.`,
  operands: { usage: '[REPO]', min: 0, max: 1, complete: 'repository' },
  options: REGISTRY_OPTIONS,
  examples: [
    ['git2db doctor', 'what is wrong here?'],
    ['git2db doctor org/model', 'and there?'],
  ],
  exitCodes: [
    [EXIT_FALSE, 'An error was found; warnings alone are 0'],
    [53, 'There is no such repository'],
  ],
  async run({ options, operands }, context) {
    const { cwd, env, output, json } = context;
    const library = await loadLibrary();
    const root = findRegistry(options, operands[0], context);
    const faults: Fault[] = [];
    const places = new Set([cwd]);
    if (root !== undefined) {
      try {
        await withRegistry({ registry: root }, context, (session) =>
          examineRegistry(session, operands[0], faults, places),
        );
      } catch (error) {
        if ((error as { code?: unknown }).code !== 'REGISTRY_INVALID') throw error;
        faults.push({
          part: 'registry',
          id: 'unreadable',
          severity: 'error',
          message: messageOf(error),
          remedy: ['git2db repair'],
          path: root,
        });
      }
    }
    const { examine } = await import('../large-files-library.ts');
    const isTold = new Set<string>();
    for (const place of places) {
      for (const { id, severity, message, remedy } of await examine({
        cwd: place,
        env: env as NodeJS.ProcessEnv,
      })) {
        // What is wrong with the installation is wrong everywhere.
        if (isTold.has(`${id} ${message}`)) continue;
        isTold.add(`${id} ${message}`);
        // Clones of a registry have the filter in their own configuration.
        const isMild = root !== undefined && INSTALLATION.has(id);
        faults.push({
          part: 'filter',
          id,
          severity: isMild ? 'note' : severity,
          message,
          remedy,
          path: place,
        });
      }
    }
    for (const { check, state, message, remedy } of library.examineMounts(env)) {
      if (state === 'ok') continue;
      // Worktrees have drivers that need no mounts.
      faults.push({
        part: 'mount',
        id: check,
        severity: state === 'warning' ? 'note' : 'warning',
        message,
        remedy,
        path: undefined,
      });
    }
    const where = root === undefined ? cwd : join(root, '.git2db');
    const mount = await tryMounts(library, where, context, faults);
    const ok = faults.every(({ severity }) => severity !== 'error');
    if (json)
      output.json({
        ok,
        registry: root ?? null,
        faults: faults.map((each) => ({ ...each, path: each.path ?? null })),
        mount,
      });
    else describe(faults, mount.auto, root, context);
    return ok ? EXIT_OK : EXIT_FALSE;
  },
});

/** Faults that matter for repositories outside of registries. */
const INSTALLATION: ReadonlySet<string> = new Set(['filter-process-unset', 'filter-not-on-path']);

/** Undefined when there is none, and none was asked for. */
function findRegistry(
  options: { readonly registry?: string | undefined },
  repo: string | undefined,
  context: CommandContext,
): string | undefined {
  try {
    return registryDirectory(options, context);
  } catch (error) {
    if (options.registry !== undefined || context.env.GIT2DB_REGISTRY || repo !== undefined) throw error;
    context.output.note(messageOf(error));
    return undefined;
  }
}

async function examineRegistry(
  { db, signal }: Session,
  repo: string | undefined,
  faults: Fault[],
  places: Set<string>,
): Promise<void> {
  for (const { code, message, remedy, repairable, path } of await db.verify({ signal })) {
    faults.push({
      part: 'registry',
      id: code,
      severity: repairable ? 'warning' : 'error',
      message,
      remedy: [remedy],
      path,
    });
  }
  if (repo === undefined || repo === '.') return;
  const place = db.absolutePath(db.find(repo) ?? db.get(repo));
  if (existsSync(place)) places.add(place);
}

interface MountReport {
  readonly auto: string | null;
  readonly backends: readonly {
    readonly backend: string;
    readonly works: boolean;
    readonly reason: string | null;
  }[];
}

async function tryMounts(
  library: Awaited<ReturnType<typeof loadLibrary>>,
  directory: string,
  { env }: CommandContext,
  faults: Fault[],
): Promise<MountReport> {
  try {
    const { auto, backends } = await library.probeMounts(directory, { env });
    if (auto === undefined) {
      const message = `no overlay can be mounted in ${directory}: worktrees are directories of their own there (drivers reflink, vfs)`;
      faults.push({
        part: 'mount',
        id: 'no-overlay',
        severity: 'warning',
        message,
        remedy: [`git2db-mount probe ${directory}`],
        path: directory,
      });
    }
    return {
      auto: auto ?? null,
      backends: backends.map(({ backend, works, reason }) => ({ backend, works, reason: reason ?? null })),
    };
  } catch (error) {
    const message = `whether overlays can be mounted in ${directory} could not be tried: ${messageOf(error)}`;
    faults.push({
      part: 'mount',
      id: 'probe-failed',
      severity: 'warning',
      message,
      remedy: ['git2db-mount doctor'],
      path: directory,
    });
    return { auto: null, backends: [] };
  }
}

function describe(
  faults: readonly Fault[],
  auto: string | null,
  root: string | undefined,
  { output }: CommandContext,
): void {
  const styles = { error: 'red', warning: 'yellow', note: 'dim' } as const;
  for (const { part, id, severity, message, remedy } of faults) {
    output.data(`${output.style(styles[severity], severity)}: ${printable(message)} [${part}: ${id}]`);
    for (const command of remedy) output.data(`  $ ${printable(command)}`);
  }
  if (root !== undefined) output.note(`registry: ${root}`);
  if (auto !== null) output.note(`worktrees: mounted by ${auto}`);
  output.note(faults.length === 0 ? 'no fault found' : `${count(faults.length, 'fault')} found`);
}
