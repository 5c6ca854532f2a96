/** Which lines of which files of attributes speak about `filter`, and which files they match. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { checkAttributes, listPatterns, quotePattern, type TrackedPattern } from '../git/attributes.ts';
import { gitLinesZ } from '../git/runner.ts';
import type { Patient } from './doctor-fault.ts';
import { oneMoreSetting, patternFromTop, readOptional, userAttributesFile } from './track.ts';

/** A line of an attributes file that says something about `filter`. */
export interface FilterLine extends TrackedPattern {
  /** Absolute path of the file. */
  readonly file: string;
  /** The folder its patterns start at, from the top of the work tree; undefined: any. */
  readonly folder: string | undefined;
  /** A line with a higher rank wins over one with a lower rank. */
  readonly rank: number;
  /** The value of `filter` it sets: `xet`, `-` for none, `!` for unspecified. */
  readonly filter: string;
}

/** Every such line that git would look at, the weaker ones first. */
export async function filterLines(
  { cwd, env, repository }: Patient,
  workTree: string,
): Promise<FilterLine[]> {
  const listed = await gitLinesZ(
    ['ls-files', '-z', '--cached', '--others', '--', ':(top,glob)**/.gitattributes'],
    { cwd: workTree, env, keepGitEnv: true },
  );
  const inTree = [...new Set(listed.map(String))].map((path) => ({
    file: join(workTree, path),
    folder: dirname(path) === '.' ? '' : dirname(path),
  }));
  const depth = (folder: string) => (folder === '' ? 0 : folder.split('/').length);
  inTree.sort((a, b) => depth(a.folder) - depth(b.folder));
  const sources = [
    { file: userAttributesFile({ cwd, env }), folder: undefined },
    ...inTree,
    { file: join(repository?.commonDir ?? workTree, 'info', 'attributes'), folder: undefined },
  ];
  return sources.flatMap(({ file, folder }, source) =>
    listPatterns(readOptional(file)).flatMap((pattern) => {
      const filter = filterOf(pattern.attributes);
      return filter === undefined
        ? []
        : [{ ...pattern, file, folder, filter, rank: source * 1e6 + pattern.line }];
    }),
  );
}

function filterOf(attributes: readonly string[]): string | undefined {
  const last = attributes.findLast((attribute) => /^[-!]?filter(?:=|$)/.test(attribute));
  if (last === undefined) return undefined;
  return last.startsWith('filter=') ? last.slice('filter='.length) : last.startsWith('!') ? '!' : '-';
}

/** For each file, the lines that match it. Git itself does the matching, one made-up attribute a line. */
export async function matches(
  { env }: Patient,
  workTree: string,
  lines: readonly FilterLine[],
  files: readonly { readonly path: Buffer }[],
): Promise<FilterLine[][]> {
  if (lines.length === 0 || files.length === 0) return [];
  const temporary = mkdtempSync(join(tmpdir(), 'git2db-doctor-'));
  try {
    const attributesFile = join(temporary, 'attributes');
    const names = lines.map((_, i) => `git2db-line-${i}`);
    const text = lines.map(
      ({ pattern, folder }, i) => `${quotePattern(patternFromTop(pattern, folder ?? ''))} ${names[i]}\n`,
    );
    writeFileSync(attributesFile, text.join(''));
    const setting = { ...env, ...oneMoreSetting(env, 'core.attributesFile', attributesFile) };
    const found: FilterLine[][] = [];
    const paths = files.map(({ path }) => path);
    for await (const { attributes } of checkAttributes(paths, names, {
      cwd: workTree,
      keepGitEnv: true,
      env: setting,
    })) {
      found.push(lines.filter((_, i) => attributes.get(names[i]!) === 'set'));
    }
    return found;
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}
