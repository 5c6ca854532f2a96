import { EXIT_OK } from '../../exit-codes.ts';
import type { Branch } from '../../registry/index.ts';
import { type Command, type CommandContext, defineCommand } from '../command.ts';
import { formatTable } from '../output.ts';
import { count, noteHooks, plain, shortOid } from '../present.ts';
import { COMMON_EXIT_CODES, REPO_MANUAL, WORKTREE_MANUAL, WORKTREE_OPTIONS } from '../registry-options.ts';
import { withRepository } from '../registry-session.ts';

const BRANCH_KEYS = `{"name","ref","oid","isRemote","isHead","upstream":{"name","ref","remote",
"isGone","ahead","behind"},"worktree"}`;

const EXIT_CODES = [[58, 'There is no such branch or commit'], ...COMMON_EXIT_CODES] as const;

const branchList = defineCommand({
  path: ['branch', 'list'],
  summary: 'List branches',
  description: `Lists the branches of a repository: the current one with a star, each with its commit,
its upstream and how far it is ahead and behind, and the worktree that has it.

${WORKTREE_MANUAL}

JSON: {"branches":[${BRANCH_KEYS},…]}.`,
  operands: { usage: '[REPO]', min: 0, max: 1, complete: 'repository' },
  options: {
    ...WORKTREE_OPTIONS,
    all: { type: 'boolean', alias: 'a', describe: 'Remote-tracking branches too', conflicts: ['remote'] },
    remote: { type: 'boolean', alias: 'r', describe: 'Remote-tracking branches alone' },
    merged: { type: 'string', describe: 'Whose commits are all in this revision' },
    'no-merged': { type: 'string', describe: 'Which have commits that this revision has not' },
    contains: { type: 'string', describe: 'Which have this commit' },
    names: { type: 'boolean', describe: 'Print the names alone' },
  },
  examples: [
    ['git2db branch list org/model', 'its branches'],
    ['git2db branch list . --merged main --names', 'what could be deleted'],
  ],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    return withRepository(operands[0], options, context, async ({ handle, signal }) => {
      const { all, remote, merged, contains, names } = options;
      const branches = await handle.branch().list({
        scope: all ? 'all' : remote ? 'remote' : 'local',
        merged,
        noMerged: options['no-merged'],
        contains,
        counts: !names,
        signal,
      });
      show(branches, names, context);
      return EXIT_OK;
    });
  },
});

const branchMerged = defineCommand({
  path: ['branch', 'merged'],
  summary: 'List branches whose commits are all in another',
  description: `Lists the branches whose commits are all in the revision INTO, the current branch unless
given.

${WORKTREE_MANUAL}

JSON: {"branches":[${BRANCH_KEYS},…]}.`,
  operands: { usage: '[REPO [INTO]]', min: 0, max: 2, complete: ['repository', 'branch'] },
  options: { ...WORKTREE_OPTIONS, names: { type: 'boolean', describe: 'Print the names alone' } },
  examples: [['git2db branch merged . main', 'what main has already']],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    return withRepository(operands[0], options, context, async ({ handle, signal }) => {
      show(await handle.branch().merged(operands[1] ?? 'HEAD', { signal }), options.names, context);
      return EXIT_OK;
    });
  },
});

const branchCreate = defineCommand({
  path: ['branch', 'create'],
  summary: 'Make a branch',
  description: `Makes the branch NAME at the revision FROM, HEAD unless given, and checks nothing out.

${WORKTREE_MANUAL}

JSON: ${BRANCH_KEYS}.`,
  operands: { usage: 'REPO NAME [FROM]', min: 2, max: 3, complete: ['repository', 'branch'] },
  options: {
    ...WORKTREE_OPTIONS,
    track: { type: 'boolean', alias: 't', describe: 'FROM becomes its upstream', conflicts: ['upstream'] },
    upstream: { type: 'string', describe: 'Its upstream, such as origin/main', complete: 'branch' },
    force: { type: 'boolean', alias: 'f', describe: 'Move a branch that is there already' },
  },
  examples: [
    ['git2db branch create org/model topic', 'at HEAD'],
    ['git2db branch create . v2 origin/v2 --track', 'a branch of the remote'],
  ],
  exitCodes: [[70, 'There is a branch of this name already'], ...EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, name, from] = operands as [string, string, string?];
    return withRepository(repo, options, context, async ({ handle, signal }) => {
      const track = options.upstream ?? options.track;
      const branch = await handle.branch().create(name, from, { track, force: options.force, signal });
      if (context.json) context.output.json(plain(branch));
      else context.output.note(`${branch.name} is at ${shortOid(branch.oid)}`);
      return EXIT_OK;
    });
  },
});

