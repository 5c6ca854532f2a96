/** What a completion script has to know: the tree of commands, and what can follow each. */
import {
  COMMON_OPTIONS,
  type Command,
  type CommandGroup,
  type OptionSpec,
  type WordKind,
} from '../command.ts';

/** One point of the tree of commands, with all that can follow it. */
export interface Node {
  readonly path: string;
  readonly members: readonly (readonly [word: string, summary: string])[];
  readonly options: readonly (readonly [name: string, spec: OptionSpec])[];
  readonly operands: readonly string[];
  /** For the first operand, the second, ...; the last one for all that follow, up to `most`. */
  readonly kinds: readonly WordKind[];
  readonly most: number;
}

export function treeOf(commands: readonly Command[], groups: readonly CommandGroup[]): Node[] {
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
export function listing(program: string, kind: WordKind, repo: string, at: string): string {
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

/** Kinds of names that `listing` knows. */
export const ASKED = [
  'ref',
  'repository',
  'branch',
  'tag',
  'remote',
  'worktree',
] as const satisfies WordKind[];

/** Words `<path> --option` after which a value follows. */
export function valueOptions(nodes: readonly Node[]): string[] {
  return nodes.flatMap((node) =>
    node.options
      .filter(takesValue)
      .flatMap(([name, { alias }]) => [`--${name}`, ...(alias === undefined ? [] : [`-${alias}`])])
      .map((word) => `${node.path} ${word}`),
  );
}

export function knownPaths(nodes: readonly Node[]): string[] {
  return nodes.map(({ path }) => path).filter((path) => path !== '');
}

export function takesValue([, spec]: readonly [string, OptionSpec]): boolean {
  return spec.type !== 'boolean';
}

/** For the shells that read POSIX words. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
