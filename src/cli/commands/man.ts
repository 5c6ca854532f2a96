import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { EXIT_OK } from '../../exit-codes.ts';
import { makeDirectories } from '../../make-directories.ts';
import { packageVersion } from '../../version.ts';
import { Git2dbError, messageOf } from '../../xet/errors.ts';
import { type Command, type CommandGroup, defineCommand } from '../command.ts';
import { manPages, pageName } from '../man-page.ts';
import { nearest } from '../nearest.ts';

/** `commands` is asked when the command runs: it is one of them itself. */
export function manCommand(
  root: CommandGroup,
  commands: () => readonly Command[],
  groups: readonly CommandGroup[],
): Command {
  return defineCommand({
    path: ['man'],
    summary: 'Print or write man pages',
    description: `Prints the man page of git2db, or of a COMMAND, in the form that man(1) reads; with --dir
writes all of them below DIR/man1, for MANPATH. They are made from what --help shows.

JSON: {"name","text"}; with --dir {"directory","pages"}, their names.`,
    operands: { usage: '[COMMAND...]', min: 0, max: 3 },
    options: {
      dir: { type: 'string', describe: 'Write all pages below this directory', complete: 'directory' },
    },
    examples: [
      ['git2db man worktree add | man -l -', 'read one'],
      ['git2db man --dir ~/.local/share/man', 'have them all'],
    ],
    exitCodes: [[3, 'They cannot be written']],
    async run({ options, operands }, { output, json, cwd }) {
      const pages = manPages({
        program: 'git2db',
        version: packageVersion(),
        root,
        commands: commands(),
        groups,
      });
      if (options.dir === undefined) {
        const name = pageName('git2db', operands);
        const page = pages.find((each) => each.name === name);
        if (page === undefined) throw unknown(operands, [...commands(), ...groups]);
        if (json) output.json(page);
        else output.text(page.text);
        return EXIT_OK;
      }
      if (operands.length > 0)
        throw new Git2dbError('USAGE', `--dir takes no COMMAND, found '${operands.join(' ')}'`);
      const directory = join(resolve(cwd, options.dir), 'man1');
      makeDirectories(directory);
      for (const { name, text } of pages) writePage(join(directory, `${name}.1`), text);
      if (json) output.json({ directory, pages: pages.map(({ name }) => name) });
      else output.note(`${pages.length} pages in ${directory}`);
      return EXIT_OK;
    },
  });
}

function writePage(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new Error(`cannot write ${path}: ${messageOf(error)}`, { cause: error });
  }
}

function unknown(
  operands: readonly string[],
  known: readonly { readonly path: readonly string[] }[],
): Git2dbError {
  const typed = operands.join(' ');
  const close = nearest(
    typed,
    known.map(({ path }) => path.join(' ')),
  );
  const hint = close === undefined ? "'git2db --help' lists the commands" : `did you mean '${close}'?`;
  return new Git2dbError('USAGE', `there is no command '${typed}'; ${hint}`);
}
