/** The index of one work tree. Paths are names of files or directories, never patterns, unless asked for. */
import { guardMethods } from '../../arguments.ts';
import { PATHS_FROM_INPUT, type PathText, pathInput, pathText, type TreePath } from '../../git/tree-path.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type GitPlace, type PlaceRun, requireWorkTree } from '../git-place.ts';
import { type DiffOptions, diffFiles, diffPatch, type FileChange } from './diff.ts';
import { attempt } from './outcome.ts';
import { findCommit, resolveCommit } from './revision.ts';
import { type RepositoryStatus, type StatusOptions, status } from './status.ts';

export interface AddOptions {
  /** Only records that the files shall be added (git add --intent-to-add). */
  readonly intent?: boolean | undefined;
  /** Only files that git knows already: changed and deleted ones (git add --update). */
  readonly update?: boolean | undefined;
  /** Ignored files too. */
  readonly force?: boolean | undefined;
  /** The mode of the staged files, whatever the work tree says. */
  readonly chmod?: '+x' | '-x' | undefined;
  /** Paths are patterns with git's pathspec magic (`*.ts`, `:(exclude)x`). */
  readonly patterns?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface RemoveOptions {
  /** Directories with all that is in them. */
  readonly recursive?: boolean | undefined;
  /** The files stay in the work tree. */
  readonly cached?: boolean | undefined;
  /** Also files with changes that are nowhere else. */
  readonly force?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A file that differs between HEAD and the index. */
export interface StagedFile extends PathText {
  readonly change: 'added' | 'modified' | 'deleted' | 'type-changed' | 'renamed' | 'copied' | 'unmerged';
  readonly from?: PathText;
}

export class StageManager {
  readonly #place: GitPlace;

  constructor(place: GitPlace) {
    this.#place = place;
  }

  /** Stages files, directories with what is in them, and deletions. Throws PATH_INVALID when one is unknown. */
  async add(paths: TreePath | readonly TreePath[], options: AddOptions = {}): Promise<void> {
    if (options.intent === true && options.update === true) {
      throw new Git2dbError(
        'USAGE',
        'a file that git knows cannot be only intended: give intent or update, not both',
      );
    }
    const args = ['add', ...(options.intent === true ? ['--intent-to-add'] : [])];
    if (options.update === true) args.push('--update');
    if (options.force === true) args.push('--force');
    if (options.chmod !== undefined) args.push(`--chmod=${options.chmod}`);
    await this.#withPaths('add', args, list(paths), options);
  }

  /** Everything: new, changed and deleted files of the whole work tree, but for ignored ones. */
  async addAll(options: Pick<AddOptions, 'signal'> = {}): Promise<void> {
    await requireWorkTree(this.#place, 'staging');
    await this.#place.git(['add', '--all', '--', ':/'], { signal: options.signal, pathspecs: 'magic' });
  }

  /** Applies a patch to the index alone: parts of a file's changes. Throws CONFLICT where it does not fit. */
  async addPatch(patch: string | Uint8Array, options: Pick<AddOptions, 'signal'> = {}): Promise<void> {
    await requireWorkTree(this.#place, 'staging');
    const outcome = await attempt(this.#place, ['apply', '--cached', '--whitespace=nowarn', '-'], {
      input: patch,
      signal: options.signal,
    });
    if (outcome.status !== 0) throw outcome.error(outcome.code ?? 'CONFLICT');
  }

  /** One file. */
  addFile(path: TreePath, options: AddOptions = {}): Promise<void> {
    return this.add([path], options);
  }

  /** Removes files from the index and the work tree. Throws WORKTREE_DIRTY where changes would be lost. */
  async remove(paths: TreePath | readonly TreePath[], options: RemoveOptions = {}): Promise<void> {
    const args = ['rm', '--quiet', ...(options.recursive === true ? ['-r'] : [])];
    if (options.cached === true) args.push('--cached');
    if (options.force === true) args.push('--force');
    await this.#withPaths('remove', args, list(paths), options);
  }

  /** Puts the index entries of `paths` back to what HEAD has; before the first commit that is nothing. */
  async unstage(
    paths: TreePath | readonly TreePath[],
    options: Pick<AddOptions, 'signal'> = {},
  ): Promise<void> {
    if ((await findCommit(this.#place, 'HEAD')) === undefined) {
      await this.#withPaths(
        'unstage',
        ['rm', '--quiet', '--cached', '-r', '--ignore-unmatch', '--force'],
        list(paths),
        options,
      );
      return;
    }
    await this.#withPaths('unstage', ['reset', '--quiet'], list(paths), options);
  }

  /** Puts the whole index back to `to` (HEAD unless given); the work tree stays. */
  async reset(to = 'HEAD', options: Pick<AddOptions, 'signal'> = {}): Promise<void> {
    await requireWorkTree(this.#place, 'staging');
    if (to === 'HEAD' && (await findCommit(this.#place, 'HEAD')) === undefined) {
      await this.#place.git(['read-tree', '--empty'], options);
      return;
    }
    await this.#place.git(['read-tree', '--reset', await resolveCommit(this.#place, to)], options);
    await this.#place.git(['update-index', '-q', '--refresh'], { ...options, okStatus: [0, 1] });
  }

  status(options: StatusOptions = {}): Promise<RepositoryStatus> {
    return status(this.#place, options);
  }

  /** What is staged, compared with HEAD. */
  diff(options: Omit<DiffOptions, 'staged' | 'to'> = {}): Promise<FileChange[]> {
    return diffFiles(this.#place, { ...options, staged: true });
  }

  /** The same as a patch. */
  patch(options: Omit<DiffOptions, 'staged' | 'to'> = {}): AsyncIterable<Buffer> {
    return diffPatch(this.#place, { ...options, staged: true });
  }

  async stagedFiles(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<StagedFile[]> {
    const changes = await diffFiles(this.#place, { staged: true, counts: false, ...options });
    return changes.map(({ path, pathBytes, change, from }) => ({
      path,
      ...(pathBytes === undefined ? {} : { pathBytes }),
      change,
      ...(from === undefined ? {} : { from }),
    }));
  }

  /** Nothing is staged: the index is what HEAD has. */
  async isEmpty(): Promise<boolean> {
    await requireWorkTree(this.#place, 'staging');
    if ((await findCommit(this.#place, 'HEAD')) === undefined) {
      return (await this.#place.linesZ(['ls-files', '-z'])).length === 0;
    }
    const { status: code } = await this.#place.git(
      ['diff-index', '--cached', '--quiet', '--ignore-submodules=none', 'HEAD', '--'],
      {
        okStatus: [0, 1],
      },
    );
    return code === 0;
  }

  /** All paths of the index, in its order. */
  async files(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<PathText[]> {
    return (await this.#place.linesZ(['ls-files', '-z', '--full-name', '--deduplicate'], options)).map(
      pathText,
    );
  }

  async #withPaths(
    operation: string,
    args: readonly string[],
    paths: readonly TreePath[],
    options: AddOptions,
  ): Promise<void> {
    await requireWorkTree(this.#place, operation);
    // Without a path git would take all of them.
    if (paths.length === 0) return;
    const run: PlaceRun = {
      input: pathInput(paths),
      signal: options.signal,
      pathspecs: options.patterns === true ? 'magic' : 'literal',
    };
    await this.#place.git([...args, ...PATHS_FROM_INPUT], run);
  }
}

function list(paths: TreePath | readonly TreePath[]): readonly TreePath[] {
  return typeof paths === 'string' || paths instanceof Uint8Array ? [paths] : paths;
}

guardMethods(
  StageManager,
  {
    add: ['paths:text|bytes|paths', 'options?'],
    addAll: ['options?'],
    addFile: ['path:text|bytes', 'options?'],
    addPatch: ['patch:text|bytes', 'options?'],
    remove: ['paths:text|bytes|paths', 'options?'],
    unstage: ['paths:text|bytes|paths', 'options?'],
    reset: ['to?', 'options?'],
    status: ['options?'],
    diff: ['options?'],
    stagedFiles: ['options?'],
    files: ['options?'],
  },
  { patch: ['options?'] },
);
