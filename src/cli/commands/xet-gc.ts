import { count } from '../../count.ts';
import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import type { CollectProgress, CollectResult } from '../../large-files/gc.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type CommandContext, defineCommand, NO_OPERANDS } from '../command.ts';
import { formatBytes, type Output, type Progress } from '../output.ts';

const DEFAULT_GRACE = '14d';
const DEFAULT_WAIT_SECONDS = 60;

const UNIT_MS: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

export const xetGc = defineCommand({
  path: ['xet', 'gc'],
  summary: 'Give back the space of contents that nothing refers to',
  description: `Looks which contents of the store nothing refers to any more, and says what could be
given back. Only with --prune is anything changed: then such contents are deleted,
storage files that are partly dead are written anew, and small ones are merged.

Kept is everything that git could bring back in any repository that uses this store:
all branches, tags and other refs, reflogs, stashes, the index and HEAD of every
worktree, a rebase or merge in progress; and whatever is younger than the grace
period. Old versions therefore stay until their reflog entries expire. git may be at
work meanwhile: nothing that is added, checked out or committed is lost.

A repository that uses the store and cannot be read stops everything. If it is gone
for good, --forget PATH removes it from the list of users, at once unless --dry-run
is given. Writers that began before are waited for; if one outlasts --wait, what was
put aside is deleted by the next gc.

With --remote it is the store of a remote on this machine, or of the directory URL, that
is collected: kept is what its users, this repository and those of --keep-from refer to.
For content apart from git that must include every repository whose content is there: a
mirror of each ("git clone --mirror") will do. Buckets are not collected, and a server's
store is where it lies.

JSON: {"dryRun","store","users","forgotten","files":{"kept","dropped","missing"},
"xorbs":{"total","dead","copied","created"},"shards":{"total","replaced","created"},
"bytes":{"total","deleted","added","freed","dead","leftInTrash","noRoom","cache"},
"restored","writers","damaged":[{"path","message"}]}. "missing" are files that are
referred to and not in this store, "dead" bytes those that stay, "cache" those of lists of
remote chunks that are no longer kept, "writers" those not waited for to the end. In a dry run the numbers say what would be.`,
  operands: NO_OPERANDS,
  options: {
    prune: { type: 'boolean', describe: 'Really do it', conflicts: ['dry-run'] },
    'dry-run': {
      type: 'boolean',
      alias: 'n',
      describe: 'Change nothing, say what would be done (the default)',
    },
    grace: {
      type: 'string',
      describe: `Keep what is younger, referred to or not: 0, 90m, 2h, 3d, 2w (default ${DEFAULT_GRACE})`,
    },
    wait: {
      type: 'number',
      describe: `Seconds to wait for writers that began before (default ${DEFAULT_WAIT_SECONDS})`,
    },
    forget: {
      type: 'string',
      repeat: true,
      describe: 'A repository that is gone: remove it from the list of users',
      complete: 'directory',
    },
    remote: { type: 'string', describe: 'A remote, or a directory, whose store is collected' },
    'keep-from': {
      type: 'string',
      repeat: true,
      describe: 'A repository that needs what is there, though the store does not know it',
      complete: 'directory',
    },
    'no-repack': { type: 'boolean', describe: 'Only delete what is dead as a whole, copy nothing' },
  },
  examples: [
    ['git2db xet gc', 'what could be given back'],
    ['git2db xet gc --prune', 'give it back'],
    ['git2db xet gc --prune --grace 0', 'also what was dropped just now; see "git reflog expire"'],
    ['git2db xet gc --forget /old/clone', 'a clone that was deleted'],
    ['git2db xet gc --remote /nas/content --keep-from /nas/mirror.git', 'content apart from git'],
  ],
  exitCodes: [
    [EXIT_FALSE, 'Something damaged was left as it is; it is named'],
    [4, 'Not in a repository'],
    [8, 'A repository, shard or journal cannot be read, another gc is at work, or --remote is no directory'],
    [24, 'There is no room on the disk for copies'],
  ],
  async run({ options }, context) {
    const { cwd, env, output, json } = context;
    const { collect } = await import('../large-files-library.ts');
    const progress = new GcBars(output);
    let result: CollectResult;
    try {
      result = await collect({
        cwd,
        env,
        prune: options.prune,
        rehearse: options['dry-run'],
        graceMs: parseDuration(options.grace ?? DEFAULT_GRACE),
        waitMs: 1000 * checkWait(options.wait ?? DEFAULT_WAIT_SECONDS),
        forget: options.forget,
        remote: options.remote,
        keepFrom: options['keep-from'],
        repack: !options['no-repack'],
        signal: context.interruptible(),
        warn: (line) => output.warn(line),
        onProgress: (event) => progress.show(event),
      });
    } finally {
      progress.finish();
    }
    if (json) output.json(documentOf(result));
    else describe(result, options['dry-run'], context);
    for (const { path, message } of result.damaged) output.error(`${path} stays as it is: ${message}`);
    return result.damaged.length === 0 ? EXIT_OK : EXIT_FALSE;
  },
});

