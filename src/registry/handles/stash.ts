/** Local changes put aside. Entries are named by their object id: a number shifts when another process pushes one. */

import { guardMethods } from '../../arguments.ts';
import { PATHS_FROM_INPUT, pathInput, type TreePath } from '../../git/tree-path.ts';
import { requireGit } from '../../git/version.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { ReferenceError_ } from '../errors.ts';
import { type GitPlace, requireWorkTree } from '../git-place.ts';
import { parseLinks } from './commit.ts';
import { listConflicts, MergeConflictError } from './conflict.ts';
import { diffFiles, type FileChange } from './diff.ts';
import { type IdentityOptions, identityEnv } from './identity.ts';
import { attempt } from './outcome.ts';

export interface StashEntry {
  /** The commit that holds the changes. */
  readonly oid: string;
  /** Its number in the list: `stash@{0}` is the newest. */
  readonly index: number;
  readonly message: string;
  /** Seconds since 1970. */
  readonly date: number;
}

export interface StashPushOptions extends IdentityOptions {
  readonly message?: string | undefined;
  /** Untracked files too; `all`: also ignored ones. */
  readonly untracked?: boolean | 'all' | undefined;
  /** What is staged stays in index and work tree. */
  readonly keepIndex?: boolean | undefined;
  /** Only what is staged. Needs git 2.35. */
  readonly staged?: boolean | undefined;
  readonly paths?: readonly TreePath[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface StashApplyOptions {
  /** Restores what was staged as staged. */
  readonly index?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** An entry: its object id, its number, or the newest where none is given. */
export type StashName = string | number | undefined;

export class StashManager {
  readonly #place: GitPlace;

  constructor(place: GitPlace) {
    this.#place = place;
  }

  /** Undefined when there was nothing to put aside. */
  async push(options: StashPushOptions = {}): Promise<StashEntry | undefined> {
    await requireWorkTree(this.#place, 'stash');
    const args = [
      'stash',
      'push',
      '--quiet',
      options.keepIndex === true ? '--keep-index' : '--no-keep-index',
    ];
    if (options.untracked === 'all') args.push('--all');
    else if (options.untracked === true) args.push('--include-untracked');
    if (options.staged === true) {
      await requireGit('2.35', 'stashing only what is staged');
      args.push('--staged');
    }
    if (options.message !== undefined) args.push('--message', checkMessage(options.message));
    const { paths } = options;
    if (paths !== undefined && paths.length === 0) return undefined;
    const before = (await this.#newest())?.oid;
    const outcome = await attempt(this.#place, paths === undefined ? args : [...args, ...PATHS_FROM_INPUT], {
      input: paths === undefined ? undefined : pathInput(paths),
      env: identityEnv(options),
      // Without paths git cleans up with a pattern of its own, which would be taken literally too.
      ...(paths === undefined ? {} : { pathspecs: 'literal' as const }),
      signal: options.signal,
    });
    if (outcome.status !== 0 && outcome.code !== 'NOTHING_TO_COMMIT') throw outcome.error();
    const after = await this.#newest();
    return after === undefined || after.oid === before ? undefined : after;
  }

  /** Newest first. */
  async list(): Promise<StashEntry[]> {
    if ((await this.#place.objects.info('refs/stash')) === undefined) return [];
    const text = await this.#place.text([
      'log',
      '--walk-reflogs',
      '-z',
      '--no-show-signature',
      '--format=%H%n%ct%n%gs',
      'refs/stash',
      '--',
    ]);
    return text
      .split('\0')
      .filter(Boolean)
      .map((record, index) => {
        const [oid, date, ...message] = record.split('\n') as [string, string, ...string[]];
        return { oid, index, message: message.join('\n'), date: Number(date) };
      });
  }

  /** Applies an entry and keeps it. Throws MergeConflictError; its `abort` takes back what was applied. */
  async apply(name?: StashName, options: StashApplyOptions = {}): Promise<StashEntry> {
    const entry = await this.#find(name);
    await this.#apply(entry, options, false);
    return entry;
  }

  /** Applies an entry, and drops it when that went without a conflict. */
  async pop(name?: StashName, options: StashApplyOptions = {}): Promise<StashEntry> {
    const entry = await this.#find(name);
    await this.#apply(entry, options, true);
    await this.drop(entry.oid);
    return entry;
  }

  async drop(name?: StashName): Promise<StashEntry> {
    const entry = await this.#find(name);
    await this.#place.git(['stash', 'drop', '--quiet', `stash@{${entry.index}}`]);
    return entry;
  }

  /** Drops all entries. */
  async clear(): Promise<void> {
    await this.#place.git(['stash', 'clear']);
  }

  /** The files that an entry changes, and those that were untracked. */
  async show(name?: StashName): Promise<FileChange[]> {
    const { oid } = await this.#find(name);
    const changed = await diffFiles(this.#place, { from: `${oid}^1`, to: oid });
    const untracked = await this.#untracked(oid);
    if (untracked === undefined) return changed;
    const empty = await this.#place.text(['mktree'], { input: '' });
    return [...changed, ...(await diffFiles(this.#place, { from: empty, to: untracked }))];
  }

  async #apply(entry: StashEntry, { index, signal }: StashApplyOptions, drops: boolean): Promise<void> {
    const workTree = await requireWorkTree(this.#place, 'stash');
    if ((await listConflicts(this.#place)).length > 0) {
      throw new Git2dbError(
        'MERGE_CONFLICT',
        `${workTree} has unresolved conflicts: resolve them before a stash is applied`,
      );
    }
    // What an abort must bring back: the index as it is now.
    const before = await this.#place.text(['write-tree']);
    const args = ['stash', 'apply', '--quiet', ...(index === true ? ['--index'] : []), entry.oid];
    const outcome = await attempt(this.#place, args, { signal });
    if (outcome.status === 0) return;
    const conflicts = await listConflicts(this.#place);
    if (conflicts.length === 0) throw outcome.error();
    throw new MergeConflictError<StashEntry>('stash', conflicts, workTree, {
      continue: async () => {
        const left = await listConflicts(this.#place);
        if (left.length > 0) {
          throw new Git2dbError(
            'MERGE_CONFLICT',
            `${left.length} conflicting files in ${workTree} are not resolved and staged yet`,
            { data: { conflicts: left } },
          );
        }
        if (drops) await this.drop(entry.oid);
        return entry;
      },
      abort: () => this.#takeBack(entry, before),
    });
  }

  /**
   * The stash's files as they were in the index before: git refuses to apply a stash over files with changes that are not
   * staged, so nothing else can have been in them.
   */
  async #takeBack({ oid }: StashEntry, before: string): Promise<void> {
    const changed = await this.#place.linesZ([
      'diff-tree',
      '-r',
      '-z',
      '--name-only',
      '--no-renames',
      `${oid}^1`,
      oid,
    ]);
    if (changed.length > 0) {
      const there = new Set(
        (await this.#place.linesZ(['ls-tree', '-r', '-z', '--name-only', '--full-tree', before])).map(
          (path) => path.toString('latin1'),
        ),
      );
      const known = changed.filter((path) => there.has(path.toString('latin1')));
      const added = changed.filter((path) => !there.has(path.toString('latin1')));
      await this.#paths(['rm', '--quiet', '--force', '--ignore-unmatch'], added);
      await this.#paths(['checkout', '--quiet', '--force', before], known);
      // The index has nothing of the stash any more, and what was staged before is staged again.
      await this.#paths(['reset', '--quiet', before], changed);
    }
    const untracked = await this.#untracked(oid);
    if (untracked !== undefined) {
      const paths = await this.#place.linesZ([
        'ls-tree',
        '-r',
        '-z',
        '--name-only',
        '--full-tree',
        untracked,
      ]);
      await this.#paths(['clean', '--quiet', '--force', '-x', '-d'], paths);
    }
  }

  async #paths(args: readonly string[], paths: readonly Buffer[]): Promise<void> {
    if (paths.length === 0) return;
    if (args[0] === 'clean') {
      // Takes no list of paths from its input.
      for (let at = 0; at < paths.length; at += 500) {
        await this.#place.git([...args, '--', ...paths.slice(at, at + 500)], { pathspecs: 'literal' });
      }
      return;
    }
    await this.#place.git([...args, ...PATHS_FROM_INPUT], { input: pathInput(paths), pathspecs: 'literal' });
  }

  /** The commit with the files that were untracked, if the entry has one. */
  async #untracked(oid: string): Promise<string | undefined> {
    const object = await this.#place.objects.read(oid);
    return object === undefined ? undefined : parseLinks(object.body).parents[2];
  }

  async #newest(): Promise<StashEntry | undefined> {
    return (await this.list())[0];
  }

  async #find(name: StashName): Promise<StashEntry> {
    const entries = await this.list();
    const wanted = typeof name === 'string' ? (/^stash@\{(\d+)\}$/.exec(name)?.[1] ?? name) : name;
    const found = entries.find(({ oid, index }) => oid === wanted || index === Number(wanted ?? 0));
    if (found !== undefined) return found;
    throw new ReferenceError_(
      `expected an entry of the stash of ${this.#place.commonDir}, found ${name === undefined ? 'none' : JSON.stringify(name)}: it has ${entries.length}`,
      { data: { name, entries: entries.length } },
    );
  }
}

function checkMessage(message: string): string {
  if (!message.includes('\0') && Buffer.byteLength(message) < 100_000) return message;
  throw new Git2dbError(
    'USAGE',
    'expected a message of a stash without NUL bytes, of less than 100000 bytes',
  );
}

guardMethods(StashManager, {
  push: ['options?'],
  apply: ['name?:text|number', 'options?'],
  pop: ['name?:text|number', 'options?'],
  drop: ['name?:text|number'],
  show: ['name?:text|number'],
});
