/** A bench as a program: its options and exit code, the directory it works in, and what it prints in the end. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// Node reads all of that file whenever it starts, and git2db's programs do not: what is compared with a start of
// Node, or with a filter in Node, would look better than it is.
delete process.env.NODE_EXTRA_CA_CERTS;

/** `name`: as `npm run` has it. `run` resolves to the exit code. */
export async function runProgram<Options>(
  name: string,
  usage: string,
  parse: (args: readonly string[]) => Options | 'help',
  run: (options: Options) => Promise<number>,
): Promise<void> {
  try {
    const options = parse(process.argv.slice(2));
    if (options === 'help') process.stdout.write(usage);
    else process.exitCode = await run(options);
  } catch (error) {
    process.stderr.write(`${name}: ${error instanceof Error ? error.message : error}\n`);
    process.exitCode = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1;
  }
}

export interface Folders {
  /** Removed in the end, however that comes. */
  readonly scratch: string;
  /** Where inputs are kept: in `dir` if given, else in `scratch`. */
  readonly inputs: string;
}

/** `leave` is called before the scratch directory is removed, to unmount what is in it. */
export async function withFolders<T>(
  dir: string | undefined,
  name: string,
  work: (folders: Folders) => Promise<T>,
  leave: (scratch: string) => void = () => {},
): Promise<T> {
  const parent = dir ?? tmpdir();
  mkdirSync(parent, { recursive: true });
  const scratch = realpathSync(mkdtempSync(join(parent, `git2db-${name.replace(':', '-')}-`)));
  const cleanUp = () => {
    leave(scratch);
    rmSync(scratch, { recursive: true, force: true });
  };
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    process.once(signal, () => {
      cleanUp();
      process.exit(code);
    });
  }
  try {
    return await work({ scratch, inputs: join(dir === undefined ? scratch : realpathSync(dir), 'inputs') });
  } finally {
    cleanUp();
  }
}

/** `text` is for a person, `document` for a program; the facts of the machine come before either. */
export function printResult(
  json: boolean,
  machine: Readonly<Record<string, string>>,
  result: { readonly document: object; readonly text: string },
): void {
  const facts = Object.entries(machine).map(([name, value]) => `${name}: ${value}`);
  process.stdout.write(
    json
      ? `${JSON.stringify({ machine, ...result.document }, null, 2)}\n`
      : `${facts.join('; ')}\n${result.text}\n`,
  );
}
