import { EXIT_OK } from '../../exit-codes.ts';
import type { StashEntry } from '../../registry/index.ts';
import { type Command, type CommandContext, defineCommand } from '../command.ts';
import { formatTable } from '../output.ts';
import { plain, printable, shortOid, showDate } from '../present.ts';
import {
  COMMON_EXIT_CODES,
  CONFLICT_KEYS,
  PATH_MANUAL,
  parsePerson,
  WORKTREE_MANUAL,
  WORKTREE_OPTIONS,
} from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';
import { showChanges } from '../show-changes.ts';

const ENTRY_KEYS = '{"oid","index","message","date"}';
const ENTRY_MANUAL =
  'ENTRY is its number (0, the newest, unless given), stash@{N}, or its object id, which does not shift.';
const EXIT_CODES = [[58, 'There is no such entry'], ...COMMON_EXIT_CODES] as const;

const stashPush = defineCommand({
  path: ['stash', 'push'],
  summary: 'Put local changes aside',
  description: `Puts the changes of the work tree and the index aside, so that both are as HEAD is. With
PATHs, only theirs. ${PATH_MANUAL}

${WORKTREE_MANUAL}

JSON: {"entry":${ENTRY_KEYS}}, null when there was nothing to put aside.`,
  operands: {
    usage: '[REPO [PATH...]]',
    min: 0,
    max: Number.POSITIVE_INFINITY,
    complete: ['repository', 'file'],
  },
  options: {
    ...WORKTREE_OPTIONS,
    message: { type: 'string', alias: 'm', describe: 'What it is' },
    untracked: { type: 'boolean', alias: 'u', describe: 'Untracked files too', conflicts: ['all'] },
    all: { type: 'boolean', alias: 'a', describe: 'Untracked and ignored files too' },
    'keep-index': { type: 'boolean', alias: 'k', describe: 'Leave what is staged' },
    staged: { type: 'boolean', alias: 'S', describe: 'Only what is staged' },
    author: { type: 'string', describe: "'Name <address>' of who does it" },
  },
  examples: [["git2db stash push org/model -u -m 'half done'", '']],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    const { output, json } = context;
    const [repo, ...paths] = operands;
    const person = parsePerson('author', options.author);
    return withRepository(repo, options, context, async ({ handle, treePath, signal }) => {
      const entry = await handle.stash().push({
        message: options.message,
        untracked: options.all ? 'all' : options.untracked,
        keepIndex: options['keep-index'],
        staged: options.staged,
        paths: paths.length === 0 ? undefined : paths.map(treePath),
        author: person,
        committer: person,
        signal,
      });
      if (json) output.json({ entry: plain(entry) });
      else
        output.note(
          entry === undefined ? 'there is nothing to put aside' : `put aside: ${printable(entry.message)}`,
        );
      return EXIT_OK;
    });
  },
});

const stashList = defineCommand({
  path: ['stash', 'list'],
  summary: 'List what was put aside',
  description: `Lists the entries of the stash, newest first.

${WORKTREE_MANUAL}

JSON: {"entries":[${ENTRY_KEYS},…]}; "date" is seconds since 1970.`,
  operands: { usage: '[REPO]', min: 0, max: 1, complete: 'repository' },
  options: WORKTREE_OPTIONS,
  examples: [['git2db stash list org/model', '']],
  exitCodes: COMMON_EXIT_CODES,
  async run({ options, operands }, context) {
    const { output, json } = context;
    return withRepository(operands[0], options, context, async ({ handle }) => {
      const entries = await handle.stash().list();
      if (json) output.json({ entries: plain(entries) });
      else {
        const rows = entries.map(({ index, oid, date, message }) => [
          String(index),
          shortOid(oid),
          showDate(date),
          printable(message),
        ]);
        for (const line of formatTable(
          ['', '', '', ''].map((title) => ({ title })),
          rows,
        ))
          output.data(line);
      }
      return EXIT_OK;
    });
  },
});

const stashShow = defineCommand({
  path: ['stash', 'show'],
  summary: 'Show the files of what was put aside',
  description: `Lists the files that an entry changes, and those that were untracked. ${ENTRY_MANUAL}

${WORKTREE_MANUAL}

JSON: {"files":[…]} as that of "git2db diff".`,
  operands: { usage: '[REPO [ENTRY]]', min: 0, max: 2, complete: 'repository' },
  options: WORKTREE_OPTIONS,
  examples: [['git2db stash show . 1', '']],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    const { output, json } = context;
    return withRepository(operands[0], options, context, async ({ handle }) => {
      const files = await handle.stash().show(operands[1]);
      if (json) output.json({ files: plain(files) });
      else showChanges(files, output);
      return EXIT_OK;
    });
  },
});

function applying(word: 'apply' | 'pop', summary: string, what: string): Command {
  return defineCommand({
    path: ['stash', word],
    summary,
    description: `${what} ${ENTRY_MANUAL} Stopped at conflicts, it leaves them in the files,
keeps the entry and exits with 61.

${WORKTREE_MANUAL}

JSON: {"entry":${ENTRY_KEYS}}. ${CONFLICT_KEYS}`,
    operands: { usage: '[REPO [ENTRY]]', min: 0, max: 2, complete: 'repository' },
    options: { ...WORKTREE_OPTIONS, index: { type: 'boolean', describe: 'What was staged is staged again' } },
    examples: [[`git2db stash ${word} org/model`, 'the newest']],
    exitCodes: [[61, 'Stopped at conflicts'], [64, 'Local changes are in the way'], ...EXIT_CODES],
    async run({ options, operands }, context) {
      return withRepository(operands[0], options, context, async ({ handle, signal }) => {
        const entry = await handle.stash()[word](operands[1], { index: options.index, signal });
        tell(entry, word === 'pop' ? 'applied and dropped' : 'applied', context);
        return EXIT_OK;
      });
    },
  });
}

const stashDrop = defineCommand({
  path: ['stash', 'drop'],
  summary: 'Forget what was put aside',
  description: `Drops an entry without applying it; with --all every one. ${ENTRY_MANUAL}

${WORKTREE_MANUAL}

JSON: {"entry":${ENTRY_KEYS}}; {"dropped"}, how many, with --all.`,
  operands: { usage: 'REPO [ENTRY]', min: 1, max: 2, complete: 'repository' },
  options: { ...WORKTREE_OPTIONS, all: { type: 'boolean', describe: 'All entries' } },
  examples: [['git2db stash drop org/model 2', '']],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    const { output, json } = context;
    return withRepository(operands[0], options, context, async ({ handle }) => {
      if (!options.all) {
        tell(await handle.stash().drop(operands[1]), 'dropped', context);
        return EXIT_OK;
      }
      const dropped = (await handle.stash().list()).length;
      await handle.stash().clear();
      if (json) output.json({ dropped });
      else output.note(`${dropped} dropped`);
      return EXIT_OK;
    });
  },
});

export const stashCommands: readonly Command[] = [
  stashPush,
  stashList,
  stashShow,
  applying('apply', 'Apply what was put aside', 'Applies an entry, and keeps it.'),
  applying(
    'pop',
    'Apply what was put aside, and drop it',
    'Applies an entry, and drops it when that went well.',
  ),
  stashDrop,
];

function tell(entry: StashEntry, what: string, { output, json }: CommandContext): void {
  if (json) output.json({ entry: plain(entry) });
  else output.note(`${what}: ${printable(entry.message)} (${entry.oid})`);
}
