import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { quotePath } from '../../filter-process/trace.ts';
import type { TrackResult } from '../../large-files/track.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { formatTable } from '../output.ts';
import { pathsDocument } from '../present.ts';

export const xetTrack = defineCommand({
  path: ['xet', 'track'],
  summary: 'Say which files are large, or list the patterns that do',
  description: `Writes each PATTERN with "filter=xet diff=xet merge=binary -text" into the
.gitattributes of the current directory: git then keeps pointers for the files
it matches, from their next "git add" on. Quote the PATTERN, or the shell
replaces it by the files of today. Commit .gitattributes with the files.

Files that git holds already stay as they are, so every clone would see them as
modified. --renormalize turns them into pointers in the index; files with changes
that are not staged are left alone and named. Older commits keep full contents.

Without PATTERN, lists the patterns in force and the files that hold them.

JSON: {"file","dryRun","patterns":[{"pattern","change"}],"plain","converted",
"skipped"}; "change" is added, updated or unchanged, "plain" are the matching
files that git holds whole, "converted" and "skipped" what became of them.
Without PATTERN: [{"pattern","source","line"}].`,
  operands: { usage: '[PATTERN...]', min: 0, max: Number.POSITIVE_INFINITY, complete: 'file' },
  options: {
    renormalize: { type: 'boolean', describe: 'Turn matching files that git holds whole into pointers' },
    'dry-run': { type: 'boolean', alias: 'n', describe: 'Change nothing, say what would be done' },
  },
  examples: [
    ["git2db xet track '*.safetensors' 'data/**'", 'models, and all below data'],
    ["git2db xet track --renormalize '*.bin'", 'also those added before'],
    ['git2db xet track', 'list what is tracked'],
  ],
  exitCodes: [
    [EXIT_FALSE, 'With --renormalize: some files could not be converted'],
    [4, 'Not in the work tree of a repository'],
    [8, 'With --renormalize: "git2db xet install" was not run'],
  ],
  async run({ options, operands }, context) {
    const { cwd, env, output, json } = context;
    const dryRun = options['dry-run'];
    if (operands.length === 0) {
      if (dryRun || options.renormalize)
        throw new Git2dbError('USAGE', 'expected PATTERN..., found only options');
      return listPatterns(context);
    }
    const { track } = await import('../large-files-library.ts');
    const result = await track({ cwd, env, patterns: operands, dryRun, renormalize: options.renormalize });
    if (json) {
      output.json({
        file: result.file,
        dryRun,
        patterns: result.patterns,
        ...pathsDocument('plain', result.plain),
        ...pathsDocument('converted', result.converted),
        ...pathsDocument('skipped', result.skipped),
      });
    }
    return describe(result, options.renormalize, dryRun, context);
  },
});

async function listPatterns({ cwd, env, output, json }: CommandContext): Promise<number> {
  const { listTracked } = await import('../large-files-library.ts');
  const found = await listTracked({ cwd, env });
  if (json) output.json(found.map(({ pattern, source, line }) => ({ pattern, source, line })));
  else {
    const rows = found.map(({ pattern, source, line }) => [pattern, `${source}:${line}`]);
    for (const line of formatTable([{ title: '' }, { title: '' }], rows)) output.data(line);
  }
  return EXIT_OK;
}

function describe(
  result: TrackResult,
  renormalize: boolean,
  dryRun: boolean,
  { output }: CommandContext,
): number {
  const would = dryRun ? 'would be ' : '';
  for (const { pattern, change } of result.patterns)
    output.note(`${pattern}: ${would}${change} in ${result.file}`);
  if (!result.filterInstalled) {
    output.warn("git would still store these files whole: run 'git2db xet install'");
  }
  const { plain, converted, skipped } = result;
  if (!renormalize) {
    if (plain.length > 0) {
      output.warn(
        `git holds ${plain.length} matching ${plain.length === 1 ? 'file' : 'files'} whole, such as ${quotePath(plain[0]!)}: ` +
          "'git2db xet track --renormalize' turns them into pointers",
      );
    }
    return EXIT_OK;
  }
  for (const path of converted) output.note(`${quotePath(path)}: ${would}converted`);
  for (const path of skipped) output.warn(`${quotePath(path)} has changes that are not staged: left alone`);
  const done = new Set([...converted, ...skipped].map((path) => path.toString('latin1')));
  const failed = plain.filter((path) => !done.has(path.toString('latin1')));
  for (const path of failed) {
    output.error(
      `${quotePath(path)} was not converted: another line of .gitattributes, or the filter, left it whole`,
    );
  }
  return failed.length + skipped.length === 0 ? EXIT_OK : EXIT_FALSE;
}
