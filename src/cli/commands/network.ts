import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import type { FetchedRef, FetchResult, PushedRef } from '../../registry/index.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type Command, type CommandContext, defineCommand } from '../command.ts';
import { formatTable } from '../output.ts';
import { GitBars, noteHooks, plain, printable, shortOid } from '../present.ts';
import {
  AUTH_MANUAL,
  AUTH_OPTIONS,
  authOf,
  COMMON_EXIT_CODES,
  CONFLICT_KEYS,
  REGISTRY_OPTIONS,
  REPO_MANUAL,
  WORKTREE_MANUAL,
  WORKTREE_OPTIONS,
  wholeNumber,
} from '../registry-options.ts';
import { type Target, withRepository } from '../registry-session.ts';
import { TransferBar } from '../transfer-bar.ts';
import { contentDocument, describe as describePushed } from './xet-push.ts';

const FETCHED_KEYS = `{"ok","refs":[{"name","kind","from","to","reason"}]}; "kind" is new,
fast-forward, forced, deleted, tag-updated or rejected`;

const EXIT_CODES = [
  [59, 'The remote wants other credentials'],
  [60, 'The remote cannot be reached'],
  [130, 'Interrupted'],
  ...COMMON_EXIT_CODES,
] as const;

const TAGS = {
  type: 'string',
  choices: ['auto', 'all', 'none'],
  describe: 'Which tags (default: as configured)',
} as const;
const PRUNE = {
  type: 'boolean',
  describe: 'Delete remote-tracking branches that the remote has no more',
} as const;

const fetchCommand = defineCommand({
  path: ['fetch'],
  summary: 'Get what a remote has',
  description: `Fetches from REMOTE (a name, or a URL; the default remote unless given) what is configured,
or REFSPECs, and tells what became of each ref.

${AUTH_MANUAL}

${REPO_MANUAL}

JSON: ${FETCHED_KEYS}.`,
  operands: {
    usage: '[REPO [REMOTE [REFSPEC...]]]',
    min: 0,
    max: Number.POSITIVE_INFINITY,
    complete: ['repository', 'remote', 'branch'],
  },
  options: {
    ...REGISTRY_OPTIONS,
    prune: PRUNE,
    tags: TAGS,
    depth: {
      type: 'number',
      describe: 'Only so many last commits',
      conflicts: ['unshallow', 'deepen', 'shallow-since'],
    },
    deepen: {
      type: 'number',
      describe: 'So many commits more than there are',
      conflicts: ['unshallow', 'shallow-since'],
    },
    'shallow-since': { type: 'string', describe: 'Only history after this date', conflicts: ['unshallow'] },
    unshallow: { type: 'boolean', describe: 'All of the history' },
    filter: { type: 'string', describe: 'Of a partial clone: blob:none, blob:limit=1m, tree:0' },
    force: { type: 'boolean', alias: 'f', describe: 'Also where that is no fast-forward' },
    atomic: { type: 'boolean', describe: 'All refs or none' },
    ...AUTH_OPTIONS,
  },
  examples: [
    ['git2db fetch org/model --prune', 'from its default remote'],
    ['git2db fetch . origin refs/heads/main:refs/heads/main', 'here, one branch into another'],
  ],
  exitCodes: [[EXIT_FALSE, 'Some refs were rejected; each is named'], ...EXIT_CODES],
  async run({ options, operands }, context) {
    const [repo, remote, ...refspecs] = operands;
    const depth = wholeNumber('depth', options.depth, 1);
    const deepen = wholeNumber('deepen', options.deepen, 1);
    const connection = authOf(options, context);
    return withRemote(repo, options, context, async ({ handle, signal }, bars) => {
      const { prune, tags, filter, force, atomic, unshallow } = options;
      const result = await handle.remote().fetch(remote, {
        ...connection,
        refspecs: refspecs.length === 0 ? undefined : refspecs,
        prune: prune ? true : undefined,
        tags,
        depth: unshallow ? Number.POSITIVE_INFINITY : depth,
        deepen,
        shallowSince: options['shallow-since'],
        filter,
        force,
        atomic,
        onProgress: (event) => bars.show(event),
        signal,
      });
      bars.finish();
      if (context.json) context.output.json(plain(result));
      else tellFetched(result, context);
      tellRejected(result.refs, context);
      return result.ok ? EXIT_OK : EXIT_FALSE;
    });
  },
});

