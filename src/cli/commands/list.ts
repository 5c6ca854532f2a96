import { EXIT_OK } from '../../exit-codes.ts';
import type { RepositoryFilter } from '../../registry/index.ts';
import { type Command, defineCommand } from '../command.ts';
import { formatTable } from '../output.ts';
import { plain, printable, RECORD_KEYS, recordDocument, shortOid } from '../present.ts';
import { COMMON_EXIT_CODES, parsePairs, REGISTRY_OPTIONS, REPO_MANUAL } from '../registry-options.ts';
import { withRegistry, withRepository } from '../registry-session.ts';

export const listCommand: Command = defineCommand({
  path: ['list'],
  summary: 'List the repositories of the registry',
  description: `Lists the repositories of the registry by name: name, URL and where they are. TEXT is a
part of the name, in any case. All that is given must hold.

JSON: {"registry":{"root","id","generation"},"repositories":[${RECORD_KEYS},…]}; "path"
is absolute. "generation" grows with every change of the registry.`,
  operands: { usage: '[TEXT]', min: 0, max: 1, complete: 'repository' },
  options: {
    ...REGISTRY_OPTIONS,
    url: { type: 'string', describe: 'With this URL, in any of its forms' },
    adopted: { type: 'boolean', describe: 'Registered where they were', conflicts: ['cloned'] },
    cloned: { type: 'boolean', describe: 'Cloned into the registry' },
    bare: { type: 'boolean', describe: 'Without a work tree' },
    trusted: { type: 'boolean', describe: 'Whose programs may run', conflicts: ['untrusted'] },
    untrusted: { type: 'boolean', describe: 'Whose programs may not run' },
    with: { type: 'string', repeat: true, describe: 'KEY=VALUE: with this note' },
    names: { type: 'boolean', describe: 'Print the names alone' },
  },
  examples: [
    ['git2db list', 'all of them'],
    ['git2db list llama --json', 'with "llama" in the name, for a program'],
    ['git2db list --url https://host/org/model', 'what has this URL'],
  ],
  exitCodes: [[55, 'There is no registry, or it is broken']],
  async run({ options, operands }, context) {
    const { output, json } = context;
    const metadata = parsePairs('with', options.with);
    return withRegistry(options, context, async ({ db }) => {
      const { url, adopted, cloned, bare, trusted, untrusted } = options;
      const filter: RepositoryFilter = {
        name: operands[0],
        url,
        adopted: adopted ? true : cloned ? false : undefined,
        bare: bare ? true : undefined,
        trusted: trusted ? true : untrusted ? false : undefined,
        metadata,
      };
      const found = db.list(filter);
      if (json) {
        const repositories = found.map((record) => recordDocument(record, db.absolutePath(record)));
        output.json({ registry: { root: db.root, id: db.id, generation: db.generation }, repositories });
      } else if (options.names) {
        for (const { name } of found) output.data(name);
      } else {
        const rows = found.map((record) => [
          output.style('bold', record.name),
          record.url ?? '-',
          record.adopted ? db.absolutePath(record) : record.path,
          [record.bare ? 'bare' : '', record.trusted ? 'trusted' : ''].filter(Boolean).join(' '),
        ]);
        const columns = ['', '', '', ''].map((title) => ({ title }));
        if (rows.length > 0) for (const line of formatTable(columns, rows)) output.data(line);
        else
          output.note(db.list().length === 0 ? 'the registry is empty' : 'none of the repositories is such');
      }
      return EXIT_OK;
    });
  },
});

export const showCommand: Command = defineCommand({
  path: ['show'],
  summary: 'Show what is known of a repository',
  description: `Shows what the registry has recorded of a repository, the branch and commit it is on, and
its worktrees.

${REPO_MANUAL}

JSON: ${RECORD_KEYS} with "head":{"branch","oid"}, "remotes":[{"name",
"fetchUrls"}] and "worktrees":[{"id","path","branch","head","driver","backend"}].`,
  operands: { usage: '[REPO]', min: 0, max: 1, complete: 'repository' },
  options: REGISTRY_OPTIONS,
  examples: [
    ['git2db show org/model', 'by name'],
    ['git2db show https://host/org/model', 'by URL'],
    ['cd "$(git2db show org/model --json | jq -r .path)"', 'go there'],
  ],
  exitCodes: COMMON_EXIT_CODES,
  async run({ options, operands }, context) {
    const { output, json } = context;
    return withRepository(operands[0], options, context, async ({ db, record, handle }) => {
      const path = db.absolutePath(record);
      const head = { branch: await handle.branch().current(), oid: await handle.refs.find('HEAD') };
      const remotes = (await handle.remote().list()).map(({ name, fetchUrls }) => ({ name, fetchUrls }));
      const worktrees = (await handle.worktree().list()).map(
        ({ id, path, branch, head, driver, backend }) => {
          return { id, path, branch, head, driver, backend };
        },
      );
      if (json) {
        output.json(plain({ ...recordDocument(record, path), head, remotes, worktrees }));
        return EXIT_OK;
      }
      const rows: [string, string][] = [
        ['name', output.style('bold', record.name)],
        ['id', record.id],
        ['url', record.url ?? '-'],
        ['path', path],
        [
          'kind',
          [record.adopted ? 'adopted' : 'cloned', record.bare ? 'bare' : ''].filter(Boolean).join(', '),
        ],
        ['trusted', record.trusted ? 'yes' : 'no'],
        ['on', `${head.branch ?? 'no branch'} (${shortOid(head.oid)})`],
        ['follows', record.trackingRef ?? '-'],
        ['created', record.createdAt],
        ['updated', record.updatedAt],
        ...Object.entries(record.metadata).map(([key, value]): [string, string] => [
          'note',
          printable(`${key}=${value}`),
        ]),
        ...remotes.map(({ name, fetchUrls }): [string, string] => [
          'remote',
          printable(`${name} ${fetchUrls.join(' ')}`),
        ]),
        ...worktrees.map((tree): [string, string] => [
          'worktree',
          `${tree.path} (${tree.branch ?? shortOid(tree.head)}, ${tree.backend ?? tree.driver})`,
        ]),
      ];
      for (const line of formatTable([{ title: '' }, { title: '' }], rows)) output.data(line);
      return EXIT_OK;
    });
  },
});