const branchCheckout = defineCommand({
  path: ['branch', 'checkout'],
  summary: 'Check a branch out',
  description: `Checks the branch NAME out in the work tree; with --create it is made first. A branch that
only a remote has is made by "git2db branch create REPO NAME origin/NAME --track". For
several branches at once use worktrees.

${WORKTREE_MANUAL}

JSON: {"branch","oid","hooksSkipped"}; "branch" is null when HEAD is on none.`,
  operands: { usage: 'REPO NAME', min: 2, max: 2, complete: ['repository', 'branch'] },
  options: {
    ...WORKTREE_OPTIONS,
    create: { type: 'boolean', alias: 'c', describe: 'Make the branch', conflicts: ['detach'] },
    from: {
      type: 'string',
      describe: 'With --create: at this revision, HEAD unless given',
      complete: 'branch',
    },
    detach: { type: 'boolean', alias: 'd', describe: 'NAME is any commit; HEAD is on no branch then' },
    force: { type: 'boolean', alias: 'f', describe: 'Throw local changes away', conflicts: ['merge'] },
    merge: { type: 'boolean', describe: 'Carry local changes over by a three-way merge' },
  },
  examples: [
    ['git2db branch checkout org/model main', 'a branch'],
    ['git2db branch checkout . topic --create --from origin/main', 'a new one'],
  ],
  exitCodes: [[64, 'Local changes are in the way'], [69, 'Another worktree has it'], ...EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, name] = operands as [string, string];
    const { from, create, detach, force, merge } = options;
    return withRepository(repo, options, context, async ({ handle, record, signal }) => {
      const made = from ?? (create ? true : undefined);
      const result = await handle.branch().checkout(name, { create: made, detach, force, merge, signal });
      noteHooks(result.hooksSkipped, record.trusted, context.output);
      if (context.json) context.output.json(plain(result));
      else context.output.note(`${handle.path} is on ${result.branch ?? shortOid(result.oid)}`);
      return EXIT_OK;
    });
  },
});

const branchRename = defineCommand({
  path: ['branch', 'rename'],
  summary: 'Rename a branch',
  description: `Renames the branch OLD to NEW; its history of changes, its settings and worktrees that are
on it follow.

${REPO_MANUAL}

JSON: ${BRANCH_KEYS}.`,
  operands: { usage: 'REPO OLD NEW', min: 3, max: 3, complete: ['repository', 'branch'] },
  options: {
    ...WORKTREE_OPTIONS,
    force: { type: 'boolean', alias: 'f', describe: 'Also over a branch that is there' },
  },
  examples: [['git2db branch rename . master main', '']],
  exitCodes: [[70, 'There is a branch NEW already'], ...EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, from, to] = operands as [string, string, string];
    return withRepository(repo, options, context, async ({ handle }) => {
      const branch = await handle.branch().rename(from, to, { force: options.force });
      if (context.json) context.output.json(plain(branch));
      else context.output.note(`${from} is ${branch.name} now`);
      return EXIT_OK;
    });
  },
});

const branchDelete = defineCommand({
  path: ['branch', 'delete'],
  summary: 'Delete branches',
  description: `Deletes branches. Refuses one whose commits are not in its upstream (or, without one, in
HEAD) unless forced, and always one that a worktree has checked out. They are deleted one
after the other; the first that is refused ends it.

${WORKTREE_MANUAL}

JSON: {"deleted":[{"name","oid"}]}; "oid" is the commit that it was at.`,
  operands: {
    usage: 'REPO NAME...',
    min: 2,
    max: Number.POSITIVE_INFINITY,
    complete: ['repository', 'branch'],
  },
  options: {
    ...WORKTREE_OPTIONS,
    force: { type: 'boolean', alias: 'f', describe: 'Also when commits are lost' },
  },
  examples: [['git2db branch delete org/model topic', '']],
  exitCodes: [[69, 'A worktree has it'], [71, 'Commits would be lost'], ...EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, ...names] = operands as [string, ...string[]];
    return withRepository(repo, options, context, async ({ handle }) => {
      const deleted: object[] = [];
      for (const name of names) {
        const { oid } = await handle.branch().delete(name, { force: options.force });
        deleted.push({ name, oid });
        if (!context.json) context.output.note(`deleted ${name}, which was at ${oid}`);
      }
      if (context.json) context.output.json({ deleted });
      return EXIT_OK;
    });
  },
});

