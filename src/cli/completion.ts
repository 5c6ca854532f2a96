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
import {
  COMMON_OPTIONS,
  type Command,
  type CommandGroup,
  type OptionSpec,
  type WordKind,
} from './command.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** One point of the tree of commands, with all that can follow it. */
interface Node {
  readonly path: string;
  readonly members: readonly (readonly [word: string, summary: string])[];
  readonly options: readonly (readonly [name: string, spec: OptionSpec])[];
  readonly operands: readonly string[];
  /** For the first operand, the second, ...; the last one for all that follow, up to `most`. */
  readonly kinds: readonly WordKind[];
  readonly most: number;
}

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

function treeOf(commands: readonly Command[], groups: readonly CommandGroup[]): Node[] {
  const all = [...groups, ...commands];
  const membersOf = (path: readonly string[]) =>
    all
      .filter(
        (other) => other.path.length === path.length + 1 && path.every((word, i) => other.path[i] === word),
      )
      .map((other) => [other.path.at(-1)!, other.summary] as const);
  const inner = [{ path: [] as readonly string[] }, ...groups].map(
    ({ path }): Node => ({
      path: path.join(' '),
      members: membersOf(path),
      options: Object.entries(COMMON_OPTIONS).filter(([name]) => name === 'help' || name === 'version'),
      operands: [],
      kinds: [],
      most: 0,
    }),
  );
  const leaves = commands.map(
    ({ path, options, operands }): Node => ({
      path: path.join(' '),
      members: membersOf(path),
      options: [...Object.entries(options), ...Object.entries(COMMON_OPTIONS)],
      operands: operands.choices ?? [],
      kinds: operands.complete === undefined ? [] : [operands.complete].flat(),
      most: operands.max,
    }),
  );
  return [...inner, ...leaves];
}

/** What lists the names of a kind, a line each; `repo` and `at` are how the shell writes those words. */
function listing(program: string, kind: WordKind, repo: string, at: string): string {
  switch (kind) {
    case 'repository':
      return `echo .; ${program} list --names ${at}`;
    case 'branch':
      return `${program} branch list ${repo} --all --names ${at}`;
    case 'ref':
      return `git for-each-ref --format='%(refname:short)'`;
    default:
      return `${program} ${kind} list ${repo} --names ${at}`;
  }
}

const ASKED = ['ref', 'repository', 'branch', 'tag', 'remote', 'worktree'] as const satisfies WordKind[];

/** Words `<path> --option` after which a value follows. */
function valueOptions(nodes: readonly Node[]): string[] {
  return nodes.flatMap((node) =>
    node.options
      .filter(takesValue)
      .flatMap(([name, { alias }]) => [`--${name}`, ...(alias === undefined ? [] : [`-${alias}`])])
      .map((word) => `${node.path} ${word}`),
  );
}

function knownPaths(nodes: readonly Node[]): string[] {
  return nodes.map(({ path }) => path).filter((path) => path !== '');
}

// ---- bash ------------------------------------------------------------------------------------

