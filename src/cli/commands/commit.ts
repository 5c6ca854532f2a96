import { EXIT_OK } from '../../exit-codes.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { defineCommand } from '../command.ts';
import { noteHooks, plain, shortOid } from '../present.ts';
import {
  COMMON_EXIT_CODES,
  MESSAGE_OPTIONS,
  messageText,
  parsePerson,
  SIGN_OPTIONS,
  signOf,
  WORKTREE_MANUAL,
  WORKTREE_OPTIONS,
} from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';

export const commitCommand = defineCommand({
  path: ['commit'],
  summary: 'Commit what is staged',
  description: `Commits what is staged, as "git commit" does: with its hooks (of a trusted repository), its
signing, and the same object id for the same contents and dates. No editor is opened: the
message comes by -m or -F, and stays with --amend where neither is given.

${WORKTREE_MANUAL}

JSON: {"oid","branch","parents","tree","hooksSkipped"}; "hooksSkipped" are hooks that
are there and did not run.`,
  operands: { usage: '[REPO]', min: 0, max: 1, complete: 'repository' },
  options: {
    ...WORKTREE_OPTIONS,
    ...MESSAGE_OPTIONS,
    all: {
      type: 'boolean',
      alias: 'a',
      describe: 'Stage first what git knows already: changed and deleted files',
    },
    amend: { type: 'boolean', describe: 'Replace the last commit' },
    'allow-empty': { type: 'boolean', describe: 'Also when nothing is staged' },
    'allow-empty-message': { type: 'boolean', describe: 'Also without a message' },
    author: { type: 'string', describe: "'Name <address>' of the author" },
    committer: { type: 'string', describe: "'Name <address>' of the committer" },
    date: { type: 'string', describe: 'Of both, in any form that git reads' },
    ...SIGN_OPTIONS,
    'no-hooks': { type: 'boolean', describe: 'Run no hook' },
    trailer: { type: 'string', repeat: true, describe: "'Key: value' at the end of the message" },
    cleanup: {
      type: 'string',
      choices: ['strip', 'whitespace', 'verbatim', 'scissors'],
      describe: 'What is done to the message',
    },
  },
  examples: [
    ["git2db commit org/model -m 'New weights'", 'what is staged'],
    ['git2db commit --amend --all', 'here: into the last commit, with its message'],
    ['make-notes | git2db commit . -F -', 'the message from another program'],
  ],
  exitCodes: [
    [61, 'There are conflicts that are not resolved'],
    [74, 'Nothing is staged'],
    [75, 'A hook refused'],
    [76, 'Git does not know who is committing'],
    ...COMMON_EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const { output, json } = context;
    const message = messageText(options, context);
    const author = parsePerson('author', options.author);
    const committer = parsePerson('committer', options.committer);
    const trailers = options.trailer.map((text) => parseTrailer(text));
    return withRepository(operands[0], options, context, async ({ handle, record, signal }) => {
      const needsMessage = !options.amend && !options['allow-empty-message'] && message === undefined;
      if (needsMessage && (await handle.operation()) === undefined) {
        throw new Git2dbError('USAGE', 'expected a message: -m TEXT, or -F FILE');
      }
      if (options.all) await handle.staging().add('.', { update: true, signal });
      const result = await handle.commit({
        message: message ?? (options['allow-empty-message'] && !options.amend ? '' : undefined),
        author,
        committer,
        date: options.date,
        sign: signOf(options),
        amend: options.amend,
        allowEmpty: options['allow-empty'],
        allowEmptyMessage: options['allow-empty-message'],
        hooks: !options['no-hooks'],
        trailers,
        cleanup: options.cleanup,
        signal,
      });
      noteHooks(result.hooksSkipped, record.trusted, output);
      if (json) output.json(plain(result));
      else output.note(`${result.branch ?? 'HEAD'} is at ${shortOid(result.oid)}`);
      return EXIT_OK;
    });
  },
});

function parseTrailer(text: string): readonly [string, string] {
  const colon = text.indexOf(':');
  if (colon < 1) throw new Git2dbError('USAGE', `--trailer: expected 'Key: value', found '${text}'`);
  return [text.slice(0, colon).trim(), text.slice(colon + 1).trim()];
}
