import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { quotePath } from '../../filter-process/trace.ts';
import type { Fault } from '../../large-files/doctor.ts';
import type { RemoteReport, RemotesReport } from '../../large-files/remote-report.ts';
import { type CommandContext, defineCommand, NO_OPERANDS } from '../command.ts';
import { pathsDocument } from '../present.ts';

/** Paths that are listed without --verbose. */
const SHOWN = 5;

export const xetDoctor = defineCommand({
  path: ['xet', 'doctor'],
  summary: 'Find the usual faults, and the commands that mend them',
  description: `Looks at the programs, git's configuration, .gitattributes, the index, the work tree
and the store for the usual faults, and prints for each the commands that mend it.
Nothing is changed. Works outside of a repository too, with less to look at. For each
remote it says where its content is kept, and why: a server is asked for that, unless
--offline is given.

Contents are not read: "git2db xet fsck" does that. docs/troubleshooting.md
explains every fault.

JSON: {"ok","faults":[{"id","severity","message","remedy","paths"}],"remotes"}; "severity" is
error, warning or note, "remedy" a list of shell commands, "paths" the files it is
about, from the top of the work tree. "ok" is false when there is an error. "remotes":
[{"name","url","place","candidates":[{"name","place","verdict","reason"}],"message"}]; of
the candidates, in the order of precedence, one is taken, or none.`,
  operands: NO_OPERANDS,
  options: { offline: { type: 'boolean', describe: 'Ask no server' } },
  examples: [
    ['git2db xet doctor', 'what is wrong here?'],
    ["git2db xet doctor --json | jq -r '.faults[].remedy[]'", 'the commands alone'],
  ],
  exitCodes: [[EXIT_FALSE, 'An error was found; warnings alone are 0']],
  async run({ options }, context) {
    const { cwd, env, output, json } = context;
    const { examine, reportRemotes } = await import('../large-files-library.ts');
    const faults = await examine({ cwd, env });
    const remotes = await remotesHere(() => reportRemotes({ cwd, env }, { ask: !options.offline }));
    const ok = faults.every(({ severity }) => severity !== 'error');
    if (json) {
      output.json({
        ok,
        faults: faults.map((one) => ({ ...one, ...pathsDocument('paths', one.paths) })),
        remotes: remotes.map(({ name, url, place, candidates, error }) => ({
          name,
          url,
          place: place ?? null,
          candidates: candidates.map((one) => ({
            name: one.name,
            place: one.place ?? null,
            verdict: one.verdict,
            reason: one.reason,
          })),
          message: error?.message ?? null,
        })),
      });
    } else {
      for (const one of remotes) describeRemote(one, context);
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

/** None outside of a repository; what else is wrong with it is among the faults. */
async function remotesHere(report: () => Promise<RemotesReport>): Promise<readonly RemoteReport[]> {
  try {
    return (await report()).remotes;
  } catch (error) {
    if ((error as { code?: unknown }).code !== undefined) return [];
    throw error;
  }
}

function describeRemote(
  { name, url, place, candidates, error }: RemoteReport,
  { output }: CommandContext,
): void {
  output.data(
    `remote ${name} (${url}): ${place === undefined ? 'no place for content' : `content at ${place}`}`,
  );
  for (const one of candidates) {
    if (one.verdict === 'unset' || one.verdict === 'not-needed') continue;
    output.data(`    ${one.name}: ${one.verdict}: ${one.reason}`);
  }
  if (error !== undefined) output.data(`    ${error.message}`);
}

function describe({ id, severity, message, remedy, paths }: Fault, { output }: CommandContext): void {
  output.data(`${severity}: ${message} [${id}]`);
  for (const path of paths.slice(0, SHOWN)) output.data(`    ${quotePath(path)}`);
  if (paths.length > SHOWN) output.data(`    and ${paths.length - SHOWN} more`);
  for (const command of remedy) output.data(`  $ ${command}`);
}
