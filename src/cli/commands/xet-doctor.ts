import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { quotePath } from '../../filter-process/trace.ts';
import type { Fault } from '../../large-files/doctor.ts';
import { type CommandContext, defineCommand, NO_OPERANDS } from '../command.ts';

/** Paths that are listed without --verbose. */
const SHOWN = 5;

export const xetDoctor = defineCommand({
  path: ['xet', 'doctor'],
  summary: 'Find the usual faults, and the commands that mend them',
  description: `Looks at the programs, git's configuration, .gitattributes, the index, the work tree
and the store for the usual faults, and prints for each the commands that mend it.
Nothing is changed. Works outside of a repository too, with less to look at.

Contents are not read: "git2db xet fsck" does that. docs/troubleshooting.md
explains every fault.

JSON: {"ok","faults":[{"id","severity","message","remedy","paths"}]}; "severity" is
error, warning or note, "remedy" a list of shell commands, "paths" the files it is
about, from the top of the work tree. "ok" is false when there is an error.`,
  operands: NO_OPERANDS,
  options: {},
  examples: [
    ['git2db xet doctor', 'what is wrong here?'],
    ["git2db xet doctor --json | jq -r '.faults[].remedy[]'", 'the commands alone'],
  ],
  exitCodes: [[EXIT_FALSE, 'An error was found; warnings alone are 0']],
  async run(_, context) {
    const { cwd, env, output, json } = context;
    const { examine } = await import('../large-files-library.ts');
    const faults = await examine({ cwd, env });
    const ok = faults.every(({ severity }) => severity !== 'error');
    if (json) {
      output.json({
        ok,
        faults: faults.map((one) => ({ ...one, paths: one.paths.map((path) => path.toString('utf8')) })),
      });
    } else {
      for (const one of faults) describe(one, context);
      output.note(
        faults.length === 0
          ? 'no fault found'
          : `${faults.length} ${faults.length === 1 ? 'fault' : 'faults'} found`,
      );
    }
    return ok ? EXIT_OK : EXIT_FALSE;
  },
});

function describe({ id, severity, message, remedy, paths }: Fault, { output }: CommandContext): void {
  output.data(`${severity}: ${message} [${id}]`);
  for (const path of paths.slice(0, SHOWN)) output.data(`    ${quotePath(path)}`);
  if (paths.length > SHOWN) output.data(`    and ${paths.length - SHOWN} more`);
  for (const command of remedy) output.data(`  $ ${command}`);
}