function parseDuration(text: string): number {
  if (text === '0') return 0;
  const [, digits, unit] = /^(\d+)([smhdw])$/.exec(text) ?? [];
  if (digits === undefined || unit === undefined) {
    throw new Git2dbError(
      'USAGE',
      `--grace is '${text}'; expected 0, or a number with s, m, h, d or w: 90m, 2h, 3d`,
    );
  }
  return Number(digits) * (UNIT_MS[unit] as number);
}

function checkWait(seconds: number): number {
  if (seconds >= 0) return seconds;
  throw new Git2dbError('USAGE', `--wait is ${seconds}; expected seconds, 0 or more`);
}

/** One bar after the other, for the steps that take long. */
class GcBars {
  readonly #output: Output;
  #bar: Progress | undefined;

  constructor(output: Output) {
    this.#output = output;
  }

  show(event: CollectProgress): void {
    switch (event.kind) {
      case 'marking':
        this.#output.detail(`looking at ${event.repository}`);
        return;
      case 'reading':
        this.#output.detail(`reading ${count(event.shards, 'shard')}`);
        return;
      case 'copying':
        this.#bar = this.#output.progress('copying', 'bytes', event.bytes);
        return;
      case 'copied':
        this.#bar?.advance(event.bytes);
        return;
      case 'waiting':
        this.finish();
        this.#output.note(`waiting for ${count(event.writers, 'writer', 'writers')} that began before`);
        return;
    }
  }

  finish(): void {
    this.#bar?.finish();
  }
}

function describe(result: CollectResult, isExplicitDryRun: boolean, { output }: CommandContext): void {
  const { pruned, files, xorbs, shards, bytes, users, forgotten, store } = result;
  for (const path of forgotten) {
    output.note(`${path} ${isExplicitDryRun ? 'would be' : 'is'} no longer on the list of users of ${store}`);
  }
  const freed = freedBytes(result);
  const would = pruned ? '' : 'would be ';
  output.data(
    `${formatBytes(Math.abs(freed))} ${would}${freed >= 0 ? 'given back' : 'taken, for fewer and larger files'}; ` +
      `${formatBytes(bytes.total - freed)} of ${formatBytes(bytes.total)} ${pruned ? 'are' : 'would be'} left`,
  );
  output.note(
    `${count(files.kept, 'file is', 'files are')} kept for ${count(users.length, 'repository', 'repositories')}, ` +
      `${files.dropped} ${pruned ? 'dropped' : 'would be dropped'}` +
      (files.missing > 0
        ? `; ${count(files.missing, 'more is', 'more are')} referred to and not in this store`
        : ''),
  );
  if (xorbs.dead + xorbs.copied > 0) {
    output.note(
      `of ${count(xorbs.total, 'xorb', 'xorbs')}, ${xorbs.dead} ${would}deleted, ${xorbs.copied} ${would}copied into ${xorbs.created}`,
    );
  }
  if (shards.replaced > 0) {
    output.note(
      `of ${count(shards.total, 'shard', 'shards')}, ${shards.replaced} ${would}replaced by ${shards.created}`,
    );
  }
  if (bytes.dead > 0)
    output.detail(`${formatBytes(bytes.dead)} of dead chunks stay in xorbs that are mostly alive`);
  if (bytes.cache > 0)
    output.detail(`${formatBytes(bytes.cache)} of old lists of remote chunks ${would}deleted`);
  if (bytes.noRoom > 0) {
    output.warn(
      `${formatBytes(bytes.noRoom)} were not copied, there is no room for them on the disk: run it again once there is`,
    );
  }
  if (result.restored > 0)
    output.note(`${count(result.restored, 'object was', 'objects were')} needed meanwhile, and put back`);
  if (result.writers.length > 0) {
    output.warn(
      `nothing was deleted yet: ${count(result.writers.length, 'writer', 'writers')} that may need it ` +
        `(${result.writers.join(', ')}) did not end in time. ${formatBytes(bytes.leftInTrash)} wait in ${store}/trash for the next gc`,
    );
  }
  if (!pruned && (xorbs.dead + xorbs.copied > 0 || shards.replaced > 0)) {
    output.note('nothing was changed; --prune does it');
  }
}

/** What waits in the trash is given back later. */
function freedBytes({ bytes }: CollectResult): number {
  return bytes.deleted - bytes.added;
}

function documentOf(result: CollectResult): object {
  const { pruned, store, users, forgotten, files, xorbs, shards, bytes, restored, writers, damaged } = result;
  return {
    dryRun: !pruned,
    store,
    users,
    forgotten,
    files,
    xorbs,
    shards,
    bytes: { ...bytes, freed: freedBytes(result) },
    restored,
    writers,
    damaged,
  };
}
