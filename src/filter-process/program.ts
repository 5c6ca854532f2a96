/**
 * The filter programs. Without arguments one speaks git's filter protocol on stdin and stdout; `clean` and
 * `smudge` convert one file. Nothing but the protocol may reach stdout, and nothing that is not needed for the
 * handshake may be loaded before it.
 *
 * There are two, git2db-filter and git2db-lfs-filter, because git names no driver in a request and shares one
 * process between drivers with the same command: the name of the program says which pointers it writes.
 */
import { openSync, writeSync } from 'node:fs';
import { restoreEnvironment } from '../node-start.ts';
import { errnoOf, messageOf } from '../xet/errors.ts';
import type { PointerKind } from './filter-context.ts';
import { negotiate } from './handshake.ts';
import { EndOfInput, PktInput } from './pkt-input.ts';
import { OutputClosed, PktOutput } from './pkt-output.ts';
import type { Converter } from './session.ts';
import { runSession } from './session.ts';
import { type Trace, traceTo } from './trace.ts';

const USAGE: Readonly<Record<PointerKind, string>> = {
  xet: `usage: git2db-filter                  speak git's filter protocol (git starts it so)
       git2db-filter clean [PATH]     content on stdin, pointer on stdout
       git2db-filter smudge [PATH]    pointer on stdin, content on stdout
       git2db-filter --help | --version

Files with the attribute filter=xet are stored as deduplicated chunks; git keeps a small
pointer. Set up with: git2db xet install

Settings (git config): xet.store, xet.compression (auto|none|lz4|bg4-lz4), xet.fsync
(batch|none), xet.onMissing (error|pointer), xet.skipSmudge, xet.fetchOnSmudge.
Environment: GIT2DB_SKIP_SMUDGE=1 leaves pointers; GIT2DB_FILTER_TRACE=1 (or a file) traces;
GIT2DB_BLAKE3=native|wasm|js and GIT2DB_SCAN=wasm|js choose kernels.
`,
  lfs: `usage: git2db-lfs-filter                  speak git's filter protocol (git starts it so)
       git2db-lfs-filter clean [PATH]     content on stdin, Git LFS pointer on stdout
       git2db-lfs-filter smudge [PATH]    Git LFS pointer on stdin, content on stdout
       git2db-lfs-filter --help | --version

Files with the attribute filter=lfs are stored as deduplicated chunks; git keeps a standard
Git LFS pointer, which git-lfs reads as well. Set up with: git2db xet install --lfs

Settings (git config): those of git2db-filter, and lfs.storage. Environment:
GIT_LFS_SKIP_SMUDGE=1 leaves pointers for what is not on this machine, GIT2DB_SKIP_SMUDGE=1
for everything; GIT2DB_FILTER_TRACE, GIT2DB_BLAKE3 and GIT2DB_SCAN as for git2db-filter.
`,
};

function reportAs(program: string, message: string): void {
  try {
    writeSync(2, `${program}: ${message.replaceAll('\n', ' ')}\n`);
  } catch {
    // Nobody listens.
  }
}

function trace(): Trace | undefined {
  const target = process.env.GIT2DB_FILTER_TRACE;
  if (target === undefined || target === '' || target === '0') return undefined;
  return traceTo(target === '1' || target === 'true' ? 2 : openSync(target, 'a'));
}

async function run(kind: PointerKind, args: readonly string[]): Promise<number> {
  const program = programName(kind);
  const report = (message: string) => reportAs(program, message);
  const [command, path, ...rest] = args;
  if (command === '--help' || command === '-h') return print(USAGE[kind]);
  if (command === '--version') return print(`${program} ${(await core()).packageVersion()}\n`);
  if ((command === 'clean' || command === 'smudge') && rest.length === 0) {
    const { convertOne, openFilter } = await core();
    return convertOne(command, path ?? '', openFilter(report, kind), report);
  }
  if (command !== undefined) {
    report(`unknown argument ${JSON.stringify(command)}`);
    writeSync(2, USAGE[kind]);
    return 2;
  }
  const input = new PktInput(0);
  const output = new PktOutput(1);
  negotiate(input, output);
  let filter: FilterCore | undefined;
  let status = 0;
  try {
    await runSession(
      input,
      output,
      async () => {
        // Only now: the handshake needs none of it.
        filter = (await core()).openFilter(report, kind);
        return filter;
      },
      trace(),
    );
  } catch (error) {
    if (!(error instanceof OutputClosed)) {
      report(
        error instanceof EndOfInput
          ? `${messageOf(error)}; what git had asked for before is stored`
          : messageOf(error),
      );
      status = 1;
    }
  }
  try {
    await filter?.end();
  } catch (error) {
    report(messageOf(error));
    status = 1;
  }
  return status;
}

type FilterCore = Converter & { end(): Promise<void> };

/** Everything behind the protocol; a file of its own, so that the handshake does not pay for it. */
function core(): Promise<typeof import('./core.ts')> {
  return import('./core.ts');
}

function print(text: string): number {
  writeSync(1, text);
  return 0;
}

function programName(kind: PointerKind): string {
  return kind === 'xet' ? 'git2db-filter' : 'git2db-lfs-filter';
}

/** Runs the program and ends the process. */
export function startFilter(kind: PointerKind): void {
  restoreEnvironment();
  run(kind, process.argv.slice(2)).then(
    (status) => process.exit(status),
    (error: unknown) => {
      if (error instanceof OutputClosed || errnoOf(error) === 'EPIPE') process.exit(0);
      reportAs(programName(kind), messageOf(error));
      process.exit(1);
    },
  );
}
