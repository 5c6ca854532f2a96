/**
 * What a command is: data that the parser, the help and the shell completions are all made from,
 * and one function that does the work.
 */
import type { Output } from './output.ts';

export interface OptionSpec {
  readonly type: 'boolean' | 'string' | 'number';
  readonly describe: string;
  /** One letter, without the dash. */
  readonly alias?: string;
  readonly choices?: readonly string[];
  /** May be given several times; the value is a list. Only for strings. */
  readonly repeat?: boolean;
  /** Options that make no sense together with this one. */
  readonly conflicts?: readonly string[];
  /** What a shell should offer for the value. */
  readonly complete?: WordKind;
}

/** What a shell can offer for a word; those after the first three are asked of `git2db` itself. */
export type WordKind = 'file' | 'directory' | 'ref' | 'repository' | 'branch' | 'tag' | 'remote' | 'worktree';

export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

export type OptionValue<S extends OptionSpec> = S extends { type: 'boolean' }
  ? boolean
  : S extends { repeat: true }
    ? readonly string[]
    : S extends { type: 'number' }
      ? number | undefined
      : S extends { choices: readonly (infer C)[] }
        ? C | undefined
        : string | undefined;

export type OptionValues<O extends OptionSpecs> = { readonly [K in keyof O]: OptionValue<O[K]> };

/** The words that are neither command nor option. */
export interface Operands {
  /** As the usage line writes them: `FILE...`, `[REF]`. */
  readonly usage: string;
  readonly min: number;
  /** Infinity for "any number". */
  readonly max: number;
  /** For every word, or for each of the first ones (the last kind counts for all that follow). */
  readonly complete?: WordKind | readonly WordKind[];
  /** The only words that are allowed. */
  readonly choices?: readonly string[];
}

export const NO_OPERANDS: Operands = { usage: '', min: 0, max: 0 };

export interface InterruptOptions {
  /** Called at SIGHUP, which then interrupts nothing. */
  readonly onHangup?: () => void;
}

/** What a command may know of the world. Only main.ts looks at `process`. */
export interface CommandContext {
  readonly output: Output;
  /** True with `--json`: the command prints exactly one JSON document, or one a line where it goes on telling. */
  readonly json: boolean;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** File descriptor that `-` reads from. */
  readonly stdin: number;
  /**
   * From this call on, Ctrl-C and SIGTERM abort the returned signal instead of ending the process.
   * For commands that have something to tidy up; the second Ctrl-C ends the process all the same.
   */
  readonly interruptible: (options?: InterruptOptions) => AbortSignal;
}

export interface CommandDefinition<O extends OptionSpecs> {
  /** Words that select it: `['xet', 'hash']`. */
  readonly path: readonly string[];
  /** One line without a full stop, for lists of commands. */
  readonly summary: string;
  /** The manual: what it does, when to use it, what it leaves alone, the keys of its JSON. */
  readonly description: string;
  readonly operands: Operands;
  readonly options: O;
  readonly examples: readonly (readonly [command: string, meaning: string])[];
  /** Exit codes that mean something particular here, beyond 0, 2 and the error classes. */
  readonly exitCodes: readonly (readonly [code: number, meaning: string])[];
  /** The exit code; nothing means 0. Errors are thrown. */
  run(
    input: { readonly options: OptionValues<O>; readonly operands: readonly string[] },
    context: CommandContext,
  ): Promise<number | undefined>;
}

/** A definition whose option types were checked where it was written. */
export type Command = CommandDefinition<OptionSpecs>;

export function defineCommand<const O extends OptionSpecs>(definition: CommandDefinition<O>): Command {
  return definition as unknown as Command;
}

/** A word that only leads to other commands: `xet`. (A command may have further commands below it, too: `serve`.) */
export interface CommandGroup {
  readonly path: readonly string[];
  readonly summary: string;
  readonly description: string;
}

/** Options that every command has; `help` and `version` end the run before a command starts. */
export const COMMON_OPTIONS = {
  json: { type: 'boolean', describe: 'Print one JSON document on standard output' },
  quiet: {
    type: 'boolean',
    alias: 'q',
    describe: 'Say nothing but data, warnings and errors',
    conflicts: ['verbose'],
  },
  verbose: { type: 'boolean', alias: 'v', describe: 'Say more about what is done' },
  help: { type: 'boolean', alias: 'h', describe: 'Show this text' },
  version: { type: 'boolean', describe: 'Show the version' },
} as const satisfies OptionSpecs;
