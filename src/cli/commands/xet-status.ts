import { EXIT_OK } from '../../exit-codes.ts';
import { quotePath } from '../../filter-process/trace.ts';
import { REMEDY_FOR_MISSING } from '../../large-files/pull-failure.ts';
import type { RemoteReport, RemotesReport } from '../../large-files/remote-report.ts';
import type { LargeFileStatus, WorkTreeStatus } from '../../large-files/status.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { formatBytes, formatTable } from '../output.ts';
import { pathDocument } from '../present.ts';

interface Group {
  readonly title: string;
  readonly has: (file: LargeFileStatus) => boolean;
  readonly mark?: (file: LargeFileStatus) => string;
}

const GROUPS: readonly Group[] = [
  {
    title: 'Staged for the next commit',
    has: ({ staged }) => staged !== undefined,
    mark: ({ staged }) => `${staged}:`,
  },
  { title: 'Pointers; get the content with "git2db xet pull"', has: ({ available }) => available === true },
  {
    title: `Pointers without content here; ${REMEDY_FOR_MISSING}`,
    has: ({ available }) => available === false,
  },
  { title: 'Modified; "git add" stores the new content', has: ({ state }) => state === 'modified' },
  {
    title: 'Written since git looked last; "git status" tells whether modified',
    has: ({ state }) => state === 'unverified',
  },
  { title: 'Deleted; "git restore PATH" brings a file back', has: ({ state }) => state === 'deleted' },
];

export const xetStatus = defineCommand({
  path: ['xet', 'status'],
  summary: 'Say which large files are content, pointers, modified or missing',
  description: `Says what the large files of the work tree (filter=xet, a pointer in the index) are
at the moment, and how to mend what is not in order. Files that are content, as
git knows it, are only counted; "git2db xet ls-files" lists them.

Judged as git does it first, by size and times: no content is read and no filter
started, so it is quick however large the files are. A file of the right size that
was written since git looked last could be modified or not: "git status" tells.

PATH is a pathspec of git; without it, the whole work tree is looked at.

JSON: {"files":[{"path","size","fileHash","state","available","staged"}],"totals":
{"files","bytes","pointers","pointerBytes","missing","missingBytes"},"store":
{"path","bytes"},"remotes":[{"name","place","reason"}],"hook"}; paths start at the top of the work tree. "state" is
materialised, pointer, unverified, modified or deleted; "available" is null but for
pointers; "staged" is new, changed, or null. "missing" counts the pointers without
content here, which are among "pointers". "place" is where the content of a remote is
kept, or null for "reason"; "hook" is whose pre-push hook there is: ours, missing,
git-lfs or foreign.`,
  operands: { usage: '[PATH...]', min: 0, max: Number.POSITIVE_INFINITY, complete: 'file' },
  options: {},
  examples: [
    ['git2db xet status', 'is anything still a pointer?'],
    ['git2db xet status --json | jq .totals.missing', 'in a script'],
  ],
  exitCodes: [[4, 'Not in the work tree of a repository']],
  async run({ operands }, context) {
    const { cwd, env, output, json } = context;
    const { reportRemotes, status } = await import('../large-files-library.ts');
    const found = await status({ cwd, env, pathspecs: operands, warn: (line) => output.warn(line) });
    const remotes = await reportRemotes({ cwd, env }, { ask: false });
    if (json) output.json({ ...documentOf(found), ...remotesOf(remotes) });
    else {
      describe(found, context);
      describeRemotes(remotes, context);
    }
    return EXIT_OK;
  },
});

function describe({ files, store }: WorkTreeStatus, { output }: CommandContext): void {
  const pointers = files.filter(({ state }) => state === 'pointer');
  output.data(
    `${countFiles(files)}, ${pointers.length === 0 ? 'no pointers' : `${countFiles(pointers)} of them as pointers`}`,
  );
  output.data(`store: ${store.path} (${formatBytes(store.bytes)})`);
  for (const { title, has, mark } of GROUPS) {
    const members = files.filter(has);
    if (members.length === 0) continue;
    output.data(`\n${title}:`);
    const rows = members.map((file) => [
      ...(mark === undefined ? [] : [`  ${mark(file)}`]),
      `${mark === undefined ? '  ' : ''}${formatBytes(file.size)}`,
      quotePath(file.path),
    ]);
    const columns = [
      ...(mark === undefined ? [] : [{ title: '' }]),
      { title: '', align: 'right' as const },
      { title: '' },
    ];
    for (const line of formatTable(columns, rows)) output.data(line);
  }
}

function describeRemotes({ remotes, hook }: RemotesReport, { output }: CommandContext): void {
  for (const remote of remotes)
    output.data(
      `remote ${remote.name}: ${remote.place ?? `no place for content is known (${whyNot(remote)})`}`,
    );
  if (remotes.length > 0 && hook !== 'ours')
    output.data('no pre-push hook of git2db: "git push" sends no content; "git2db xet install" adds it');
}

function whyNot({ candidates, error }: RemoteReport): string {
  const telling = candidates.filter(({ verdict }) => verdict !== 'unset' && verdict !== 'not-needed');
  return error?.message ?? telling.map(({ reason }) => reason).join('; ');
}

function remotesOf({ remotes, hook }: RemotesReport): object {
  const shown = remotes.map((remote) => ({
    name: remote.name,
    place: remote.place ?? null,
    reason: remote.place === undefined ? whyNot(remote) : null,
  }));
  return { remotes: shown, hook };
}

function documentOf({ files, store }: WorkTreeStatus): object {
  const pointers = files.filter(({ state }) => state === 'pointer');
  const missing = files.filter(({ available }) => available === false);
  return {
    files: files.map(({ path, size, fileHash, state, available, staged }) => ({
      ...pathDocument(path),
      size,
      fileHash,
      state,
      available: available ?? null,
      staged: staged ?? null,
    })),
    totals: {
      files: files.length,
      bytes: totalSize(files),
      pointers: pointers.length,
      pointerBytes: totalSize(pointers),
      missing: missing.length,
      missingBytes: totalSize(missing),
    },
    store,
  };
}

function countFiles(files: readonly LargeFileStatus[]): string {
  return `${files.length} large ${files.length === 1 ? 'file' : 'files'} (${formatBytes(totalSize(files))})`;
}

function totalSize(files: readonly LargeFileStatus[]): number {
  return files.reduce((sum, { size }) => sum + size, 0);
}
