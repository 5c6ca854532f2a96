import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import type { RemovalReport } from '../../registry/index.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { plain } from '../present.ts';
import { COMMON_EXIT_CODES, REGISTRY_OPTIONS } from '../registry-options.ts';
import { withRegistry } from '../registry-session.ts';

export const removeCommand = defineCommand({
  path: ['remove'],
  summary: 'Remove a repository from the registry, and its files',
  description: `Removes a repository: its entry, its worktrees, and its directory. Of one that was
registered where it was, the entry goes, and the worktrees that git2db made for it; its
own files and git data stay, --force or not.

It refuses when something would be lost that is nowhere else: changes that are not
committed, an operation that has stopped, a stash, or commits that no remote-tracking
branch has. Every reason is told; --force removes all the same. --dry-run tells what
would be done, and changes nothing.

REPO is the name, the id or the URL of a repository of the registry. A removal that was
interrupted is completed by the next command.

JSON: {"id","name","path","adopted","removed","dryRun","reasons":[{"kind","path",
"message","items"}],"deletes","keeps","notes"}; the same where it refuses.`,
  operands: { usage: 'REPO', min: 1, max: 1, complete: 'repository' },
  options: {
    ...REGISTRY_OPTIONS,
    force: { type: 'boolean', alias: 'f', describe: 'Whatever would be lost' },
    'dry-run': { type: 'boolean', alias: 'n', describe: 'Only tell what would be done' },
  },
  examples: [
    ['git2db remove org/model --dry-run', 'what would go, and what speaks against it'],
    ['git2db remove org/model', 'if nothing is lost by that'],
  ],
  exitCodes: [
    [EXIT_FALSE, 'With --dry-run: something would be lost'],
    [8, 'Refused: something would be lost; nothing was changed'],
    ...COMMON_EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const { output, json } = context;
    return withRegistry(options, context, async ({ db, signal }) => {
      const query = operands[0]!;
      const { force, 'dry-run': dryRun } = options;
      try {
        const report = await db.remove(db.find(query)?.id ?? query, { force, dryRun, signal });
        if (json) output.json(plain(report));
        else describe(report, force, context);
        return dryRun && report.reasons.length > 0 && !force ? EXIT_FALSE : EXIT_OK;
      } catch (error) {
        const report = (error as { data?: { report?: RemovalReport } }).data?.report;
        if (json && report !== undefined) output.json(plain(report));
        throw error;
      }
    });
  },
});

function describe(report: RemovalReport, force: boolean, { output }: CommandContext): void {
  const { dryRun, name, deletes, keeps, reasons, notes } = report;
  for (const path of deletes) output.data(`${dryRun ? 'would delete' : 'deleted'} ${path}`);
  for (const path of keeps) output.data(`${dryRun ? 'would keep' : 'kept'} ${path}`);
  for (const note of notes) output.note(note);
  for (const { message } of dryRun ? reasons : []) output.warn(message);
  if (!dryRun) output.note(`${name} is no longer in the registry`);
  else if (reasons.length > 0 && !force) output.note('it would be refused; --force removes all the same');
}
