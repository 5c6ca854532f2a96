import { EXIT_OK } from '../../exit-codes.ts';
import type { Remote } from '../../registry/index.ts';
import { type Command, type CommandContext, defineCommand } from '../command.ts';
import { formatTable } from '../output.ts';
import { plain, printable } from '../present.ts';
import {
  AUTH_MANUAL,
  AUTH_OPTIONS,
  authOf,
  COMMON_EXIT_CODES,
  REGISTRY_OPTIONS,
  REPO_MANUAL,
} from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';

const REMOTE_KEYS = '{"name","fetchUrls","pushUrls","fetchRefspecs","pushRefspecs"}';
const EXIT_CODES = [[52, 'The URL is not understood, or not allowed'], ...COMMON_EXIT_CODES] as const;

const remoteList = defineCommand({
  path: ['remote', 'list'],
  summary: 'List remotes',
  description: `Lists the remotes of a repository and their URLs, without any password they may hold.

${REPO_MANUAL}

JSON: {"default","remotes":[${REMOTE_KEYS},…]}; "default" is the one that is meant when
none is named.`,
  operands: { usage: '[REPO]', min: 0, max: 1, complete: 'repository' },
  options: { ...REGISTRY_OPTIONS, names: { type: 'boolean', describe: 'Print the names alone' } },
  examples: [['git2db remote list org/model', '']],
  exitCodes: COMMON_EXIT_CODES,
  async run({ options, operands }, context) {
    const { output, json } = context;
    return withRepository(operands[0], options, context, async ({ handle }) => {
      const remotes = await handle.remote().list();
      if (json) output.json(plain({ default: await handle.remote().default(), remotes }));
      else if (options.names) for (const { name } of remotes) output.data(name);
      else {
        const rows = remotes.flatMap(({ name, fetchUrls, pushUrls }) => [
          ...fetchUrls.map((url) => [name, printable(url), '']),
          ...pushUrls.filter((url) => !fetchUrls.includes(url)).map((url) => [name, printable(url), 'push']),
        ]);
        if (rows.length > 0)
          for (const line of formatTable(
            ['', '', ''].map((title) => ({ title })),
            rows,
          ))
            output.data(line);
      }
      return EXIT_OK;
    });
  },
});

const remoteAdd = defineCommand({
  path: ['remote', 'add'],
  summary: 'Add a remote',
  description: `Adds the remote NAME with this URL. A password or token in the URL is not stored; give it to
fetch and push instead.

${REPO_MANUAL}

JSON: ${REMOTE_KEYS}.`,
  operands: { usage: 'REPO NAME URL', min: 3, max: 3, complete: ['repository', 'remote', 'directory'] },
  options: {
    ...REGISTRY_OPTIONS,
    branch: { type: 'string', repeat: true, describe: 'Follow this branch only' },
    tags: { type: 'string', choices: ['auto', 'all', 'none'], describe: 'Which tags a fetch brings' },
    mirror: { type: 'string', choices: ['fetch', 'push'], describe: 'Mirror all refs' },
  },
  examples: [['git2db remote add org/model backup ssh://host/srv/model.git', '']],
  exitCodes: [[70, 'There is a remote of this name already'], ...EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, name, url] = operands as [string, string, string];
    const { branch, tags, mirror } = options;
    return withRepository(repo, options, context, async ({ handle }) => {
      const remote = await handle.remote().add(name, url, { branches: branch, tags, mirror });
      return tell(remote, `${name} is ${remote.fetchUrls.join(' ')}`, context);
    });
  },
});

const remoteRemove = defineCommand({
  path: ['remote', 'remove'],
  summary: 'Remove a remote',
  description: `Removes the remote NAME, its remote-tracking branches, and what branches say of it.

${REPO_MANUAL}

JSON: {"removed"}, its name.`,
  operands: { usage: 'REPO NAME', min: 2, max: 2, complete: ['repository', 'remote'] },
  options: REGISTRY_OPTIONS,
  examples: [['git2db remote remove org/model backup', '']],
  exitCodes: COMMON_EXIT_CODES,
  async run({ options, operands }, context) {
    const [repo, name] = operands as [string, string];
    return withRepository(repo, options, context, async ({ handle }) => {
      await handle.remote().remove(name);
      if (context.json) context.output.json({ removed: name });
      else context.output.note(`${name} is removed`);
      return EXIT_OK;
    });
  },
});

