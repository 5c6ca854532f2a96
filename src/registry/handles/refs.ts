/** Refs by their full names. What a name leads to is always asked of git, and never remembered. */
import { checkArguments, guardMethods } from '../../arguments.ts';
import { checkFullRefName, checkRevision } from '../../git/ref-name.ts';
import { ReferenceError_ } from '../errors.ts';
import type { GitPlace } from '../git-place.ts';
import { attempt } from './outcome.ts';
import { findCommit, resolveObject } from './revision.ts';

export interface Ref {
  /** Full name. */
  readonly name: string;
  /** What it leads to: the tag object, for an annotated tag. */
  readonly oid: string;
  readonly type: 'commit' | 'tag' | 'tree' | 'blob';
  /** The object that an annotated tag is about. */
  readonly peeled: string | undefined;
  /** Full name of the ref it stands for, of a symbolic ref. */
  readonly symbolicTarget: string | undefined;
}

export interface RefListOptions {
  /** Full names that begin with this, up to a slash (`refs/heads`), or patterns as fnmatch(3) has them; all unless given. */
  readonly patterns?: readonly string[] | undefined;
  readonly pointsAt?: string | undefined;
  readonly contains?: string | undefined;
  /** Also the refs that git2db keeps for itself, below `refs/git2db/`. */
  readonly own?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface RefUpdate {
  readonly name: string;
  /** Object id or any revision; null deletes the ref. Never left out: what is not known by mistake deletes nothing. */
  readonly to: string | null;
  /** What it must be now: an object id; null: it must not exist. Not looked at unless given. */
  readonly from?: string | null | undefined;
}

export interface RefUpdateOptions {
  /** For the reflog. */
  readonly message?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

const FORMAT = '%(refname)%00%(objectname)%00%(objecttype)%00%(*objectname)%00%(symref)';

export class RefManager {
  readonly #place: GitPlace;

  constructor(place: GitPlace) {
    this.#place = place;
  }

