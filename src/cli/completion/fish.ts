/** Completion for fish: a line for each word that can follow. */
import type { WordKind } from '../command.ts';
import { ASKED, knownPaths, listing, type Node, valueOptions } from './tree.ts';

export function fishScript(program: string, nodes: readonly Node[]): string {
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

function quoteFish(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