const remoteRename = defineCommand({
  path: ['remote', 'rename'],
  summary: 'Rename a remote',
  description: `Renames the remote OLD to NEW, with its remote-tracking branches.

${REPO_MANUAL}

JSON: ${REMOTE_KEYS}.`,
  operands: { usage: 'REPO OLD NEW', min: 3, max: 3, complete: ['repository', 'remote'] },
  options: REGISTRY_OPTIONS,
  examples: [['git2db remote rename org/model origin upstream', '']],
  exitCodes: [[70, 'There is a remote NEW already'], ...COMMON_EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, from, to] = operands as [string, string, string];
    return withRepository(repo, options, context, async ({ handle }) => {
      return tell(await handle.remote().rename(from, to), `${from} is ${to} now`, context);
    });
  },
});

const remoteSetUrl = defineCommand({
  path: ['remote', 'set-url'],
  summary: 'Change the URL of a remote',
  description: `Changes the URL of the remote NAME, or with --push the one that only pushes use. That of
the remote which the registry has recorded changes there too.

${REPO_MANUAL}

JSON: ${REMOTE_KEYS}.`,
  operands: { usage: 'REPO NAME URL', min: 3, max: 3, complete: ['repository', 'remote', 'directory'] },
  options: { ...REGISTRY_OPTIONS, push: { type: 'boolean', describe: 'For pushes alone' } },
  examples: [['git2db remote set-url org/model origin https://new-host/org/model', '']],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    const [repo, name, url] = operands as [string, string, string];
    return withRepository(repo, options, context, async ({ handle }) => {
      const remote = await handle.remote().setUrl(name, url, { push: options.push });
      return tell(
        remote,
        `${name} is ${(options.push ? remote.pushUrls : remote.fetchUrls).join(' ')}`,
        context,
      );
    });
  },
});

const remoteRefs = defineCommand({
  path: ['remote', 'refs'],
  summary: 'List the refs that a remote has',
  description: `Asks REMOTE (a name, or a URL; the default remote unless given) for its refs. A PATTERN
matches the end of a ref's name.

${AUTH_MANUAL}

${REPO_MANUAL}

JSON: {"refs":[{"name","oid","peeled","symbolicTarget"}]}; "peeled" is what an annotated
tag is about.`,
  operands: {
    usage: '[REPO [REMOTE [PATTERN...]]]',
    min: 0,
    max: Number.POSITIVE_INFINITY,
    complete: ['repository', 'remote', 'branch'],
  },
  options: {
    ...REGISTRY_OPTIONS,
    kind: { type: 'string', choices: ['branches', 'tags', 'all'], describe: 'Which (default all)' },
    ...AUTH_OPTIONS,
  },
  examples: [["git2db remote refs org/model origin --kind tags 'v2.*'", '']],
  exitCodes: [
    [59, 'The remote wants other credentials'],
    [60, 'The remote cannot be reached'],
    ...EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const [repo, remote, ...patterns] = operands;
    const { output, json } = context;
    const connection = authOf(options, context);
    return withRepository(repo, options, context, async ({ handle, signal }) => {
      const refs = await handle
        .remote()
        .lsRemote(remote, { ...connection, kind: options.kind, patterns, signal });
      if (json) output.json({ refs: plain(refs) });
      else for (const { name, oid } of refs) output.data(`${oid}  ${printable(name)}`);
      return EXIT_OK;
    });
  },
});

export const remoteCommands: readonly Command[] = [
  remoteList,
  remoteAdd,
  remoteRemove,
  remoteRename,
  remoteSetUrl,
  remoteRefs,
];

function tell(remote: Remote, line: string, { output, json }: CommandContext): number {
  if (json) output.json(plain(remote));
  else output.note(printable(line));
  return EXIT_OK;
}
