import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { defineCommand } from '../command.ts';
import { plain, showPath } from '../present.ts';
import {
  COMMON_EXIT_CODES,
  PATH_MANUAL,
  WORKTREE_MANUAL,
  WORKTREE_OPTIONS,
  wholeNumber,
} from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';
import { showChanges } from '../show-changes.ts';

export const diffCommand = defineCommand({
  path: ['diff'],
  summary: 'Show what differs between commits, the index and the work tree',
  description: `Lists the files that differ, with the lines added and deleted, or shows all of it as a patch
with --patch:

  without FROM and TO   the index and the work tree
  --staged [FROM]       FROM (HEAD unless given) and the index
  FROM                  FROM and the work tree
  FROM TO               the two

Programs that the configuration names for showing differences do not run.
${PATH_MANUAL}

${WORKTREE_MANUAL}

JSON: {"files":[{"path","change","from":{"path"},"similarity","modes":{"from","to"},
"oids":{"from","to"},"added","deleted","isBinary"}]}; with --patch {"patch"}, a text.`,
  operands: { usage: '[REPO [FROM [TO]]]', min: 0, max: 3, complete: ['repository', 'branch'] },
  options: {
    ...WORKTREE_OPTIONS,
    staged: { type: 'boolean', describe: 'What is staged' },
    'merge-base': { type: 'boolean', describe: 'Begin at the common ancestor of FROM and TO' },
    path: { type: 'string', repeat: true, describe: 'Only this path', complete: 'file' },
    patch: { type: 'boolean', alias: 'p', describe: 'As a patch' },
    context: { type: 'number', alias: 'U', describe: 'With --patch: lines around a change' },
    binary: { type: 'boolean', describe: 'With --patch: contents of binary files too' },
    'no-renames': { type: 'boolean', describe: 'Look for no renames', conflicts: ['copies'] },
    copies: { type: 'boolean', describe: 'Look for copies too' },
    'ignore-whitespace': {
      type: 'string',
      choices: ['all', 'change', 'at-end'],
      describe: 'Leave such changes out',
    },
    names: { type: 'boolean', describe: 'Print the paths alone', conflicts: ['patch'] },
    'exit-code': { type: 'boolean', describe: 'Exit with 1 when something differs' },
  },
  examples: [
    ['git2db diff', 'here, what is not staged'],
    ['git2db diff org/model v1.0 v2.0', 'between two tags'],
    ['git2db diff . --staged --patch', 'here, what would be committed'],
  ],
  exitCodes: [
    [EXIT_FALSE, 'With --exit-code: something differs'],
    [58, 'There is no such commit'],
    [68, 'It is bare, and no worktree is named'],
    ...COMMON_EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const [repo, from, to] = operands;
    const { output, json } = context;
    const { staged, path, patch, binary, copies, names } = options;
    const lines = wholeNumber('context', options.context);
    if (!patch && (binary || lines !== undefined)) {
      throw new Git2dbError('USAGE', `--${binary ? 'binary' : 'context'} needs --patch`);
    }
    return withRepository(repo, options, context, async ({ handle, treePath, signal }) => {
      const wanted = {
        from,
        to,
        staged,
        mergeBase: options['merge-base'],
        paths: path.length === 0 ? undefined : path.map(treePath),
        renames: !options['no-renames'],
        copies,
        ignoreWhitespace: options['ignore-whitespace'],
        signal,
      };
      if (!patch) {
        const files = await handle.diff({ ...wanted, counts: !names });
        if (json) output.json({ files: plain(files) });
        else if (names) for (const file of files) output.data(showPath(file));
        else showChanges(files, output);
        return options['exit-code'] && files.length > 0 ? EXIT_FALSE : EXIT_OK;
      }
      const pieces: Buffer[] = [];
      let differs = false;
      for await (const piece of handle.diff.patch({ ...wanted, context: lines, binary })) {
        differs = true;
        if (json) pieces.push(piece);
        else {
          output.bytes(piece);
          await output.drained();
        }
      }
      if (json) output.json({ patch: Buffer.concat(pieces).toString('utf8') });
      return options['exit-code'] && differs ? EXIT_FALSE : EXIT_OK;
    });
  },
});