  /** The object that `revision` names, tags not followed. Throws REF_INVALID. */
  async resolve(revision: string): Promise<string> {
    checkRevision(revision);
    const found = await this.#place.objects.info(revision);
    return (found ?? (await resolveObject(this.#place, revision))).oid;
  }

  /** The commit that `revision` leads to; undefined when there is none. */
  find(revision: string): Promise<string | undefined> {
    return findCommit(this.#place, revision);
  }

  async list(options: RefListOptions = {}): Promise<Ref[]> {
    const args = ['for-each-ref', `--format=${FORMAT}`];
    if (options.pointsAt !== undefined)
      args.push(`--points-at=${(await resolveObject(this.#place, options.pointsAt)).oid}`);
    if (options.contains !== undefined)
      args.push(`--contains=${(await resolveObject(this.#place, options.contains, 'commit')).oid}`);
    for (const pattern of options.patterns ?? []) args.push(checkPattern(pattern));
    const text = await this.#place.text(args, { signal: options.signal });
    const refs = text === '' ? [] : text.split('\n').map(parseRef);
    return options.own === true ? refs : refs.filter(({ name }) => !name.startsWith('refs/git2db/'));
  }

  /**
   * The branch that a worktree is on unless told otherwise, by its short name: what HEAD of the default remote stands for, else
   * the branch of the main HEAD, else init.defaultBranch, `main` or `master`, whichever there is. Undefined
   * in a repository without branches.
   */
  async defaultBranch(): Promise<string | undefined> {
    const { stdout } = await this.#place.git(['symbolic-ref', '--quiet', 'refs/remotes/origin/HEAD'], {
      okStatus: [0, 1],
    });
    const remote = stdout
      .toString('utf8')
      .trimEnd()
      .replace(/^refs\/remotes\/origin\//, '');
    const head = await this.symbolic('HEAD');
    const configured = await this.#place.git(['config', '--get', 'init.defaultBranch'], { okStatus: [0, 1] });
    const own = head?.replace(/^refs\/heads\//, '');
    const candidates = [remote, own, configured.stdout.toString('utf8').trimEnd(), 'main', 'master'];
    for (const name of candidates) {
      if (name === undefined || name === '') continue;
      for (const full of [
        `refs/heads/${name}`,
        ...(name === remote ? [`refs/remotes/origin/${name}`] : []),
      ]) {
        if ((await this.#place.objects.info(full)) !== undefined) return name;
      }
    }
    return undefined;
  }

  /** Moves, makes or (by null) deletes one ref. Throws CONFLICT when it was not what `from` says, and REF_EXISTS. */
  update(
    name: string,
    to: string | null,
    options: RefUpdateOptions & Pick<RefUpdate, 'from'> = {},
  ): Promise<void> {
    return this.updateAll([{ name, to, from: options.from }], options);
  }

  /** All of the updates or none. */
  async updateAll(updates: readonly RefUpdate[], options: RefUpdateOptions = {}): Promise<void> {
    const zero = '0'.repeat(await oidLength(this.#place));
    const commands: string[] = [];
    for (const { name, to, from } of updates) {
      checkArguments('RefManager.updateAll', ['name', 'to:text|null', 'from?:text|null'], [name, to, from]);
      checkFullRefName(name);
      const old = from === null ? zero : from === undefined ? '' : await this.resolve(from);
      const target = to === null ? null : await this.resolve(to);
      if (target === null) commands.push(`delete ${name}\0${from === null ? '' : old}\0`);
      else if (from === null) commands.push(`create ${name}\0${target}\0`);
      else commands.push(`update ${name}\0${target}\0${old}\0`);
    }
    const message = options.message === undefined ? [] : ['-m', options.message.replace(/[\0\n]/g, ' ')];
    const outcome = await attempt(this.#place, ['update-ref', ...message, '--stdin', '-z'], {
      input: commands.join(''),
      signal: options.signal,
    });
    if (outcome.status !== 0) throw outcome.error();
  }

  /** The full name of the ref that `name` (`HEAD`) stands for; undefined when it is no symbolic ref. */
  async symbolic(name: string): Promise<string | undefined> {
    checkFullRefName(name);
    const { stdout, status } = await this.#place.git(['symbolic-ref', '--quiet', name], { okStatus: [0, 1] });
    return status === 0 ? stdout.toString('utf8').trimEnd() : undefined;
  }

  /** Lets `name` stand for `target`. HEAD of a work tree moves without its files: use `branch().checkout` there. */
  async setSymbolic(name: string, target: string, options: RefUpdateOptions = {}): Promise<void> {
    checkFullRefName(name);
    checkFullRefName(target);
    const message = options.message === undefined ? [] : ['-m', options.message.replace(/[\0\n]/g, ' ')];
    await this.#place.git(['symbolic-ref', ...message, name, target], { signal: options.signal });
  }
}

/** 40 or 64 digits. */
export async function oidLength(place: GitPlace): Promise<number> {
  const format = await place.text(['rev-parse', '--show-object-format']);
  return format === 'sha256' ? 64 : 40;
}

function parseRef(line: string): Ref {
  const [name, oid, type, peeled, symbolicTarget] = line.split('\0') as [
    string,
    string,
    Ref['type'],
    string,
    string,
  ];
  return { name, oid, type, peeled: peeled || undefined, symbolicTarget: symbolicTarget || undefined };
}

function checkPattern(pattern: string): string {
  if (pattern !== '' && !pattern.startsWith('-') && !/[\0\n]/.test(pattern)) return pattern;
  throw new ReferenceError_(
    `expected the beginning of a ref's name, or a pattern, found ${JSON.stringify(pattern)}`,
  );
}

guardMethods(RefManager, {
  resolve: ['revision'],
  find: ['revision'],
  list: ['options?'],
  update: ['name', 'to:text|null', 'options?'],
  updateAll: ['updates:objects', 'options?'],
  symbolic: ['name'],
  setSymbolic: ['name', 'target', 'options?'],
});
