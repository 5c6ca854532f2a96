/** Files that differ, as lines for a person. */
import type { FileChange } from '../registry/index.ts';
import { formatTable, type Output, type Style } from './output.ts';
import { showPath } from './present.ts';

const LETTERS: Readonly<Record<FileChange['change'], readonly [letter: string, style: Style]>> = {
  added: ['A', 'green'],
  modified: ['M', 'yellow'],
  deleted: ['D', 'red'],
  'type-changed': ['T', 'yellow'],
  renamed: ['R', 'cyan'],
  copied: ['C', 'cyan'],
  unmerged: ['U', 'red'],
};

export function showChanges(files: readonly FileChange[], output: Output): void {
  const rows = files.map((file) => {
    const [letter, style] = LETTERS[file.change];
    const path = file.from === undefined ? showPath(file) : `${showPath(file.from)} -> ${showPath(file)}`;
    const lines =
      file.isBinary === true ? 'binary' : file.added === undefined ? '' : `+${file.added} -${file.deleted}`;
    return [output.style(style, letter), path, lines];
  });
  const columns = ['', '', ''].map((title) => ({ title }));
  if (rows.length > 0) for (const line of formatTable(columns, rows)) output.data(line);
}
