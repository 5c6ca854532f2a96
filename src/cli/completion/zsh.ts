/** Completion for zsh, by its `_arguments`. */
import type { OptionSpec, WordKind } from '../command.ts';
import { ASKED, knownPaths, listing, type Node, quote } from './tree.ts';

export function zshScript(program: string, nodes: readonly Node[]): string {
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
