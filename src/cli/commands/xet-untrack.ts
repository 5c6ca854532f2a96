import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { defineCommand } from '../command.ts';

export const xetUntrack = defineCommand({
  path: ['xet', 'untrack'],
  summary: 'Undo "git2db xet track"',
  description: `Removes from the .gitattributes of the current directory what "git2db xet track"
wrote for each PATTERN; other attributes of that line stay. Nothing else changes:
files that are pointers in git stay so until they are added again, for instance
with "git add --renormalize .".

JSON: {"file","dryRun","removed","absent"}; "absent" are the patterns that the
file does not track.`,
  operands: { usage: 'PATTERN...', min: 1, max: Number.POSITIVE_INFINITY },
  options: {
    'dry-run': { type: 'boolean', alias: 'n', describe: 'Change nothing, say what would be done' },
  },
  examples: [["git2db xet untrack '*.bin'", 'the pattern as "git2db xet track" lists it']],
  exitCodes: [
    [EXIT_FALSE, 'Some patterns were not tracked there'],
    [4, 'Not in the work tree of a repository'],
  ],
  async run({ options, operands }, { cwd, env, output, json }) {
    const dryRun = options['dry-run'];
    const { untrack } = await import('../large-files-library.ts');
    const { file, removed, absent } = await untrack({ cwd, env, patterns: operands, dryRun });
    if (json) output.json({ file, dryRun, removed, absent });
    for (const pattern of removed)
      output.note(`${pattern}: ${dryRun ? 'would be ' : ''}removed from ${file}`);
    for (const pattern of absent) {
      output.error(`${pattern} is not tracked in ${file}; 'git2db xet track' lists what is`);
    }
    return absent.length === 0 ? EXIT_OK : EXIT_FALSE;
  },
});
