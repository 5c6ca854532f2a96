/**
 * Shell completion scripts, written from the command definitions. They are complete in themselves:
 * pressing TAB starts no program.
 *
 * A command is found by the words typed so far that select it, as in "xet hash".
 */
import { COMMON_OPTIONS, type Command, type CommandGroup, type OptionSpec } from './command.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** One point of the tree of commands, with all that can follow it. */
interface Node {
  readonly path: string;
  readonly members: readonly (readonly [word: string, summary: string])[];
  readonly options: readonly (readonly [name: string, spec: OptionSpec])[];
  readonly operands: readonly string[];
  readonly operandKind: 'file' | 'directory' | 'ref' | undefined;
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
  const inner = [{ path: [] as readonly string[] }, ...groups].map(
    ({ path }): Node => ({
      path: path.join(' '),
      members: all
        .filter(
          (other) => other.path.length === path.length + 1 && path.every((word, i) => other.path[i] === word),
        )
        .map((other) => [other.path.at(-1)!, other.summary]),
      options: Object.entries(COMMON_OPTIONS).filter(([name]) => name === 'help' || name === 'version'),
      operands: [],
      operandKind: undefined,
    }),
  );
  const leaves = commands.map(
    (command): Node => ({
      path: command.path.join(' '),
      members: [],
      options: [...Object.entries(command.options), ...Object.entries(COMMON_OPTIONS)],
      operands: command.operands.choices ?? [],
      operandKind: command.operands.complete,
    }),
  );
  return [...inner, ...leaves];
}

const GIT_REFS = "git for-each-ref --format='%(refname:short)' 2>/dev/null";

/**
 * bash and zsh: code that leaves in `variable` the words that select a command, looking at elements
 * [first, last) of the array `words`.
 */
function pathLoop(
  nodes: readonly Node[],
  variable: string,
  words: string,
  first: number,
  last: string,
): string {
  const known = nodes.filter((node) => node.path !== '').map((node) => quote(node.path));
  const longer = `"\${${variable}:+$${variable} }\${${words}[i]}"`;
  return `  local ${variable}= i
  for ((i = ${first}; i < ${last}; i++)); do
    case ${longer} in
      ${known.join(' | ')}) ${variable}=${longer} ;;
    esac
  done`;
}

function bashScript(program: string, nodes: readonly Node[]): string {
  const optionWords = (node: Node) =>
    node.options.flatMap(([name, { alias }]) => [`--${name}`, ...(alias ? [`-${alias}`] : [])]);
  const values = nodes.flatMap((node) =>
    node.options.filter(takesValue).map(([name, spec]) => {
      const reply = spec.choices
        ? `COMPREPLY=($(compgen -W ${quote(spec.choices.join(' '))} -- "$cur"))`
        : `COMPREPLY=($(compgen ${spec.complete === 'directory' ? '-d' : '-f'} -- "$cur"))`;
      return `    ${quote(`${node.path} --${name}`)}) ${reply}; return ;;`;
    }),
  );
  const operands = nodes.map((node) => {
    const words = [...node.members.map(([word]) => word), ...node.operands];
    if (words.length > 0)
      return `    ${quote(node.path)}) COMPREPLY=($(compgen -W ${quote(words.join(' '))} -- "$cur")) ;;`;
    if (node.operandKind === 'ref') {
      return `    ${quote(node.path)}) COMPREPLY=($(compgen -W "$(${GIT_REFS})" -- "$cur")) ;;`;
    }
    const flag = node.operandKind === 'directory' ? '-d' : '-f';
    return node.operandKind === undefined
      ? ''
      : `    ${quote(node.path)}) COMPREPLY=($(compgen ${flag} -- "$cur")) ;;`;
  });
  return `# bash completion for ${program}; load with: source <(${program} completion bash)
_${program}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]}
${pathLoop(nodes, 'path', 'COMP_WORDS', 1, 'COMP_CWORD')}
  COMPREPLY=()
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
  case "$path" in
${operands.filter(Boolean).join('\n')}
  esac
}
complete -o filenames -o bashdefault -F _${program} ${program}`;
}

function zshScript(program: string, nodes: readonly Node[]): string {
  const argument = ([name, spec]: readonly [string, OptionSpec]) => {
    const text = spec.describe.replace(/[[\]:\\]/g, '\\$&');
    const action = spec.choices
      ? `:value:(${spec.choices.join(' ')})`
      : `:value:${spec.complete === 'directory' ? '_files -/' : '_files'}`;
    const value = spec.type === 'boolean' ? '' : action;
    const star = spec.repeat ? '*' : '';
    const long = quote(`${star}--${name}[${text}]${value}`);
    return spec.alias === undefined ? [long] : [long, quote(`${star}-${spec.alias}[${text}]${value}`)];
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
    const operands =
      node.operands.length > 0
        ? [quote(`*:operand:(${node.operands.join(' ')})`)]
        : node.operandKind === 'ref'
          ? [quote(`*:ref:(\${(f)"$(${GIT_REFS})"})`)]
          : node.operandKind === undefined
            ? []
            : [quote(`*:file:_files${node.operandKind === 'directory' ? ' -/' : ''}`)];
    const list = [...node.options.flatMap(argument), ...operands];
    return `    (${quote(node.path)})
      words=("\${(@)words[${depth + 1},-1]}")
      (( CURRENT -= ${depth} ))
      _arguments -s \\
        ${list.join(' \\\n        ')} ;;`;
  });
  return `#compdef ${program}
# zsh completion for ${program}; load with: source <(${program} completion zsh), or save it as _${program} in $fpath
_${program}() {
  local -a commands
${pathLoop(nodes, 'selected', 'words', 2, 'CURRENT')}
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

function fishScript(program: string, nodes: readonly Node[]): string {
  const lines = nodes.flatMap((node) => {
    const at = `complete -c ${program} -n ${quoteFish(`__${program}_at ${quoteFish(node.path)}`)}`;
    const operandWords = node.operands.map((word) => [word, ''] as const);
    return [
      ...[...node.members, ...operandWords].map(
        ([word, text]) => `${at} -a ${quoteFish(word)}${text === '' ? '' : ` -d ${quoteFish(text)}`}`,
      ),
      ...(node.operandKind === 'file' ? [`${at} -F`] : []),
      ...(node.operandKind === 'directory' ? [`${at} -a '(__fish_complete_directories)'`] : []),
      ...(node.operandKind === 'ref' ? [`${at} -a ${quoteFish(`(${GIT_REFS})`)}`] : []),
      ...node.options.map(([name, spec]) => {
        const short = spec.alias === undefined ? '' : ` -s ${spec.alias}`;
        const value =
          spec.type === 'boolean'
            ? ''
            : spec.choices
              ? ` -x -a ${quoteFish(spec.choices.join(' '))}`
              : ' -r -F';
        return `${at} -l ${name}${short}${value} -d ${quoteFish(spec.describe)}`;
      }),
    ];
  });
  const known = nodes.filter((node) => node.path !== '').map((node) => quoteFish(node.path));
  return `# fish completion for ${program}; load with: ${program} completion fish | source
function __${program}_at
    set -l path
    set -l words (commandline -opc)
    for word in $words[2..-1]
        set -l longer (string join ' ' $path $word)
        if contains -- $longer ${known.join(' ')}
            set path $path $word
        end
    end
    set -l typed (string join ' ' $path)
    test "$typed" = "$argv[1]"
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