const branchUpstream = defineCommand({
  path: ['branch', 'upstream'],
  summary: 'Show, set or unset the upstream of a branch',
  description: `Shows the upstream of the branch NAME; sets it to UPSTREAM where that is given; takes it
away with --unset.

${REPO_MANUAL}

JSON: ${BRANCH_KEYS}.`,
  operands: { usage: 'REPO NAME [UPSTREAM]', min: 2, max: 3, complete: ['repository', 'branch'] },
  options: { ...WORKTREE_OPTIONS, unset: { type: 'boolean', describe: 'It has none any more' } },
  examples: [
    ['git2db branch upstream . main origin/main', 'set'],
    ['git2db branch upstream . main --unset', 'none any more'],
  ],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    const [repo, name, upstream] = operands as [string, string, string?];
    const { output, json } = context;
    return withRepository(repo, options, context, async ({ handle }) => {
      if (options.unset) await handle.branch().unsetUpstream(name);
      else if (upstream !== undefined) await handle.branch().setUpstream(name, upstream);
      const branch = await handle.branch().get(name);
      if (json) output.json(plain(branch));
      else if (branch.upstream === undefined) output.note(`${name} has no upstream`);
      else output.data(branch.upstream.name);
      return EXIT_OK;
    });
  },
});

const branchCompare = defineCommand({
  path: ['branch', 'compare'],
  summary: 'Count the commits that only one of two revisions has',
  description: `Counts the commits that only A has and those that only B has, and names their best common
ancestors.

${REPO_MANUAL}

JSON: {"ahead","behind","mergeBases"}; "ahead" counts those of A.`,
  operands: { usage: 'REPO A B', min: 3, max: 3, complete: ['repository', 'branch'] },
  options: WORKTREE_OPTIONS,
  examples: [['git2db branch compare . topic origin/main', '']],
  exitCodes: EXIT_CODES,
  async run({ options, operands }, context) {
    const [repo, a, b] = operands as [string, string, string];
    const { output, json } = context;
    return withRepository(repo, options, context, async ({ handle }) => {
      const result = await handle.branch().compare(a, b);
      if (json) output.json(plain(result));
      else {
        output.data(`${a} has ${count(result.ahead, 'commit')} that ${b} has not`);
        output.data(`${b} has ${count(result.behind, 'commit')} that ${a} has not`);
        output.data(
          result.mergeBases.length === 0
            ? 'they have no common ancestor'
            : `common: ${result.mergeBases.join(', ')}`,
        );
      }
      return EXIT_OK;
    });
  },
});

export const branchCommands: readonly Command[] = [
  branchList,
  branchCreate,
  branchCheckout,
  branchRename,
  branchDelete,
  branchUpstream,
  branchMerged,
  branchCompare,
];

function show(branches: readonly Branch[], names: boolean, { output, json }: CommandContext): void {
  if (json) {
    output.json({ branches: plain(branches) });
    return;
  }
  if (names) {
    for (const { name } of branches) output.data(name);
    return;
  }
  const rows = branches.map((branch) => {
    const { upstream, isHead, isRemote } = branch;
    const name = isHead
      ? output.style('green', branch.name)
      : isRemote
        ? output.style('red', branch.name)
        : branch.name;
    return [
      isHead ? '*' : ' ',
      name,
      shortOid(branch.oid),
      upstream === undefined ? '' : showUpstream(upstream),
      branch.worktree ?? '',
    ];
  });
  const columns = ['', '', '', '', ''].map((title) => ({ title }));
  if (rows.length > 0) for (const line of formatTable(columns, rows)) output.data(line);
}

function showUpstream({ name, isGone, ahead, behind }: NonNullable<Branch['upstream']>): string {
  if (isGone) return `${name} (gone)`;
  const distance = [ahead ? `+${ahead}` : '', behind ? `-${behind}` : ''].filter(Boolean).join(' ');
  return distance === '' ? name : `${name} ${distance}`;
}
