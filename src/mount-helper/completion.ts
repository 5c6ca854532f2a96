/** Shell completion scripts, written from the descriptions of the commands. */
import { BACKENDS, COMMANDS, COMMON_FLAGS, type CommandSpec, MOUNT, SHELLS } from './commands.ts';
import { OPTION_NAMES } from './options.ts';

export type Shell = (typeof SHELLS)[number];

const MOUNT_POINTS = "git2db-mount list 2>/dev/null | awk '{ print $3 }'";

export function completionScript(shell: Shell): string {
  if (shell === 'bash') return bashScript();
  return shell === 'zsh' ? zshScript() : fishScript();
}

function flagWords({ flags }: CommandSpec): string {
  return [...flags, ...COMMON_FLAGS]
    .flatMap(({ name, short }) => [
      ...(name === 'option' ? [] : [`--${name}`]),
      ...(short === undefined ? [] : [`-${short}`]),
    ])
    .join(' ');
}

function operandReply({ operands }: CommandSpec): string {
  switch (operands.kind) {
    case 'mount':
      return `COMPREPLY=($(compgen -W "$(${MOUNT_POINTS})" -- "$cur"))`;
    case 'shell':
      return `COMPREPLY=($(compgen -W '${SHELLS.join(' ')}' -- "$cur"))`;
    case 'directory':
      return 'COMPREPLY=($(compgen -d -- "$cur"))';
    case 'command':
      return 'COMPREPLY=($(compgen -d -c -- "$cur"))';
    case 'none':
      return 'COMPREPLY=()';
  }
}

/** Within `-o a,b,c` only the last option is being typed. */
function bashScript(): string {
  const cases = COMMANDS.map(
    (command) => `    ${command.name})
      if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W '${flagWords(command)}' -- "$cur"))
      else ${operandReply(command)}; fi ;;`,
  );
  return `# bash completion for git2db-mount; load with: source <(git2db-mount completion bash)
_git2db_mount() {
  local cur prev
  _get_comp_words_by_ref -n =: cur prev 2>/dev/null || { cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]}; }
  COMPREPLY=()
  case $prev in
    -o)
      compopt -o nospace
      local before=
      [[ $cur == *,* ]] && before=\${cur%,*},
      COMPREPLY=($(compgen -P "$before" -W '${OPTION_NAMES.join(' ')}' -- "\${cur##*,}"))
      return ;;
    --backend) COMPREPLY=($(compgen -W '${BACKENDS.join(' ')}' -- "$cur")); return ;;
  esac
  case \${COMP_WORDS[1]} in
${cases.join('\n')}
    *)
      if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W '${flagWords(MOUNT)}' -- "$cur"))
      elif ((COMP_CWORD == 1)); then COMPREPLY=($(compgen -d -W '${COMMANDS.map(({ name }) => name).join(' ')}' -- "$cur"))
      else ${operandReply(MOUNT)}; fi ;;
  esac
}
complete -o filenames -F _git2db_mount git2db-mount`;
}

function zshScript(): string {
  const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  const argumentsOf = (command: CommandSpec) => {
    const flags = [...command.flags, ...COMMON_FLAGS].flatMap(({ name, short, describe, choices }) => {
      const about = `[${describe.replace(/[[\]:\\]/g, '\\$&')}]`;
      if (name === 'option') return [quote(`*-o${about}:option:(${OPTION_NAMES.join(' ')})`)];
      const value = choices === undefined ? '' : `:value:(${choices.join(' ')})`;
      return [`--${name}`, ...(short === undefined ? [] : [`-${short}`])].map((word) =>
        quote(`${word}${about}${value}`),
      );
    });
    const operand = {
      none: [],
      directory: ["'*:directory:_files -/'"],
      mount: [`"*:mount:($(${MOUNT_POINTS}))"`],
      command: ["'1:mount:_files -/'", "'*::command:_normal'"],
      shell: [`'1:shell:(${SHELLS.join(' ')})'`],
    }[command.operands.kind];
    return [...flags, ...operand].join(' ');
  };
  const cases = COMMANDS.map(
    (command) => `    ${command.name}) shift words; ((CURRENT--)); _arguments ${argumentsOf(command)} ;;`,
  );
  const names = COMMANDS.map(({ name, summary }) => quote(`${name}:${summary}`)).join(' ');
  return `#compdef git2db-mount
# zsh completion for git2db-mount; load with: source <(git2db-mount completion zsh)
_git2db_mount() {
  local -a commands
  commands=(${names})
  case \${words[2]} in
${cases.join('\n')}
    *)
      if ((CURRENT == 2)) && [[ \${words[2]} != -* ]]; then _describe -t commands command commands; fi
      _arguments ${argumentsOf(MOUNT)} ;;
  esac
}
if [[ "\${funcstack[1]}" == _git2db_mount ]]; then _git2db_mount "$@"; else compdef _git2db_mount git2db-mount; fi`;
}

function fishScript(): string {
  const quote = (text: string) => `'${text.replace(/['\\]/g, '\\$&')}'`;
  const names = COMMANDS.map(({ name }) => name).join(' ');
  const lines = [MOUNT, ...COMMANDS].flatMap((command) => {
    const isMount = command === MOUNT;
    const condition = isMount
      ? `not __fish_seen_subcommand_from ${names}`
      : `__fish_seen_subcommand_from ${command.name}`;
    const at = `complete -c git2db-mount -n ${quote(condition)}`;
    const flags = [...command.flags, ...COMMON_FLAGS].map(({ name, short, describe, choices }) => {
      const long = name === 'option' ? '' : ` -l ${name}`;
      const letter = short === undefined ? '' : ` -s ${short}`;
      const words = name === 'option' ? OPTION_NAMES : choices;
      const value = words === undefined ? '' : ` -x -a ${quote(words.join(' '))}`;
      return `${at}${long}${letter}${value} -d ${quote(describe)}`;
    });
    const operands = {
      none: [],
      directory: [`${at} -a '(__fish_complete_directories)'`],
      mount: [`${at} -a ${quote(`(${MOUNT_POINTS})`)}`],
      command: [`${at} -a '(__fish_complete_directories)'`],
      shell: [`${at} -a ${quote(SHELLS.join(' '))}`],
    }[command.operands.kind];
    return [...flags, ...operands];
  });
  const commands = COMMANDS.map(
    ({ name, summary }) =>
      `complete -c git2db-mount -n __fish_use_subcommand -a ${name} -d ${quote(summary)}`,
  );
  return ['# fish completion for git2db-mount', 'complete -c git2db-mount -f', ...commands, ...lines].join(
    '\n',
  );
}
