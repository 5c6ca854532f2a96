/**
 * Shell completion scripts, written from the command definitions. Commands, options and their choices are
 * in the script itself; only names that a registry knows (repositories, branches, ...) are asked of the
 * program, by `--names` of the commands that list them.
 *
 * A command is found by the words typed so far that select it, as in "xet hash"; the words after it that
 * are neither options nor values of options are operands, the first of which is mostly the repository.
 *
 * Names come from outside: no shell may expand them. In bash this rules out `compgen -W`, which does.
 */
import type { Command, CommandGroup } from '../command.ts';
import { bashScript } from './bash.ts';
import { fishScript } from './fish.ts';
import { treeOf } from './tree.ts';
import { zshScript } from './zsh.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

export function completionScript(
  shell: Shell,
  program: string,
  commands: readonly Command[],
  groups: readonly CommandGroup[],
): string {
  const nodes = treeOf(commands, groups);
  if (shell === 'bash') return bashScript(program, nodes);
  if (shell === 'zsh') return zshScript(program, nodes);
  return fishScript(program, nodes);
}
