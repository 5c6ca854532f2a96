import { type Command, type CommandGroup, defineCommand } from '../command.ts';
import { completionScript, SHELLS, type Shell } from '../completion/script.ts';

/** `commands` is asked when the command runs: it is one of them itself. */
export function completionCommand(
  commands: () => readonly Command[],
  groups: readonly CommandGroup[],
): Command {
  return defineCommand({
    path: ['completion'],
    summary: 'Print a completion script for a shell',
    description: `Prints a script that teaches the shell the commands and options of git2db. Have
it loaded when a shell starts, as the examples show; run it again after an update.

JSON: {"shell","script"}.`,
    operands: { usage: SHELLS.join('|'), min: 1, max: 1, choices: SHELLS },
    options: {},
    examples: [
      ["echo 'source <(git2db completion bash)' >> ~/.bashrc", 'bash'],
      ["echo 'source <(git2db completion zsh)' >> ~/.zshrc", 'zsh, after compinit'],
      ['git2db completion fish > ~/.config/fish/completions/git2db.fish', 'fish'],
    ],
    exitCodes: [],
    async run({ operands }, { output, json }) {
      const shell = operands[0] as Shell;
      const script = completionScript(shell, 'git2db', commands(), groups);
      if (json) output.json({ shell, script });
      else output.data(script);
      return 0;
    },
  });
}