const pullCommand = defineCommand({
  path: ['pull'],
  summary: 'Get what a remote has, and bring the current branch there',
  description: `Fetches BRANCH of REMOTE (the upstream of the current branch unless given), then moves the
current branch there if that is a fast-forward; --strategy says what else may be done
where both have commits of their own.

${AUTH_MANUAL}

${WORKTREE_MANUAL}

JSON: {"fetched":${FETCHED_KEYS},
"result":{"kind","oid",…}} as that of "git2db merge" or "git2db rebase".
${CONFLICT_KEYS}`,
  operands: {
    usage: '[REPO [REMOTE [BRANCH]]]',
    min: 0,
    max: 3,
    complete: ['repository', 'remote', 'branch'],
  },
  options: {
    ...WORKTREE_OPTIONS,
    strategy: { type: 'string', choices: ['ff', 'merge', 'rebase'], describe: 'How (default ff)' },
    autostash: { type: 'boolean', describe: 'With --strategy rebase: put local changes aside meanwhile' },
    prune: PRUNE,
    tags: TAGS,
    'no-hooks': { type: 'boolean', describe: 'Run no hook' },
    ...AUTH_OPTIONS,
  },
  examples: [
    ['git2db pull org/model', 'a fast-forward, or nothing'],
    ['git2db pull . --strategy rebase --autostash', 'here, own commits on top'],
  ],
  exitCodes: [
    [58, 'There is no upstream, or no such branch'],
    [61, 'Stopped at conflicts'],
    [64, 'Local changes are in the way'],
    [72, 'Both have commits of their own'],
    ...EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const [repo, remote, branch] = operands;
    const { output, json } = context;
    if (options.autostash && options.strategy !== 'rebase') {
      throw new Git2dbError('USAGE', '--autostash needs --strategy rebase');
    }
    const connection = authOf(options, context);
    return withRemote(repo, options, context, async ({ handle, record, signal }, bars) => {
      const { strategy, autostash, prune, tags } = options;
      const { fetched, result } = await handle.remote().pull(remote, {
        ...connection,
        branch,
        strategy,
        autostash,
        prune: prune ? true : undefined,
        tags,
        hooks: !options['no-hooks'],
        onProgress: (event) => bars.show(event),
        signal,
      });
      bars.finish();
      noteHooks(result.hooksSkipped, record.trusted, output);
      if (json) output.json(plain({ fetched, result }));
      else {
        tellFetched(fetched, context);
        output.note(
          result.kind === 'up-to-date'
            ? 'already up to date'
            : `${result.kind}: HEAD is at ${shortOid(result.oid)}`,
        );
      }
      return EXIT_OK;
    });
  },
});

