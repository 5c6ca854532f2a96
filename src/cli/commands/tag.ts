import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { type Command, defineCommand } from '../command.ts';
import { formatTable } from '../output.ts';
import { plain, printable, shortOid } from '../present.ts';
import {
  COMMON_EXIT_CODES,
  MESSAGE_OPTIONS,
  messageText,
  parsePerson,
  REGISTRY_OPTIONS,
  REPO_MANUAL,
  SIGN_OPTIONS,
  signOf,
} from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';

const TAG_KEYS = `{"name","ref","oid","isAnnotated","target","targetType","tagger":{"name",
"email","date"},"subject"}`;
const EXIT_CODES = [[58, 'There is no such tag or commit'], ...COMMON_EXIT_CODES] as const;

const tagList = defineCommand({
  path: ['tag', 'list'],
  summary: 'List tags',
  description: `Lists the tags of a repository, with what they are about and the first line of their
message.

${REPO_MANUAL}

JSON: {"tags":[${TAG_KEYS},…]}; dates are seconds since 1970.`,
  operands: { usage: '[REPO]', min: 0, max: 1, complete: 'repository' },
  options: {
    ...REGISTRY_OPTIONS,
    pattern: { type: 'string', describe: "Only those that match, such as 'v1.*'" },
    sort: { type: 'string', choices: ['name', 'version', 'date'], describe: 'Order (default name)' },
    contains: { type: 'string', describe: 'Which have this commit', complete: 'branch' },
    merged: { type: 'string', describe: 'Whose commits are all in this revision', complete: 'branch' },
    'points-at': { type: 'string', describe: 'Of this object' },
    names: { type: 'boolean', describe: 'Print the names alone' },
  },
  examples: [["git2db tag list org/model --pattern 'v2.*' --sort version", '']],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    const { output, json } = context;
    return withRepository(operands[0], options, context, async ({ handle }) => {
      const { pattern, sort, contains, merged, names, 'points-at': pointsAt } = options;
      const tags = await handle.tag().list({ pattern, sort, contains, merged, pointsAt });
      if (json) output.json({ tags: plain(tags) });
      else if (names) for (const { name } of tags) output.data(name);
      else {
        const rows = tags.map(({ name, target, subject }) => [
          name,
          shortOid(target),
          printable(subject ?? ''),
        ]);
        const columns = ['', '', ''].map((title) => ({ title }));
        if (rows.length > 0) for (const line of formatTable(columns, rows)) output.data(line);
      }
      return EXIT_OK;
    });
  },
});

const tagShow = defineCommand({
  path: ['tag', 'show'],
  summary: 'Show a tag and its message',
  description: `Shows what a tag is about, who made it, and its message.

${REPO_MANUAL}

JSON: ${TAG_KEYS} with "message", null for a light tag.`,
  operands: { usage: 'REPO NAME', min: 2, max: 2, complete: ['repository', 'tag'] },
  options: REGISTRY_OPTIONS,
  examples: [['git2db tag show org/model v1.0', '']],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    const [repo, name] = operands as [string, string];
    const { output, json } = context;
    return withRepository(repo, options, context, async ({ handle }) => {
      const tag = await handle.tag().get(name);
      const message = await handle.tag().message(name);
      if (json) output.json(plain({ ...tag, message }));
      else {
        output.data(`${output.style('yellow', tag.name)} ${tag.targetType} ${tag.target}`);
        if (tag.tagger !== undefined) output.data(printable(`${tag.tagger.name} <${tag.tagger.email}>`));
        if (message !== undefined) output.data(`\n${printable(message.trimEnd())}`);
      }
      return EXIT_OK;
    });
  },
});

const tagCreate = defineCommand({
  path: ['tag', 'create'],
  summary: 'Make a tag',
  description: `Makes the tag NAME of the object TARGET, HEAD unless given: a light one, or with a message
an annotated one, which can be signed.

${REPO_MANUAL}

JSON: ${TAG_KEYS}.`,
  operands: { usage: 'REPO NAME [TARGET]', min: 2, max: 3, complete: ['repository', 'tag', 'branch'] },
  options: {
    ...REGISTRY_OPTIONS,
    ...MESSAGE_OPTIONS,
    ...SIGN_OPTIONS,
    tagger: { type: 'string', describe: "'Name <address>' of who makes it" },
    date: { type: 'string', describe: 'When, in any form that git reads' },
    force: { type: 'boolean', alias: 'f', describe: 'Replace a tag of this name' },
  },
  examples: [
    ["git2db tag create org/model v1.0 -m 'First release'", 'annotated'],
    ['git2db tag create . tested HEAD~2', 'light'],
  ],
  exitCodes: [[70, 'There is a tag of this name already'], [77, 'It could not be signed'], ...EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, name, target] = operands as [string, string, string?];
    const { output, json } = context;
    return withRepository(repo, options, context, async ({ handle, signal }) => {
      const tag = await handle.tag().create(name, {
        target,
        message: messageText(options, context),
        sign: signOf(options),
        tagger: parsePerson('tagger', options.tagger),
        date: options.date,
        force: options.force,
        signal,
      });
      if (json) output.json(plain(tag));
      else output.note(`${tag.name} is ${tag.targetType} ${shortOid(tag.target)}`);
      return EXIT_OK;
    });
  },
});

const tagDelete = defineCommand({
  path: ['tag', 'delete'],
  summary: 'Delete tags',
  description: `Deletes tags: all that are named, or none when one of them does not exist. Tags of remotes
stay; "git2db push REPO --delete refs/tags/NAME" deletes them there.

${REPO_MANUAL}

JSON: {"deleted":[{"name","oid"}]}.`,
  operands: { usage: 'REPO NAME...', min: 2, max: Number.POSITIVE_INFINITY, complete: ['repository', 'tag'] },
  options: REGISTRY_OPTIONS,
  examples: [['git2db tag delete . tested v0.9', '']],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    const [repo, ...names] = operands as [string, ...string[]];
    const { output, json } = context;
    return withRepository(repo, options, context, async ({ handle }) => {
      const deleted = (await handle.tag().delete(names)).map(({ name, oid }) => ({ name, oid }));
      if (json) output.json({ deleted });
      else for (const { name, oid } of deleted) output.note(`deleted ${name}, which was ${oid}`);
      return EXIT_OK;
    });
  },
});

const tagVerify = defineCommand({
  path: ['tag', 'verify'],
  summary: 'Check the signature of a tag',
  description: `Checks the signature of the tag NAME, and tells what the signing program says. A tag without
a signature is not valid.

${REPO_MANUAL}

JSON: {"isValid","report"}.`,
  operands: { usage: 'REPO NAME', min: 2, max: 2, complete: ['repository', 'tag'] },
  options: REGISTRY_OPTIONS,
  examples: [['git2db tag verify org/model v1.0', '']],
  exitCodes: [[EXIT_FALSE, 'It has no valid signature'], ...EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, name] = operands as [string, string];
    const { output, json } = context;
    return withRepository(repo, options, context, async ({ handle }) => {
      const { isValid, report } = await handle.tag().verify(name);
      if (json) output.json({ isValid, report });
      else {
        if (report !== '') output.note(printable(report));
        output.data(`${name}: ${isValid ? 'the signature is valid' : 'no valid signature'}`);
      }
      return isValid ? EXIT_OK : EXIT_FALSE;
    });
  },
});

export const tagCommands: readonly Command[] = [tagList, tagShow, tagCreate, tagDelete, tagVerify];
