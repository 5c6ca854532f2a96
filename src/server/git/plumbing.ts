/** What the Hub's endpoints read from a bare repository, and how they commit to it. */
import { randomBytes } from 'node:crypto';
import { unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ObjectReader } from '../../git/cat-file.ts';
import { type GitRun, git, gitLinesZ, gitText } from '../../git/runner.ts';
import { POINTER_MAX, type Pointer, sniffPointer } from '../../xet/pointer/sniff.ts';
import { HttpError } from '../http-error.ts';
import { repositoryEnvironment } from './environment.ts';
import type { BareRepository } from './repositories.ts';

const OID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const TAB = 0x09;

export interface TreeEntry {
  readonly mode: string;
  readonly type: 'blob' | 'tree' | 'commit';
  readonly oid: string;
  /** Bytes of a blob; 0 of anything else. */
  readonly size: number;
  readonly path: string;
}

export function runIn(
  repository: BareRepository,
  signal: AbortSignal,
  variables: Readonly<Record<string, string>> = {},
): GitRun {
  const env = repositoryEnvironment(repository, variables);
  return { cwd: repository.path, env, keepGitEnv: true, signal };
}

/** Throws 400 for what can be no name of a branch, tag or commit. */
export function checkRevision(revision: string): string {
  const isName = /^[A-Za-z0-9_][A-Za-z0-9._/+@-]{0,199}$/.test(revision);
  if (isName && !/\.\.|@\{|\/\/|\/\.|\.lock(?:\/|$)|[./]$/.test(revision)) return revision;
  throw new HttpError(400, `'${revision.slice(0, 200)}' is no name of a branch, tag or commit`);
}

/** The commit of a branch, tag, full ref or commit id; undefined if there is none. */
export async function findCommit(
  repository: BareRepository,
  revision: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  checkRevision(revision);
  const names = OID.test(revision)
    ? [revision]
    : revision === 'HEAD' || revision.startsWith('refs/')
      ? [revision]
      : [`refs/heads/${revision}`, `refs/tags/${revision}`];
  for (const name of names) {
    const args = ['rev-parse', '--verify', '--quiet', '--end-of-options', `${name}^{commit}`];
    const { stdout, status } = await git(args, { ...runIn(repository, signal), okStatus: [0, 1, 128] });
    const oid = stdout.toString('latin1').trim();
    if (status === 0 && OID.test(oid)) return oid;
  }
  return undefined;
}

/** Entries of the tree at `path` (empty: the top) of a commit. */
export async function listTree(
  repository: BareRepository,
  commit: string,
  path: string,
  options: { readonly recursive: boolean; readonly signal: AbortSignal },
): Promise<TreeEntry[]> {
  const recursion = options.recursive ? ['-r', '-t'] : [];
  const where = path === '' ? [] : ['--', `${path}/`];
  return parseTree(
    await gitLinesZ(
      ['--literal-pathspecs', 'ls-tree', '-z', '-l', '--full-tree', ...recursion, commit, ...where],
      runIn(repository, options.signal),
    ),
  );
}

export async function findEntries(
  repository: BareRepository,
  commit: string,
  paths: readonly string[],
  signal: AbortSignal,
): Promise<TreeEntry[]> {
  if (paths.length === 0) return [];
  const args = ['--literal-pathspecs', 'ls-tree', '-z', '-l', '--full-tree', commit, '--', ...paths];
  return parseTree(await gitLinesZ(args, runIn(repository, signal)));
}

/** Pointers among the blobs, by object id. */
export async function readPointers(
  repository: BareRepository,
  entries: readonly TreeEntry[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Pointer>> {
  const small = entries.filter(({ type, size }) => type === 'blob' && size > 0 && size <= POINTER_MAX);
  const pointers = new Map<string, Pointer>();
  if (small.length === 0) return pointers;
  const reader = new ObjectReader({ ...runIn(repository, signal), maxSize: POINTER_MAX });
  try {
    const oids = new Set(small.map(({ oid }) => oid));
    for await (const { name, object } of reader.readMany(oids)) {
      const pointer = object && sniffPointer(object.body);
      if (pointer !== undefined) pointers.set(name, pointer);
    }
  } finally {
    await reader.close();
  }
  return pointers;
}

function parseTree(records: readonly Buffer[]): TreeEntry[] {
  return records.map((record) => {
    const tab = record.indexOf(TAB);
    const [mode, type, oid, size] = record.toString('latin1', 0, tab).split(/ +/) as [
      string,
      string,
      string,
      string,
    ];
    return {
      mode,
      type: type as TreeEntry['type'],
      oid,
      size: size === '-' ? 0 : Number(size),
      path: record.toString('utf8', tab + 1),
    };
  });
}

/** An index file of its own, for one commit. */
export class CommitDraft {
  readonly #repository: BareRepository;
  readonly #signal: AbortSignal;
  readonly #index: string;
  /** Of `update-index --index-info`, not given to git yet. */
  readonly #lines: Buffer[] = [];

  private constructor(repository: BareRepository, index: string, signal: AbortSignal) {
    this.#repository = repository;
    this.#signal = signal;
    this.#index = index;
  }

  /** `directory`: where its file may be; `parent`: undefined for the first commit of a branch. */
  static async open(
    repository: BareRepository,
    directory: string,
    parent: string | undefined,
    signal: AbortSignal,
  ): Promise<CommitDraft> {
    const draft = new CommitDraft(
      repository,
      join(directory, `index-${randomBytes(8).toString('hex')}`),
      signal,
    );
    await git(['read-tree', parent ?? '--empty'], draft.run());
    return draft;
  }

  run(): GitRun {
    return runIn(this.#repository, this.#signal, { GIT_INDEX_FILE: this.#index });
  }

  /** Puts a file. Its content is an object of the repository from then on. */
  async put(path: string, content: Uint8Array): Promise<void> {
    const oid = await gitText(['hash-object', '-w', '--no-filters', '--stdin'], {
      ...this.run(),
      input: content,
    });
    this.#lines.push(Buffer.from(`100644 ${oid}\t${path}\0`));
  }

  /** Deletes a file, or all files below a folder. False if there is none. */
  async delete(path: string, isFolder: boolean): Promise<boolean> {
    const paths = isFolder
      ? await this.#filesBelow(path)
      : (await this.read(path)) === undefined
        ? []
        : [path];
    for (const each of paths) this.#lines.push(Buffer.from(`0 ${'0'.repeat(40)}\t${each}\0`));
    return paths.length > 0;
  }

  async #flush(): Promise<void> {
    const input = Buffer.concat(this.#lines.splice(0));
    if (input.length > 0) await git(['update-index', '-z', '--index-info'], { ...this.run(), input });
  }

  /** The value of `filter` for each path, by the .gitattributes in the draft. */
  async filtersOf(paths: readonly string[]): Promise<ReadonlyMap<string, string>> {
    await this.#flush();
    const input = paths.map((path) => `${path}\0`).join('');
    const words = await gitLinesZ(['check-attr', '--cached', '--stdin', '-z', 'filter'], {
      ...this.run(),
      input,
    });
    const filters = new Map<string, string>();
    for (let i = 0; i + 2 < words.length; i += 3) {
      filters.set((words[i] as Buffer).toString('utf8'), (words[i + 2] as Buffer).toString('utf8'));
    }
    return filters;
  }

  /** Content of a file in the draft; undefined if there is none. */
  async read(path: string): Promise<Buffer | undefined> {
    await this.#flush();
    const listed = await gitLinesZ(['--literal-pathspecs', 'ls-files', '-s', '-z', '--', path], this.run());
    const oid = listed[0]?.toString('latin1').split(' ')[1];
    return oid === undefined ? undefined : (await git(['cat-file', 'blob', oid], this.run())).stdout;
  }

  /** The new commit, on no branch yet. */
  async commit(message: string, parent: string | undefined, author: string): Promise<string> {
    await this.#flush();
    const tree = await gitText(['write-tree'], this.run());
    const parents = parent === undefined ? [] : ['-p', parent];
    const { env, ...run } = this.run();
    const identity = {
      GIT_AUTHOR_NAME: author,
      GIT_AUTHOR_EMAIL: 'nobody@git2db.invalid',
      GIT_COMMITTER_NAME: 'git2db serve',
      GIT_COMMITTER_EMAIL: 'nobody@git2db.invalid',
    };
    return gitText(['commit-tree', ...parents, tree], {
      ...run,
      env: { ...env, ...identity },
      input: message,
    });
  }

  async close(): Promise<void> {
    await unlink(this.#index).catch(() => {});
    await unlink(`${this.#index}.lock`).catch(() => {});
  }

  async #filesBelow(path: string): Promise<string[]> {
    await this.#flush();
    const args = ['--literal-pathspecs', 'ls-files', '-z', '--', `${path.replace(/\/+$/, '')}/`];
    return (await gitLinesZ(args, this.run())).map((each) => each.toString('utf8'));
  }
}

/** Moves a branch; false when it is not at `old` any more. */
export async function moveBranch(
  repository: BareRepository,
  branch: string,
  to: string,
  old: string | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  const before = old ?? '0'.repeat(to.length);
  const args = [
    'update-ref',
    '-m',
    'commit by the API',
    '--end-of-options',
    `refs/heads/${branch}`,
    to,
    before,
  ];
  const { status } = await git(args, { ...runIn(repository, signal), okStatus: [0, 1, 128] });
  return status === 0;
}
