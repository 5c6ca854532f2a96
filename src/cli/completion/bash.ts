/** Completion for bash. */
import type { WordKind } from '../command.ts';
import { ASKED, knownPaths, listing, type Node, quote, takesValue, valueOptions } from './tree.ts';

export function bashScript(program: string, nodes: readonly Node[]): string {
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