function bashScript(program: string, nodes: readonly Node[]): string {
  const optionWords = (node: Node) =>
    node.options.flatMap(([name, { alias }]) => [`--${name}`, ...(alias ? [`-${alias}`] : [])]);
  const offer = (kind: WordKind | undefined): string => {
    if (kind === 'directory') return `_${program}_files -d`;
    return kind === undefined || kind === 'file' ? `_${program}_files -f` : `_${program}_names ${kind}`;
  };
  const values = nodes.flatMap((node) =>
    node.options.filter(takesValue).flatMap(([name, spec]) => {
      const reply = spec.choices
        ? `COMPREPLY=($(compgen -W ${quote(spec.choices.join(' '))} -- "$cur"))`
        : offer(spec.complete);
      const words = [`--${name}`, ...(spec.alias === undefined ? [] : [`-${spec.alias}`])];
      return `    ${words.map((word) => quote(`${node.path} ${word}`)).join(' | ')}) ${reply}; return ;;`;
    }),
  );
  const operands = nodes.flatMap((node) => {
    const words = [...node.members.map(([word]) => word), ...node.operands];
    if (words.length > 0) {
      return [
        `    ${quote(`${node.path} 0`)}) COMPREPLY=($(compgen -W ${quote(words.join(' '))} -- "$cur")) ;;`,
      ];
    }
    return node.kinds.map((kind, index) => {
      const isLast = index === node.kinds.length - 1;
      const at =
        isLast && index + 1 < node.most ? `${quote(`${node.path} `)}*` : quote(`${node.path} ${index}`);
      return `    ${at}) ${offer(kind)} ;;`;
    });
  });
  const names = ASKED.map((kind) => `    ${kind}) ${listing(program, kind, '"$repo"', '"$@"')} ;;`);
  return `# bash completion for ${program}; load with: source <(${program} completion bash)
_${program}_files() {
  compopt -o filenames 2>/dev/null
  local IFS=$'\\n'
  COMPREPLY=($(compgen "$1" -- "$cur"))
}
_${program}_list() {
  local kind=$1 repo=$2
  shift 2
  case "$kind" in
${names.join('\n')}
  esac
}
_${program}_names() {
  local name
  while IFS= read -r name; do
    if [[ $name == "$cur"* ]]; then COMPREPLY+=("$(printf %q "$name")"); fi
  done < <(_${program}_list "$1" "\${repo:-.}" \${registry:+--registry "$registry"} 2>/dev/null)
}
_${program}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]}
  local path= option= registry= repo= count=0 i word longer
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]} longer="\${path:+$path }\${COMP_WORDS[i]}"
    if [[ -n $option ]]; then
      [[ $word == '=' ]] && continue
      [[ $option == --registry ]] && registry=$word
      option=
      continue
    fi
    case "$longer" in
      ${knownPaths(nodes).map(quote).join(' | ')})
        path=$longer
        continue
        ;;
    esac
    case "$path $word" in
      ${valueOptions(nodes).map(quote).join(' | ')}) option=$word ;;
      *' -'*) ;;
      *)
        [[ $count -gt 0 ]] || repo=$word
        ((++count))
        ;;
    esac
  done
  COMPREPLY=()
  if [[ $cur == '=' ]]; then cur=; elif [[ $prev == '=' ]]; then prev=\${COMP_WORDS[COMP_CWORD - 2]}; fi
  case "$path $prev" in
${values.join('\n')}
    *) ;;
  esac
  case "$cur" in
    -*)
      case "$path" in
${nodes.map((node) => `        ${quote(node.path)}) COMPREPLY=($(compgen -W ${quote(optionWords(node).join(' '))} -- "$cur")) ;;`).join('\n')}
      esac
      return
      ;;
  esac
  case "$path $count" in
${operands.join('\n')}
  esac
}
complete -o bashdefault -F _${program} ${program}`;
}

// ---- zsh -------------------------------------------------------------------------------------

function zshScript(program: string, nodes: readonly Node[]): string {
  const offer = (kind: WordKind | undefined): string => {
    if (kind === 'directory') return '_files -/';
    return kind === undefined || kind === 'file' ? '_files' : `_${program}_names ${kind}`;
  };
  const argument = ([name, spec]: readonly [string, OptionSpec]) => {
    const text = spec.describe.replace(/[[\]:\\]/g, '\\$&');
    const action = spec.choices ? `(${spec.choices.join(' ')})` : offer(spec.complete);
    const value = spec.type === 'boolean' ? '' : `:value:${action}`;
    const star = spec.repeat ? '*' : '';
    const long = quote(`${star}--${name}[${text}]${value}`);
    return spec.alias === undefined ? [long] : [long, quote(`${star}-${spec.alias}[${text}]${value}`)];
  };
  const operandsOf = (node: Node): string[] => {
    if (node.operands.length > 0) return [quote(`*:operand:(${node.operands.join(' ')})`)];
    return node.kinds.map((kind, index) => {
      const isOpen = index === node.kinds.length - 1 && index + 1 < node.most;
      return quote(`${isOpen ? '*' : index + 1}:${kind}:${offer(kind)}`);
    });
  };
  const cases = nodes.map((node) => {
    const depth = node.path === '' ? 0 : node.path.split(' ').length;
    if (node.members.length > 0) {
      const members = node.members.map(([word, text]) => quote(`${word}:${text.replaceAll(':', '\\:')}`));
      return `    (${quote(node.path)})
      commands=(${members.join(' ')})
      if [[ \${words[CURRENT]} == -* ]]; then
        _arguments ${node.options.flatMap(argument).join(' ')}
      else
        _describe -t commands command commands
      fi ;;`;
    }
    const list = [...node.options.flatMap(argument), ...operandsOf(node)];
    return `    (${quote(node.path)})
      words=("\${(@)words[${depth + 1},-1]}")
      (( CURRENT -= ${depth} ))
      _arguments -s \\
        ${list.join(' \\\n        ')} ;;`;
  });
  const names = ASKED.map((kind) => `    (${kind}) ${listing(program, kind, '"$repo"', '$at')} ;;`);
  return `#compdef ${program}
# zsh completion for ${program}; load with: source <(${program} completion zsh), or save it as _${program} in $fpath
_${program}_list() {
  local repo=\${\${(Q)line[1]}:-.}
  local -a at
  [[ -z \${opt_args[--registry]} ]] || at=(--registry "\${(Q)opt_args[--registry]}")
  case "$1" in
${names.join('\n')}
  esac
}
_${program}_names() {
  local -a names
  # _arguments puts options for compadd before our own word.
  names=("\${(@f)$(_${program}_list "\${@[-1]}" 2>/dev/null)}")
  compadd "\${(@)argv[1,-2]}" -a names
}
_${program}() {
  local -a commands line
  local -A opt_args
  local selected= i
  for ((i = 2; i < CURRENT; i++)); do
    case "\${selected:+$selected }\${words[i]}" in
      ${knownPaths(nodes).map(quote).join(' | ')}) selected="\${selected:+$selected }\${words[i]}" ;;
    esac
  done
  case "$selected" in
${cases.join('\n')}
  esac
}
if [[ "\${funcstack[1]}" == _${program} ]]; then
  _${program} "$@"
else
  compdef _${program} ${program}
fi`;
}