const pushCommand = defineCommand({
  path: ['push'],
  summary: 'Send commits to a remote',
  description: `Pushes REFs (branches, tags or refspecs; the current branch to its upstream, or to its own
name, unless given) to REMOTE (a name, or a URL; the default remote unless given), and
tells what became of each. A ref that is refused does not keep the others from being
pushed, unless --atomic.

Before any ref moves, the content of large files that the pushed commits need is sent to
the place that belongs to the remote ("git2db xet push" tells more), as far as it is
missing there. When some of it cannot be sent, nothing is pushed, unless --no-content
says to push refs alone. That needs no hook, and a hook of ours has nothing left to do.

${AUTH_MANUAL}

${WORKTREE_MANUAL}

JSON: {"url","ok","hooksSkipped","refs":[{"source","name","kind","from","to","reason",
"rejectedBy"}],"content":[{"place","wireBytes","files":[{"path","kind","hash","size",
"outcome","commit","message"}]}]}; "kind" of a ref is new, fast-forward, forced, deleted,
up-to-date or rejected; "outcome" of a file is present (it was there), sent, or, with
--dry-run, missing.`,
  operands: {
    usage: '[REPO [REMOTE [REF...]]]',
    min: 0,
    max: Number.POSITIVE_INFINITY,
    complete: ['repository', 'remote', 'branch'],
  },
  options: {
    ...WORKTREE_OPTIONS,
    'set-upstream': {
      type: 'boolean',
      alias: 'u',
      describe: 'The pushed branches follow what they were pushed to',
    },
    'force-with-lease': {
      type: 'boolean',
      describe: 'Also where commits are lost there, if they are those that were fetched',
      conflicts: ['force', 'lease'],
    },
    lease: {
      type: 'string',
      repeat: true,
      describe: 'REF=OID: also where commits are lost, if REF is at OID there (REF= if it is not there)',
      conflicts: ['force'],
    },
    force: { type: 'boolean', alias: 'f', describe: 'Whatever is lost there' },
    delete: {
      type: 'string',
      alias: 'd',
      repeat: true,
      describe: 'Delete this branch (or refs/tags/NAME) there',
    },
    tags: {
      type: 'string',
      choices: ['all', 'reachable'],
      describe: 'Tags too: all, or annotated ones of what is pushed',
    },
    atomic: { type: 'boolean', describe: 'All refs or none' },
    'dry-run': { type: 'boolean', alias: 'n', describe: 'Only tell what would be done' },
    'push-option': {
      type: 'string',
      alias: 'o',
      repeat: true,
      describe: 'A line for the hooks of the remote',
    },
    'no-hooks': { type: 'boolean', describe: 'Run no hook' },
    'no-content': { type: 'boolean', describe: 'Send no content of large files, push refs alone' },
    ...AUTH_OPTIONS,
  },
  examples: [
    ['git2db push org/model --set-upstream', 'its current branch'],
    ['git2db push org/model origin main v1.0', 'a branch and a tag'],
    ['git2db push . origin topic --force-with-lease', 'here, after a rebase'],
    ['git2db push . --delete topic', 'the branch of the remote'],
  ],
  exitCodes: [
    [EXIT_FALSE, 'Some refs were rejected; each is named'],
    [9, 'Content is neither here nor at the remote; nothing was pushed'],
    [58, 'There is no such ref'],
    [67, 'The remote names a place for content that is not trusted'],
    [75, 'A hook refused'],
    [84, 'There is no place for content'],
    ...EXIT_CODES,
  ],
  async run({ options, operands }, context) {
    const [repo, remote, ...refs] = operands;
    const { output, json } = context;
    const connection = authOf(options, context);
    const leases = options.lease.map(parseLease);
    return withRemote(repo, options, context, async ({ handle, record, signal }, bars) => {
      const { force, tags, atomic } = options;
      const sending = new TransferBar(output, 'sending content');
      const result = await handle.remote().push(remote, {
        ...connection,
        refs: refs.length === 0 ? undefined : refs,
        force:
          leases.length > 0 ? Object.fromEntries(leases) : options['force-with-lease'] ? 'with-lease' : force,
        delete: options.delete.length === 0 ? undefined : options.delete,
        tags,
        setUpstream: options['set-upstream'],
        atomic,
        dryRun: options['dry-run'],
        pushOptions: options['push-option'],
        hooks: !options['no-hooks'],
        content: !options['no-content'],
        onContent: (event) => (event.kind === 'lfs' ? sending.add(event.bytes) : sending.show(event)),
        onProgress: (event) => {
          sending.finish();
          bars.show(event);
        },
        warn: (line) => output.warn(line),
        signal,
      });
      sending.finish();
      bars.finish();
      noteHooks(result.hooksSkipped, record.trusted, output);
      if (json) output.json({ ...(plain(result) as object), content: result.content.map(contentDocument) });
      else {
        for (const each of result.content) describePushed(each, options['dry-run'], context);
        const rows = result.refs
          .filter(({ kind }) => kind !== 'rejected')
          .map(({ kind, source, name, from, to }) => [
            kind,
            `${source ?? ''} -> ${name}`,
            from === undefined ? '' : `${from}..${to}`,
          ]);
        if (rows.length > 0)
          for (const line of formatTable(
            ['', '', ''].map((title) => ({ title })),
            rows,
          ))
            output.data(printable(line));
        else if (result.ok) output.note('there was nothing to push');
      }
      tellRejected(result.refs, context);
      return result.ok ? EXIT_OK : EXIT_FALSE;
    });
  },
});

export const networkCommands: readonly Command[] = [fetchCommand, pullCommand, pushCommand];

function withRemote(
  repo: string | undefined,
  options: Parameters<typeof withRepository>[1],
  context: CommandContext,
  use: (target: Target, bars: GitBars) => Promise<number>,
): Promise<number> {
  const bars = new GitBars(context.output);
  return withRepository(repo, options, context, async (target) => {
    try {
      return await use(target, bars);
    } finally {
      bars.finish();
    }
  });
}

function parseLease(word: string): readonly [string, string | null] {
  const equals = word.indexOf('=');
  if (equals < 1) throw new Git2dbError('USAGE', `--lease: expected REF=OID, found '${word}'`);
  return [word.slice(0, equals), word.slice(equals + 1) || null];
}

function tellFetched({ refs }: FetchResult, { output }: CommandContext): void {
  const rows = refs
    .filter(({ kind }) => kind !== 'rejected')
    .map(({ kind, name, from, to }) => [
      kind,
      name,
      from === undefined ? shortOid(to) : `${shortOid(from)}..${shortOid(to)}`,
    ]);
  if (rows.length > 0)
    for (const line of formatTable(
      ['', '', ''].map((title) => ({ title })),
      rows,
    ))
      output.data(line);
  else if (refs.length === 0) output.note('there was nothing new');
}

function tellRejected(refs: readonly (FetchedRef | PushedRef)[], { output }: CommandContext): void {
  for (const { kind, name, reason } of refs) {
    if (kind === 'rejected')
      output.error(printable(`${name} was rejected: ${reason ?? 'no reason was given'}`));
  }
}
