import { EXIT_OK } from '../../exit-codes.ts';
import { quotePath } from '../../filter-process/trace.ts';
import type { WorkTreeState } from '../../large-files/list.ts';
import { defineCommand } from '../command.ts';
import { formatBytes, formatTable } from '../output.ts';
import { pathDocument } from '../present.ts';

const SHORT_HASH = 12;

const MARKS: Readonly<Record<WorkTreeState, string>> = {
  content: '*',
  changed: '*',
  pointer: '-',
  missing: ' ',
};

export const xetLsFiles = defineCommand({
  path: ['xet', 'ls-files'],
  summary: 'List the large files of the index or of a commit',
  description: `Lists the files below the current directory whose blob in the index, or in REF, is
a Xet pointer, whatever .gitattributes says now: file hash, mark, size, path.
The mark is "*" when the work tree holds content, "-" when it holds the pointer,
and blank when it holds nothing, or another version of the file than REF.

JSON: [{"path","size","fileHash","kind","oid","workTree"}]; "kind" is xet,
xet-json or xet-toml (pointers of other Xet programs), "oid" the pointer's blob,
"workTree" is content, changed (content of another size), pointer, missing, or
null.`,
  operands: { usage: '[REF]', min: 0, max: 1, complete: 'ref' },
  options: {
    long: { type: 'boolean', alias: 'l', describe: 'Show hashes and sizes in full' },
  },
  examples: [
    ['git2db xet ls-files', 'what is large here'],
    ['git2db xet ls-files --long v1.0', 'in a release'],
  ],
  exitCodes: [[4, 'Not in a repository']],
  async run({ options, operands }, { cwd, env, output, json }) {
    const { listLargeFiles } = await import('../large-files-library.ts');
    const files = await listLargeFiles({ cwd, env, ref: operands[0] });
    if (json) {
      output.json(
        files.map(({ path, size, fileHash, kind, oid, workTree }) => ({
          ...pathDocument(path),
          size,
          fileHash,
          kind,
          oid,
          workTree: workTree ?? null,
        })),
      );
      return EXIT_OK;
    }
    const rows = files.map(({ path, size, fileHash, workTree }) => [
      options.long ? fileHash : fileHash.slice(0, SHORT_HASH),
      workTree === undefined ? ' ' : MARKS[workTree],
      options.long ? String(size) : formatBytes(size),
      quotePath(path),
    ]);
    const columns = [{ title: '' }, { title: '' }, { title: '', align: 'right' as const }, { title: '' }];
    for (const line of formatTable(columns, rows)) output.data(line);
    return EXIT_OK;
  },
});