// ---- fish ------------------------------------------------------------------------------------

function fishScript(program: string, nodes: readonly Node[]): string {
  const offer = (kind: WordKind): string => {
    if (kind === 'file') return '-F';
    return kind === 'directory' ? "-a '(__fish_complete_directories)'" : `-a '(__${program}_names ${kind})'`;
  };
  const lines = nodes.flatMap((node) => {
    const at = (...more: readonly string[]) =>
      `complete -c ${program} -n ${quoteFish([`__${program}_at`, quoteFish(node.path), ...more].join(' '))}`;
    const operandWords = node.operands.map((word) => [word, ''] as const);
    return [
      ...[...node.members, ...operandWords].map(
        ([word, text]) => `${at()} -a ${quoteFish(word)}${text === '' ? '' : ` -d ${quoteFish(text)}`}`,
      ),
      ...node.kinds.map((kind, index) => {
        const isOpen = index === node.kinds.length - 1 && index + 1 < node.most;
        return `${at(String(index), isOpen ? '-ge' : '-eq')} ${offer(kind)}`;
      }),
      ...node.options.map(([name, spec]) => {
        const short = spec.alias === undefined ? '' : ` -s ${spec.alias}`;
        const words = spec.choices
          ? ` -x -a ${quoteFish(spec.choices.join(' '))}`
          : spec.complete === undefined || spec.complete === 'file'
            ? ' -r -F'
            : ` -x ${offer(spec.complete)}`;
        const value = spec.type === 'boolean' ? '' : words;
        return `${at()} -l ${name}${short}${value} -d ${quoteFish(spec.describe)}`;
      }),
    ];
  });
  const names = ASKED.map(
    (kind) => `        case ${kind}
            ${listing(program, kind, '$repo', '$at')}`,
  );
  return `# fish completion for ${program}; load with: ${program} completion fish | source
function __${program}_read
    set -l line (commandline -cp)
    test "$line" = "$__${program}_line"; and return
    set -g __${program}_line $line
    set -g __${program}_path
    set -g __${program}_operands
    set -g __${program}_registry
    set -l option
    set -l words (commandline -opc)
    for word in $words[2..-1]
        if test -n "$option"
            test "$option" = --registry; and set -g __${program}_registry $word
            set option
            continue
        end
        set -l longer (string join ' ' -- $__${program}_path $word)
        if contains -- $longer ${knownPaths(nodes).map(quoteFish).join(' ')}
            set -g __${program}_path $longer
        else if contains -- "$__${program}_path $word" ${valueOptions(nodes).map(quoteFish).join(' ')}
            set option $word
        else if not string match -q -- '-*' $word
            set -ga __${program}_operands $word
        end
    end
end
function __${program}_at
    __${program}_read
    test "$__${program}_path" = "$argv[1]"; or return
    test (count $argv) -eq 1; or test (count $__${program}_operands) $argv[3] $argv[2]
end
function __${program}_names
    __${program}_read
    set -l repo .
    set -q __${program}_operands[1]; and set repo $__${program}_operands[1]
    set -l at
    test -n "$__${program}_registry"; and set at --registry $__${program}_registry
    begin
        switch $argv[1]
${names.map((text) => text.replace(/^/gm, '    ')).join('\n')}
        end
    end 2>/dev/null
end
complete -c ${program} -f
${lines.join('\n')}`;
}

function takesValue([, spec]: readonly [string, OptionSpec]): boolean {
  return spec.type !== 'boolean';
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function quoteFish(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
